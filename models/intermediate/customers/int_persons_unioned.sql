with shop_customers as (
    select * from {{ ref("stg_shop__customers") }}
),

shop_addresses as (
    select * from {{ ref("stg_shop__addresses") }}
),

erp_customers as (
    select * from {{ ref("stg_erp__customers") }}
),

buyers as (
    select * from {{ ref("stg_marketplace__buyers") }}
),

end_users as (
    select * from {{ ref("stg_helpdesk__users") }}
    where role = 'end-user'
),

accounts as (
    select * from {{ ref("stg_pixelco__accounts") }}
),

countries as (
    select * from {{ ref("int_countries_assigned") }}
),

-- the billing address, and of several the one written last
main_addresses as (
    select
        customer_id,
        street,
        city,
        postal_code
    from shop_addresses
    qualify row_number() over (
            partition by customer_id
            order by
                address_kind asc nulls last,
                updated_at desc,
                address_id desc
        ) = 1
),

unioned as (
    select
        'shop' as source,
        cast(shop_customers.customer_id as string) as source_customer_id,
        shop_customers.first_name as given_name,
        shop_customers.last_name as family_name,
        shop_customers.email,
        shop_customers.phone,
        main_addresses.street,
        main_addresses.city,
        main_addresses.postal_code,
        shop_customers.country_code,
        shop_customers.birth_date,
        shop_customers.created_at as first_seen_at
    from shop_customers
    left join main_addresses
        on shop_customers.customer_id = main_addresses.customer_id
    union all
    select
        'erp' as source,
        erp_customers.customer_id as source_customer_id,
        erp_customers.first_name as given_name,
        erp_customers.last_name as family_name,
        erp_customers.email,
        erp_customers.phone,
        erp_customers.street,
        erp_customers.city,
        erp_customers.postal_code,
        countries.country_code,
        erp_customers.birth_date,
        cast(erp_customers.created_date as timestamp) as first_seen_at
    from erp_customers
    left join countries
        on erp_customers.country_code_alpha3 = countries.country_code_alpha3
    union all
    select
        'marketplace' as source,
        buyer_id as source_customer_id,
        {{ given_name_of("full_name") }} as given_name,
        {{ family_name_of("full_name") }} as family_name,
        email,
        phone,
        null as street,
        city,
        postal_code,
        country_code,
        null as birth_date,
        registered_at as first_seen_at
    from buyers
    union all
    select
        'helpdesk' as source,
        cast(user_id as string) as source_customer_id,
        {{ given_name_of("full_name") }} as given_name,
        {{ family_name_of("full_name") }} as family_name,
        email,
        phone,
        null as street,
        null as city,
        null as postal_code,
        null as country_code,
        null as birth_date,
        created_at as first_seen_at
    from end_users
    union all
    select
        'pixelco' as source,
        accounts.account_id as source_customer_id,
        accounts.first_name as given_name,
        accounts.last_name as family_name,
        accounts.email,
        accounts.phone,
        null as street,
        accounts.city,
        accounts.postal_code,
        countries.country_code,
        accounts.birth_date,
        accounts.created_at as first_seen_at
    from accounts
    left join countries
        on accounts.country_name = countries.country_name
),

keyed as (
    select
        {{ surrogate_key(["source", "source_customer_id"]) }}
            as customer_record_key,
        source,
        source_customer_id,
        given_name,
        family_name,
        email,
        phone,
        street,
        city,
        postal_code,
        country_code,
        birth_date,
        first_seen_at
    from unioned
)

select * from keyed
