with

source as (

    select * from {{ source('reference', 'currencies') }}

),

cleaned as (

    select
        {{ non_blank('code') }} as currency_code,
        {{ non_blank('source.numeric') }} as currency_number,

        {{ non_blank('name') }} as currency_name,

        {{ whole_number('minor_unit') }} as minor_unit,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
