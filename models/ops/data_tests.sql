with

results as (

    select * from {{ source('runs', 'past_test_results') }}

),

counted as (

    select
        test_name,
        count(*) as run_count,
        sum(case when status = 'failed' then 1 else 0 end) as failed_count,
        sum(case when status = 'warned' then 1 else 0 end) as warned_count,
        max(case when status = 'failed' then tested_at end) as last_failed_at,
        max(tested_at) as last_tested_at,
        max_by(status, tested_at) as last_status,
        avg(duration_seconds) as mean_duration_seconds
    from results
    group by test_name

)

select * from counted
