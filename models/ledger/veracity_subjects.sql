with

loaded_files as (
    select * from {{ ref('loaded_files') }}
),

lineage as (
    {{ marts_and_their_sources() | indent(4) }}
),

source_tables as (
    select
        source,
        source || '.' || table_name as relation,
        cast(sum(rows_read) as bigint) as row_count
    from loaded_files
    group by source, table_name
    having sum(rows_read) > 0
),

listed as (
    select
        'table' as subject_kind,
        relation as subject,
        relation,
        row_count
    from source_tables
    union all
    select
        'source' as subject_kind,
        source as subject,
        relation,
        row_count
    from source_tables
    union all
    select
        'mart' as subject_kind,
        lineage.mart as subject,
        source_tables.relation,
        source_tables.row_count
    from lineage
    inner join source_tables
        on lineage.source || '.' || lineage.table_name = source_tables.relation
    union all
    -- a mart is also what its own tests say of it
    select distinct
        'mart' as subject_kind,
        mart as subject,
        mart as relation,
        0 as row_count
    from lineage
)

select * from listed
