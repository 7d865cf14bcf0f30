with sessions as (
    select * from {{ ref("int_web_sessions_built") }}
),

steps as (
    select * from {{ ref("web_funnel_steps") }}
),

described as (
    select
        sessions.session_key,
        sessions.customer_key,
        sessions.order_key,
        sessions.client_id,
        sessions.entry_page_type,
        sessions.exit_page_type,
        sessions.country_code,
        sessions.device,
        sessions.connection_type,
        steps.event_type as last_step,
        sessions.last_step_number,
        sessions.event_count,
        cast(sessions.page_view_count as bigint) as page_view_count,
        sessions.last_step_number = 4 as is_purchase,
        sessions.has_consent,
        sessions.is_bot,
        sessions.session_date,
        sessions.started_at,
        sessions.ended_at
    from sessions
    left join steps
        on sessions.last_step_number = steps.step_number
)

select * from described
