with

source as (

    select * from {{ source('erp', 'customers') }}

),

cleaned as (

    select
        {{ non_blank('customer_no') }} as customer_id,

        {{ non_blank(dbt.split_part('name1', "','", 1)) }} as last_name,
        {{ non_blank(dbt.split_part('name1', "','", 2)) }} as first_name,
        {{ non_blank('email') }} as email,
        {{ non_blank('phone') }} as phone,
        {{ non_blank('street') }} as street,
        {{ non_blank('city') }} as city,
        {{ non_blank('postal_code') }} as postal_code,
        {{ non_blank('country') }} as country_code_alpha3,

        {{ parse_date('birth_date', 'dd.MM.yyyy') }} as birth_date,
        {{ parse_date('created_on', 'dd.MM.yyyy') }} as created_date,
        {{ parse_date('changed_on', 'dd.MM.yyyy') }} as changed_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
