with

source as (

    select * from {{ source('reference', 'fx_rates') }}

),

cleaned as (

    select
        {{ non_blank('currency') }} as currency_code,

        try_cast(usd_per_unit as decimal(18, 8)) as usd_per_unit,

        try_cast(source.date as date) as rate_date,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
