{{ config(
    materialized="incremental",
    incremental_strategy="sessions",
    unique_key=["client_id", "session_started_at"],
) }}
with events as (
    {{ events_by_session(
        "stg_web__events", "event_at", var("web_session_gap"), by=["client_id"]
    ) | indent(4) }}
),

ordered as (
    select
        *,
        row_number() over (
            partition by client_id, session_started_at
            order by event_at nulls first, event_id nulls first
        ) as event_number,
        first_value(event_id) over (
            partition by client_id, session_started_at
            order by event_at nulls first, event_id nulls first
        ) as first_event_id,
        max(event_at) over (
            partition by client_id, session_started_at
        ) as session_ended_at,
        max(_load_id) over (
            partition by client_id, session_started_at
        ) as newest_load_id
    from events
),

sessionised as (
    select
        {{ surrogate_key(["event_id"]) }} as event_key,
        {{ surrogate_key(["first_event_id"]) }} as session_key,
        client_id,
        customer_id,
        order_number,
        sku,
        event_number,
        event_type,
        {{ web_page_type("page_path") }} as page_type,
        page_path,
        country_code,
        device,
        connection_type,
        load_ms,
        has_consent,
        is_bot,
        cast(event_at as date) as event_date,
        event_at,
        received_at,
        session_started_at,
        session_ended_at,
        -- a session with a new event is new as a whole to what reads it
        newest_load_id as _load_id
    from ordered
)

select * from sessionised
