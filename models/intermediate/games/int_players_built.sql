with sessions as (
    select * from {{ ref("int_game_sessions_built") }}
),

purchases as (
    select * from {{ ref("int_game_purchases_converted") }}
),

played as (
    select
        player_id,
        max(customer_id) as customer_id,
        max_by(platform, started_at) as platform,
        max_by(country_code, started_at) as country_code,
        count(*) as session_count,
        min(session_date) as first_session_date,
        max(session_date) as last_session_date
    from sessions
    group by player_id
),

paid as (
    select
        player_id,
        count(
            case when event_type = 'purchase' then 1 end
        ) as purchase_count,
        sum(
            case
                when event_type = 'purchase' then amount_usd
                else -amount_usd
            end
        ) as revenue_usd,
        min(
            case when event_type = 'purchase' then purchase_date end
        ) as first_purchase_date
    from purchases
    group by player_id
),

listed as (
    select player_id from played
    union
    select player_id from paid
),

built as (
    select
        listed.player_id,
        played.customer_id,
        played.platform,
        played.country_code,
        coalesce(played.session_count, 0) as session_count,
        coalesce(paid.purchase_count, 0) as purchase_count,
        cast(coalesce(paid.revenue_usd, 0) as decimal(18, 2)) as revenue_usd,
        played.player_id is not null as is_known,
        paid.first_purchase_date is not null as is_payer,
        played.first_session_date,
        played.last_session_date,
        paid.first_purchase_date
    from listed
    left join played
        on listed.player_id = played.player_id
    left join paid
        on listed.player_id = paid.player_id
)

select * from built
