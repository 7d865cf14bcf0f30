with purchases as (
    select * from {{ ref("int_game_purchases_converted") }}
),

described as (
    select
        event_id,
        purchase_id,
        session_id,
        player_id,
        event_type,
        currency_code,
        amount_local,
        amount_usd,
        event_type = 'refund' as is_refund,
        purchase_date,
        occurred_at
    from purchases
)

select * from described
