with matched as (
    select * from {{ ref("int_products_matched") }}
),

codes as (
    select * from {{ ref("int_product_codes_unioned") }}
),

sales_systems as (
    select * from {{ ref("sales_systems") }}
),

ranked as (
    select
        matched.product_key,
        matched.source,
        matched.ean,
        codes.sku,
        codes.product_name,
        codes.category,
        codes.list_price,
        codes.list_price_currency_code,
        codes.is_active,
        row_number() over (
            partition by matched.product_key
            order by
                sales_systems.precedence asc nulls last,
                matched.source_product_id asc nulls last
        ) as trust_rank
    from matched
    inner join codes
        on matched.product_code_key = codes.product_code_key
    inner join sales_systems
        on matched.source = sales_systems.source
),

merged as (
    select
        product_key,
        max(ean) as ean,
        max(sku) filter (where source = 'shop') as sku,
        min_by(product_name, trust_rank)
        filter (where product_name is not null) as product_name,
        min_by(category, trust_rank)
        filter (where category is not null) as category,
        min_by(list_price, trust_rank)
        filter (where list_price is not null) as list_price,
        min_by(list_price_currency_code, trust_rank)
        filter (where list_price is not null) as list_price_currency_code,
        count(distinct source) as source_count,
        bool_or(is_active) as is_active
    from ranked
    group by product_key
)

select * from merged
