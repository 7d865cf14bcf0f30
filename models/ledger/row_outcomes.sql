with

outcomes as (

    {{ union_staging_side_tables('ledger_outcomes') | indent(4) }}

),

listed as (

    select
        source,
        table_name,
        model,
        _file,
        outcome,
        name as outcome_name,
        row_count
    from outcomes

)

select * from listed
