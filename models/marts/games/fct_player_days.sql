{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="player_id",
    tags=["live"],
) }}
with sessions as (
    select * from {{ ref("int_game_sessions_built") }}
),

purchase_days as (
    select * from {{ ref("int_purchase_days_summed") }}
),

-- all days of a player: a late event can move a session to the day before
touched as (
    select player_id
    from sessions
    where {{ is_new("int_game_sessions_built") }}
    union
    select player_id
    from purchase_days
    where {{ is_new("int_purchase_days_summed") }}
),

played as (
    select
        sessions.player_id,
        sessions.session_date as activity_date,
        count(*) as session_count,
        cast(sum(sessions.play_minutes) as bigint) as play_minutes
    from sessions
    inner join touched
        on sessions.player_id = touched.player_id
    group by sessions.player_id, sessions.session_date
),

bought as (
    select purchase_days.*
    from purchase_days
    inner join touched
        on purchase_days.player_id = touched.player_id
),

combined as (
    select
        coalesce(played.player_id, bought.player_id) as player_id,
        coalesce(played.activity_date, bought.activity_date) as activity_date,
        coalesce(played.session_count, 0) as session_count,
        coalesce(played.play_minutes, 0) as play_minutes,
        coalesce(bought.purchase_count, 0) as purchase_count,
        coalesce(bought.refund_count, 0) as refund_count
    from played
    full outer join bought
        on
            played.player_id = bought.player_id
            and played.activity_date = bought.activity_date
),

keyed as (
    select
        {{ surrogate_key(["player_id", "activity_date"]) }} as player_day_key,
        player_id,
        session_count,
        play_minutes,
        purchase_count,
        refund_count,
        session_count > 0 as is_active,
        activity_date
    from combined
)

select * from keyed
