with records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

linked as (
    select
        customer_record_key,
        customer_key,
        source,
        source_customer_id
    from records
)

select * from linked
