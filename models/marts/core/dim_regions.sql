with countries as (
    select * from {{ ref("int_countries_assigned") }}
),

sales_systems as (
    select * from {{ ref("sales_systems") }}
    where sales_region is not null
),

counted as (
    select
        sales_region,
        count(*) as country_count
    from countries
    group by sales_region
),

described as (
    select
        sales_systems.sales_region,
        sales_systems.region_name,
        sales_systems.source,
        cast(coalesce(counted.country_count, 0) as integer) as country_count
    from sales_systems
    left join counted
        on sales_systems.sales_region = counted.sales_region
)

select * from described
