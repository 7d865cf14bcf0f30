with order_lines as (
    select * from {{ ref("int_order_lines_converted") }}
),

list_prices as (
    select * from {{ ref("int_order_lines_priced") }}
),

described as (
    select
        order_lines.order_line_key,
        order_lines.order_key,
        order_lines.customer_key,
        order_lines.product_key,
        order_lines.source,
        order_lines.sales_region,
        order_lines.line_number,
        order_lines.country_code,
        order_lines.currency_code,
        order_lines.quantity,
        order_lines.unit_price_local,
        order_lines.net_local,
        order_lines.usd_per_unit,
        order_lines.net_usd,
        list_prices.list_price_usd,
        order_lines.is_sale,
        order_lines.order_date
    from order_lines
    left join list_prices
        on order_lines.order_line_key = list_prices.order_line_key
)

select * from described
