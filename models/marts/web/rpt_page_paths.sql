with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where
        event_type = 'page_view'
        and not is_bot
),

neighbours as (
    select
        cast(date_trunc('month', event_at) as date) as view_month,
        page_type,
        lag(page_type) over (
            partition by session_key
            order by event_number nulls first
        ) as former_page_type,
        lead(page_type) over (
            partition by session_key
            order by event_number nulls first
        ) as next_page_type
    from events
),

moves as (
    select
        view_month,
        coalesce(former_page_type, 'entry') as from_page_type,
        page_type as to_page_type
    from neighbours
    union all
    select
        view_month,
        page_type as from_page_type,
        'exit' as to_page_type
    from neighbours
    where next_page_type is null
),

counted as (
    select
        {{ surrogate_key(["view_month", "from_page_type", "to_page_type"]) }}
            as page_path_key,
        view_month,
        from_page_type,
        to_page_type,
        count(*) as move_count
    from moves
    group by view_month, from_page_type, to_page_type
)

select * from counted
