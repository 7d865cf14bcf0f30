with

source as (

    select * from {{ source('web', 'events') }}

),

cleaned as (

    select
        {{ non_blank('event_id') }} as event_id,
        {{ non_blank('client') }} as client_id,
        {{ whole_number('customer') }} as customer_id,
        {{ non_blank('source.order') }} as order_number,

        {{ non_blank('event') }} as event_type,
        {{ non_blank('path') }} as page_path,
        {{ non_blank('product') }} as sku,
        {{ non_blank('country') }} as country_code,
        {{ non_blank('device') }} as device,
        {{ non_blank('connection') }} as connection_type,

        {{ whole_number('load_ms') }} as load_ms,
        {{ minutes_between(
            utc_timestamp('source.at'), utc_timestamp('sent')
        ) }} as delay_minutes,

        try_cast(consent as boolean) as has_consent,
        {{ matches('lower(agent)', 'bot|crawler|spider') }} as is_bot,

        -- a browser's clock may be wrong, not the time between two readings
        {{ utc_timestamp('received') }}
        - ({{ utc_timestamp('sent') }} - {{ utc_timestamp('source.at') }})
            as event_at,
        {{ utc_timestamp('received') }} as received_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
