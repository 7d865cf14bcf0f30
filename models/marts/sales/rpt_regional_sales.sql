with order_lines as (
    select * from {{ ref("int_order_lines_converted") }}
    where is_sale
),

products as (
    select * from {{ ref("dim_products") }}
),

summed as (
    select
        order_lines.order_date as sale_date,
        order_lines.sales_region,
        order_lines.country_code,
        products.category,
        order_lines.currency_code,
        count(distinct order_lines.order_key) as order_count,
        count(*) as line_count,
        sum(order_lines.quantity) as item_count,
        sum(order_lines.net_local) as net_local,
        sum(order_lines.net_usd) as net_usd
    from order_lines
    inner join products
        on order_lines.product_key = products.product_key
    group by all
),

keyed as (
    select
        {{ surrogate_key([
            "sale_date",
            "sales_region",
            "country_code",
            "category",
            "currency_code",
        ]) }} as regional_sales_key,
        sales_region,
        country_code,
        category,
        currency_code,
        order_count,
        line_count,
        cast(item_count as bigint) as item_count,
        cast(net_local as decimal(18, 2)) as net_local,
        cast(net_usd as decimal(18, 2)) as net_usd,
        sale_date
    from summed
)

select * from keyed
