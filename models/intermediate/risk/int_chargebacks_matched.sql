with chargebacks as (
    select * from {{ ref("stg_card_payments__chargebacks") }}
),

transactions as (
    select * from {{ ref("stg_card_payments__transactions") }}
),

matched as (
    select
        chargebacks.chargeback_id,
        chargebacks.transaction_id,
        transactions.card_token,
        chargebacks.reason,
        chargebacks.currency_code,
        chargebacks.amount,
        transactions.transaction_id is not null as is_matched,
        transactions.occurred_at,
        chargebacks.raised_at
    from chargebacks
    left join transactions
        on chargebacks.transaction_id = transactions.transaction_id
)

select * from matched
