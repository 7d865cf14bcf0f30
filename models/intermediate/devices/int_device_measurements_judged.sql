with measurements as (
    select * from {{ ref("stg_devices__measurements") }}
),

judged as (
    select
        device_id,
        message_number,
        firmware,
        error_code is not null as is_error,
        temperature_c >= {{ var("device_hot_celsius") }} as is_hot,
        abs(clock_offset_s) > {{ var("device_max_clock_offset_s") }}
            as is_off_time,
        measured_at
    from measurements
)

select * from judged
