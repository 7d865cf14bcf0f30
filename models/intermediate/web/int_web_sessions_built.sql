{{ config(
    materialized="incremental",
    incremental_strategy="sessions",
    unique_key=["client_id", "session_started_at"],
) }}
with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where {{ is_new("int_web_events_sessionised") }}
),

steps as (
    select * from {{ ref("web_funnel_steps") }}
),

stepped as (
    select
        events.session_key,
        events.client_id,
        events.customer_id,
        events.order_number,
        events.event_number,
        events.event_type,
        events.page_type,
        events.country_code,
        events.device,
        events.connection_type,
        events.has_consent,
        events.is_bot,
        events.session_started_at,
        events.session_ended_at,
        events._load_id,
        steps.step_number
    from events
    left join steps
        on events.event_type = steps.event_type
),

built as (
    select
        session_key,
        client_id,
        max(customer_id) as customer_id,
        max(order_number) as order_number,
        count(*) as event_count,
        count_if(event_type = 'page_view') as page_view_count,
        max(step_number) as last_step_number,
        max_by(page_type, -event_number) as entry_page_type,
        max_by(page_type, event_number) as exit_page_type,
        max_by(country_code, -event_number) as country_code,
        max_by(device, -event_number) as device,
        max_by(connection_type, -event_number) as connection_type,
        bool_and(has_consent) as has_consent,
        bool_or(is_bot) as is_bot,
        cast(session_started_at as date) as session_date,
        session_started_at,
        session_ended_at,
        max(_load_id) as _load_id
    from stepped
    group by session_key, client_id, session_started_at, session_ended_at
)

select * from built
