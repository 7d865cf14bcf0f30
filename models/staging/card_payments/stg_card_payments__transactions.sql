with

source as (

    select * from {{ source('card_payments', 'transactions') }}

),

cleaned as (

    select
        {{ non_blank('transaction_id') }} as transaction_id,
        {{ non_blank('card_token') }} as card_token,
        {{ whole_number('customer_id', 'bigint') }} as customer_id,
        {{ non_blank('order_number') }} as order_number,
        {{ non_blank('device_fingerprint') }} as device_fingerprint,

        {{ non_blank('merchant') }} as merchant,
        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('country') }} as country_code,
        {{ non_blank('entry_mode') }} as entry_mode,
        {{ non_blank('decision') }} as decision,

        try_cast(amount as decimal(14, 2)) as amount,
        try_cast(amount_usd as decimal(14, 2)) as amount_usd,
        try_cast(latitude as decimal(9, 6)) as latitude,
        try_cast(longitude as decimal(9, 6)) as longitude,

        {{ utc_timestamp('occurred_at') }} as occurred_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
