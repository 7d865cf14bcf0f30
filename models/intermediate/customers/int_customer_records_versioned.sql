with shop_customers as (
    select * from {{ staging_history("stg_shop__customers") }}
),

erp_customers as (
    select * from {{ staging_history("stg_erp__customers") }}
),

buyers as (
    select * from {{ staging_history("stg_marketplace__buyers") }}
),

countries as (
    select * from {{ ref("int_countries_assigned") }}
),

unioned as (
    select
        'shop' as source,
        cast(customer_id as string) as source_customer_id,
        concat_ws(' ', first_name, last_name) as full_name,
        email,
        phone,
        country_code,
        segment,
        valid_from,
        valid_to,
        is_current
    from shop_customers
    union all
    select
        'erp' as source,
        erp_customers.customer_id as source_customer_id,
        concat_ws(' ', erp_customers.first_name, erp_customers.last_name)
            as full_name,
        erp_customers.email,
        erp_customers.phone,
        countries.country_code,
        null as segment,
        erp_customers.valid_from,
        erp_customers.valid_to,
        erp_customers.is_current
    from erp_customers
    left join countries
        on erp_customers.country_code_alpha3 = countries.country_code_alpha3
    union all
    select
        'marketplace' as source,
        buyer_id as source_customer_id,
        full_name,
        email,
        phone,
        country_code,
        null as segment,
        valid_from,
        valid_to,
        is_current
    from buyers
),

keyed as (
    select
        {{ surrogate_key(["source", "source_customer_id"]) }}
            as customer_record_key,
        source,
        source_customer_id,
        full_name,
        lower(email) as email,
        phone,
        country_code,
        segment,
        is_current,
        valid_from,
        valid_to
    from unioned
)

select * from keyed
