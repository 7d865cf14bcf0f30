with

source as (

    select * from {{ source('game', 'session_events') }}

),

cleaned as (

    select
        {{ non_blank('event_id') }} as event_id,
        {{ non_blank('session_id') }} as session_id,
        {{ non_blank('player_id') }} as player_id,
        {{ whole_number('customer_id') }} as customer_id,
        {{ non_blank('server_id') }} as server_id,

        {{ non_blank('type') }} as event_type,
        {{ non_blank('platform') }} as platform,
        {{ non_blank('country') }} as country_code,

        {{ utc_by_receiver('event_at', 'sent_at', 'received_at') }}
            as occurred_at,
        {{ utc_timestamp('received_at') }} as received_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
