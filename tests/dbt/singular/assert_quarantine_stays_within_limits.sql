/*
What: no load, and no table as a whole, has more bad rows (quarantined or
rejected) or refused files than its limits allow; accepted loads do not count.
Why: a flood of rejections is a fault of a source, a mapping or a declaration,
and marts that lack those rows are wrong although every row in them is right.
A returned row: a load or a table beyond a limit, with its most frequent reason.
To resolve: look at the rows with the command in the row. Mend the rule, mapping
or declaration and run `wellspring quarantine replay`, have the source mended,
raise the limit in the model's meta.staging.limits, or accept the load in seed
quarantine_acceptances.
*/
with

files as (

    select
        source,
        table_name,
        _file,
        _load_id,
        rows_read,
        rows_rejected,
        refusal_reason,
        case when file_status = 'refused' then 1 else 0 end as refused_files
    from {{ ref('loaded_files') }} as loaded_files
    where
        not exists (
            select 1
            from {{ ref('quarantine_acceptances') }} as accepted
            where
                accepted.source = loaded_files.source
                and accepted.table_name = loaded_files.table_name
                and accepted.load_id = loaded_files._load_id
        )

),

quarantined as (

    select
        source,
        table_name,
        _file,
        sum(row_count) as quarantined_rows
    from {{ ref('row_outcomes') }}
    where outcome = 'quarantined'
    group by source, table_name, _file

),

loads as (

    select
        files.source,
        files.table_name,
        files._load_id,
        sum(files.rows_read) as read_rows,
        sum(files.rows_rejected)
        + coalesce(sum(quarantined.quarantined_rows), 0) as bad_rows,
        sum(files.refused_files) as refused_files
    from files
    left join quarantined
        on
            files.source = quarantined.source
            and files.table_name = quarantined.table_name
            and files._file = quarantined._file
    group by files.source, files.table_name, files._load_id

),

tables as (

    select
        source,
        table_name,
        sum(read_rows) as read_rows,
        sum(bad_rows) as bad_rows,
        sum(refused_files) as refused_files
    from loads
    group by source, table_name

),

limits as (

    {{ quarantine_limits() | indent(4) }}

),

breached_loads as (

    select
        loads.source,
        loads.table_name,
        loads._load_id as load_id,
        loads.bad_rows,
        loads.read_rows,
        loads.refused_files,
        case
            when loads.refused_files > limits.most_refused
                then
                    'at most '
                    || cast(limits.most_refused as string)
                    || ' files of a load may be refused'
            when loads.bad_rows > limits.most_rows
                then
                    'at most '
                    || cast(limits.most_rows as string)
                    || ' rows of a load may be bad'
            else
                'at most '
                || cast(round(100 * limits.most_share, 1) as string)
                || ' % of the rows of a load may be bad'
        end as broken_limit
    from loads
    inner join limits
        on
            loads.source = limits.source
            and loads.table_name = limits.table_name
    where
        loads.refused_files > limits.most_refused
        or loads.bad_rows > limits.most_rows
        or (
            loads.bad_rows >= {{ var('quarantine_min_rows') }}
            and loads.bad_rows > limits.most_share * loads.read_rows
        )

),

-- a table that only its breached loads put beyond the limit is not told twice
breached_tables as (

    select
        tables.source,
        tables.table_name,
        'all' as load_id,
        tables.bad_rows,
        tables.read_rows,
        tables.refused_files,
        'at most '
        || cast(round(100 * limits.most_share, 1) as string)
        || ' % of the rows of a table may be bad' as broken_limit
    from tables
    inner join limits
        on
            tables.source = limits.source
            and tables.table_name = limits.table_name
    where
        tables.bad_rows >= {{ var('quarantine_min_rows') }}
        and tables.bad_rows > limits.most_share * tables.read_rows
        and not exists (
            select 1
            from breached_loads
            where
                breached_loads.source = tables.source
                and breached_loads.table_name = tables.table_name
        )

),

breached as (

    select * from breached_loads
    union all
    select * from breached_tables

),

reasons as (

    select
        source,
        table_name,
        _load_id,
        reasons as reason,
        count(*) as row_count
    from {{ ref('quarantined_rows') }}
    group by source, table_name, _load_id, reasons
    union all
    select
        source,
        table_name,
        _load_id,
        reason,
        count(*) as row_count
    from {{ ref('rejected_records') }}
    group by source, table_name, _load_id, reason
    union all
    select
        source,
        table_name,
        _load_id,
        refusal_reason as reason,
        count(*) as row_count
    from files
    where refused_files > 0
    group by source, table_name, _load_id, refusal_reason

)

select
    breached.source || '.' || breached.table_name as table_name,
    breached.load_id,
    breached.broken_limit,
    breached.bad_rows,
    breached.read_rows,
    round(
        100.0 * breached.bad_rows / greatest(breached.read_rows, 1), 1
    ) as bad_pct,
    breached.refused_files,
    max_by(reasons.reason, reasons.row_count) as most_frequent_reason,
    'wellspring quarantine show '
    || breached.source
    || '.'
    || breached.table_name
    || case
        when breached.load_id = 'all' then ''
        else ' --load ' || breached.load_id
    end
    || ' --warehouse' as look
from breached
left join reasons
    on
        breached.source = reasons.source
        and breached.table_name = reasons.table_name
        and (
            breached.load_id = 'all' or breached.load_id = reasons._load_id
        )
group by
    breached.source,
    breached.table_name,
    breached.load_id,
    breached.broken_limit,
    breached.bad_rows,
    breached.read_rows,
    breached.refused_files
order by breached.bad_rows desc
