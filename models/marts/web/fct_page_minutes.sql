{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["page_type", "minute_at"],
    tags=["live"],
) }}
with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where not is_bot
),

placed as (
    select
        page_type,
        event_type,
        event_number,
        load_ms,
        {{ window_start("event_at", "1 minute") }} as minute_at,
        _load_id
    from events
),

-- a session whose beginning moves is new as a whole, with all its minutes
touched as (
    select distinct
        page_type,
        minute_at
    from placed
    where {{ is_new("int_web_events_sessionised") }}
),

summed as (
    select
        {{ surrogate_key(["placed.page_type", "placed.minute_at"]) }}
            as page_minute_key,
        placed.page_type,
        count_if(placed.event_type = 'page_view') as view_count,
        count(placed.load_ms) as measured_count,
        count_if(placed.event_number = 1) as begun_session_count,
        count_if(placed.event_type = 'purchase') as purchase_count,
        {{ exact_percentile("placed.load_ms", 0.95) }} as p95_load_ms,
        placed.minute_at
    from placed
    inner join touched
        on
            placed.page_type = touched.page_type
            and placed.minute_at = touched.minute_at
    group by placed.page_type, placed.minute_at
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
