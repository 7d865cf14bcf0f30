with

records as (

    select * from {{ source('ledger', 'rejected_records') }}

),

listed as (

    select
        source,
        table_name,
        file as _file,
        record_number,
        reason,
        raw_record,
        load_id as _load_id
    from records

)

select * from listed
