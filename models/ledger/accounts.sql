with

files as (

    select * from {{ source('ledger', 'files') }}

),

loads as (

    select * from {{ source('ledger', 'loads') }}

),

outcomes as (

    select * from {{ ref('row_outcomes') }}

),

numbered as (

    select
        source,
        table_name,
        file as _file,
        load_id as _load_id,
        origin_name,
        rows_read,
        rows_loaded,
        rows_rejected,
        case when status = 'loaded' then file end as sorted_file,
        row_number() over (
            partition by source, table_name, load_id
            order by file asc nulls last
        ) as file_number,
        sum(rows_read) over (
            partition by source, table_name, load_id
        ) as load_rows
    from files

),

sorted as (

    select
        source,
        table_name,
        _file,
        sum(case when outcome = 'staged' then row_count end) as rows_staged,
        sum(case when outcome = 'superseded' then row_count end)
            as rows_superseded,
        sum(case when outcome = 'filtered' then row_count end) as rows_filtered,
        sum(case when outcome = 'quarantined' then row_count end)
            as rows_quarantined,
        sum(row_count) as rows_sorted
    from outcomes
    group by source, table_name, _file

),

-- what a load was to land, beyond what its other files hold, is told on the
-- line of its first file
lines as (

    select
        coalesce(numbered.source, loads.source) as source,
        coalesce(numbered.table_name, loads.table_name) as table_name,
        numbered._file,
        coalesce(numbered._load_id, loads.load_id) as _load_id,
        numbered.origin_name,
        numbered.sorted_file,
        numbered.rows_loaded,
        numbered.rows_rejected,
        loads.rows_deleted,
        coalesce(
            loads.rows_read
            - coalesce(numbered.load_rows, 0)
            + coalesce(numbered.rows_read, 0),
            numbered.rows_read
        ) as rows_read,
        coalesce(loads.rows_landed, numbered.load_rows, 0)
        - coalesce(numbered.load_rows, 0)
        + coalesce(numbered.rows_read, 0) as rows_landed,
        case
            when loads.status in ('held', 'pending')
                then coalesce(loads.rows_landed, numbered.load_rows, 0)
                    - coalesce(numbered.load_rows, 0)
        end as rows_held,
        coalesce(loads.rows_read, 0)
        - coalesce(loads.rows_landed, 0)
        + coalesce(loads.rows_deleted, 0) as rows_unchanged
    from numbered
    full outer join loads
        on
            numbered.source = loads.source
            and numbered.table_name = loads.table_name
            and numbered._load_id = loads.load_id
            and numbered.file_number = 1

),

accounted as (

    select
        lines._load_id,
        lines.origin_name,
        coalesce(lines.source, sorted.source) as source,
        coalesce(lines.table_name, sorted.table_name) as table_name,
        coalesce(lines._file, sorted._file) as _file,
        coalesce(lines.rows_read, 0) as rows_read,
        coalesce(lines.rows_unchanged, 0) as rows_unchanged,
        coalesce(lines.rows_deleted, 0) as rows_deleted,
        coalesce(lines.rows_landed, 0) as rows_landed,
        coalesce(lines.rows_held, 0) as rows_held,
        coalesce(lines.rows_rejected, 0) as rows_rejected,
        coalesce(lines.rows_loaded, 0) as rows_loaded,
        coalesce(sorted.rows_staged, 0) as rows_staged,
        coalesce(sorted.rows_superseded, 0) as rows_superseded,
        coalesce(sorted.rows_filtered, 0) as rows_filtered,
        coalesce(sorted.rows_quarantined, 0) as rows_quarantined,
        coalesce(sorted.rows_sorted, 0) as rows_sorted
    from lines
    full outer join sorted
        on
            lines.source = sorted.source
            and lines.table_name = sorted.table_name
            and lines.sorted_file = sorted._file

),

-- a source is often declared before its staging models are written
waiting as (

    select
        *,
        case when {{ is_staged() }} then 0 else rows_loaded end as rows_unstaged
    from accounted

),

balanced as (

    select
        source,
        table_name,
        _file,
        _load_id,
        origin_name,
        cast(rows_read as bigint) as rows_read,
        cast(rows_unchanged as bigint) as rows_unchanged,
        cast(rows_deleted as bigint) as rows_deleted,
        cast(rows_landed as bigint) as rows_landed,
        cast(rows_held as bigint) as rows_held,
        cast(rows_rejected as bigint) as rows_rejected,
        cast(rows_loaded as bigint) as rows_loaded,
        cast(rows_staged as bigint) as rows_staged,
        cast(rows_superseded as bigint) as rows_superseded,
        cast(rows_filtered as bigint) as rows_filtered,
        cast(rows_quarantined as bigint) as rows_quarantined,
        cast(rows_unstaged as bigint) as rows_unstaged,
        cast(
            abs(rows_read - rows_unchanged + rows_deleted - rows_landed)
            + abs(rows_landed - rows_held - rows_rejected - rows_loaded)
            + abs(rows_loaded - rows_sorted - rows_unstaged) as bigint
        ) as difference
    from waiting

)

select * from balanced
