with currencies as (
    select * from {{ ref("int_currencies_rated") }}
),

described as (
    select
        currency_code,
        currency_name,
        minor_unit,
        latest_usd_per_unit,
        latest_rate_date,
        rate_count > 0 as is_traded
    from currencies
)

select * from described
