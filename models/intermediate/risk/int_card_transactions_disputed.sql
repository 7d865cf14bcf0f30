with transactions as (
    select * from {{ ref("stg_card_payments__transactions") }}
),

chargebacks as (
    select * from {{ ref("stg_card_payments__chargebacks") }}
),

disputes as (
    select
        transaction_id,
        count(*) as chargeback_count,
        sum(amount) as charged_back_amount,
        max(case when reason = 'fraud' then 1 else 0 end) as fraud_count,
        min(raised_at) as disputed_at,
        max(_load_id) as _load_id
    from chargebacks
    group by transaction_id
),

disputed as (
    select
        transactions.transaction_id,
        transactions.card_token,
        cast(transactions.customer_id as string) as source_customer_id,
        transactions.order_number,
        transactions.device_fingerprint,
        transactions.merchant,
        transactions.country_code,
        transactions.currency_code,
        transactions.entry_mode,
        transactions.decision,
        transactions.amount,
        transactions.amount_usd,
        cast(coalesce(disputes.charged_back_amount, 0) as decimal(14, 2))
            as charged_back_amount,
        coalesce(disputes.chargeback_count, 0) > 0 as is_disputed,
        coalesce(disputes.fraud_count, 0) > 0 as is_disputed_as_fraud,
        transactions.occurred_at,
        disputes.disputed_at,
        transactions._load_id,
        disputes._load_id as _dispute_load_id
    from transactions
    left join disputes
        on transactions.transaction_id = disputes.transaction_id
)

select * from disputed
