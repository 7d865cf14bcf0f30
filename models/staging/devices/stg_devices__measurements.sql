with

source as (

    select * from {{ source('devices', 'telemetry') }}

),

cleaned as (

    select
        {{ non_blank('device_id') }} as device_id,
        {{ whole_number('sequence', 'bigint') }} as message_number,

        {{ non_blank('firmware') }} as firmware,
        {{ non_blank('error_code') }} as error_code,

        {{ whole_number('clock_offset_s') }} as clock_offset_s,
        try_cast(temperature_c as decimal(6, 1)) as temperature_c,
        {{ whole_number('fan_rpm') }} as fan_rpm,
        {{ whole_number('battery_pct') }} as battery_pct,
        {{ whole_number('uptime_s', 'bigint') }} as uptime_s,

        {{ utc_timestamp('device_time') }} as device_clock_at,
        -- a clock whose error is unknown is taken to be right
        {{ dbt.dateadd(
            'second',
            '-coalesce(' ~ whole_number('clock_offset_s') ~ ', 0)',
            utc_timestamp('device_time')
        ) }} as measured_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
