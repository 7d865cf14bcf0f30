with versions as (
    select * from {{ ref("int_firmware_judged") }}
),

rated as (
    select
        firmware,
        device_count,
        judged_device_count,
        erring_device_count,
        message_count,
        error_count,
        cast(
            error_count * 100.0 / nullif(message_count, 0) as decimal(5, 2)
        ) as error_share_pct,
        is_failing
    from versions
)

select * from rated
