{{ config(materialized="by_key", unique_key="refund_key") }}
with refunds as (
    select * from {{ ref("int_refunds_unioned") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

fx_rates as (
    select * from {{ ref("int_fx_rates_filled") }}
),

converted as (
    select
        refunds.refund_key,
        refunds.order_key,
        orders.customer_key,
        orders.source,
        orders.sales_region,
        refunds.source_refund_id,
        refunds.line_number,
        orders.country_code,
        refunds.currency_code,
        refunds.reason,
        refunds.amount_local,
        fx_rates.usd_per_unit,
        {{ to_usd("refunds.amount_local", "fx_rates.usd_per_unit") }}
            as amount_usd,
        refunds.refund_date
    from refunds
    inner join orders
        on refunds.order_key = orders.order_key
    left join fx_rates
        on
            refunds.currency_code = fx_rates.currency_code
            and refunds.refund_date = fx_rates.rate_date
)

select * from converted
