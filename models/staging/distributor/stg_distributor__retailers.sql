with

source as (

    select * from {{ source('distributor', 'retailers') }}

),

cleaned as (

    select
        {{ non_blank('id') }} as retailer_id,

        {{ non_blank('name') }} as retailer_name,
        {{ non_blank('country') }} as country_code,
        {{ non_blank('city') }} as city,
        {{ non_blank('tax_id') }} as tax_number,
        {{ non_blank('contact_email') }} as email,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
