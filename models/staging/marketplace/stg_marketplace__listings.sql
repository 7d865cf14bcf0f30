with

source as (

    select * from {{ source('marketplace', 'listings') }}

),

cleaned as (

    select
        listing_id,

        seller_sku,
        -- a GTIN-14 of a single unit is its EAN behind a zero
        right(gtin, 13) as ean,
        title as listing_title,
        category,
        currency as currency_code,

        price as list_price,

        updated_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
