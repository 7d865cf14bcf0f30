with currencies as (
    select * from {{ ref("stg_reference__currencies") }}
),

rates as (
    select * from {{ ref("stg_reference__fx_rates") }}
),

latest as (
    select
        currency_code,
        count(*) as rate_count,
        max(rate_date) as latest_rate_date,
        max_by(usd_per_unit, rate_date) as latest_usd_per_unit
    from rates
    group by currency_code
),

rated as (
    select
        currencies.currency_code,
        currencies.currency_name,
        currencies.minor_unit,
        latest.latest_usd_per_unit,
        latest.latest_rate_date,
        coalesce(latest.rate_count, 0) as rate_count
    from currencies
    left join latest
        on currencies.currency_code = latest.currency_code
)

select * from rated
