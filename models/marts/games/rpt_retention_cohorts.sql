{%- set ages = [1, 7, 30] -%}
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
        cohort_date,
        count(distinct player_id) as player_count,
        count(distinct case when is_payer then player_id end) as payer_count
        {%- for age in ages %},
        count(case when age_days = {{ age }} then 1 end) as day_{{ age }}_count
        {%- endfor %}
    from aged
    group by cohort_date
),

-- what has not come yet is unknown, not zero
known as (
    select
        counted.cohort_date,
        counted.player_count,
        counted.payer_count
        {%- for age in ages %},
        case
            when
                {{ dbt.dateadd("day", age, "counted.cohort_date") }}
                <= newest.last_date
                then counted.day_{{ age }}_count
        end as day_{{ age }}_player_count
        {%- endfor %}
    from counted
    cross join newest
),

shared as (
    select
        player_count,
        {%- for age in ages %}
        day_{{ age }}_player_count,
        {%- endfor %}
        payer_count,
        {%- for age in ages %}
        cast(
            round(100.0 * day_{{ age }}_player_count / player_count, 2)
            as decimal(5, 2)
        ) as day_{{ age }}_retention_pct,
        {%- endfor %}
        cast(
            round(100.0 * payer_count / player_count, 2) as decimal(5, 2)
        ) as conversion_pct,
        cohort_date
    from known
)

select * from shared
