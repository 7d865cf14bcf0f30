with players as (
    select * from {{ ref("int_players_built") }}
),

customer_records as (
    select * from {{ ref("bridge_customer_records") }}
    where source = 'shop'
),

linked as (
    select
        players.player_id,
        customer_records.customer_key,
        players.platform,
        players.country_code,
        players.session_count,
        players.purchase_count,
        players.revenue_usd,
        players.is_known,
        players.is_payer,
        players.first_session_date,
        players.last_session_date,
        players.first_purchase_date
    from players
    left join customer_records
        on
            cast(players.customer_id as string)
            = customer_records.source_customer_id
)

select * from linked
