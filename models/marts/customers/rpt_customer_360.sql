with customers as (
    select * from {{ ref("dim_customers") }}
),

orders as (
    select * from {{ ref("int_orders_totalled") }}
    where not is_cancelled
),

refunds as (
    select * from {{ ref("int_refunds_converted") }}
),

tickets as (
    select * from {{ ref("int_tickets_timed") }}
),

sales as (
    select
        customer_key,
        count(*) as order_count,
        sum(net_usd) as sales_usd,
        min(order_date) as first_order_date,
        max(order_date) as last_order_date
    from orders
    group by customer_key
),

returned as (
    select
        customer_key,
        sum(amount_usd) as refunded_usd
    from refunds
    group by customer_key
),

support as (
    select
        customer_key,
        count(*) as ticket_count,
        count_if(status_group = 'open') as open_ticket_count,
        count_if(satisfaction = 'good') as good_rating_count,
        count_if(satisfaction = 'bad') as bad_rating_count,
        median(first_response_minutes) as median_first_response_minutes,
        median(resolution_minutes) as median_resolution_minutes,
        max(opened_at) as last_ticket_at
    from tickets
    group by customer_key
),

joined as (
    select
        customers.customer_key,
        customers.customer_kind,
        customers.customer_name,
        customers.country_code,
        customers.source_count,
        coalesce(sales.order_count, 0) as order_count,
        cast(coalesce(sales.sales_usd, 0) as decimal(18, 2)) as sales_usd,
        cast(coalesce(returned.refunded_usd, 0) as decimal(18, 2))
            as refunded_usd,
        coalesce(support.ticket_count, 0) as ticket_count,
        coalesce(support.open_ticket_count, 0) as open_ticket_count,
        coalesce(support.good_rating_count, 0) as good_rating_count,
        coalesce(support.bad_rating_count, 0) as bad_rating_count,
        support.median_first_response_minutes,
        support.median_resolution_minutes,
        sales.first_order_date,
        sales.last_order_date,
        support.last_ticket_at
    from customers
    left join sales
        on customers.customer_key = sales.customer_key
    left join returned
        on customers.customer_key = returned.customer_key
    left join support
        on customers.customer_key = support.customer_key
),

final as (
    select
        customer_key,
        customer_kind,
        customer_name,
        country_code,
        source_count,
        order_count,
        sales_usd,
        refunded_usd,
        ticket_count,
        cast(open_ticket_count as bigint) as open_ticket_count,
        cast(good_rating_count as bigint) as good_rating_count,
        cast(bad_rating_count as bigint) as bad_rating_count,
        median_first_response_minutes,
        median_resolution_minutes,
        first_order_date,
        last_order_date,
        last_ticket_at
    from joined
)

select * from final
