with records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

merged as (
    select * from {{ ref("int_customers_merged") }}
),

disagreeing as (
    select
        records.customer_record_key,
        records.customer_key,
        records.source,
        records.source_customer_id,
        'birth_date' as column_name,
        cast(records.birth_date as string) as stated_value,
        cast(merged.birth_date as string) as trusted_value
    from records
    inner join merged
        on records.customer_key = merged.customer_key
    where records.birth_date <> merged.birth_date
)

select * from disagreeing
