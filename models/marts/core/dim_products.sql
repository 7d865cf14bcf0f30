with products as (
    select * from {{ ref("int_products_merged") }}
),

described as (
    select
        product_key,
        sku,
        ean,
        product_name,
        category,
        list_price,
        list_price_currency_code,
        source_count,
        is_active
    from products
)

select * from described
