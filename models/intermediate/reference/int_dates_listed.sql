with spine as (
    {{ date_spine_query(
        "date '" ~ var("earliest_plausible_date") ~ "'",
        "date '" ~ var("latest_plausible_date") ~ "'"
    ) }}
),

listed as (
    select date_day as calendar_date
    from spine
)

select * from listed
