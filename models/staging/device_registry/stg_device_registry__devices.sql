with

source as (

    select * from {{ source('device_registry', 'devices') }}

),

cleaned as (

    select
        {{ non_blank('device_id') }} as device_id,
        {{ non_blank('order_number') }} as order_number,
        {{ whole_number('customer_id', 'bigint') }} as customer_id,

        {{ non_blank('model') }} as model,
        {{ non_blank('firmware_history') }} as firmware_history,
        {{ non_blank('site') }} as site,
        {{ non_blank('country_code') }} as country_code,

        {{ parse_date('installed_on', 'yyyy-MM-dd') }} as installed_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
