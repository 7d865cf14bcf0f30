/*
What: every table that staging or the ledger fills still holds as many rows as
were put there: staged tables, their quarantines and absent keys against the
account that was drawn while they were filled; rejected records against the
count in the ledger; findings and the other tables of the books against what
they were made from.
Why: a row that goes missing, or comes twice, after it was counted would leave
the account balanced and the marts wrong.
A returned row: one table, and file where rows have one, with both counts.
To resolve: build again (wellspring build); if the ledger itself differs, delete
the warehouse and load again from landing (wellspring clean --warehouse).
*/
with

found as (

    select _file from ({{ union_staging_side_tables('findings') }}) as by_rule
    union all
    select _file from {{ ref('disagreements') }}
    union all
    select _file from {{ ref('rejected_records') }}
    union all
    select _file from {{ ref('loaded_files') }}
    where file_status = 'refused'
    union all
    select _file from {{ ref('schema_changes') }}

),

counts as (

    select
        model as relation,
        kept_as,
        _file,
        kept_rows,
        0 as counted_rows
    from ({{ count_kept_rows() }}) as kept
    union all
    select
        model as relation,
        outcome as kept_as,
        _file,
        0 as kept_rows,
        row_count as counted_rows
    from {{ ref('row_outcomes') }}
    where outcome in ('staged', 'quarantined')
    union all
    select
        model as relation,
        'rejected' as kept_as,
        _file,
        0 as kept_rows,
        row_count as counted_rows
    from {{ ref('row_outcomes') }}
    where outcome = 'quarantined'
    union all
    select
        model as relation,
        'absent_key' as kept_as,
        cast(null as string) as _file,
        0 as kept_rows,
        absent_key_count as counted_rows
    from ({{ union_staging_side_tables('ledger_outcomes') }}) as sorted
    union all
    select
        'row_outcomes' as relation,
        'sorted' as kept_as,
        _file,
        row_count as kept_rows,
        0 as counted_rows
    from {{ ref('row_outcomes') }}
    union all
    select
        'row_outcomes' as relation,
        'sorted' as kept_as,
        _file,
        0 as kept_rows,
        row_count as counted_rows
    from ({{ union_staging_side_tables('ledger_outcomes') }}) as sorted
    union all
    select
        'quarantined_rows' as relation,
        'quarantined' as kept_as,
        _file,
        1 as kept_rows,
        0 as counted_rows
    from {{ ref('quarantined_rows') }}
    union all
    select
        'quarantined_rows' as relation,
        'quarantined' as kept_as,
        _file,
        0 as kept_rows,
        row_count as counted_rows
    from {{ ref('row_outcomes') }}
    where outcome = 'quarantined'
    union all
    select
        'rejected_records' as relation,
        'rejected' as kept_as,
        _file,
        1 as kept_rows,
        0 as counted_rows
    from {{ ref('rejected_records') }}
    union all
    select
        'rejected_records' as relation,
        'rejected' as kept_as,
        file as _file,
        0 as kept_rows,
        rows_rejected as counted_rows
    from {{ source('ledger', 'files') }}
    union all
    select
        'ledger.rejected_records' as relation,
        'rejected' as kept_as,
        file as _file,
        1 as kept_rows,
        0 as counted_rows
    from {{ source('ledger', 'rejected_records') }}
    union all
    select
        'ledger.rejected_records' as relation,
        'rejected' as kept_as,
        file as _file,
        0 as kept_rows,
        rows_rejected as counted_rows
    from {{ source('ledger', 'files') }}
    union all
    select
        'loaded_files' as relation,
        'noted' as kept_as,
        _file,
        1 as kept_rows,
        0 as counted_rows
    from {{ ref('loaded_files') }}
    union all
    select
        'loaded_files' as relation,
        'noted' as kept_as,
        file as _file,
        0 as kept_rows,
        1 as counted_rows
    from {{ source('ledger', 'files') }}
    union all
    select
        'accounts' as relation,
        'loaded' as kept_as,
        _file,
        rows_loaded as kept_rows,
        0 as counted_rows
    from {{ ref('accounts') }}
    union all
    select
        'accounts' as relation,
        'loaded' as kept_as,
        file as _file,
        0 as kept_rows,
        rows_loaded as counted_rows
    from {{ source('ledger', 'files') }}
    union all
    select
        'schema_changes' as relation,
        'noted' as kept_as,
        _file,
        1 as kept_rows,
        0 as counted_rows
    from {{ ref('schema_changes') }}
    union all
    select
        'schema_changes' as relation,
        'noted' as kept_as,
        file as _file,
        0 as kept_rows,
        1 as counted_rows
    from {{ source('ledger', 'schema_changes') }}
    union all
    select
        'findings' as relation,
        'found' as kept_as,
        _file,
        1 as kept_rows,
        0 as counted_rows
    from {{ ref('findings') }}
    union all
    select
        'findings' as relation,
        'found' as kept_as,
        _file,
        0 as kept_rows,
        1 as counted_rows
    from found

),

compared as (

    select
        relation,
        kept_as,
        _file,
        sum(kept_rows) as kept_rows,
        sum(counted_rows) as counted_rows
    from counts
    group by relation, kept_as, _file

)

select *
from compared
where kept_rows <> counted_rows
