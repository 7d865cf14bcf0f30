-- What: every person's record and every retailer is one customer's, and a
--     customer counts as many records as lead to it.
-- Why: matching merges records; it must neither lose nor share one.
-- A row: a customer whose records do not add up, or a count that differs.
-- To resolve: compare int_persons_unioned with int_persons_matched by
--     customer_record_key.
with expected as (
    select count(*) as record_count from {{ ref("int_persons_unioned") }}
    union all
    select count(*) as record_count
    from {{ ref("stg_distributor__retailers") }}
),

totals as (
    select
        sum(expected.record_count) as expected_count,
        (select count(*) from {{ ref("bridge_customer_records") }})
            as bridged_count,
        (
            select sum(customers.record_count)
            from {{ ref("dim_customers") }} as customers
        ) as counted
    from expected
)

select *
from totals
where expected_count != bridged_count or expected_count != counted
