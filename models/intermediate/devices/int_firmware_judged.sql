with measurements as (
    select * from {{ ref("int_device_measurements_judged") }}
),

counted as (
    select
        firmware,
        device_id,
        count(*) as message_count,
        sum(case when is_error then 1 else 0 end) as error_count
    from measurements
    group by firmware, device_id
),

-- of devices that have told little nothing can be said
told as (
    select
        firmware,
        message_count,
        error_count,
        message_count >= {{ var("device_min_messages") }} as is_judged,
        error_count * 100
        >= message_count * {{ var("device_some_errors_share_pct") }}
            as is_erring
    from counted
),

summed as (
    select
        firmware,
        count(*) as device_count,
        sum(case when is_judged then 1 else 0 end) as judged_device_count,
        sum(case when is_judged and is_erring then 1 else 0 end)
            as erring_device_count,
        sum(message_count) as message_count,
        sum(error_count) as error_count
    from told
    group by firmware
),

judged as (
    select
        firmware,
        cast(device_count as bigint) as device_count,
        cast(judged_device_count as bigint) as judged_device_count,
        cast(erring_device_count as bigint) as erring_device_count,
        cast(message_count as bigint) as message_count,
        cast(error_count as bigint) as error_count,
        judged_device_count > 0
        and erring_device_count * 100
        >= judged_device_count * {{ var("firmware_failing_share_pct") }}
            as is_failing
    from summed
)

select * from judged
