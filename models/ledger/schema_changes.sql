with

changes as (

    select * from {{ source('ledger', 'schema_changes') }}

),

listed as (

    select
        source,
        table_name,
        file as _file,
        column_name,
        change,
        old_type,
        new_type,
        load_id as _load_id
    from changes

)

select * from listed
