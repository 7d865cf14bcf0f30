with

source as (

    select * from {{ source('erp', 'materials') }}

),

cleaned as (

    select
        {{ non_blank('material_no') }} as material_id,

        lpad({{ non_blank('ean') }}, 13, '0') as ean,
        {{ non_blank('description') }} as material_name,
        {{ non_blank('product_group') }} as product_group,
        {{ non_blank('currency') }} as currency_code,

        {{ decimal_comma('list_price') }} as list_price,

        {{ parse_date('changed_on', 'dd.MM.yyyy') }} as changed_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
