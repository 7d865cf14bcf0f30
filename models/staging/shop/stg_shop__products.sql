with

source as (

    select * from {{ source('shop', 'products') }}

),

cleaned as (

    select
        product_id,

        {{ non_blank('sku') }} as sku,
        {{ non_blank('ean') }} as ean,
        {{ non_blank('product_name') }} as product_name,
        {{ non_blank('category') }} as category,
        {{ non_blank('currency') }} as currency_code,

        list_price,

        is_active,

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
