with

source as (

    select * from {{ source('pixelco', 'accounts') }}

),

cleaned as (

    select
        {{ non_blank('acct') }} as account_id,

        {{ non_blank('display') }} as display_name,
        {{ non_blank('given') }} as first_name,
        {{ non_blank('family') }} as last_name,
        {{ non_blank('mail') }} as email,
        {{ non_blank('tel') }} as phone,
        {{ non_blank(json_text('loc', 'ctry')) }} as country_name,
        {{ non_blank(json_text('loc', 'town')) }} as city,
        {{ non_blank(json_text('loc', 'zip')) }} as postal_code,

        {{ json_structs('devices', ['serial', 'model']) }} as devices,

        {{ parse_date('born', 'MM/dd/yyyy') }} as birth_date,

        {{ timestamp_from_epoch_ms('since') }} as created_at,

        _file,
        _row,
        _load_id,
        _deleted,
        {{ raw_record('source') }} as _record
    from source

)

select * from cleaned
