{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="transaction_id",
    tags=["live"],
) }}
with transactions as (
    select * from {{ ref("int_card_transactions_disputed") }}
    where
        {{ is_new("stg_card_payments__transactions") }}
        or {{ is_new("stg_card_payments__chargebacks", "_dispute_load_id") }}
),

listed as (
    select
        transaction_id,
        card_token,
        source_customer_id,
        order_number,
        device_fingerprint,
        merchant,
        country_code,
        currency_code,
        entry_mode,
        decision,
        amount,
        amount_usd,
        charged_back_amount,
        is_disputed,
        is_disputed_as_fraud,
        occurred_at,
        disputed_at
    from transactions
)

select * from listed
