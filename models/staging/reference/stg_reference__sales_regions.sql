with

source as (

    select * from {{ source('reference', 'sales_regions') }}

),

cleaned as (

    select
        {{ non_blank('country') }} as country_code,

        {{ non_blank('sales_region') }} as sales_region,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
