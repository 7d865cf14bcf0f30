-- What: an order's sums are those of its lines.
-- Why: orders also carry payments and refunds; a join to those that
--     multiplies rows would inflate the sums.
-- A row: an order whose count, local or dollar amount differs from its lines.
-- To resolve: see the aggregates in int_orders_totalled; each must have one
--     row per order before it is joined.
with line_totals as (
    select
        order_key,
        count(*) as line_count,
        sum(net_local) as net_local,
        sum(net_usd) as net_usd
    from {{ ref("fct_order_lines") }}
    group by order_key
)

select
    orders.order_key,
    orders.line_count,
    line_totals.line_count as counted_lines,
    orders.net_usd,
    line_totals.net_usd as summed_net_usd
from {{ ref("fct_orders") }} as orders
left join line_totals
    on orders.order_key = line_totals.order_key
where
    orders.line_count != coalesce(line_totals.line_count, 0)
    or orders.net_local != coalesce(line_totals.net_local, 0)
    or orders.net_usd != coalesce(line_totals.net_usd, 0)
