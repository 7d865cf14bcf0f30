with

files as (

    select * from {{ source('ledger', 'files') }}

),

replays as (

    select * from {{ source('ledger', 'replays') }}

),

replays_counted as (

    select
        source,
        table_name,
        file,
        count(*) as replay_count
    from replays
    group by source, table_name, file

),

listed as (

    select
        files.source,
        files.table_name,
        files.file as _file,
        files.load_id as _load_id,
        files.origin_name,
        files.reader,
        files.sha256,
        files.status as file_status,
        files.reason as refusal_reason,
        files.bytes as file_bytes,
        files.rows_read,
        files.rows_loaded,
        files.rows_rejected,
        files.loaded_at,
        coalesce(replays_counted.replay_count, 0) as replay_count
    from files
    left join replays_counted
        on
            files.source = replays_counted.source
            and files.table_name = replays_counted.table_name
            and files.file = replays_counted.file

)

select * from listed
