with

source as (

    select * from {{ source('documents', 'records') }}

),

cleaned as (

    select
        {{ non_blank('document') }} as document_id,
        {{ whole_number('ticket') }} as ticket_id,
        {{ whole_number('customer') }} as user_id,
        {{ whole_number('agent') }} as agent_id,

        {{ non_blank('kind') }} as document_kind,
        {{ non_blank('source.language') }} as language_code,

        {{ utc_timestamp('source.recorded_at') }} as recorded_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
