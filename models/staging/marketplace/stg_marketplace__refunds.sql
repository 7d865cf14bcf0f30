{{ refers_to('stg_marketplace__orders') }}
with

source as (

    select * from {{ source('marketplace', 'refunds') }}

),

cleaned as (

    select
        refund_id,
        order_id,

        currency as currency_code,
        reason as refund_reason,

        line as line_number,
        amount,

        refunded_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
