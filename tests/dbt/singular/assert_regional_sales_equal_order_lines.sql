-- What: the regional report holds exactly the lines that count as sold.
-- Why: it is grouped by joins to product and region; a join that loses or
--     doubles a line would change the company's turnover in silence.
-- A row: a currency whose lines or amounts differ between report and facts.
-- To resolve: look for products without category or doubled keys in the
--     dimensions that rpt_regional_sales joins.
with report as (
    select
        currency_code,
        sum(line_count) as line_count,
        sum(net_local) as net_local,
        sum(net_usd) as net_usd
    from {{ ref("rpt_regional_sales") }}
    group by currency_code
),

facts as (
    select
        currency_code,
        count(*) as line_count,
        sum(net_local) as net_local,
        sum(net_usd) as net_usd
    from {{ ref("fct_order_lines") }}
    where is_sale
    group by currency_code
)

select
    coalesce(report.currency_code, facts.currency_code) as currency_code,
    report.line_count as report_line_count,
    facts.line_count as fact_line_count,
    report.net_usd as report_net_usd,
    facts.net_usd as fact_net_usd
from report
full outer join facts
    on report.currency_code = facts.currency_code
where
    report.line_count is distinct from facts.line_count
    or report.net_local is distinct from facts.net_local
    or report.net_usd is distinct from facts.net_usd
