{%- set parents = {
    "int_countries_assigned": ["stg_reference__countries"],
    "int_currencies_rated": ["stg_reference__currencies"],
    "int_persons_normalised": ["int_persons_unioned"],
    "int_persons_matched": ["int_persons_normalised"],
    "int_customer_records_keyed": [
        "int_persons_matched",
        "stg_distributor__retailers",
    ],
    "int_person_pairs_compared": ["int_person_pairs_blocked"],
    "int_products_matched": ["int_product_codes_unioned"],
    "int_order_lines_converted": ["int_order_lines_unioned"],
    "int_orders_conformed": ["int_orders_unioned"],
    "int_orders_totalled": ["int_orders_conformed"],
    "int_refunds_converted": ["int_refunds_unioned"],
    "int_tickets_timed": ["int_tickets_unioned"],
    "int_documents_unioned": ["stg_documents__calls", "stg_documents__mails"],
    "fct_documents": ["int_documents_unioned"],
    "bridge_document_terms": ["int_document_terms_counted"],
    "int_web_events_sessionised": ["stg_web__events"],
    "fct_sessions": ["int_web_sessions_built"],
    "bridge_customer_records": ["int_customer_records_keyed"],
    "dim_countries": ["int_countries_assigned"],
    "dim_currencies": ["int_currencies_rated"],
    "dim_customers": ["int_customers_merged"],
    "dim_dates": ["int_dates_listed"],
    "dim_products": ["int_products_merged"],
    "fct_order_lines": ["int_order_lines_converted"],
    "fct_orders": ["int_orders_totalled"],
    "fct_refunds": ["int_refunds_converted"],
    "fct_tickets": ["int_tickets_timed"],
    "int_game_purchases_converted": ["stg_game__purchases"],
    "dim_players": ["int_players_built"],
    "fct_game_purchases": ["int_game_purchases_converted"],
    "fct_server_minutes": ["int_server_minutes_summed"],
    "int_customer_records_versioned": [
        "history.stg_shop__customers",
        "history.stg_erp__customers",
        "history.stg_marketplace__buyers",
    ],
    "int_products_versioned": [
        "history.stg_shop__products",
        "history.stg_erp__materials",
        "history.stg_marketplace__listings",
    ],
    "int_device_measurements_judged": ["stg_devices__measurements"],
    "fct_device_hours": ["int_device_hours_summed"],
    "fct_device_spells": ["int_device_spells_found"],
    "dim_devices": ["int_devices_listed"],
    "rpt_firmware_health": ["int_firmware_judged"],
    "rpt_device_health": ["int_devices_scored"],
    "int_chargebacks_matched": ["stg_card_payments__chargebacks"],
    "fct_chargebacks": ["int_chargebacks_matched"],
    "int_card_transactions_disputed": ["stg_card_payments__transactions"],
    "int_card_transactions_compared": ["stg_card_payments__transactions"],
    "fct_card_transactions": ["int_card_transactions_disputed"],
    "fct_risk_alerts": ["int_card_alerts_raised"],
    "dim_customers_history": ["int_customer_records_versioned"],
    "dim_products_history": ["int_products_versioned"],
    "disagreements": [
        "int_order_totals_compared",
        "int_product_claims_compared",
        "int_customer_claims_compared",
    ],
} -%}
-- What: a model that neither filters nor groups has as many rows as the one it
--     reads; one that does has as many as its grain says.
-- Why: a join that loses or doubles rows between staging and the marts would
--     change sums without breaking any key.
-- A row: a model, its count of rows, and the count that it should have.
-- To resolve: look at the joins of the model; if its grain has changed on
--     purpose, say so here.
with fx_currencies as (
    select
        currency_code,
        min(rate_date) as first_date
    from {{ ref("stg_reference__fx_rates") }}
    group by currency_code
),

messages as (
    {{ explode_structs(ref("stg_pixelco__cases"), "messages", ["case_id"]) }}
),

replies as (
    select desk_comments.comment_id as reply_id
    from {{ ref("stg_helpdesk__comments") }} as desk_comments
    inner join {{ ref("stg_helpdesk__users") }} as desk_users
        on desk_comments.author_id = desk_users.user_id
    where
        desk_comments.is_public
        and desk_users.role in ('agent', 'admin')
    union all
    select position as reply_id
    from messages
    where element.who = 'agent'
),

grains as (
    select
        'int_holidays_counted' as relation,
        count(distinct holiday_date) as expected_count
    from {{ ref("stg_reference__holidays") }}
    union all
    select
        'int_payments_summed' as relation,
        count(distinct order_id) as expected_count
    from {{ ref("stg_shop__payments") }}
    where payment_status = 'captured'
    union all
    select
        'int_dates_listed' as relation,
        {{ dbt.datediff("min(calendar_date)", "max(calendar_date)", "day") }}
        + 1 as expected_count
    from {{ ref("int_dates_listed") }}
    union all
    -- a currency has a rate for each day from its first one on
    select
        'int_fx_rates_filled' as relation,
        count(*) as expected_count
    from {{ ref("int_dates_listed") }} as dates
    inner join fx_currencies
        on dates.calendar_date >= fx_currencies.first_date
    union all
    select
        'int_ticket_replies_unioned' as relation,
        count(*) as expected_count
    from replies
),

grained as (
    select
        'int_holidays_counted' as relation,
        count(*) as row_count
    from {{ ref("int_holidays_counted") }}
    union all
    select
        'int_payments_summed' as relation,
        count(*) as row_count
    from {{ ref("int_payments_summed") }}
    union all
    select
        'int_dates_listed' as relation,
        count(*) as row_count
    from {{ ref("int_dates_listed") }}
    union all
    select
        'int_fx_rates_filled' as relation,
        count(*) as row_count
    from {{ ref("int_fx_rates_filled") }}
    union all
    select
        'int_ticket_replies_unioned' as relation,
        count(*) as row_count
    from {{ ref("int_ticket_replies_unioned") }}
),

counts as (
    {{ compare_row_counts(parents) }}
    union all
    select
        grained.relation,
        grained.row_count,
        grains.expected_count
    from grained
    inner join grains
        on grained.relation = grains.relation
)

select *
from counts
where row_count != expected_count
