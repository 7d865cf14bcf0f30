with scores as (
    select * from {{ ref("int_devices_scored") }}
),

banded as (
    select
        device_id,
        firmware,
        case
            when health_score >= {{ var("device_good_min_score") }} then 'good'
            when health_score >= {{ var("device_watch_min_score") }}
                then 'watch'
            else 'failing'
        end as health_band,
        reasons,
        health_score,
        message_count,
        cast(error_count as bigint) as error_count,
        cast(hot_count as bigint) as hot_count,
        cast(lost_count as bigint) as lost_count,
        last_measured_at
    from scores
)

select * from banded
