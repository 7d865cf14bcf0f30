{{ refers_to('stg_erp__orders') }}
{{ refers_to('stg_erp__materials') }}
with

source as (

    select * from {{ source('erp', 'order_lines') }}

),

cleaned as (

    select
        {{ non_blank('order_no') }} as order_id,
        {{ whole_number('line_no') }} as line_number,
        {{ non_blank('material_no') }} as material_id,

        {{ whole_number('quantity') }} as quantity,
        -- renamed by the source in October 2025
        {{ decimal_comma('coalesce(unit_price, net_price)') }} as unit_price,
        {{ decimal_comma('discount_pct', 5, 2) }} as discount_pct,
        {{ decimal_comma('line_net') }} as net_amount,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
