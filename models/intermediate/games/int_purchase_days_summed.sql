{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["player_id", "activity_date"],
    tags=["live"],
) }}
with purchases as (
    {{ events_by_window(
        "stg_game__purchases", "occurred_at", "1 day", by=["player_id"]
    ) | indent(4) }}
),

summed as (
    select
        player_id,
        count(case when event_type = 'purchase' then 1 end) as purchase_count,
        count(case when event_type = 'refund' then 1 end) as refund_count,
        cast(window_start as date) as activity_date,
        max(_load_id) as _load_id
    from purchases
    group by player_id, window_start
)

select * from summed
