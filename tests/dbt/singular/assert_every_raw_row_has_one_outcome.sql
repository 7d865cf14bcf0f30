/*
What: for each table and file, the rows loaded according to the ledger, the rows
in the raw table, and the rows that staging sorted (staged, superseded, filtered
or quarantined) are the same count.
Why: it is the promise that nothing is lost and nothing is counted twice.
A returned row: one file of one table where the three counts differ.
To resolve: ledger <> raw means that raw was changed by hand; delete the
warehouse and load again from landing. raw <> sorted means that staging was not
built since the last load (run it), or that two rows share (_file, _row).
*/
with

ledger_files as (

    select
        source,
        table_name,
        file as _file,
        sum(rows_loaded) as ledger_rows
    from {{ source('ledger', 'files') }}
    where status = 'loaded'
    group by source, table_name, file

),

raw_rows as (

    {{ count_raw_rows() | indent(4) }}

),

sorted_rows as (

    select
        source,
        table_name,
        _file,
        sum(row_count) as sorted_rows
    from {{ ref('row_outcomes') }}
    group by source, table_name, _file

),

compared as (

    select
        source,
        table_name,
        _file,
        coalesce(ledger_files.ledger_rows, 0) as ledger_rows,
        coalesce(raw_rows.raw_rows, 0) as raw_rows,
        coalesce(sorted_rows.sorted_rows, 0) as sorted_rows
    from ledger_files
    full outer join raw_rows using (source, table_name, _file)
    full outer join sorted_rows using (source, table_name, _file)

)

select *
from compared
where
    ledger_rows <> raw_rows
    or raw_rows <> sorted_rows
