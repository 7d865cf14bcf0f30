{{ refers_to('stg_distributor__retailers') }}
with

source as (

    select * from {{ source('distributor', 'orders') }}

),

cleaned as (

    select
        {{ non_blank('id') }} as order_id,
        {{ non_blank('retailer') }} as retailer_id,

        {{ non_blank('status') }} as order_status,
        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('country') }} as country_code,
        {{ non_blank('source.comment') }} as order_comment,

        {{ json_structs('lines', ['no', 'code', 'qty', 'price', 'net']) }}
            as lines,
        try_cast(total as decimal(14, 2)) as total_amount,

        {{ utc_timestamp('placed') }} as ordered_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
