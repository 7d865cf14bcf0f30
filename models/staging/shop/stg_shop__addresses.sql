{{ refers_to('stg_shop__customers') }}
with

source as (

    select * from {{ source('shop', 'addresses') }}

),

cleaned as (

    select
        address_id,
        customer_id,

        {{ non_blank('kind') }} as address_kind,
        {{ non_blank('street') }} as street,
        {{ non_blank('city') }} as city,
        {{ non_blank('postal_code') }} as postal_code,
        {{ non_blank('state') }} as state,
        {{ non_blank('country_code') }} as country_code,

        {{ utc_timestamp('created_at') }} as created_at,
        {{ utc_timestamp('updated_at') }} as updated_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
