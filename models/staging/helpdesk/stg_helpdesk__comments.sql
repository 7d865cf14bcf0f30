{{ refers_to('stg_helpdesk__tickets') }}
with

source as (

    select * from {{ source('helpdesk', 'comments') }}

),

cleaned as (

    select
        {{ whole_number('id', 'bigint') }} as comment_id,
        {{ whole_number('ticket_id', 'bigint') }} as ticket_id,
        {{ whole_number('author_id', 'bigint') }} as author_id,

        {{ non_blank('body') }} as body,

        try_cast(public as boolean) as is_public,

        {{ utc_timestamp('created_at') }} as created_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
