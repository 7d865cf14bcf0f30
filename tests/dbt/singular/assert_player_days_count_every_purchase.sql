-- What: purchases and refunds by player and day add up to those in staging.
-- Why: days are kept up to date as messages come; a day that was not made anew,
-- or is missing, would count a late one wrongly.
-- A returned row: the counts in staging, by day as summed up, and in the mart.
-- To resolve: build int_purchase_days_summed and fct_player_days with
-- --full-refresh, and find out which day differed.

with staged as (
    select
        count_if(event_type = 'purchase') as purchase_count,
        count_if(event_type = 'refund') as refund_count
    from {{ ref("stg_game__purchases") }}
),

summed as (
    select
        coalesce(sum(purchase_count), 0) as purchase_count,
        coalesce(sum(refund_count), 0) as refund_count
    from {{ ref("int_purchase_days_summed") }}
),

shown as (
    select
        coalesce(sum(purchase_count), 0) as purchase_count,
        coalesce(sum(refund_count), 0) as refund_count
    from {{ ref("fct_player_days") }}
),

compared as (
    select
        staged.purchase_count as staged_purchases,
        summed.purchase_count as summed_purchases,
        shown.purchase_count as shown_purchases,
        staged.refund_count as staged_refunds,
        summed.refund_count as summed_refunds,
        shown.refund_count as shown_refunds
    from staged
    cross join summed
    cross join shown
)

select * from compared
where
    staged_purchases <> summed_purchases
    or staged_purchases <> shown_purchases
    or staged_refunds <> summed_refunds
    or staged_refunds <> shown_refunds
