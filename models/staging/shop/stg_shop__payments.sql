{{ refers_to('stg_shop__orders') }}
with

source as (

    select * from {{ source('shop', 'payments') }}

),

cleaned as (

    select
        payment_id,
        order_id,

        {{ non_blank('method') }} as payment_method,
        {{ non_blank('status') }} as payment_status,
        {{ non_blank('currency') }} as currency_code,

        amount,

        {{ utc_timestamp('paid_at') }} as paid_at,
        {{ utc_timestamp('created_at') }} as created_at,
        {{ utc_timestamp('updated_at') }} as updated_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
