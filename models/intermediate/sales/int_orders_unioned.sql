{{ config(
    materialized="by_key",
    unique_key="order_key",
    meta={"touched_by": {
        "stg_shop__orders": surrogate_key(["'shop'", "order_id"]),
        "stg_erp__orders": surrogate_key(["'erp'", "order_id"]),
        "stg_marketplace__orders": surrogate_key(["'marketplace'", "order_id"]),
        "stg_distributor__orders": surrogate_key(["'distributor'", "order_id"]),
    }},
) }}
with shop_orders as (
    select * from {{ ref("stg_shop__orders") }}
    where {{ in_touched(surrogate_key(["'shop'", "order_id"])) }}
),

erp_orders as (
    select * from {{ ref("stg_erp__orders") }}
    where {{ in_touched(surrogate_key(["'erp'", "order_id"])) }}
),

marketplace_orders as (
    select * from {{ ref("stg_marketplace__orders") }}
    where {{ in_touched(surrogate_key(["'marketplace'", "order_id"])) }}
),

distributor_orders as (
    select * from {{ ref("stg_distributor__orders") }}
    where {{ in_touched(surrogate_key(["'distributor'", "order_id"])) }}
),

countries as (
    select * from {{ ref("int_countries_assigned") }}
),

unioned as (
    select
        'shop' as source,
        cast(order_id as string) as source_order_id,
        order_number,
        cast(customer_id as string) as source_customer_id,
        order_status as source_status,
        country_code,
        currency_code,
        total_amount as stated_total_local,
        cast(ordered_at as date) as order_date,
        ordered_at
    from shop_orders
    union all
    select
        'erp' as source,
        erp_orders.order_id as source_order_id,
        erp_orders.order_id as order_number,
        erp_orders.customer_id as source_customer_id,
        erp_orders.order_status as source_status,
        countries.country_code,
        erp_orders.currency_code,
        erp_orders.total_amount as stated_total_local,
        erp_orders.order_date,
        null as ordered_at
    from erp_orders
    left join countries
        on erp_orders.country_code_alpha3 = countries.country_code_alpha3
    union all
    select
        'marketplace' as source,
        order_id as source_order_id,
        order_id as order_number,
        buyer_id as source_customer_id,
        order_status as source_status,
        country_code,
        currency_code,
        total_amount as stated_total_local,
        cast(ordered_at as date) as order_date,
        ordered_at
    from marketplace_orders
    union all
    select
        'distributor' as source,
        order_id as source_order_id,
        order_id as order_number,
        retailer_id as source_customer_id,
        order_status as source_status,
        country_code,
        currency_code,
        total_amount as stated_total_local,
        cast(ordered_at as date) as order_date,
        ordered_at
    from distributor_orders
),

keyed as (
    select
        {{ surrogate_key(["source", "source_order_id"]) }} as order_key,
        {{ surrogate_key(["source", "source_customer_id"]) }}
            as customer_record_key,
        source,
        source_order_id,
        order_number,
        source_status,
        country_code,
        currency_code,
        cast(stated_total_local as decimal(18, 2)) as stated_total_local,
        order_date,
        ordered_at
    from unioned
)

select * from keyed
