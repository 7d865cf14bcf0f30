/*
What: for each table and file, the rows loaded according to the ledger, the rows
in the raw table, and the rows that staging sorted (staged, superseded, filtered
or quarantined) are the same count. Tables that no staging model reads wait in
raw; `accounts` counts them as unstaged.
Why: it is the promise that nothing is lost and nothing is counted twice.
A returned row: one file of one table where the three counts differ.
To resolve: ledger <> raw means that raw was changed by hand; delete the
warehouse and load again from landing. raw <> sorted means that staging was not
built since the last load (run it), or that two rows share (_file, _row).
*/
with

counts as (

    select
        source,
        table_name,
        file as _file,
        rows_loaded as ledger_rows,
        0 as raw_rows,
        0 as sorted_rows
    from {{ source('ledger', 'files') }}
    where status = 'loaded' and {{ is_staged() }}
    union all
    select
        source,
        table_name,
        _file,
        0 as ledger_rows,
        raw_rows,
        0 as sorted_rows
    from ({{ count_raw_rows() }}) as raw_tables
    union all
    select
        source,
        table_name,
        _file,
        0 as ledger_rows,
        0 as raw_rows,
        row_count as sorted_rows
    from {{ ref('row_outcomes') }}

),

compared as (

    select
        source,
        table_name,
        _file,
        sum(ledger_rows) as ledger_rows,
        sum(raw_rows) as raw_rows,
        sum(sorted_rows) as sorted_rows
    from counts
    group by source, table_name, _file

)

select *
from compared
where
    ledger_rows <> raw_rows
    or raw_rows <> sorted_rows
