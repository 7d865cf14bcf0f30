with versions as (
    select * from {{ ref("int_customer_records_versioned") }}
),

records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

described as (
    select
        {{ surrogate_key([
            "versions.customer_record_key", "versions.valid_from"
        ]) }} as customer_version_key,
        records.customer_key,
        versions.customer_record_key,
        versions.source,
        versions.full_name,
        versions.email,
        versions.phone,
        versions.country_code,
        versions.segment,
        versions.is_current,
        versions.valid_from,
        versions.valid_to
    from versions
    -- a record that was deleted has a history, and no customer
    left join records
        on versions.customer_record_key = records.customer_record_key
)

select * from described
