{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["server_id", "minute_at"],
    tags=["live"],
) }}
with server_minutes as (
    select * from {{ ref("int_server_minutes_summed") }}
    where {{ is_new("int_server_minutes_summed") }}
),

keyed as (
    select
        {{ surrogate_key(["server_id", "minute_at"]) }} as server_minute_key,
        server_id,
        reading_count,
        player_count,
        error_count,
        cpu_pct,
        memory_pct,
        tick_ms,
        is_healthy,
        minute_at
    from server_minutes
)

select * from keyed
