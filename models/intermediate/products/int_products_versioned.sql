{{ config(
    materialized="by_key",
    unique_key=["product_code_key", "valid_from"],
) }}
with shop_products as (
    select * from {{ staging_history("stg_shop__products") }}
),

materials as (
    select * from {{ staging_history("stg_erp__materials") }}
),

listings as (
    select * from {{ staging_history("stg_marketplace__listings") }}
),

unioned as (
    select
        'shop' as source,
        cast(product_id as string) as source_product_id,
        product_name,
        list_price,
        currency_code,
        valid_from,
        valid_to,
        is_current
    from shop_products
    union all
    select
        'erp' as source,
        material_id as source_product_id,
        material_name as product_name,
        list_price,
        currency_code,
        valid_from,
        valid_to,
        is_current
    from materials
    union all
    select
        'marketplace' as source,
        listing_id as source_product_id,
        listing_title as product_name,
        list_price,
        currency_code,
        valid_from,
        valid_to,
        is_current
    from listings
),

keyed as (
    select
        {{ surrogate_key(["source", "source_product_id"]) }}
            as product_code_key,
        source,
        source_product_id,
        product_name,
        cast(list_price as decimal(18, 2)) as list_price,
        currency_code as list_price_currency_code,
        is_current,
        valid_from,
        valid_to
    from unioned
)

select * from keyed
