{{ config(
    materialized="incremental",
    incremental_strategy="append",
    pre_hook="{{ forget_touched('int_card_transactions_compared', 'card_token') }}",
    tags=["live"],
) }}
with alerts as (
    select * from {{ ref("int_card_alerts_raised") }}
    where {{ is_new("int_card_transactions_compared") }}
),

keyed as (
    select
        {{ surrogate_key(["transaction_id", "risk_rule"]) }} as risk_alert_key,
        transaction_id,
        card_token,
        risk_rule,
        unit,
        observed_value,
        limit_value,
        occurred_at
    from alerts
)

select * from keyed
