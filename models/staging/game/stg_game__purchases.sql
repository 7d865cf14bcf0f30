with

source as (

    select * from {{ source('game', 'purchases') }}

),

cleaned as (

    select
        {{ non_blank('event_id') }} as event_id,
        {{ non_blank('purchase_id') }} as purchase_id,
        {{ non_blank('session_id') }} as session_id,
        {{ non_blank('player_id') }} as player_id,

        {{ non_blank('type') }} as event_type,
        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('items') }} as items,

        try_cast(amount as decimal(14, 2)) as amount,

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
