-- What: what customers bought adds up to the regional report, and their
--     refunds and tickets to the facts.
-- Why: the customer view joins sales to support; joining them row by row
--     would multiply both.
-- A row: a measure whose total differs.
-- To resolve: each part of rpt_customer_360 must have one row per customer
--     before it is joined.
with customers as (
    select
        sum(sales_usd) as sales_usd,
        sum(refunded_usd) as refunded_usd,
        sum(ticket_count) as ticket_count
    from {{ ref("rpt_customer_360") }}
),

totals as (
    select
        'sales_usd' as measure,
        (select sales_usd from customers) as in_customers,
        (select sum(net_usd) from {{ ref("rpt_regional_sales") }}) as in_facts
    union all
    select
        'refunded_usd' as measure,
        (select refunded_usd from customers) as in_customers,
        (select sum(amount_usd) from {{ ref("fct_refunds") }}) as in_facts
    union all
    select
        'ticket_count' as measure,
        (select ticket_count from customers) as in_customers,
        (
            select count(*) from {{ ref("fct_tickets") }}
            where customer_key is not null
        ) as in_facts
)

select *
from totals
where coalesce(in_customers, 0) != coalesce(in_facts, 0)
