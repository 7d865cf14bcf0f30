with

found as (

    select * from {{ source('runs', 'measures') }}

),

listed as (

    select
        run_id,
        measured_at,
        relation,
        column_name,
        measure,
        value
    from found

)

select * from listed
