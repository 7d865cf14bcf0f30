{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["device_id", "hour_start"],
    tags=["live"],
) }}
with measurements as (
    {{ events_by_window(
        "stg_devices__measurements", "measured_at", "1 hour", by=["device_id"]
    ) | indent(4) }}
),

summed as (
    select
        device_id,
        count(*) as message_count,
        count(error_code) as error_count,
        cast(
            sum(
                case
                    when temperature_c >= {{ var("device_hot_celsius") }}
                        then 1
                    else 0
                end
            ) as bigint
        ) as hot_count,
        cast(avg(temperature_c) as decimal(6, 2)) as temperature_avg_c,
        max(temperature_c) as temperature_max_c,
        max(fan_rpm) as fan_max_rpm,
        min(battery_pct) as battery_min_pct,
        window_start as hour_start,
        max(_load_id) as _load_id
    from measurements
    group by device_id, window_start
)

select * from summed
