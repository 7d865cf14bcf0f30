with

by_rule as (

    {{ union_staging_side_tables('findings') | indent(4) }}

),

disagreements as (

    select * from {{ ref('disagreements') }}

),

rejected_records as (

    select * from {{ ref('rejected_records') }}

),

loaded_files as (

    select * from {{ ref('loaded_files') }}
    where file_status = 'refused'

),

schema_changes as (

    select * from {{ ref('schema_changes') }}

),

listed as (

    select
        source,
        table_name,
        model,
        record_key,
        defect,
        column_name,
        rule,
        treatment,
        _file,
        _row,
        _load_id
    from by_rule
    union all
    select
        source,
        table_name,
        null as model,
        record_key,
        'inconsistent' as defect,
        column_name,
        column_name || ' is not what ' || trusted_because as rule,
        treatment,
        _file,
        _row,
        null as _load_id
    from disagreements
    union all
    select
        source,
        table_name,
        null as model,
        null as record_key,
        'truncated' as defect,
        null as column_name,
        reason as rule,
        'rejected' as treatment,
        _file,
        record_number as _row,
        _load_id
    from rejected_records
    union all
    select
        source,
        table_name,
        null as model,
        null as record_key,
        'truncated' as defect,
        null as column_name,
        refusal_reason as rule,
        'rejected' as treatment,
        _file,
        null as _row,
        _load_id
    from loaded_files
    union all
    select
        source,
        table_name,
        null as model,
        null as record_key,
        'drifted_schema' as defect,
        column_name,
        'the column was ' || change as rule,
        'loaded' as treatment,
        _file,
        null as _row,
        _load_id
    from schema_changes

)

select * from listed
