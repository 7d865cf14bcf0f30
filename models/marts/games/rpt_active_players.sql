with sessions as (
    select * from {{ ref("int_game_sessions_built") }}
),

players as (
    select * from {{ ref("int_players_built") }}
    where is_known
),

game_purchases as (
    select * from {{ ref("int_game_purchases_converted") }}
),

calendar as (
    select * from {{ ref("int_dates_listed") }}
),

purchases as (
    select
        game_purchases.player_id,
        game_purchases.event_type,
        game_purchases.amount_usd,
        game_purchases.purchase_date
    from game_purchases
    inner join players
        on game_purchases.player_id = players.player_id
),

player_days as (
    select distinct
        player_id,
        session_date
    from sessions
),

told as (
    select
        session_date as told_date,
        true as is_session
    from player_days
    union all
    select
        purchase_date as told_date,
        false as is_session
    from purchases
),

bounds as (
    select
        min(case when is_session then told_date end) as first_date,
        max(told_date) as last_date
    from told
),

dates as (
    select calendar.calendar_date
    from calendar
    inner join bounds
        on
            calendar.calendar_date
            between bounds.first_date and bounds.last_date
),

active as (
    select
        dates.calendar_date,
        count(distinct case
            when player_days.session_date = dates.calendar_date
                then player_days.player_id
        end) as daily_player_count,
        count(distinct case
            when
                player_days.session_date
                > {{ dbt.dateadd("day", -7, "dates.calendar_date") }}
                then player_days.player_id
        end) as weekly_player_count,
        count(distinct player_days.player_id) as monthly_player_count
    from dates
    left join player_days
        on
            dates.calendar_date >= player_days.session_date
            and {{ dbt.dateadd("day", -30, "dates.calendar_date") }}
            < player_days.session_date
    group by dates.calendar_date
),

joined as (
    select
        first_session_date as calendar_date,
        count(*) as new_player_count
    from players
    group by first_session_date
),

paid as (
    select
        purchase_date as calendar_date,
        count(distinct case
            when event_type = 'purchase' then player_id
        end) as payer_count,
        sum(
            case
                when event_type = 'purchase' then amount_usd
                else -amount_usd
            end
        ) as revenue_usd
    from purchases
    group by purchase_date
),

combined as (
    select
        active.calendar_date as activity_date,
        active.daily_player_count,
        active.weekly_player_count,
        active.monthly_player_count,
        coalesce(joined.new_player_count, 0) as new_player_count,
        coalesce(paid.payer_count, 0) as payer_count,
        cast(coalesce(paid.revenue_usd, 0) as decimal(18, 2)) as revenue_usd
    from active
    left join joined
        on active.calendar_date = joined.calendar_date
    left join paid
        on active.calendar_date = paid.calendar_date
),

averaged as (
    select
        daily_player_count,
        weekly_player_count,
        monthly_player_count,
        new_player_count,
        payer_count,
        revenue_usd,
        cast(
            round(revenue_usd / nullif(daily_player_count, 0), 4)
            as decimal(18, 4)
        ) as arpu_usd,
        cast(
            round(revenue_usd / nullif(payer_count, 0), 4) as decimal(18, 4)
        ) as arppu_usd,
        activity_date
    from combined
)

select * from averaged
