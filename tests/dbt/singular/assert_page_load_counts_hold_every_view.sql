-- What: the load times that are counted by month hold each page view of a
-- person once, and each measured one.
-- Why: counts are added to load by load, so a lost row would stay lost.
-- A returned row: both counts, as counted by month and as they were staged.
-- To resolve: compare int_web_page_loads_counted by load_month with
-- stg_web__events, then build it with --full-refresh.

with counted as (
    select
        coalesce(sum(view_count), 0) as view_count,
        coalesce(
            sum(case when load_ms is not null then view_count end), 0
        ) as measured_count
    from {{ ref("int_web_page_loads_counted") }}
),

staged as (
    select
        count(*) as staged_view_count,
        count(load_ms) as staged_measured_count
    from {{ ref("stg_web__events") }}
    where
        event_type = 'page_view'
        and not is_bot
),

compared as (
    select
        counted.view_count,
        counted.measured_count,
        staged.staged_view_count,
        staged.staged_measured_count
    from counted
    cross join staged
)

select * from compared
where
    view_count <> staged_view_count
    or measured_count <> staged_measured_count
