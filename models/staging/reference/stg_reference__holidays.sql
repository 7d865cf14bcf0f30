with

source as (

    select * from {{ source('reference', 'holidays') }}

),

cleaned as (

    select
        {{ non_blank('country') }} as country_code,

        {{ non_blank('name') }} as holiday_name,

        try_cast(source.date as date) as holiday_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
