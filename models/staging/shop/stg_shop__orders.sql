{{ refers_to('stg_shop__customers') }}
with

source as (

    select * from {{ source('shop', 'orders') }}

),

cleaned as (

    select
        order_id,
        {{ non_blank('order_number') }} as order_number,
        customer_id,

        {{ non_blank('status') }} as order_status,
        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('country_code') }} as country_code,
        {{ non_blank('notes') }} as notes,

        total_amount,

        {{ utc_timestamp('ordered_at') }} as ordered_at,
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
