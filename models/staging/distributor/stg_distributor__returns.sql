{{ refers_to('stg_distributor__orders') }}
with

source as (

    select * from {{ source('distributor', 'returns') }}

),

cleaned as (

    select
        {{ non_blank('id') }} as return_id,
        {{ non_blank('source.order') }} as order_id,

        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('reason') }} as return_reason,

        {{ whole_number('line') }} as line_number,
        try_cast(amount as decimal(14, 2)) as amount,

        {{ parse_date('source.date', 'yyyyMMdd') }} as return_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
