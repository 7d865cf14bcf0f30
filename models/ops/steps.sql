with

past as (

    select * from {{ source('runs', 'past_steps') }}

),

listed as (

    select
        run_id,
        step_number,
        step,
        status,
        started_at,
        duration_seconds,
        attempt_count,
        row_count,
        size_bytes,
        peak_memory_bytes,
        message
    from past

)

select * from listed
