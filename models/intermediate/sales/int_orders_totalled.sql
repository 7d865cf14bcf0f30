{{ config(
    materialized="by_key",
    unique_key="order_key",
    meta={"touched_by": {
        "int_orders_conformed": "order_key",
        "int_order_lines_converted": "order_key",
        "int_payments_summed": "order_key",
        "int_refunds_converted": "order_key",
    }},
) }}
with orders as (
    select * from {{ ref("int_orders_conformed") }}
    where {{ in_touched("order_key") }}
),

order_lines as (
    select * from {{ ref("int_order_lines_converted") }}
    where {{ in_touched("order_key") }}
),

payments as (
    select * from {{ ref("int_payments_summed") }}
    where {{ in_touched("order_key") }}
),

refunds as (
    select * from {{ ref("int_refunds_converted") }}
    where {{ in_touched("order_key") }}
),

line_totals as (
    select
        order_key,
        count(*) as line_count,
        sum(quantity) as item_count,
        sum(net_local) as net_local,
        sum(net_usd) as net_usd
    from order_lines
    group by order_key
),

refund_totals as (
    select
        order_key,
        sum(amount_usd) as refunded_usd
    from refunds
    group by order_key
),

totalled as (
    select
        orders.*,
        coalesce(line_totals.line_count, 0) as line_count,
        coalesce(line_totals.item_count, 0) as item_count,
        coalesce(line_totals.net_local, 0) as net_local,
        coalesce(line_totals.net_usd, 0) as net_usd,
        coalesce(payments.paid_local, 0) as paid_local,
        coalesce(refund_totals.refunded_usd, 0) as refunded_usd
    from orders
    left join line_totals
        on orders.order_key = line_totals.order_key
    left join payments
        on orders.order_key = payments.order_key
    left join refund_totals
        on orders.order_key = refund_totals.order_key
),

typed as (
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
        cast(item_count as bigint) as item_count,
        cast(net_local as decimal(18, 2)) as net_local,
        cast(net_usd as decimal(18, 2)) as net_usd,
        stated_total_local,
        cast(paid_local as decimal(18, 2)) as paid_local,
        cast(refunded_usd as decimal(18, 2)) as refunded_usd,
        is_cancelled,
        stated_total_local = net_local as is_total_consistent,
        order_date,
        ordered_at
    from totalled
)

select * from typed
