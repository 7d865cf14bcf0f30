with tickets as (
    select * from {{ ref("int_tickets_unioned") }}
),

replies as (
    select * from {{ ref("int_ticket_replies_unioned") }}
),

records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

products as (
    select * from {{ ref("int_products_merged") }}
),

statuses as (
    select * from {{ ref("ticket_statuses") }}
),

priorities as (
    select * from {{ ref("ticket_priorities") }}
),

first_replies as (
    select
        ticket_key,
        count(*) as reply_count,
        min(replied_at) as first_response_at
    from replies
    group by ticket_key
),

timed as (
    select
        tickets.ticket_key,
        records.customer_key,
        orders.order_key,
        products.product_key,
        tickets.desk,
        tickets.source_ticket_id,
        tickets.subject,
        tickets.channel,
        statuses.ticket_status,
        statuses.status_group,
        priorities.priority,
        tickets.satisfaction,
        coalesce(first_replies.reply_count, 0) as reply_count,
        {{ minutes_between(
            "tickets.opened_at", "first_replies.first_response_at"
        ) }} as first_response_minutes,
        {{ minutes_between("tickets.opened_at", "tickets.solved_at") }}
            as resolution_minutes,
        cast(tickets.opened_at as date) as opened_date,
        tickets.opened_at,
        first_replies.first_response_at,
        tickets.solved_at
    from tickets
    left join first_replies
        on tickets.ticket_key = first_replies.ticket_key
    left join records
        on tickets.customer_record_key = records.customer_record_key
    left join orders
        on tickets.order_number = orders.order_number
    left join products
        on tickets.ean = products.ean
    left join statuses
        on
            tickets.desk = statuses.source
            and tickets.source_status = statuses.source_status
    left join priorities
        on
            tickets.desk = priorities.source
            and tickets.source_priority = priorities.source_priority
)

select * from timed
