with

source as (

    select * from {{ source('card_payments', 'chargebacks') }}

),

cleaned as (

    select
        {{ non_blank('chargeback_id') }} as chargeback_id,
        {{ non_blank('transaction_id') }} as transaction_id,

        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('reason') }} as reason,

        try_cast(amount as decimal(14, 2)) as amount,

        {{ utc_timestamp('raised_at') }} as raised_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
