-- What: page views, beginnings of sessions and purchases by page and minute
-- add up to those of the events that they are made of.
-- Why: the mart is kept up to date minute by minute; a minute that was not
-- made anew would count a late event or a moved session wrongly.
-- A returned row: a kind of page with both counts.
-- To resolve: build fct_page_minutes with --full-refresh, and find out which
-- minute differed.

with minutes as (
    select
        page_type,
        sum(view_count) as view_count,
        sum(measured_count) as measured_count,
        sum(begun_session_count) as begun_session_count,
        sum(purchase_count) as purchase_count
    from {{ ref("fct_page_minutes") }}
    group by page_type
),

events as (
    select
        page_type,
        count_if(event_type = 'page_view') as view_count,
        count(load_ms) as measured_count,
        count_if(event_number = 1) as begun_session_count,
        count_if(event_type = 'purchase') as purchase_count
    from {{ ref("int_web_events_sessionised") }}
    where not is_bot
    group by page_type
),

compared as (
    select
        coalesce(minutes.page_type, events.page_type) as page_type,
        minutes.view_count as counted_views,
        events.view_count as existing_views,
        minutes.begun_session_count as counted_sessions,
        events.begun_session_count as existing_sessions,
        minutes.purchase_count as counted_purchases,
        events.purchase_count as existing_purchases
    from minutes
    full outer join events
        on minutes.page_type = events.page_type
    where
        minutes.view_count is distinct from events.view_count
        or minutes.measured_count is distinct from events.measured_count
        or minutes.begun_session_count
        is distinct from events.begun_session_count
        or minutes.purchase_count is distinct from events.purchase_count
)

select * from compared
