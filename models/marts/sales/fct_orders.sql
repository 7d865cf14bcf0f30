{{ config(
    materialized="by_key",
    unique_key="order_key",
    meta={"touched_by": {
        "int_orders_totalled": "order_key",
    }},
) }}
with orders as (
    select * from {{ ref("int_orders_totalled") }}
    where {{ in_touched("order_key") }}
),

described as (
    select
        order_key,
        customer_key,
        source,
        sales_region,
        source_order_id,
        order_number,
        country_code,
        currency_code,
        order_status,
        line_count,
        item_count,
        net_local,
        net_usd,
        stated_total_local,
        paid_local,
        refunded_usd,
        is_cancelled,
        is_total_consistent,
        order_date,
        ordered_at
    from orders
)

select * from described
