-- The README's rules ("What a valid row is", "Money and support") over the raw rows.
create macro in_range(moment) as moment between timestamp '2020-01-01' and timestamp '2027-12-31 23:59:59';
create macro amount(text_value) as try_cast(replace(text_value, ',', '.') as decimal(18, 2));
create macro german_date(text_value) as try_strptime(text_value, '%d.%m.%Y');
create macro given(text_value) as coalesce(text_value, '') <> '';
create macro utc(text_value) as (try_cast(text_value as timestamptz) at time zone 'UTC');

-- shop
create table v_shop_customers as
select *, coalesce(email, '') like '%@anycompany.test' as is_test,
    given(last_name) and country_code in ('US', 'CA', 'MX') as ok
from shop_customers;

create table v_shop_addresses as
select *, given(postal_code) and customer_id in (select customer_id from v_shop_customers where ok) as ok
from shop_addresses;

create table v_shop_orders as
select
    orders.*,
    utc(ordered_at) as placed,
    coalesce(customers.is_test, false) as is_test,
    customers.ok is true
    and status in ('pending', 'paid', 'shipped', 'delivered', 'cancelled', 'returned')
    and coalesce(currency in ('USD', 'CAD', 'MXN'), false)
    and in_range(utc(ordered_at))
    and amount(total_amount) between 0 and 10000000 as ok
from shop_orders as orders
left join v_shop_customers as customers on orders.customer_id = customers.customer_id;

create table v_shop_order_items as
select
    items.*,
    orders.ok is true
    and items.product_id in (select product_id from shop_products)
    and coalesce(quantity::int between 1 and 500, false)
    and coalesce(amount(unit_price) between 0 and 25000, false)
    and coalesce(amount(net_amount) between 0 and 10000000, false) as is_ok,
from shop_order_items as items
left join v_shop_orders as orders on items.order_id = orders.order_id;

create table v_shop_payments as
select
    payments.*,
    orders.ok is true and coalesce(amount(amount) between 0 and 10000000, false) and in_range(utc(paid_at)) as is_ok
from shop_payments as payments
left join v_shop_orders as orders on payments.order_id = orders.order_id;

create table v_shop_refunds as
select
    refunds.*,
    orders.is_test,
    orders.ok is true and coalesce(amount(amount) between 0 and 10000000, false) and in_range(utc(refunded_at)) as is_ok
from shop_refunds as refunds
left join v_shop_orders as orders on refunds.order_id = orders.order_id;

-- erp
create table v_erp_customers as
select
    *,
    given(name1) and in_range(german_date(created_on)) and in_range(german_date(changed_on))
    and country in ('DEU', 'FRA', 'GBR', 'CHE', 'POL', 'SWE', 'ESP', 'ITA', 'NLD', 'ARE', 'ZAF')
    and (birth_date = '' or german_date(birth_date) is not null) as is_ok
from erp_customers;

create table v_erp_orders as
select
    *,
    given(customer_no)
    and customer_no in (select customer_no from v_erp_customers where is_ok)
    and coalesce(in_range(german_date(order_date)), false)
    and currency in ('EUR', 'GBP', 'CHF', 'PLN', 'SEK')
    and status in ('A', 'B', 'C', 'X')
    and coalesce(amount(total_net) between 0 and 10000000, false) as is_ok
from erp_orders;

create table v_erp_order_lines as
select
    *,
    order_no in (select order_no from v_erp_orders where is_ok)
    and material_no in (select material_no from erp_materials)
    and coalesce(try_cast(quantity as int) between 1 and 500, false)
    and coalesce(amount(unit_price) between 0 and 15000, false)
    and coalesce(amount(discount_pct) between 0 and 30, false)
    and coalesce(amount(line_net) between 0 and 10000000, false) as is_ok
from erp_order_lines;

create table v_erp_credit_notes as
select
    *,
    order_no in (select order_no from v_erp_orders where is_ok)
    and coalesce(amount(amount) between 0 and 10000000, false)
    and coalesce(in_range(german_date(credit_date)), false) as is_ok
from erp_credit_notes;

-- marketplace
create table v_marketplace_buyers as
select
    *,
    given(full_name) and country_code in ('JP', 'AU', 'IN', 'KR', 'SG') as is_ok
from marketplace_buyers;

create table v_marketplace_orders as
select
    *,
    coalesce(buyer_id in (select buyer_id from v_marketplace_buyers where is_ok), false)
    and in_range(ordered_at) and in_range(updated_at)
    and currency in ('JPY', 'AUD', 'INR', 'KRW', 'SGD')
    and status in ('PLACED', 'SHIPPED', 'DELIVERED', 'CANCELLED')
    and len(list_filter(items, lambda item: item.quantity not between 1 and 500 or item.price not between 0 and 2000000)) = 0
    as is_ok
from marketplace_orders;

create table v_marketplace_refunds as
select
    *,
    order_id in (select order_id from v_marketplace_orders where is_ok)
    and coalesce(amount between 0 and 1000000000, false)
    and in_range(refunded_at) as is_ok
from marketplace_refunds;

