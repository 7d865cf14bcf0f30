with holidays as (
    select * from {{ ref("stg_reference__holidays") }}
),

counted as (
    select
        holiday_date as calendar_date,
        count(distinct country_code) as country_count
    from holidays
    group by holiday_date
)

select * from counted
