with events as (
    select * from {{ ref("int_web_events_sessionised") }}
    where event_type = 'page_view'
),

records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

products as (
    select * from {{ ref("int_products_merged") }}
),

viewed as (
    select
        events.event_key,
        events.session_key,
        records.customer_key,
        products.product_key,
        events.client_id,
        events.page_type,
        events.page_path,
        events.country_code,
        events.device,
        events.connection_type,
        events.load_ms,
        events.has_consent,
        events.is_bot,
        events.event_date as view_date,
        events.event_at as viewed_at,
        events.received_at
    from events
    left join records
        on
            {{ surrogate_key(["'shop'", "events.customer_id"]) }}
            = records.customer_record_key
    left join products
        on events.sku = products.sku
)

select * from viewed
