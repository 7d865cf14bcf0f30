with dates as (
    select * from {{ ref("int_dates_listed") }}
),

holidays as (
    select * from {{ ref("int_holidays_counted") }}
),

described as (
    select
        dates.calendar_date,
        year(dates.calendar_date) as calendar_year,
        quarter(dates.calendar_date) as quarter_of_year,
        month(dates.calendar_date) as month_of_year,
        day(dates.calendar_date) as day_of_month,
        cast(date_trunc('month', dates.calendar_date) as date) as month_date,
        cast(date_trunc('week', dates.calendar_date) as date) as week_date,
        {{ dbt.datediff(
            "cast(date_trunc('week', dates.calendar_date) as date)",
            "dates.calendar_date",
            "day"
        ) }} + 1 as iso_day_of_week,
        coalesce(holidays.country_count, 0) as holiday_country_count
    from dates
    left join holidays
        on dates.calendar_date = holidays.calendar_date
),

final as (
    select
        calendar_date,
        cast(calendar_year as integer) as calendar_year,
        cast(quarter_of_year as integer) as quarter_of_year,
        cast(month_of_year as integer) as month_of_year,
        cast(day_of_month as integer) as day_of_month,
        cast(iso_day_of_week as integer) as iso_day_of_week,
        cast(holiday_country_count as integer) as holiday_country_count,
        iso_day_of_week in (6, 7) as is_weekend,
        week_date,
        month_date
    from described
)

select * from final
