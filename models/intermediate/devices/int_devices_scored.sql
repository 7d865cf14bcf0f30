{%- set points = var("device_health_points") %}
with measurements as (
    select * from {{ ref("int_device_measurements_judged") }}
),

statuses as (
    select * from {{ ref("stg_devices__statuses") }}
),

versions as (
    select * from {{ ref("int_firmware_judged") }}
),

-- the devices' own newest time: the machine's clock knows nothing of them
periods as (
    select
        cast({{ dbt.dateadd(
            "day",
            1 - var("device_health_days"),
            "date_trunc('day', max(measured_at))"
        ) }} as timestamp) as period_start
    from measurements
),

counted as (
    select
        measurements.device_id,
        max_by(measurements.firmware, measurements.measured_at) as firmware,
        count(*) as message_count,
        sum(case when measurements.is_error then 1 else 0 end) as error_count,
        sum(case when measurements.is_hot then 1 else 0 end) as hot_count,
        sum(case when measurements.is_off_time then 1 else 0 end)
            as off_time_count,
        max(measurements.measured_at) as last_measured_at
    from measurements
    inner join periods
        on measurements.measured_at >= periods.period_start
    group by measurements.device_id
    having count(*) >= {{ var("device_min_messages") }}
),

lost as (
    select
        statuses.device_id,
        count(*) as lost_count
    from statuses
    inner join periods
        on statuses.changed_at >= periods.period_start
    where statuses.reason = 'connection_lost'
    group by statuses.device_id
),

judged as (
    select
        counted.device_id,
        counted.firmware,
        counted.message_count,
        counted.error_count,
        counted.hot_count,
        coalesce(lost.lost_count, 0) as lost_count,
        counted.last_measured_at,
        counted.hot_count * 100
        >= counted.message_count * {{ var("device_hot_share_pct") }} as is_hot,
        counted.error_count * 100
        >= counted.message_count * {{ var("device_error_share_pct") }}
            as is_erring,
        counted.error_count * 100
        >= counted.message_count * {{ var("device_some_errors_share_pct") }}
            as has_errors,
        coalesce(lost.lost_count, 0) >= {{ var("device_max_lost_count") }}
            as is_lost_often,
        coalesce(versions.is_failing, false) as has_failing_firmware,
        counted.off_time_count > 0 as is_off_time
    from counted
    left join lost
        on counted.device_id = lost.device_id
    left join versions
        on counted.firmware = versions.firmware
),

scored as (
    select
        device_id,
        firmware,
        message_count,
        error_count,
        hot_count,
        lost_count,
        last_measured_at,
        nullif(concat_ws(
            '; ',
            case when is_hot then 'too hot' end,
            case
                when is_erring then 'errs all the time'
                when has_errors then 'errs now and then'
            end,
            case when is_lost_often then 'loses its connection' end,
            case when has_failing_firmware then 'failing firmware' end,
            case when is_off_time then 'wrong clock' end
        ), '') as reasons,
        greatest(
            0,
            100
            - case when is_hot then {{ points.hot }} else 0 end
            - case
                when is_erring then {{ points.errors }}
                when has_errors then {{ points.some_errors }}
                else 0
            end
            - case when is_lost_often then {{ points.lost }} else 0 end
            - case
                when has_failing_firmware then {{ points.firmware }}
                else 0
            end
            - case when is_off_time then {{ points.clock }} else 0 end
        ) as health_score
    from judged
)

select * from scored
