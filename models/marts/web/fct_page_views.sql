with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where event_type = 'page_view'
),

viewed as (
    select
        event_key,
        session_key,
        customer_key,
        product_key,
        client_id,
        page_type,
        page_path,
        country_code,
        device,
        connection_type,
        load_ms,
        has_consent,
        is_bot,
        event_date as view_date,
        event_at as viewed_at,
        received_at
    from events
)

select * from viewed
