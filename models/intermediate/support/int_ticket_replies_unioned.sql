with comments as (
    select * from {{ ref("stg_helpdesk__comments") }}
    where is_public
),

agents as (
    select * from {{ ref("stg_helpdesk__users") }}
    where role in ('agent', 'admin')
),

cases as (
    select * from {{ ref("stg_pixelco__cases") }}
),

messages as (
    {{ explode_structs("cases", "messages", ["case_id"]) }}
),

unioned as (
    select
        'helpdesk' as desk,
        cast(comments.ticket_id as string) as source_ticket_id,
        cast(comments.comment_id as string) as source_reply_id,
        comments.created_at as replied_at
    from comments
    inner join agents
        on comments.author_id = agents.user_id
    union all
    select
        'pixelco' as desk,
        case_id as source_ticket_id,
        case_id || '|' || cast(position as string) as source_reply_id,
        {{ timestamp_from_epoch_ms("element.t") }} as replied_at
    from messages
    where element.who = 'agent'
),

keyed as (
    select
        {{ surrogate_key(["desk", "source_reply_id"]) }} as reply_key,
        {{ surrogate_key(["desk", "source_ticket_id"]) }} as ticket_key,
        desk,
        replied_at
    from unioned
)

select * from keyed
