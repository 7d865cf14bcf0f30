{{ refers_to('stg_shop__orders') }}
{{ refers_to('stg_shop__products') }}
with

source as (

    select * from {{ source('shop', 'order_items') }}

),

cleaned as (

    select
        order_item_id,
        order_id,
        product_id,

        line_number,
        quantity,
        unit_price,
        discount_amount,
        net_amount,

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
