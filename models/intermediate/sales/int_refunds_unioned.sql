with shop_refunds as (
    select * from {{ ref("stg_shop__refunds") }}
),

shop_order_items as (
    select * from {{ ref("stg_shop__order_items") }}
),

credit_notes as (
    select * from {{ ref("stg_erp__credit_notes") }}
),

marketplace_refunds as (
    select * from {{ ref("stg_marketplace__refunds") }}
),

returns as (
    select * from {{ ref("stg_distributor__returns") }}
),

unioned as (
    select
        'shop' as source,
        cast(shop_refunds.refund_id as string) as source_refund_id,
        cast(shop_refunds.order_id as string) as source_order_id,
        shop_order_items.line_number,
        shop_refunds.currency_code,
        shop_refunds.refund_reason as reason,
        shop_refunds.amount,
        cast(shop_refunds.refunded_at as date) as refund_date
    from shop_refunds
    left join shop_order_items
        on shop_refunds.order_item_id = shop_order_items.order_item_id
    union all
    select
        'erp' as source,
        credit_note_id as source_refund_id,
        order_id as source_order_id,
        line_number,
        currency_code,
        credit_reason as reason,
        amount,
        credit_date as refund_date
    from credit_notes
    union all
    select
        'marketplace' as source,
        refund_id as source_refund_id,
        order_id as source_order_id,
        line_number,
        currency_code,
        refund_reason as reason,
        amount,
        cast(refunded_at as date) as refund_date
    from marketplace_refunds
    union all
    select
        'distributor' as source,
        return_id as source_refund_id,
        order_id as source_order_id,
        line_number,
        currency_code,
        return_reason as reason,
        amount,
        return_date as refund_date
    from returns
),

keyed as (
    select
        {{ surrogate_key(["source", "source_refund_id"]) }} as refund_key,
        {{ surrogate_key(["source", "source_order_id"]) }} as order_key,
        source,
        source_refund_id,
        cast(line_number as int) as line_number,
        currency_code,
        reason,
        cast(amount as decimal(18, 2)) as amount_local,
        refund_date
    from unioned
)

select * from keyed
