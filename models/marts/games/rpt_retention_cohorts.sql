with players as (
    select * from {{ ref("int_players_built") }}
    where is_known
),

sessions as (
    select * from {{ ref("int_game_sessions_built") }}
),

newest as (
    select max(session_date) as last_date
    from sessions
),

player_days as (
    select distinct
        player_id,
        session_date
    from sessions
),

aged as (
    select
        players.first_session_date as cohort_date,
        players.player_id,
        players.is_payer,
        {{ dbt.datediff(
            "players.first_session_date", "player_days.session_date", "day"
        ) }} as age_days
    from players
    inner join player_days
        on players.player_id = player_days.player_id
),

counted as (
    select
        aged.cohort_date,
        {{ dbt.datediff("aged.cohort_date", "newest.last_date", "day") }}
            as days_since,
        count(distinct aged.player_id) as player_count,
        count(distinct case
            when aged.is_payer then aged.player_id
        end) as payer_count,
        count(case when aged.age_days = 1 then 1 end) as day_1_count,
        count(case when aged.age_days = 7 then 1 end) as day_7_count,
        count(case when aged.age_days = 30 then 1 end) as day_30_count
    from aged
    cross join newest
    group by aged.cohort_date, newest.last_date
),

-- what has not come yet is unknown, not zero
known as (
    select
        counted.cohort_date,
        counted.player_count,
        counted.payer_count,
        case when counted.days_since >= 1 then counted.day_1_count end
            as day_1_player_count,
        case when counted.days_since >= 7 then counted.day_7_count end
            as day_7_player_count,
        case when counted.days_since >= 30 then counted.day_30_count end
            as day_30_player_count
    from counted
),

shared as (
    select
        player_count,
        day_1_player_count,
        day_7_player_count,
        day_30_player_count,
        payer_count,
        {{ share_pct("day_1_player_count", "player_count") }}
            as day_1_retention_pct,
        {{ share_pct("day_7_player_count", "player_count") }}
            as day_7_retention_pct,
        {{ share_pct("day_30_player_count", "player_count") }}
            as day_30_retention_pct,
        {{ share_pct("payer_count", "player_count") }} as conversion_pct,
        cohort_date
    from known
)

select * from shared
