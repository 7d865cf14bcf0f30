with transactions as (
    select * from {{ ref("int_card_transactions_compared") }}
),

velocity as (
    select
        transaction_id,
        card_token,
        'velocity' as risk_rule,
        'seconds' as unit,
        cast(burst_s as double) as observed_value,
        cast({{ var("risk_velocity_minutes") * 60 }} as double) as limit_value,
        occurred_at,
        _load_id
    from transactions
    where burst_s <= {{ var("risk_velocity_minutes") * 60 }}
),

distance as (
    select
        transaction_id,
        card_token,
        'distance' as risk_rule,
        'kilometres' as unit,
        travelled_km as observed_value,
        travelled_s * {{ var("risk_speed_max_kmh") }} / 3600.0 as limit_value,
        occurred_at,
        _load_id
    from transactions
    where
        travelled_km >= {{ var("risk_distance_min_km") }}
        and travelled_km * 3600 >= travelled_s * {{ var("risk_speed_max_kmh") }}
),

amount as (
    select
        transaction_id,
        card_token,
        'amount' as risk_rule,
        'US dollars' as unit,
        cast(amount_usd as double) as observed_value,
        earlier_usd * {{ var("risk_amount_ratio") }}
        / nullif(cast(earlier_count as double), 0) as limit_value,
        occurred_at,
        _load_id
    from transactions
    where
        earlier_count >= {{ var("risk_min_history_count") }}
        and amount_usd * earlier_count
        >= earlier_usd * {{ var("risk_amount_ratio") }}
),

new_device as (
    select
        transaction_id,
        card_token,
        'new_device' as risk_rule,
        'US dollars' as unit,
        cast(amount_usd as double) as observed_value,
        cast({{ var("risk_new_device_min_usd") }} as double) as limit_value,
        occurred_at,
        _load_id
    from transactions
    where
        is_new_device
        and entry_mode = 'ecommerce'
        and earlier_count >= {{ var("risk_min_history_count") }}
        and amount_usd >= {{ var("risk_new_device_min_usd") }}
),

raised as (
    select
        transaction_id,
        card_token,
        risk_rule,
        unit,
        observed_value,
        limit_value,
        occurred_at,
        _load_id
    from velocity
    union all
    select
        transaction_id,
        card_token,
        risk_rule,
        unit,
        observed_value,
        limit_value,
        occurred_at,
        _load_id
    from distance
    union all
    select
        transaction_id,
        card_token,
        risk_rule,
        unit,
        observed_value,
        limit_value,
        occurred_at,
        _load_id
    from amount
    union all
    select
        transaction_id,
        card_token,
        risk_rule,
        unit,
        observed_value,
        limit_value,
        occurred_at,
        _load_id
    from new_device
)

select * from raised
