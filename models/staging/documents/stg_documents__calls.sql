with

source as (

    select * from {{ source('documents', 'calls') }}

),

cleaned as (

    select
        {{ extract_match('name', '([^/]+)[.][a-z]+$', 1) }} as document_id,

        {{ non_blank('source.text') }} as transcript,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
