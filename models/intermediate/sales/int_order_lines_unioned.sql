{{ config(
    materialized="by_key",
    unique_key="order_line_key",
    meta={"touched_key": "order_key", "touched_by": {
        "stg_shop__order_items": surrogate_key(["'shop'", "order_id"]),
        "stg_erp__order_lines": surrogate_key(["'erp'", "order_id"]),
        "stg_marketplace__orders": surrogate_key(["'marketplace'", "order_id"]),
        "stg_distributor__orders": surrogate_key(["'distributor'", "order_id"]),
    }},
) }}
with shop_order_items as (
    select * from {{ ref("stg_shop__order_items") }}
    where {{ in_touched(surrogate_key(["'shop'", "order_id"])) }}
),

erp_order_lines as (
    select * from {{ ref("stg_erp__order_lines") }}
    where {{ in_touched(surrogate_key(["'erp'", "order_id"])) }}
),

marketplace_orders as (
    select * from {{ ref("stg_marketplace__orders") }}
    where {{ in_touched(surrogate_key(["'marketplace'", "order_id"])) }}
),

distributor_orders as (
    select * from {{ ref("stg_distributor__orders") }}
    where {{ in_touched(surrogate_key(["'distributor'", "order_id"])) }}
),

marketplace_items as (
    {{ explode_structs("marketplace_orders", "items", ["order_id"]) }}
),

distributor_lines as (
    {{ explode_structs("distributor_orders", "lines", ["order_id"]) }}
),

unioned as (
    select
        'shop' as source,
        cast(order_item_id as string) as source_line_id,
        cast(order_id as string) as source_order_id,
        cast(product_id as string) as source_product_id,
        line_number,
        quantity,
        unit_price,
        net_amount as net_local
    from shop_order_items
    union all
    select
        'erp' as source,
        order_id || '|' || cast(line_number as string) as source_line_id,
        order_id as source_order_id,
        material_id as source_product_id,
        line_number,
        quantity,
        unit_price,
        net_amount as net_local
    from erp_order_lines
    union all
    select
        'marketplace' as source,
        order_id || '|' || cast(element.line as string) as source_line_id,
        order_id as source_order_id,
        element.listing_id as source_product_id,
        element.line as line_number,
        element.quantity,
        element.price as unit_price,
        element.quantity * element.price as net_local
    from marketplace_items
    union all
    select
        'distributor' as source,
        order_id || '|' || element.no as source_line_id,
        order_id as source_order_id,
        element.code as source_product_id,
        cast(element.no as int) as line_number,
        cast(element.qty as int) as quantity,
        cast(element.price as decimal(14, 2)) as unit_price,
        cast(element.net as decimal(14, 2)) as net_local
    from distributor_lines
),

keyed as (
    select
        {{ surrogate_key(["source", "source_line_id"]) }} as order_line_key,
        {{ surrogate_key(["source", "source_order_id"]) }} as order_key,
        {{ surrogate_key(["source", "source_product_id"]) }}
            as product_code_key,
        source,
        source_line_id,
        cast(line_number as int) as line_number,
        cast(quantity as bigint) as quantity,
        cast(unit_price as decimal(18, 2)) as unit_price_local,
        cast(net_local as decimal(18, 2)) as net_local
    from unioned
)

select * from keyed
