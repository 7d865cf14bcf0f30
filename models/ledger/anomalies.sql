with

found as (

    select * from {{ source('runs', 'anomalies') }}

),

listed as (

    select
        run_id,
        anomaly,
        relation,
        column_name,
        measure,
        series,
        slot_at,
        value,
        expected_low,
        expected_high,
        severity,
        is_new,
        description
    from found

)

select * from listed
