with

order_totals as (

    select * from {{ ref('int_order_totals_compared') }}

),

product_claims as (

    select * from {{ ref('int_product_claims_compared') }}

),

customer_claims as (

    select * from {{ ref('int_customer_claims_compared') }}

),

systems as (

    select * from {{ ref('sales_systems') }}

),

listed as (

    select
        'order' as subject,
        source || '|' || order_id as subject_key,
        source,
        'orders' as table_name,
        order_id as record_key,
        'total_amount' as column_name,
        cast(stated_amount as string) as stated_value,
        cast(lines_amount as string) as trusted_value,
        'the sum of its lines' as trusted_because,
        case when is_rejected then 'quarantined' else 'staged' end as treatment,
        _file,
        _row
    from order_totals
    union all
    select
        'product' as subject,
        product_claims.product_key as subject_key,
        product_claims.source,
        systems.product_table as table_name,
        product_claims.source_product_id as record_key,
        product_claims.column_name,
        product_claims.stated_value,
        product_claims.trusted_value,
        'the most trusted system says so' as trusted_because,
        'staged' as treatment,
        null as _file,
        null as _row
    from product_claims
    inner join systems
        on product_claims.source = systems.source
    union all
    select
        'customer' as subject,
        customer_claims.customer_key as subject_key,
        customer_claims.source,
        systems.customer_table as table_name,
        customer_claims.source_customer_id as record_key,
        customer_claims.column_name,
        customer_claims.stated_value,
        customer_claims.trusted_value,
        'the most trusted system says so' as trusted_because,
        'staged' as treatment,
        null as _file,
        null as _row
    from customer_claims
    inner join systems
        on customer_claims.source = systems.source

)

select * from listed
