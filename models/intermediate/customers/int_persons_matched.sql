with persons as (
    select * from {{ ref("int_persons_normalised") }}
),

pairs as (
    select *
    from {{ ref("int_person_pairs_scored") }}
    where is_match
),

-- the record seen first names the customer, so that later ones change no key
ranked as (
    select
        customer_record_key,
        -- an unknown moment comes last
        coalesce(cast(first_seen_at as string), '9999')
        || '|'
        || customer_record_key as seniority
    from persons
),

directed as (
    select
        customer_record_key,
        other_customer_record_key
    from pairs
    union all
    select
        other_customer_record_key as customer_record_key,
        customer_record_key as other_customer_record_key
    from pairs
    union all
    select
        customer_record_key,
        customer_record_key as other_customer_record_key
    from persons
),

links as (
    select
        ranked.seniority as record,
        others.seniority as other_record
    from directed
    inner join ranked
        on directed.customer_record_key = ranked.customer_record_key
    inner join ranked as others
        on directed.other_customer_record_key = others.customer_record_key
),

components as (
    {{ connected_components(
        "links", "record", "other_record", var("person_match_rounds")
    ) }}
),

matched as (
    select
        ranked.customer_record_key,
        md5(components.label) as customer_key,
        count(*) over (partition by components.label) as record_count
    from components
    inner join ranked
        on components.record = ranked.seniority
)

select * from matched
