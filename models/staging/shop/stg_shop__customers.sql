with

source as (

    select * from {{ source('shop', 'customers') }}

),

cleaned as (

    select
        customer_id,

        {{ non_blank('first_name') }} as first_name,
        {{ non_blank('last_name') }} as last_name,
        {{ non_blank('email') }} as email,
        {{ non_blank('phone') }} as phone,
        {{ non_blank('country_code') }} as country_code,
        {{ non_blank('segment') }} as segment,

        marketing_consent as has_marketing_consent,

        birth_date,

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
