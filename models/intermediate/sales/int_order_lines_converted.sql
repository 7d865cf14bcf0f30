{{ config(
    materialized="by_key",
    unique_key="order_line_key",
    meta={"touched_key": "order_key", "touched_by": {
        "int_order_lines_unioned": "order_key",
        "int_orders_conformed": "order_key",
        "int_products_matched": {
            "via": "int_order_lines_unioned", "on": "product_code_key",
        },
        "int_products_versioned": {
            "via": "int_order_lines_unioned", "on": "product_code_key",
        },
        "int_fx_rates_filled": {
            "via": "int_orders_conformed", "on": {"order_date": "rate_date"},
        },
    }},
) }}
with order_lines as (
    select * from {{ ref("int_order_lines_unioned") }}
    where {{ in_touched("order_key") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
    where {{ in_touched("order_key") }}
),

products as (
    select * from {{ ref("int_products_matched") }}
),

fx_rates as (
    select * from {{ ref("int_fx_rates_filled") }}
),

versions as (
    select * from {{ ref("int_products_versioned") }}
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
        {{ to_usd("versions.list_price", "list_rates.usd_per_unit") }}
            as list_price_usd,
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
    -- what was listed when the day of the order ended
    left join versions
        on
            order_lines.product_code_key = versions.product_code_key
            and cast(versions.valid_from as date) <= orders.order_date
            -- not `or`: a join on it would compare each line with each version
            and coalesce(cast(versions.valid_to as date), date '9999-12-31')
            > orders.order_date
    left join fx_rates as list_rates
        on
            versions.list_price_currency_code = list_rates.currency_code
            and orders.order_date = list_rates.rate_date
)

select * from converted
