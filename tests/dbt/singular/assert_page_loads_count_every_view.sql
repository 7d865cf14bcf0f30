-- What: the page views of people are counted once for each question that load
-- times are summed up by, measured ones too.
-- Why: percentiles do not add up, so nothing else would notice a missing row.
-- A returned row: both counts, as summed up and as they should be.
-- To resolve: compare int_web_page_loads_summarised by month with
-- stg_web__events; a column of `web_page_load_cuts` may be null.

with summed as (
    select
        coalesce(sum(view_count), 0) as view_count,
        coalesce(sum(measured_count), 0) as measured_count
    from {{ ref("int_web_page_loads_summarised") }}
),

views as (
    select
        count(*) as view_count,
        count(load_ms) as measured_count
    from {{ ref("stg_web__events") }}
    where
        event_type = 'page_view'
        and not is_bot
),

cuts as (
    select count(*) as cut_count from {{ ref("web_page_load_cuts") }}
),

compared as (
    select
        summed.view_count,
        summed.measured_count,
        views.view_count * cuts.cut_count as expected_view_count,
        views.measured_count * cuts.cut_count as expected_measured_count
    from summed
    cross join views
    cross join cuts
)

select * from compared
where
    view_count <> expected_view_count
    or measured_count <> expected_measured_count
