{{ config(materialized="by_key", unique_key=["currency_code", "rate_date"]) }}
with rates as (
    select * from {{ ref("stg_reference__fx_rates") }}
),

dates as (
    select * from {{ ref("int_dates_listed") }}
),

spans as (
    select
        currency_code,
        usd_per_unit,
        rate_date as valid_from,
        lead(rate_date) over (
            partition by currency_code
            order by rate_date nulls last
        ) as valid_to
    from rates
),

filled as (
    select
        spans.currency_code,
        spans.usd_per_unit,
        spans.valid_from as stated_date,
        dates.calendar_date as rate_date
    from spans
    inner join dates
        on
            spans.valid_from <= dates.calendar_date
            and (
                spans.valid_to > dates.calendar_date
                or spans.valid_to is null
            )
)

select * from filled
