{{ refers_to('stg_helpdesk__users') }}
with

source as (

    select * from {{ source('helpdesk', 'tickets') }}

),

cleaned as (

    select
        {{ whole_number('id', 'bigint') }} as ticket_id,
        {{ non_blank('external_id') }} as external_id,
        {{ whole_number('requester_id', 'bigint') }} as requester_id,
        {{ whole_number('assignee_id', 'bigint') }} as assignee_id,

        {{ json_lookup('custom_fields', 'id', 360001, 'value') }}
            as order_number,
        {{ json_lookup('custom_fields', 'id', 360002, 'value') }} as ean,
        {{ non_blank('subject') }} as subject,
        {{ non_blank('description') }} as description,
        {{ non_blank('status') }} as ticket_status,
        {{ non_blank('priority') }} as priority,
        {{ non_blank('type') }} as ticket_type,
        {{ json_text('via', 'channel') }} as channel,
        tags,
        {{ json_text('satisfaction_rating', 'score') }} as satisfaction_score,

        {{ utc_timestamp('created_at') }} as created_at,
        {{ utc_timestamp('updated_at') }} as updated_at,
        {{ utc_timestamp('solved_at') }} as solved_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
