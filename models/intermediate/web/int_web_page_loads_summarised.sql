{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="load_month",
) }}
with loads as (
    select * from {{ ref("int_web_page_loads_counted") }}
),

cuts as (
    select * from {{ ref("web_page_load_cuts") }}
),

touched as (
    select distinct load_month from loads
    where {{ is_new("int_web_page_loads_counted") }}
),

kinds as (
    select distinct
        loads.load_month,
        loads.page_type,
        loads.country_code,
        loads.device,
        loads.connection_type
    from loads
    inner join touched
        on loads.load_month = touched.load_month
),

-- percentiles do not add up, but counts do: each question has its own
asked as (
    select
        kinds.*,
        case when cuts.by_page_type then kinds.page_type else 'all' end
            as asked_page_type,
        case when cuts.by_country then kinds.country_code else 'all' end
            as asked_country_code,
        case when cuts.by_device then kinds.device else 'all' end
            as asked_device,
        case
            when cuts.by_connection_type then kinds.connection_type
            else 'all'
        end as asked_connection_type
    from kinds
    cross join cuts
),

-- kinds are few and counts are many: these are sorted by one number
numbered as (
    select
        *,
        dense_rank() over (
            order by
                load_month asc nulls first,
                asked_page_type asc nulls first,
                asked_country_code asc nulls first,
                asked_device asc nulls first,
                asked_connection_type asc nulls first
        ) as answer_number
    from asked
),

counted as (
    select
        numbered.answer_number,
        loads.load_ms,
        cast(sum(loads.view_count) as bigint) as view_count
    from loads
    inner join numbered
        on
            loads.load_month = numbered.load_month
            and loads.page_type = numbered.page_type
            and loads.country_code is not distinct from numbered.country_code
            and loads.device is not distinct from numbered.device
            and loads.connection_type
            is not distinct from numbered.connection_type
    group by numbered.answer_number, loads.load_ms
),

reached as (
    select
        *,
        sum(case when load_ms is not null then view_count end) over (
            partition by answer_number
            order by load_ms asc nulls first
            rows between unbounded preceding and current row
        ) as reached_count,
        sum(case when load_ms is not null then view_count end) over (
            partition by answer_number
        ) as all_count
    from counted
),

answered as (
    select
        answer_number,
        cast(sum(view_count) as bigint) as view_count,
        cast(coalesce(max(all_count), 0) as bigint) as measured_count,
        {{ percentile_of_counts(
            "load_ms", "reached_count", "all_count", 0.5
        ) }} as p50_ms,
        {{ percentile_of_counts(
            "load_ms", "reached_count", "all_count", 0.75
        ) }} as p75_ms,
        {{ percentile_of_counts(
            "load_ms", "reached_count", "all_count", 0.95
        ) }} as p95_ms
    from reached
    group by answer_number
),

questions as (
    select distinct
        answer_number,
        load_month,
        asked_page_type,
        asked_country_code,
        asked_device,
        asked_connection_type
    from numbered
),

summarised as (
    select
        questions.load_month,
        questions.asked_page_type as page_type,
        questions.asked_country_code as country_code,
        questions.asked_device as device,
        questions.asked_connection_type as connection_type,
        answered.view_count,
        answered.measured_count,
        answered.p50_ms,
        answered.p75_ms,
        answered.p95_ms
    from answered
    inner join questions
        on answered.answer_number = questions.answer_number
)

select * from summarised
