with tickets as (
    select * from {{ ref("stg_helpdesk__tickets") }}
),

ratings as (
    select * from {{ ref("stg_helpdesk__satisfaction_ratings") }}
),

cases as (
    select * from {{ ref("stg_pixelco__cases") }}
),

last_ratings as (
    select
        ticket_id,
        score
    from ratings
    qualify row_number() over (
            partition by ticket_id
            order by updated_at desc, rating_id desc
        ) = 1
),

unioned as (
    select
        'helpdesk' as desk,
        cast(tickets.ticket_id as string) as source_ticket_id,
        cast(tickets.requester_id as string) as source_customer_id,
        tickets.order_number,
        tickets.ean,
        tickets.subject,
        tickets.channel,
        tickets.ticket_status as source_status,
        tickets.priority as source_priority,
        case
            when last_ratings.score in ('good', 'bad') then last_ratings.score
        end as satisfaction,
        tickets.created_at as opened_at,
        tickets.solved_at
    from tickets
    left join last_ratings
        on tickets.ticket_id = last_ratings.ticket_id
    union all
    select
        'pixelco' as desk,
        case_id as source_ticket_id,
        account_id as source_customer_id,
        order_number,
        null as ean,
        topic as subject,
        null as channel,
        case_status as source_status,
        cast(severity as string) as source_priority,
        case
            when stars >= {{ var("satisfaction_min_good_stars") }} then 'good'
            when stars <= {{ var("satisfaction_max_bad_stars") }} then 'bad'
        end as satisfaction,
        opened_at,
        closed_at as solved_at
    from cases
),

keyed as (
    select
        {{ surrogate_key(["desk", "source_ticket_id"]) }} as ticket_key,
        {{ surrogate_key(["desk", "source_customer_id"]) }}
            as customer_record_key,
        desk,
        source_ticket_id,
        order_number,
        ean,
        subject,
        channel,
        source_status,
        source_priority,
        satisfaction,
        opened_at,
        solved_at
    from unioned
)

select * from keyed
