with

past as (

    select * from {{ source('runs', 'past_test_results') }}

),

listed as (

    select
        run_id,
        test_name,
        status,
        failure_count,
        duration_seconds,
        message,
        tested_at
    from past

)

select * from listed
