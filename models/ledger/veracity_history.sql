with

found as (

    select * from {{ source('runs', 'veracity_history') }}

),

listed as (

    select
        run_id,
        measured_at,
        subject_kind,
        subject,
        part,
        score
    from found

)

select * from listed
