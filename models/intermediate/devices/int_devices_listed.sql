with registered as (
    select * from {{ ref("stg_device_registry__devices") }}
),

measurements as (
    select * from {{ ref("stg_devices__measurements") }}
),

statuses as (
    select * from {{ ref("stg_devices__statuses") }}
),

customer_records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

heard as (
    select
        device_id,
        measured_at as heard_at
    from measurements
    union all
    select
        device_id,
        changed_at as heard_at
    from statuses
),

last_heard as (
    select
        device_id,
        max(heard_at) as last_heard_at
    from heard
    group by device_id
),

listed as (
    select
        coalesce(registered.device_id, last_heard.device_id) as device_id,
        customer_records.customer_key,
        orders.order_key,
        registered.model,
        registered.site,
        registered.country_code,
        registered.firmware_history,
        registered.device_id is not null as is_registered,
        registered.installed_date,
        last_heard.last_heard_at
    from registered
    full outer join last_heard
        on registered.device_id = last_heard.device_id
    left join customer_records
        on
            customer_records.source = 'shop'
            and cast(registered.customer_id as string)
            = customer_records.source_customer_id
    left join orders
        on
            orders.source = 'shop'
            and registered.order_number = orders.order_number
)

select * from listed
