{{ config(
    materialized="by_key",
    unique_key="order_line_key",
    meta={"touched_by": {
        "int_order_lines_converted": "order_line_key",
    }},
) }}
with order_lines as (
    select * from {{ ref("int_order_lines_converted") }}
    where {{ in_touched("order_line_key") }}
),

described as (
    select
        order_line_key,
        order_key,
        customer_key,
        product_key,
        source,
        sales_region,
        line_number,
        country_code,
        currency_code,
        quantity,
        unit_price_local,
        net_local,
        usd_per_unit,
        net_usd,
        list_price_usd,
        is_sale,
        order_date
    from order_lines
)

select * from described
