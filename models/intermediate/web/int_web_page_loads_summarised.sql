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
    select distinct date_trunc('month', view_date) as load_month
    from loads
    where {{ is_new("int_web_page_loads_counted") }}
),

merged as (
    select
        cast(touched.load_month as date) as load_month,
        loads.page_type,
        loads.country_code,
        loads.device,
        loads.connection_type,
        loads.load_ms,
        sum(loads.view_count) as view_count
    from loads
    inner join touched
        on date_trunc('month', loads.view_date) = touched.load_month
    group by
        touched.load_month,
        loads.page_type,
        loads.country_code,
        loads.device,
        loads.connection_type,
        loads.load_ms
),

-- percentiles do not add up, but counts do: each question has its own
repeated as (
    select
        merged.load_month,
        case when cuts.by_page_type then merged.page_type else 'all' end
            as page_type,
        case when cuts.by_country then merged.country_code else 'all' end
            as country_code,
        case when cuts.by_device then merged.device else 'all' end as device,
        case
            when cuts.by_connection_type then merged.connection_type
            else 'all'
        end as connection_type,
        merged.load_ms,
        merged.view_count
    from merged
    cross join cuts
),

asked as (
    select
        load_month,
        page_type,
        country_code,
        device,
        connection_type,
        load_ms,
        sum(view_count) as view_count
    from repeated
    group by
        load_month, page_type, country_code, device, connection_type, load_ms
),

reached as (
    select
        *,
        sum(case when load_ms is not null then view_count end) over (
            partition by
                load_month, page_type, country_code, device, connection_type
            order by load_ms asc nulls first
            rows between unbounded preceding and current row
        ) as reached_count,
        sum(case when load_ms is not null then view_count end) over (
            partition by
                load_month, page_type, country_code, device, connection_type
        ) as all_count
    from asked
),

summarised as (
    select
        load_month,
        page_type,
        country_code,
        device,
        connection_type,
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
    group by load_month, page_type, country_code, device, connection_type
)

select * from summarised
