with refunds as (
    select * from {{ ref("int_refunds_converted") }}
),

described as (
    select
        refund_key,
        order_key,
        customer_key,
        source,
        sales_region,
        source_refund_id,
        line_number,
        country_code,
        currency_code,
        reason,
        amount_local,
        usd_per_unit,
        amount_usd,
        refund_date
    from refunds
)

select * from described
