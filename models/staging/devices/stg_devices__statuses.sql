with

source as (

    select * from {{ source('devices', 'status') }}

),

cleaned as (

    select
        {{ non_blank('device_id') }} as device_id,
        {{ whole_number('sequence', 'bigint') }} as message_number,

        {{ non_blank('status') }} as device_status,
        {{ non_blank('reason') }} as reason,

        {{ utc_timestamp('changed_at') }} as changed_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
