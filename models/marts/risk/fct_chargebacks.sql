with chargebacks as (
    select * from {{ ref("int_chargebacks_matched") }}
),

listed as (
    select
        chargeback_id,
        transaction_id,
        card_token,
        reason,
        currency_code,
        amount,
        is_matched,
        {{ dbt.datediff("occurred_at", "raised_at", "day") }}
            as days_to_dispute,
        raised_at
    from chargebacks
)

select * from listed
