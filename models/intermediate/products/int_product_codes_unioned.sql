with shop_products as (
    select * from {{ ref("stg_shop__products") }}
),

materials as (
    select * from {{ ref("stg_erp__materials") }}
),

listings as (
    select * from {{ ref("stg_marketplace__listings") }}
),

distributor_products as (
    select * from {{ ref("stg_distributor__products") }}
),

categories as (
    select * from {{ ref("product_categories") }}
),

unioned as (
    select
        'shop' as source,
        cast(product_id as string) as source_product_id,
        ean,
        sku,
        product_name,
        category as source_category,
        list_price,
        currency_code,
        is_active
    from shop_products
    union all
    select
        'erp' as source,
        material_id as source_product_id,
        ean,
        null as sku,
        material_name as product_name,
        product_group as source_category,
        list_price,
        currency_code,
        null as is_active
    from materials
    union all
    select
        'marketplace' as source,
        listing_id as source_product_id,
        ean,
        seller_sku as sku,
        listing_title as product_name,
        category as source_category,
        list_price,
        currency_code,
        null as is_active
    from listings
    union all
    select
        'distributor' as source,
        product_code as source_product_id,
        ean,
        null as sku,
        product_title as product_name,
        product_family as source_category,
        null as list_price,
        null as currency_code,
        null as is_active
    from distributor_products
),

conformed as (
    select
        {{ surrogate_key(["unioned.source", "unioned.source_product_id"]) }}
            as product_code_key,
        unioned.source,
        unioned.source_product_id,
        unioned.ean,
        unioned.sku,
        -- systems write one article code with and without dashes
        lower(replace(unioned.sku, '-', '')) as sku_compact,
        unioned.product_name,
        categories.category,
        cast(unioned.list_price as decimal(18, 2)) as list_price,
        unioned.currency_code as list_price_currency_code,
        unioned.is_active
    from unioned
    left join categories
        on
            unioned.source = categories.source
            and unioned.source_category = categories.source_category
)

select * from conformed
