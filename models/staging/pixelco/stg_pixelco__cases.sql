{{ refers_to('stg_pixelco__accounts') }}
with

source as (

    select * from {{ source('pixelco', 'cases') }}

),

cleaned as (

    select
        {{ non_blank('source.case') }} as case_id,
        {{ non_blank('acct') }} as account_id,
        {{ non_blank('order_ref') }} as order_number,

        {{ non_blank('state') }} as case_status,
        {{ non_blank('topic') }} as topic,

        {{ whole_number('sev') }} as severity,
        {{ whole_number('stars') }} as stars,
        {{ json_structs('log', ['t', 'who', 'txt']) }} as messages,

        {{ timestamp_from_epoch_ms('opened') }} as opened_at,
        {{ timestamp_from_epoch_ms('closed') }} as closed_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
