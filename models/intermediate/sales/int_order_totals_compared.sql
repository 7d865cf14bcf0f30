with shop_orders as (
    select * from {{ staged_and_rejected("stg_shop__orders") }}
),

shop_items as (
    select * from {{ staged_and_rejected("stg_shop__order_items") }}
),

erp_orders as (
    select * from {{ staged_and_rejected("stg_erp__orders") }}
),

erp_lines as (
    select * from {{ staged_and_rejected("stg_erp__order_lines") }}
),

-- rejected rows count too: what was ordered does not depend on what is valid
orders as (
    select
        'shop' as source,
        cast(order_id as string) as order_id,
        currency_code,
        total_amount,
        _is_rejected,
        _file,
        _row
    from shop_orders
    union all
    select
        'erp' as source,
        order_id,
        currency_code,
        total_amount,
        _is_rejected,
        _file,
        _row
    from erp_orders
),

lines as (
    select
        'shop' as source,
        cast(order_id as string) as order_id,
        cast(order_item_id as string) as line_id,
        net_amount
    from shop_items
    union all
    select
        'erp' as source,
        order_id,
        cast(line_number as string) as line_id,
        net_amount
    from erp_lines
),

told_once as (
    select
        source,
        order_id,
        currency_code,
        total_amount,
        _is_rejected,
        _file,
        _row
    from orders
    qualify count(*) over (partition by source, order_id) = 1
),

line_sums as (
    select
        source,
        order_id,
        sum(net_amount) as lines_amount,
        count(*) = count(net_amount)
        and count(*) = count(distinct line_id) as is_complete
    from lines
    group by source, order_id
),

-- a line that lost its order explains what its order's lines lack
stray_lines as (
    select
        lines.source,
        lines.net_amount
    from lines
    left join told_once
        on
            lines.source = told_once.source
            and lines.order_id = told_once.order_id
    where told_once.order_id is null
    group by lines.source, lines.net_amount
),

compared as (
    select
        told_once.source,
        told_once.order_id,
        told_once.currency_code,
        told_once.total_amount as stated_amount,
        cast(line_sums.lines_amount as decimal(18, 2)) as lines_amount,
        told_once._is_rejected as is_rejected,
        told_once._file,
        told_once._row
    from told_once
    inner join line_sums
        on
            told_once.source = line_sums.source
            and told_once.order_id = line_sums.order_id
    left join stray_lines
        on
            told_once.source = stray_lines.source
            and told_once.total_amount - line_sums.lines_amount
            = stray_lines.net_amount
    where
        line_sums.is_complete
        and told_once.total_amount <> line_sums.lines_amount
        and stray_lines.net_amount is null
)

select * from compared
