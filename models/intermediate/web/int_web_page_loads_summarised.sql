with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where
        event_type = 'page_view'
        and not is_bot
),

measured as (
    select
        cast(date_trunc('month', event_at) as date) as load_month,
        page_type,
        country_code,
        device,
        connection,
        load_ms
    from events
),

summarised as (
    select
        load_month,
        coalesce(page_type, 'all') as page_type,
        coalesce(country_code, 'all') as country_code,
        coalesce(device, 'all') as device,
        coalesce(connection, 'all') as connection,
        count(*) as view_count,
        count(load_ms) as measured_count,
        {{ exact_percentile("load_ms", 0.5) }} as p50_ms,
        {{ exact_percentile("load_ms", 0.75) }} as p75_ms,
        {{ exact_percentile("load_ms", 0.95) }} as p95_ms
    from measured
    -- percentiles do not add up, so each question has its own rows
    group by grouping sets (
        (load_month),
        (load_month, page_type),
        (load_month, country_code),
        (load_month, device),
        (load_month, connection),
        (load_month, page_type, country_code, device, connection)
    )
)

select * from summarised
