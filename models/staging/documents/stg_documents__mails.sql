with

source as (

    select * from {{ source('documents', 'mails') }}

),

cleaned as (

    select
        {{ extract_match('name', '([^/]+)[.][a-z]+$', 1) }} as document_id,
        {{ non_blank('message_id') }} as message_id,
        {{ non_blank('in_reply_to') }} as in_reply_to,

        {{ non_blank('from_address') }} as from_address,
        {{ non_blank('to_addresses') }} as to_addresses,
        {{ non_blank('cc_addresses') }} as cc_addresses,
        {{ non_blank('subject') }} as subject,
        {{ non_blank('body') }} as body,

        {{ json_structs('attachments', ['name', 'type', 'size', 'sha256']) }}
            as attachments,

        {{ utc_timestamp('source.sent_at') }} as sent_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
