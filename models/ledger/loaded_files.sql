with

files as (

    select * from {{ source('ledger', 'files') }}

),

listed as (

    select
        source,
        table_name,
        file as _file,
        load_id as _load_id,
        origin_name,
        reader,
        sha256,
        status as file_status,
        reason as refusal_reason,
        bytes as file_bytes,
        rows_read,
        rows_loaded,
        rows_rejected,
        loaded_at
    from files

)

select * from listed
