{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="card_token",
    tags=["live"],
) }}
with transactions as (
    select * from {{ ref("stg_card_payments__transactions") }}
),

-- what is told late changes what comes after it: a card is compared anew
touched as (
    select
        card_token,
        max(_load_id) as _load_id
    from transactions
    where {{ is_new("stg_card_payments__transactions") }}
    group by card_token
),

placed as (
    select
        transactions.transaction_id,
        transactions.card_token,
        transactions.device_fingerprint,
        transactions.entry_mode,
        transactions.amount_usd,
        transactions.latitude,
        transactions.longitude,
        transactions.entry_mode in ('chip', 'contactless') as is_card_present,
        transactions.occurred_at,
        touched._load_id
    from transactions
    inner join touched
        on transactions.card_token = touched.card_token
),

followed as (
    select
        transaction_id,
        lag(occurred_at, {{ var("risk_velocity_count") - 1 }}) over (
            partition by card_token
            order by
                occurred_at asc nulls last,
                transaction_id asc nulls last
        ) as burst_began_at
    from placed
),

summed as (
    select
        transaction_id,
        count(*) over earlier as earlier_count,
        coalesce(sum(amount_usd) over earlier, 0) as earlier_usd
    from placed
    window earlier as (
        partition by card_token
        order by
            occurred_at asc nulls last,
            transaction_id asc nulls last
        rows between unbounded preceding and 1 preceding
    )
),

recognised as (
    select
        transaction_id,
        row_number() over (
            partition by card_token, device_fingerprint
            order by
                occurred_at asc nulls last,
                transaction_id asc nulls last
        ) = 1 as is_new_device
    from placed
),

travelled as (
    select
        transaction_id,
        lag(latitude) over in_order as former_latitude,
        lag(longitude) over in_order as former_longitude,
        lag(occurred_at) over in_order as formerly_present_at
    from placed
    where is_card_present
    window in_order as (
        partition by card_token
        order by
            occurred_at asc nulls last,
            transaction_id asc nulls last
    )
),

compared as (
    select
        placed.transaction_id,
        placed.card_token,
        placed.entry_mode,
        placed.amount_usd,
        summed.earlier_count,
        summed.earlier_usd,
        recognised.is_new_device,
        {{ kilometres_between(
            "travelled.former_latitude",
            "travelled.former_longitude",
            "placed.latitude",
            "placed.longitude"
        ) }} as travelled_km,
        {{ dbt.datediff(
            "travelled.formerly_present_at", "placed.occurred_at", "second"
        ) }} as travelled_s,
        {{ dbt.datediff(
            "followed.burst_began_at", "placed.occurred_at", "second"
        ) }} as burst_s,
        placed.occurred_at,
        placed._load_id
    from placed
    inner join followed
        on placed.transaction_id = followed.transaction_id
    inner join summed
        on placed.transaction_id = summed.transaction_id
    inner join recognised
        on placed.transaction_id = recognised.transaction_id
    left join travelled
        on placed.transaction_id = travelled.transaction_id
)

select * from compared
