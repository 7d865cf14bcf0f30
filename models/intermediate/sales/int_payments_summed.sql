{{ config(materialized="by_key", unique_key="order_key") }}
with payments as (
    select * from {{ ref("stg_shop__payments") }}
    where payment_status = 'captured'
),

summed as (
    select
        {{ surrogate_key(["'shop'", "order_id"]) }} as order_key,
        count(*) as payment_count,
        sum(amount) as paid_local
    from payments
    group by order_id
)

select * from summed
