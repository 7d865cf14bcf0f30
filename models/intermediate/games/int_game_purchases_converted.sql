with purchases as (
    select * from {{ ref("stg_game__purchases") }}
),

fx_rates as (
    select * from {{ ref("int_fx_rates_filled") }}
),

converted as (
    select
        purchases.event_id,
        purchases.purchase_id,
        purchases.session_id,
        purchases.player_id,
        purchases.event_type,
        purchases.currency_code,
        purchases.items,
        purchases.amount as amount_local,
        fx_rates.usd_per_unit,
        {{ to_usd("purchases.amount", "fx_rates.usd_per_unit") }}
            as amount_usd,
        cast(purchases.occurred_at as date) as purchase_date,
        purchases.occurred_at
    from purchases
    left join fx_rates
        on
            purchases.currency_code = fx_rates.currency_code
            and cast(purchases.occurred_at as date) = fx_rates.rate_date
)

select * from converted
