{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="session_id",
    tags=["live"],
) }}
with session_events as (
    select * from {{ ref("stg_game__session_events") }}
),

touched as (
    select distinct session_id
    from session_events
    where {{ is_new("stg_game__session_events") }}
),

built as (
    select
        session_events.session_id,
        min(session_events.player_id) as player_id,
        min(session_events.customer_id) as customer_id,
        min(session_events.server_id) as server_id,
        min(session_events.platform) as platform,
        min(session_events.country_code) as country_code,
        count(*) as event_count,
        max(
            case when session_events.event_type = 'end' then 1 else 0 end
        ) as end_count,
        min(session_events.occurred_at) as started_at,
        max(session_events.occurred_at) as ended_at,
        max(session_events._load_id) as _load_id
    from session_events
    inner join touched
        on session_events.session_id = touched.session_id
    group by session_events.session_id
),

timed as (
    select
        session_id,
        player_id,
        customer_id,
        server_id,
        platform,
        country_code,
        event_count,
        {{ minutes_between("started_at", "ended_at") }} as play_minutes,
        end_count > 0 as has_end,
        cast(started_at as date) as session_date,
        started_at,
        ended_at,
        _load_id
    from built
)

select * from timed
