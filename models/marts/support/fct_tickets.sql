with tickets as (
    select * from {{ ref("int_tickets_timed") }}
),

described as (
    select
        ticket_key,
        customer_key,
        order_key,
        product_key,
        desk,
        source_ticket_id,
        subject,
        channel,
        ticket_status,
        status_group,
        priority,
        satisfaction,
        reply_count,
        first_response_minutes,
        resolution_minutes,
        opened_date,
        opened_at,
        first_response_at,
        solved_at
    from tickets
)

select * from described
