with sessions as (
    select * from {{ ref("int_web_sessions_built") }}
),

records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

steps as (
    select * from {{ ref("web_funnel_steps") }}
),

described as (
    select
        sessions.session_key,
        records.customer_key,
        orders.order_key,
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
        sessions.session_started_at as started_at,
        sessions.session_ended_at as ended_at
    from sessions
    left join records
        on
            {{ surrogate_key(["'shop'", "sessions.customer_id"]) }}
            = records.customer_record_key
    left join orders
        on sessions.order_number = orders.order_number
    left join steps
        on sessions.last_step_number = steps.step_number
)

select * from described
