with order_lines as (
    select * from {{ ref("int_order_lines_unioned") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

products as (
    select * from {{ ref("int_products_matched") }}
),

fx_rates as (
    select * from {{ ref("int_fx_rates_filled") }}
),

converted as (
    select
        order_lines.order_line_key,
        order_lines.order_key,
        orders.customer_key,
        products.product_key,
        orders.source,
        orders.sales_region,
        order_lines.line_number,
        orders.country_code,
        orders.currency_code,
        order_lines.quantity,
        order_lines.unit_price_local,
        order_lines.net_local,
        fx_rates.usd_per_unit,
        {{ to_usd("order_lines.net_local", "fx_rates.usd_per_unit") }}
            as net_usd,
        not orders.is_cancelled as is_sale,
        orders.order_date
    from order_lines
    inner join orders
        on order_lines.order_key = orders.order_key
    left join products
        on order_lines.product_code_key = products.product_code_key
    left join fx_rates
        on
            orders.currency_code = fx_rates.currency_code
            and orders.order_date = fx_rates.rate_date
)

select * from converted
