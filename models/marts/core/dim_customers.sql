with customers as (
    select * from {{ ref("int_customers_merged") }}
),

described as (
    select
        customer_key,
        customer_kind,
        customer_name,
        email,
        phone,
        country_code,
        city,
        postal_code,
        record_count,
        source_count,
        birth_date,
        first_seen_at
    from customers
)

select * from described
