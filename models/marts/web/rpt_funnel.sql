with sessions as (
    select * from {{ ref("int_web_sessions_built") }}
    where not is_bot
),

summed as (
    select
        session_date,
        device,
        country_code,
        count(*) as session_count,
        count_if(last_step_number >= 1) as product_view_count,
        count_if(last_step_number >= 2) as cart_count,
        count_if(last_step_number >= 3) as checkout_count,
        count_if(last_step_number >= 4) as purchase_count
    from sessions
    group by session_date, device, country_code
),

converted as (
    select
        {{ surrogate_key(["session_date", "device", "country_code"]) }}
            as funnel_key,
        session_date,
        device,
        country_code,
        session_count,
        cast(product_view_count as bigint) as product_view_count,
        cast(cart_count as bigint) as cart_count,
        cast(checkout_count as bigint) as checkout_count,
        cast(purchase_count as bigint) as purchase_count,
        100.0 * purchase_count / nullif(session_count, 0) as conversion_pct
    from summed
)

select * from converted
