{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["page_type", "minute_at"],
    tags=["live"],
) }}
with events as (
    select
        *,
        {{ window_start("event_at", "1 minute") }} as minute_at
    from {{ ref("int_web_events_sessionised") }}
    where not is_bot
),

-- a session whose beginning moves is new as a whole, with all its minutes
touched as (
    select distinct
        page_type,
        minute_at
    from events
    where {{ is_new("int_web_events_sessionised") }}
),

summed as (
    select
        {{ surrogate_key(["events.page_type", "events.minute_at"]) }}
            as page_minute_key,
        events.page_type,
        count_if(events.event_type = 'page_view') as view_count,
        count(events.load_ms) as measured_count,
        count_if(events.event_number = 1) as begun_session_count,
        count_if(events.event_type = 'purchase') as purchase_count,
        {{ exact_percentile("events.load_ms", 0.95) }} as p95_load_ms,
        events.minute_at
    from events
    inner join touched
        on
            events.page_type = touched.page_type
            and events.minute_at = touched.minute_at
    group by events.page_type, events.minute_at
),

listed as (
    select
        page_minute_key,
        page_type,
        cast(view_count as bigint) as view_count,
        measured_count,
        cast(begun_session_count as bigint) as begun_session_count,
        cast(purchase_count as bigint) as purchase_count,
        p95_load_ms,
        minute_at
    from summed
)

select * from listed
