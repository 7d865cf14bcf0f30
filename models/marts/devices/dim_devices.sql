with devices as (
    select * from {{ ref("int_devices_listed") }}
),

described as (
    select
        device_id,
        customer_key,
        order_key,
        model,
        site,
        country_code,
        firmware_history,
        is_registered,
        installed_date,
        last_heard_at
    from devices
)

select * from described
