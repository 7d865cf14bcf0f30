{{ refers_to('stg_shop__orders') }}
with

source as (

    select * from {{ source('shop', 'refunds') }}

),

cleaned as (

    select
        refund_id,
        order_id,
        order_item_id,

        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('reason') }} as refund_reason,

        amount,

        {{ utc_timestamp('refunded_at') }} as refunded_at,
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
