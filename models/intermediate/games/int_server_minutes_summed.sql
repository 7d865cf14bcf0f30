{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["server_id", "minute_at"],
    tags=["live"],
) }}
with readings as (
    {{ events_by_window(
        "stg_game__server_metrics", "read_at", "1 minute", by=["server_id"]
    ) | indent(4) }}
),

summed as (
    select
        server_id,
        count(*) as reading_count,
        max(player_count) as player_count,
        cast(sum(error_count) as bigint) as error_count,
        max(cpu_pct) as cpu_pct,
        max(memory_pct) as memory_pct,
        max(tick_ms) as tick_ms,
        window_start as minute_at,
        max(_load_id) as _load_id
    from readings
    group by server_id, window_start
),

judged as (
    select
        server_id,
        reading_count,
        player_count,
        error_count,
        cpu_pct,
        memory_pct,
        tick_ms,
        cpu_pct < {{ var("game_server_max_cpu_pct") }}
        and tick_ms < {{ var("game_server_max_tick_ms") }}
        and error_count < {{ var("game_server_max_errors") }} as is_healthy,
        minute_at,
        _load_id
    from summed
)

select * from judged
