with measurements as (
    select * from {{ ref("int_device_measurements_judged") }}
),

rolled_up as (
    select
        {{ surrogate_key(["device_id", "hour_start"]) }} as device_hour_key,
        device_id,
        count(*) as message_count,
        cast(sum(case when is_error then 1 else 0 end) as bigint)
            as error_count,
        cast(sum(case when is_hot then 1 else 0 end) as bigint) as hot_count,
        cast(avg(temperature_c) as decimal(6, 2)) as temperature_avg_c,
        max(temperature_c) as temperature_max_c,
        max(fan_rpm) as fan_max_rpm,
        min(battery_pct) as battery_min_pct,
        hour_start
    from measurements
    group by device_id, hour_start
)

select * from rolled_up
