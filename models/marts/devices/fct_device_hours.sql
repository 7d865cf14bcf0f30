{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["device_id", "hour_start"],
    tags=["live"],
) }}
with device_hours as (
    select * from {{ ref("int_device_hours_summed") }}
    where {{ is_new("int_device_hours_summed") }}
),

keyed as (
    select
        {{ surrogate_key(["device_id", "hour_start"]) }} as device_hour_key,
        device_id,
        message_count,
        error_count,
        hot_count,
        temperature_avg_c,
        temperature_max_c,
        fan_max_rpm,
        battery_min_pct,
        hour_start
    from device_hours
)

select * from keyed
