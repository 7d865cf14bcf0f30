with

source as (

    select * from {{ source('helpdesk', 'users') }}

),

cleaned as (

    select
        {{ whole_number('id', 'bigint') }} as user_id,

        {{ non_blank('name') }} as full_name,
        {{ non_blank('email') }} as email,
        {{ non_blank('phone') }} as phone,
        {{ non_blank('role') }} as role,
        {{ non_blank('locale') }} as locale,
        {{ non_blank('time_zone') }} as time_zone,

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
