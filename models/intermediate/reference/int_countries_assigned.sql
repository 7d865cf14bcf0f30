with countries as (
    select * from {{ ref("stg_reference__countries") }}
),

sales_regions as (
    select * from {{ ref("stg_reference__sales_regions") }}
),

assigned as (
    select
        countries.country_code,
        countries.country_code_alpha3,
        countries.country_name,
        countries.region as continent,
        countries.sub_region,
        sales_regions.sales_region,
        countries.currency_code
    from countries
    left join sales_regions
        on countries.country_code = sales_regions.country_code
)

select * from assigned
