with alerts as (
    select * from {{ ref("int_card_alerts_raised") }}
),

transactions as (
    select * from {{ ref("int_card_transactions_disputed") }}
),

frauds as (
    select count(*) as fraud_count
    from transactions
    where is_disputed_as_fraud
),

fired as (
    select
        transaction_id,
        risk_rule
    from alerts
    union all
    select distinct
        transaction_id,
        'any' as risk_rule
    from alerts
),

counted as (
    select
        fired.risk_rule,
        count(*) as alert_count,
        sum(case when transactions.is_disputed_as_fraud then 1 else 0 end)
            as right_alert_count
    from fired
    inner join transactions
        on fired.transaction_id = transactions.transaction_id
    group by fired.risk_rule
),

rated as (
    select
        counted.risk_rule,
        counted.alert_count,
        cast(counted.right_alert_count as bigint) as right_alert_count,
        frauds.fraud_count,
        cast(
            counted.right_alert_count * 100.0 / nullif(counted.alert_count, 0)
            as decimal(5, 2)
        ) as precision_pct,
        cast(
            counted.right_alert_count * 100.0 / nullif(frauds.fraud_count, 0)
            as decimal(5, 2)
        ) as recall_pct
    from counted
    cross join frauds
)

select * from rated
