with order_lines as (
    select * from {{ ref("int_order_lines_unioned") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

versions as (
    select * from {{ ref("int_products_versioned") }}
),

fx_rates as (
    select * from {{ ref("int_fx_rates_filled") }}
),

-- of a day with several prices the last counts
priced as (
    select
        order_lines.order_line_key,
        {{ to_usd("versions.list_price", "fx_rates.usd_per_unit") }}
            as list_price_usd
    from order_lines
    inner join orders
        on order_lines.order_key = orders.order_key
    inner join versions
        on
            order_lines.product_code_key = versions.product_code_key
            and cast(versions.valid_from as date) <= orders.order_date
            and (
                versions.valid_to is null
                or cast(versions.valid_to as date) > orders.order_date
            )
    inner join fx_rates
        on
            versions.list_price_currency_code = fx_rates.currency_code
            and orders.order_date = fx_rates.rate_date
)

select * from priced
