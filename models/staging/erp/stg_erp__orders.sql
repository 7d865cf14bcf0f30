{{ refers_to('stg_erp__customers') }}
with

source as (

    select * from {{ source('erp', 'orders') }}

),

cleaned as (

    select
        {{ non_blank('order_no') }} as order_id,
        {{ non_blank('customer_no') }} as customer_id,

        {{ non_blank('status') }} as order_status,
        {{ non_blank('currency') }} as currency_code,
        {{ non_blank('country') }} as country_code_alpha3,

        {{ decimal_comma('total_net') }} as total_amount,

        {{ parse_date('order_date', 'dd.MM.yyyy') }} as order_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
