with

source as (

    select * from {{ source('marketplace', 'buyers') }}

),

cleaned as (

    select
        buyer_id,

        {{ non_blank('full_name') }} as full_name,
        {{ non_blank('email') }} as email,
        {{ non_blank('phone') }} as phone,
        {{ non_blank('country_code') }} as country_code,
        {{ non_blank('city') }} as city,
        {{ non_blank('postal_code') }} as postal_code,

        registered_at,
        updated_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