-- distributor
create table distributor_order_lines as
select id, unnest(from_json(lines, '[{"no": "int", "code": "varchar", "qty": "int", "price": "decimal(18,2)", "net": "decimal(18,2)"}]'), recursive := true)
from (select distinct id, lines from distributor_orders);

create table v_distributor_orders as
select
    *,
    given(retailer) and retailer in (select id from distributor_retailers)
    and coalesce(in_range(utc(placed)), false)
    and currency in ('BRL', 'MXN', 'CLP', 'COP', 'ARS', 'USD')
    and status in ('confirmed', 'shipped', 'cancelled')
    and amount(total) is not null
    and id not in (
        select id from distributor_order_lines where qty not between 1 and 500 or price not between 0 and 6000000
    ) as is_ok
from distributor_orders;

create table v_distributor_returns as
select
    *,
    "order" in (select id from v_distributor_orders where is_ok)
    and coalesce(amount(amount) between 0 and 1000000000, false)
    and coalesce(in_range(try_strptime(date, '%Y%m%d')), false) as is_ok
from distributor_returns;

create table codes as
select code, products.sku
from distributor_catalog as catalog
inner join shop_products as products on catalog.ean = products.ean
union all
select source_code, sku from code_exceptions;

-- desks
create table v_helpdesk_users as
select *, given(name) and role in ('end-user', 'agent', 'admin') as is_ok from helpdesk_users;

create table v_helpdesk_tickets as
select
    *,
    coalesce(requester_id in (select id from v_helpdesk_users where is_ok), false)
    and status in ('new', 'open', 'pending', 'hold', 'solved', 'closed')
    and coalesce(in_range(utc(created_at)), false) as is_ok
from helpdesk_tickets;

create table v_helpdesk_comments as
select *, ticket_id in (select id from v_helpdesk_tickets where is_ok) and given(author_id) as is_ok
from helpdesk_comments;

create table v_helpdesk_satisfaction_ratings as
select *, ticket_id in (select id from v_helpdesk_tickets where is_ok) and score in ('offered', 'good', 'bad') as is_ok
from helpdesk_satisfaction_ratings;

create table v_pixelco_accounts as
select *, given(family) and given(loc ->> 'ctry') as is_ok from pixelco_accounts;

create table v_pixelco_cases as
select
    *,
    acct in (select acct from v_pixelco_accounts where is_ok)
    and state in ('O', 'W', 'R', 'X')
    and coalesce(try_cast(sev as int) between 1 and 4, false)
    and in_range(epoch_ms(opened::bigint))
    and (stars is null or stars::int between 1 and 5) as is_ok
from pixelco_cases;

-- lines that count as sales, one shape
create table lines as
select
    'NA' as sales_region, orders.order_id as order_id, placed::date as sale_date, country_code, category,
    orders.currency, amount(net_amount) as net
from v_shop_order_items as items
inner join v_shop_orders as orders on items.order_id = orders.order_id
inner join shop_products as products on items.product_id = products.product_id
where items.is_ok and not orders.is_test and status <> 'cancelled'
union all
select
    'EMEA', orders.order_no, german_date(order_date)::date,
    map {'DEU': 'DE', 'FRA': 'FR', 'GBR': 'GB', 'CHE': 'CH', 'POL': 'PL', 'SWE': 'SE', 'ESP': 'ES', 'ITA': 'IT', 'NLD': 'NL', 'ARE': 'AE', 'ZAF': 'ZA'}[country],
    category, orders.currency, amount(line_net)
from (select distinct order_no, line_no, material_no, line_net from v_erp_order_lines where is_ok) as items
inner join (select distinct order_no, order_date, currency, country, status from v_erp_orders where is_ok) as orders
    on items.order_no = orders.order_no
inner join (select distinct material_no, lpad(ean, 13, '0') as ean from erp_materials) as materials
    on items.material_no = materials.material_no
inner join shop_products as products on materials.ean = products.ean
where status <> 'X'
union all
select
    'APAC', orders.order_id, (orders.ordered_at at time zone orders.time_zone at time zone 'UTC')::date, orders.country_code,
    products.category, orders.currency, item.quantity * item.price
from (
    select * , unnest(items) as item
    from (select * from v_marketplace_orders where is_ok qualify row_number() over (partition by order_id order by updated_at desc) = 1)
    where status <> 'CANCELLED'
) as orders
inner join (select distinct listing_id, gtin from marketplace_listings) as listings on item.listing_id = listings.listing_id
inner join shop_products as products on right(listings.gtin, 13) = products.ean
union all
select
    'LATAM', orders.id, utc(placed)::date, country, products.category, orders.currency, net
from (select distinct id, placed, country, currency, status from v_distributor_orders where is_ok) as orders
inner join distributor_order_lines as items on orders.id = items.id
inner join codes on items.code = codes.code
inner join shop_products as products on codes.sku = products.sku
where orders.status <> 'cancelled';

create table sales_daily as
select
    sale_date, sales_region, country_code, category, lines.currency,
    sum(net)::decimal(18, 2) as net_local,
    sum(round(net * rate, 2))::decimal(18, 2) as net_usd,
    count(distinct order_id) as order_count,
    count(*) as line_count
