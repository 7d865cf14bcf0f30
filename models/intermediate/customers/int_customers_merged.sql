with records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

sales_systems as (
    select * from {{ ref("sales_systems") }}
),

ranked as (
    select
        records.*,
        row_number() over (
            partition by records.customer_key
            order by
                sales_systems.precedence asc nulls last,
                records.first_seen_at desc,
                records.source_customer_id asc nulls last
        ) as trust_rank
    from records
    inner join sales_systems
        on records.source = sales_systems.source
),

merged as (
    select
        customer_key,
        min(customer_kind) as customer_kind,
        coalesce(
            min_by(full_name, trust_rank)
            filter (where full_name is not null),
            min_by(family_name, trust_rank)
            filter (where family_name is not null)
        ) as customer_name,
        min_by(email, trust_rank) filter (where email is not null) as email,
        min_by(phone, trust_rank) filter (where phone is not null) as phone,
        min_by(country_code, trust_rank)
        filter (where country_code is not null) as country_code,
        min_by(city, trust_rank) filter (where city is not null) as city,
        -- of the same address as the town
        min_by(postal_code, trust_rank)
        filter (where city is not null) as postal_code,
        min_by(birth_date, trust_rank)
        filter (where birth_date is not null) as birth_date,
        count(*) as record_count,
        count(distinct source) as source_count,
        min(first_seen_at) as first_seen_at
    from ranked
    group by customer_key
)

select * from merged
