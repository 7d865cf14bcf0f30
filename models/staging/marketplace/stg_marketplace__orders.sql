{{ refers_to('stg_marketplace__buyers') }}
with

source as (

    select * from {{ source('marketplace', 'orders') }}

),

cleaned as (

    select
        order_id,
        buyer_id,

        time_zone,
        currency as currency_code,
        country_code,
        status as order_status,

        items,
        total as total_amount,

        {{ utc_from_local('ordered_at', 'time_zone') }} as ordered_at,
        updated_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
