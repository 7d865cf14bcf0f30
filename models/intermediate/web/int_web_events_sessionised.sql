with events as (
    select * from {{ ref("stg_web__events") }}
),

records as (
    select * from {{ ref("int_customer_records_keyed") }}
),

orders as (
    select * from {{ ref("int_orders_conformed") }}
),

products as (
    select * from {{ ref("int_products_merged") }}
),

followed as (
    select
        event_id,
        client_id,
        event_at,
        lag(event_at) over (
            partition by client_id
            order by event_at nulls first, event_id nulls first
        ) as previous_at
    from events
),

counted as (
    select
        event_id,
        client_id,
        event_at,
        sum(
            case
                when
                    event_at <= {{ dbt.dateadd(
                        "minute", var("web_session_idle_minutes"), "previous_at"
                    ) }}
                    then 0
                else 1
            end
        ) over (
            partition by client_id
            order by event_at nulls first, event_id nulls first
            rows between unbounded preceding and current row
        ) as session_number
    from followed
),

begun as (
    select
        event_id,
        first_value(event_id) over (
            partition by client_id, session_number
            order by event_at nulls first, event_id nulls first
        ) as first_event_id,
        row_number() over (
            partition by client_id, session_number
            order by event_at nulls first, event_id nulls first
        ) as event_number
    from counted
),

sessionised as (
    select
        {{ surrogate_key(["events.event_id"]) }} as event_key,
        {{ surrogate_key(["begun.first_event_id"]) }} as session_key,
        records.customer_key,
        orders.order_key,
        products.product_key,
        events.client_id,
        begun.event_number,
        events.event_type,
        {{ web_page_type("events.page_path") }} as page_type,
        events.page_path,
        events.country_code,
        events.device,
        events.connection_type,
        events.load_ms,
        events.has_consent,
        events.is_bot,
        cast(events.event_at as date) as event_date,
        events.event_at,
        events.received_at
    from events
    inner join begun
        on events.event_id = begun.event_id
    left join records
        on
            {{ surrogate_key(["'shop'", "events.customer_id"]) }}
            = records.customer_record_key
    left join orders
        on events.order_number = orders.order_number
    left join products
        on events.sku = products.sku
)

select * from sessionised
