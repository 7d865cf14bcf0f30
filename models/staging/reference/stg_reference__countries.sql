with

source as (

    select * from {{ source('reference', 'countries') }}

),

cleaned as (

    select
        {{ non_blank('alpha2') }} as country_code,
        {{ non_blank('alpha3') }} as country_code_alpha3,

        {{ non_blank('name') }} as country_name,
        {{ non_blank('region') }} as region,
        {{ non_blank('sub_region') }} as sub_region,
        {{ non_blank('currency') }} as currency_code,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
