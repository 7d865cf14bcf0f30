with server_minutes as (
    select * from {{ ref("int_server_minutes_summed") }}
),

unhealthy as (
    select
        server_id,
        error_count,
        cpu_pct,
        tick_ms,
        minute_at,
        lag(minute_at) over (
            partition by server_id
            order by minute_at asc nulls first
        ) as former_minute_at
    from server_minutes
    where not is_healthy
),

begun as (
    select
        server_id,
        error_count,
        cpu_pct,
        tick_ms,
        minute_at,
        case
            when
                {{ minutes_between("former_minute_at", "minute_at") }}
                <= {{ var("game_incident_gap_minutes") }}
                then 0
            else 1
        end as is_first
    from unhealthy
),

numbered as (
    select
        server_id,
        error_count,
        cpu_pct,
        tick_ms,
        minute_at,
        sum(is_first) over (
            partition by server_id
            order by minute_at asc nulls first
            rows between unbounded preceding and current row
        ) as incident_number
    from begun
),

spells as (
    select
        server_id,
        'unhealthy' as incident_kind,
        count(*) as unhealthy_minutes,
        cast(sum(error_count) as bigint) as error_count,
        max(cpu_pct) as max_cpu_pct,
        max(tick_ms) as max_tick_ms,
        min(minute_at) as started_at,
        {{ dbt.dateadd("minute", 1, "max(minute_at)") }} as ended_at
    from numbered
    group by server_id, incident_number
),

newest as (
    select {{ dbt.dateadd("minute", 1, "max(minute_at)") }} as end_at
    from server_minutes
),

followed as (
    select
        server_id,
        {{ dbt.dateadd("minute", 1, "minute_at") }} as silent_at,
        lead(minute_at) over (
            partition by server_id
            order by minute_at asc nulls last
        ) as next_minute_at
    from server_minutes
),

outages as (
    select
        followed.server_id,
        'outage' as incident_kind,
        cast(0 as bigint) as unhealthy_minutes,
        cast(null as bigint) as error_count,
        cast(null as decimal(7, 1)) as max_cpu_pct,
        cast(null as decimal(9, 1)) as max_tick_ms,
        followed.silent_at as started_at,
        followed.next_minute_at as ended_at
    from followed
    cross join newest
    where
        {{ minutes_between(
            "followed.silent_at",
            "coalesce(followed.next_minute_at, newest.end_at)",
        ) }} >= {{ var("game_outage_minutes") }}
),

combined as (
    select
        server_id,
        incident_kind,
        unhealthy_minutes,
        error_count,
        max_cpu_pct,
        max_tick_ms,
        started_at,
        ended_at
    from spells
    union all
    select
        server_id,
        incident_kind,
        unhealthy_minutes,
        error_count,
        max_cpu_pct,
        max_tick_ms,
        started_at,
        ended_at
    from outages
),

keyed as (
    select
        {{ surrogate_key(["server_id", "incident_kind", "started_at"]) }}
            as server_incident_key,
        server_id,
        incident_kind,
        unhealthy_minutes,
        {{ minutes_between("started_at", "ended_at") }} as duration_minutes,
        error_count,
        max_cpu_pct,
        max_tick_ms,
        started_at,
        ended_at
    from combined
)

select * from keyed
