{{ refers_to('stg_helpdesk__tickets') }}
with

source as (

    select * from {{ source('helpdesk', 'satisfaction_ratings') }}

),

cleaned as (

    select
        {{ whole_number('id', 'bigint') }} as rating_id,
        {{ whole_number('ticket_id', 'bigint') }} as ticket_id,
        {{ whole_number('requester_id', 'bigint') }} as requester_id,
        {{ whole_number('assignee_id', 'bigint') }} as assignee_id,

        {{ non_blank('score') }} as score,
        {{ non_blank('source.comment') }} as rating_comment,

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
