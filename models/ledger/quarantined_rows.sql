with

quarantine as (

    {{ union_staging_side_tables('quarantine') | indent(4) }}

),

listed as (

    select
        source,
        table_name,
        model,
        record_key,
        reasons,
        raw_record,
        _file,
        _row,
        _load_id
    from quarantine

)

select * from listed
