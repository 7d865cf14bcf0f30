{{ config(
    materialized="by_key",
    unique_key="order_key",
    meta={"touched_by": {
        "int_orders_unioned": "order_key",
        "int_customer_records_keyed": {
            "via": "int_orders_unioned", "on": "customer_record_key",
        },
    }},
) }}
with orders as (
    select * from {{ ref("int_orders_unioned") }}
    where {{ in_touched("order_key") }}
),

records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

sales_systems as (
    select * from {{ ref("sales_systems") }}
),

statuses as (
    select * from {{ ref("order_statuses") }}
),

conformed as (
    select
        orders.order_key,
        records.customer_key,
        orders.source,
        sales_systems.sales_region,
        orders.source_order_id,
        orders.order_number,
        orders.country_code,
        orders.currency_code,
        statuses.order_status,
        orders.stated_total_local,
        statuses.is_cancelled,
        orders.order_date,
        orders.ordered_at
    from orders
    -- staging keeps no test accounts, so their orders fall out here
    inner join records
        on orders.customer_record_key = records.customer_record_key
    inner join sales_systems
        on orders.source = sales_systems.source
    left join statuses
        on
            orders.source = statuses.source
            and orders.source_status = statuses.source_status
)

select * from conformed