from lines
asof left join rates on lines.currency = rates.currency and lines.sale_date >= rates.date
group by all;

create table refund_rows as
select 'NA' as sales_region, utc(refunded_at)::date as refund_date, currency, amount(amount) as amount
from v_shop_refunds where is_ok and not is_test
union all
select 'EMEA', german_date(credit_date)::date, currency, amount(amount) from v_erp_credit_notes where is_ok
union all
select 'APAC', refunded_at::date, currency, amount from v_marketplace_refunds where is_ok
union all
select 'LATAM', try_strptime(date, '%Y%m%d')::date, currency, amount(amount) from v_distributor_returns where is_ok;

create table refunds_daily as
select
    refund_date, sales_region, refund_rows.currency, sum(amount)::decimal(18, 2) as amount_local,
    sum(round(amount * rate, 2))::decimal(18, 2) as amount_usd, count(*) as refund_count
from refund_rows
asof left join rates on refund_rows.currency = rates.currency and refund_rows.refund_date >= rates.date
group by all;

create table desk_tickets as
with replies as (
    select ticket_id, min(utc(comments.created_at)) as replied
    from v_helpdesk_comments as comments
    inner join v_helpdesk_users as users on comments.author_id = users.id
    where comments.is_ok and public = 'true' and users.role in ('agent', 'admin')
    group by all
),

ratings as (
    select distinct ticket_id, score from v_helpdesk_satisfaction_ratings where is_ok and score in ('good', 'bad')
),

log_lines as (
    select "case", unnest(from_json(log, '[{"t": "bigint", "who": "varchar"}]')) as entry from v_pixelco_cases
),

first_words as (select "case", min(entry.t) as replied from log_lines where entry.who = 'agent' group by all)

select distinct
    'helpdesk' as desk, tickets.id as ticket_id, utc(created_at)::date as created_date,
    if(status in ('solved', 'closed'), 'solved', 'open') as status_group,
    (epoch(replied - utc(created_at)) // 60)::bigint as first_response_minutes,
    (epoch(utc(solved_at) - utc(created_at)) // 60)::bigint as resolution_minutes,
    score as satisfaction
from v_helpdesk_tickets as tickets
left join replies on tickets.id = replies.ticket_id
left join ratings on tickets.id = ratings.ticket_id
where tickets.is_ok
union all
select distinct
    'pixelco', cases."case", epoch_ms(opened::bigint)::date, if(state in ('R', 'X'), 'solved', 'open'),
    ((replied - opened::bigint) // 60000)::bigint, ((closed::bigint - opened::bigint) // 60000)::bigint,
    case when stars::int >= 4 then 'good' when stars::int <= 2 then 'bad' end
from v_pixelco_cases as cases
left join first_words on cases."case" = first_words."case"
where cases.is_ok;

-- every invalid raw row, by source, table and key
create table invalid_rows as
select 'shop' as source, 'customers' as table_name, customer_id as key from v_shop_customers where ok is not true
union all select 'shop', 'addresses', address_id from v_shop_addresses where ok is not true
union all select 'shop', 'orders', order_id from v_shop_orders where ok is not true
union all select 'shop', 'order_items', order_item_id from v_shop_order_items where is_ok is not true
union all select 'shop', 'payments', payment_id from v_shop_payments where is_ok is not true
union all select 'shop', 'refunds', refund_id from v_shop_refunds where is_ok is not true
union all select 'erp', 'customers', customer_no from v_erp_customers where is_ok is not true
union all select 'erp', 'orders', order_no from v_erp_orders where is_ok is not true
union all select 'erp', 'order_lines', order_no || '|' || line_no from v_erp_order_lines where is_ok is not true
union all select 'erp', 'credit_notes', credit_no from v_erp_credit_notes where is_ok is not true
union all select 'marketplace', 'buyers', buyer_id from v_marketplace_buyers where is_ok is not true
union all select 'marketplace', 'orders', order_id from v_marketplace_orders where is_ok is not true
union all select 'marketplace', 'refunds', refund_id from v_marketplace_refunds where is_ok is not true
union all select 'distributor', 'orders', id from v_distributor_orders where is_ok is not true
union all select 'distributor', 'returns', id from v_distributor_returns where is_ok is not true
union all select 'helpdesk', 'users', id from v_helpdesk_users where is_ok is not true
union all select 'helpdesk', 'tickets', id from v_helpdesk_tickets where is_ok is not true
union all select 'helpdesk', 'comments', id from v_helpdesk_comments where is_ok is not true
union all select 'helpdesk', 'satisfaction_ratings', id from v_helpdesk_satisfaction_ratings where is_ok is not true
union all select 'pixelco', 'accounts', acct from v_pixelco_accounts where is_ok is not true
union all select 'pixelco', 'cases', "case" from v_pixelco_cases where is_ok is not true
union all
select 'web', 'events', event_id from web_events
where
    coalesce(client, '') = ''
    or event not in ('page_view', 'view_product', 'add_to_cart', 'checkout', 'purchase')
    or load_ms::int not between 0 and 120000;
