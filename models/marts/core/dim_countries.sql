with countries as (
    select * from {{ ref("int_countries_assigned") }}
),

described as (
    select
        country_code,
        country_code_alpha3,
        country_name,
        continent,
        sub_region,
        sales_region,
        currency_code
    from countries
)

select * from described
