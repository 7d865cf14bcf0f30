with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where
        event_type = 'page_view'
        and not is_bot
),

cuts as (
    select * from {{ ref("web_page_load_cuts") }}
),

-- percentiles do not add up, so each question has its own rows
repeated as (
    select
        cast(date_trunc('month', events.event_at) as date) as load_month,
        case when cuts.by_page_type then events.page_type else 'all' end
            as page_type,
        case when cuts.by_country then events.country_code else 'all' end
            as country_code,
        case when cuts.by_device then events.device else 'all' end as device,
        case
            when cuts.by_connection_type then events.connection_type
            else 'all'
        end as connection_type,
        events.load_ms
    from events
    cross join cuts
),

summarised as (
    select
        load_month,
        page_type,
        country_code,
        device,
        connection_type,
        count(*) as view_count,
        count(load_ms) as measured_count,
        {{ exact_percentile("load_ms", 0.5) }} as p50_ms,
        {{ exact_percentile("load_ms", 0.75) }} as p75_ms,
        {{ exact_percentile("load_ms", 0.95) }} as p95_ms
    from repeated
    group by load_month, page_type, country_code, device, connection_type
)

select * from summarised
