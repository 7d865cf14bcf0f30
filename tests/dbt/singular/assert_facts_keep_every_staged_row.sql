-- What: each fact has exactly the rows that staging accepted.
-- Why: facts join customers, products, orders and statuses; a missing or
--     doubled partner must not lose or double a sale, refund or ticket.
-- A row: a fact and a source with different counts.
-- To resolve: find the staged keys that the fact lacks; usually a
--     reference rule is missing on the staging model, or a seed lacks a code.
with staged as (
    select
        'fct_orders' as fact,
        'shop' as source,
        count(*) as row_count
    from {{ ref("stg_shop__orders") }}
    union all
    select
        'fct_orders' as fact,
        'erp' as source,
        count(*) as row_count
    from {{ ref("stg_erp__orders") }}
    union all
    select
        'fct_orders' as fact,
        'marketplace' as source,
        count(*) as row_count
    from {{ ref("stg_marketplace__orders") }}
    union all
    select
        'fct_orders' as fact,
        'distributor' as source,
        count(*) as row_count
    from {{ ref("stg_distributor__orders") }}
    union all
    select
        'fct_order_lines' as fact,
        'shop' as source,
        count(*) as row_count
    from {{ ref("stg_shop__order_items") }}
    union all
    select
        'fct_order_lines' as fact,
        'erp' as source,
        count(*) as row_count
    from {{ ref("stg_erp__order_lines") }}
    union all
    select
        'fct_refunds' as fact,
        'shop' as source,
        count(*) as row_count
    from {{ ref("stg_shop__refunds") }}
    union all
    select
        'fct_refunds' as fact,
        'erp' as source,
        count(*) as row_count
    from {{ ref("stg_erp__credit_notes") }}
    union all
    select
        'fct_refunds' as fact,
        'marketplace' as source,
        count(*) as row_count
    from {{ ref("stg_marketplace__refunds") }}
    union all
    select
        'fct_refunds' as fact,
        'distributor' as source,
        count(*) as row_count
    from {{ ref("stg_distributor__returns") }}
    union all
    select
        'fct_tickets' as fact,
        'helpdesk' as source,
        count(*) as row_count
    from {{ ref("stg_helpdesk__tickets") }}
    union all
    select
        'fct_tickets' as fact,
        'pixelco' as source,
        count(*) as row_count
    from {{ ref("stg_pixelco__cases") }}
    union all
    -- lines that staging keeps inside their orders
    select
        'fct_order_lines' as fact,
        source,
        count(*) as row_count
    from {{ ref("int_order_lines_unioned") }}
    where source in ('marketplace', 'distributor')
    group by source
),

shown as (
    select
        'fct_orders' as fact,
        source,
        count(*) as row_count
    from {{ ref("fct_orders") }}
    group by source
    union all
    select
        'fct_order_lines' as fact,
        source,
        count(*) as row_count
    from {{ ref("fct_order_lines") }}
    group by source
    union all
    select
        'fct_refunds' as fact,
        source,
        count(*) as row_count
    from {{ ref("fct_refunds") }}
    group by source
    union all
    select
        'fct_tickets' as fact,
        desk as source,
        count(*) as row_count
    from {{ ref("fct_tickets") }}
    group by desk
)

select
    staged.fact,
    staged.source,
    staged.row_count as staged_count,
    coalesce(shown.row_count, 0) as shown_count
from staged
left join shown
    on staged.fact = shown.fact and staged.source = shown.source
where staged.row_count != coalesce(shown.row_count, 0)
