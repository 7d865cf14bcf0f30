-- What: the events of all sessions of the game are those in staging.
-- Why: a session is made anew when an event of it comes; one that was not, or
-- is missing, would count a late one wrongly.
-- A returned row: the number of events in staging and in the sessions.
-- To resolve: build int_game_sessions_built with --full-refresh, and find out
-- which session differed.

with staged as (
    select count(*) as event_count
    from {{ ref("stg_game__session_events") }}
),

summed as (
    select coalesce(sum(event_count), 0) as event_count
    from {{ ref("int_game_sessions_built") }}
),

compared as (
    select
        staged.event_count as staged_events,
        summed.event_count as summed_events
    from staged
    cross join summed
)

select * from compared
where staged_events <> summed_events
