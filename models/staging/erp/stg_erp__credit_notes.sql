{{ refers_to('stg_erp__orders') }}
with

source as (

    select * from {{ source('erp', 'credit_notes') }}

),

cleaned as (

    select
        {{ non_blank('credit_no') }} as credit_note_id,
        {{ non_blank('order_no') }} as order_id,

        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('reason') }} as credit_reason,

        {{ whole_number('line_no') }} as line_number,
        {{ decimal_comma('amount') }} as amount,

        {{ parse_date('credit_date', 'dd.MM.yyyy') }} as credit_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
