with events as (
    select * from {{ ref("int_web_events_sessionised") }}
),

steps as (
    select * from {{ ref("web_funnel_steps") }}
),

stepped as (
    select
        events.session_key,
        events.customer_key,
        events.order_key,
        events.client_id,
        events.event_number,
        events.event_type,
        events.page_type,
        events.country_code,
        events.device,
        events.connection_type,
        events.has_consent,
        events.is_bot,
        events.event_at,
        steps.step_number
    from events
    left join steps
        on events.event_type = steps.event_type
),

built as (
    select
        session_key,
        max(customer_key) as customer_key,
        max(case when event_type = 'purchase' then order_key end) as order_key,
        max(client_id) as client_id,
        count(*) as event_count,
        sum(case when event_type = 'page_view' then 1 else 0 end)
            as page_view_count,
        max(step_number) as last_step_number,
        max_by(page_type, -event_number) as entry_page_type,
        max_by(page_type, event_number) as exit_page_type,
        max_by(country_code, -event_number) as country_code,
        max_by(device, -event_number) as device,
        max_by(connection_type, -event_number) as connection_type,
        bool_and(has_consent) as has_consent,
        bool_or(is_bot) as is_bot,
        cast(min(event_at) as date) as session_date,
        min(event_at) as started_at,
        max(event_at) as ended_at
    from stepped
    group by session_key
)

select * from built
