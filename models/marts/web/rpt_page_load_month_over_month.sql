with loads as (
    select * from {{ ref("int_web_page_loads_summarised") }}
),

compared as (
    select
        {{ surrogate_key([
            "loads.load_month", "loads.page_type", "loads.country_code",
            "loads.device", "loads.connection_type",
        ]) }} as page_load_key,
        loads.load_month,
        loads.page_type,
        loads.country_code,
        loads.device,
        loads.connection_type,
        loads.view_count,
        loads.measured_count,
        loads.p50_ms,
        loads.p75_ms,
        loads.p95_ms,
        former.measured_count as former_measured_count,
        former.p50_ms as former_p50_ms,
        former.p75_ms as former_p75_ms,
        former.p95_ms as former_p95_ms,
        100.0 * (loads.p50_ms - former.p50_ms) / nullif(former.p50_ms, 0)
            as p50_change_pct,
        100.0 * (loads.p75_ms - former.p75_ms) / nullif(former.p75_ms, 0)
            as p75_change_pct,
        100.0 * (loads.p95_ms - former.p95_ms) / nullif(former.p95_ms, 0)
            as p95_change_pct
    from loads
    left join loads as former
        on
            loads.load_month
            = cast({{ dbt.dateadd("month", 1, "former.load_month") }} as date)
            and loads.page_type = former.page_type
            and loads.country_code = former.country_code
            and loads.device = former.device
            and loads.connection_type = former.connection_type
)

select * from compared
