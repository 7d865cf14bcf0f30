{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="load_month",
) }}
with events as (
    select * from {{ ref("stg_web__events") }}
    where
        event_type = 'page_view'
        and not is_bot
        and {{ is_new("stg_web__events") }}
),

typed as (
    select
        cast(date_trunc('month', event_at) as date) as load_month,
        {{ web_page_type("page_path") }} as page_type,
        country_code,
        device,
        connection_type,
        load_ms,
        cast(1 as bigint) as view_count,
        _load_id
    from events
    {%- if is_incremental() %}
    -- what is known of a month is added to; no event is read twice
    union all
    select
        load_month,
        page_type,
        country_code,
        device,
        connection_type,
        load_ms,
        view_count,
        _load_id
    from {{ this }}
    where
        load_month in (
            select cast(date_trunc('month', event_at) as date) from events
        )
    {%- endif %}
),

summed as (
    select
        load_month,
        page_type,
        country_code,
        device,
        connection_type,
        load_ms,
        cast(sum(view_count) as bigint) as view_count,
        max(_load_id) as _load_id
    from typed
    group by
        load_month, page_type, country_code, device, connection_type, load_ms
)

select * from summed
