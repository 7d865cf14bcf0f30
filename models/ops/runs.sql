with

past as (

    select * from {{ source('runs', 'past_runs') }}

),

listed as (

    select
        run_id,
        run_number,
        command,
        selection,
        status,
        exit_code,
        message,
        started_at,
        finished_at,
        logical_date,
        resumed_run_id,
        git_revision,
        settings_hash,
        user_name,
        host_name,
        started_by,
        landed_row_count,
        landed_bytes,
        loaded_row_count,
        loaded_bytes,
        peak_memory_bytes
    from past

)

select * from listed
