with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where
        event_type = 'page_view'
        and not is_bot
),

placed as (
    select
        session_key,
        page_type,
        load_ms,
        cast(date_trunc('month', event_at) as date) as view_month,
        {{ dbt.datediff("date_trunc('week', event_at)", "event_at", "day") }}
        + 1 as iso_weekday,
        hour(event_at) as hour_of_day
    from events
),

summed as (
    select
        {{ surrogate_key([
            "view_month", "iso_weekday", "hour_of_day", "page_type",
        ]) }} as page_hour_key,
        view_month,
        cast(iso_weekday as bigint) as iso_weekday,
        cast(hour_of_day as bigint) as hour_of_day,
        page_type,
        count(*) as view_count,
        count(distinct session_key) as session_count,
        avg(load_ms) as average_load_ms
    from placed
    group by view_month, iso_weekday, hour_of_day, page_type
)

select * from summed
