with

source as (

    select * from {{ source('distributor', 'catalog') }}

),

cleaned as (

    select
        {{ non_blank('code') }} as product_code,

        lpad({{ non_blank('ean') }}, 13, '0') as ean,
        {{ non_blank('title') }} as product_title,
        {{ non_blank('family') }} as product_family,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
