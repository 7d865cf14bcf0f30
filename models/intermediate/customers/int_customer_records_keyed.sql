{{ config(materialized="by_key", unique_key="customer_record_key") }}
with persons as (
    select * from {{ ref("int_persons_unioned") }}
),

matched as (
    select * from {{ ref("int_persons_matched") }}
),

retailers as (
    select * from {{ ref("stg_distributor__retailers") }}
),

keyed_retailers as (
    select
        *,
        {{ surrogate_key(["'distributor'", "retailer_id"]) }}
            as customer_record_key
    from retailers
),

keyed as (
    select
        persons.customer_record_key,
        matched.customer_key,
        persons.source,
        persons.source_customer_id,
        'person' as customer_kind,
        persons.given_name || ' ' || persons.family_name as full_name,
        persons.family_name,
        lower(persons.email) as email,
        persons.phone,
        persons.city,
        persons.postal_code,
        persons.country_code,
        persons.birth_date,
        persons.first_seen_at
    from persons
    inner join matched
        on persons.customer_record_key = matched.customer_record_key
    union all
    select
        customer_record_key,
        -- each retailer is one customer: a list kept by hand has no doubles
        customer_record_key as customer_key,
        'distributor' as source,
        retailer_id as source_customer_id,
        'company' as customer_kind,
        retailer_name as full_name,
        retailer_name as family_name,
        lower(email) as email,
        null as phone,
        city,
        null as postal_code,
        country_code,
        null as birth_date,
        null as first_seen_at
    from keyed_retailers
)

select * from keyed
