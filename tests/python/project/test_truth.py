"""The marts say what the generator knows to be true: to the cent, to the row, to the minute."""

from __future__ import annotations

from warehouses import ExampleWarehouse

MATCH_QUALITY = 0.98

PAIRS = """
    with linked as (
        select records.customer_key, persons.person_id
        from core.bridge_customer_records as records
        inner join truth('persons') as persons
            on
                records.source = persons.source
                and records.source_customer_id = cast(persons.source_key as varchar)
    ),

    counted as (
        select sum(record_count * (record_count - 1) / 2) as pair_count
        from (select count(*) as record_count from linked group by {columns}) as sized
    )

    select cast(coalesce(pair_count, 0) as bigint) from counted
"""


def test_there_is_something_to_compare(example_warehouse: ExampleWarehouse) -> None:
    for table in (
        "sales_daily",
        "refunds_daily",
        "tickets",
        "persons",
        "products",
        "defects",
        "web_sessions",
    ):
        [(count,)] = example_warehouse.rows(f"select count(*) from truth('{table}')")
        assert count > 0, f"the truth has no {table}"


def test_sales_equal_the_truth_by_day_region_country_category(
    example_warehouse: ExampleWarehouse,
) -> None:
    differing = example_warehouse.rows(
        """
        select *
        from (
            select
                sale_date, sales_region, country_code, category, currency_code as currency,
                net_local, net_usd, order_count, line_count
            from sales.rpt_regional_sales
        ) as ours
        full outer join truth('sales_daily') as theirs
            using (sale_date, sales_region, country_code, category, currency)
        where
            ours.net_local is distinct from theirs.net_local
            or ours.net_usd is distinct from theirs.net_usd
            or ours.order_count is distinct from theirs.order_count
            or ours.line_count is distinct from theirs.line_count
        limit 20
        """
    )
    assert differing == []


def test_sales_in_dollars_equal_the_truth_in_all(example_warehouse: ExampleWarehouse) -> None:
    [(ours, theirs)] = example_warehouse.rows(
        """
        select
            (select sum(net_usd) from sales.fct_order_lines where is_sale),
            (select sum(net_usd) from truth('sales_daily'))
        """
    )
    assert ours == theirs
    assert ours > 0


def test_refunds_equal_the_truth_by_day_and_region(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        with ours as (
            select
                refund_date,
                sales_region,
                currency_code as currency,
                sum(amount_local) as amount_local,
                sum(amount_usd) as amount_usd,
                count(*) as refund_count
            from sales.fct_refunds
            group by all
        )

        select *
        from ours
        full outer join truth('refunds_daily') as theirs
            using (refund_date, sales_region, currency)
        where
            ours.amount_local is distinct from theirs.amount_local
            or ours.amount_usd is distinct from theirs.amount_usd
            or ours.refund_count is distinct from theirs.refund_count
        limit 20
        """
    )
    assert differing == []


def test_tickets_equal_the_truth_one_by_one(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        select *
        from support.fct_tickets as ours
        full outer join truth('tickets') as theirs
            on
                ours.desk = theirs.desk
                and ours.source_ticket_id = cast(theirs.ticket_id as varchar)
        where
            ours.opened_date is distinct from theirs.created_date
            or ours.status_group is distinct from theirs.status_group
            or ours.first_response_minutes is distinct from theirs.first_response_minutes
            or ours.resolution_minutes is distinct from theirs.resolution_minutes
            or ours.satisfaction is distinct from theirs.satisfaction
        limit 20
        """
    )
    assert differing == []


def test_customers_are_recognised(example_warehouse: ExampleWarehouse) -> None:
    def pairs(columns: str) -> int:
        [(count,)] = example_warehouse.rows(PAIRS.format(columns=columns))
        return int(count)

    right = pairs("customer_key, person_id")
    precision, recall = right / pairs("customer_key"), right / pairs("person_id")
    print(f"customers: precision {precision:.4f}, recall {recall:.4f}, {right} pairs")
    assert precision >= MATCH_QUALITY
    assert recall >= MATCH_QUALITY


def test_every_true_person_record_has_a_customer(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        select persons.source, persons.source_key, records.source, records.source_customer_id
        from truth('persons') as persons
        full outer join (
            select * from core.bridge_customer_records where source != 'distributor'
        ) as records
            on
                records.source = persons.source
                and records.source_customer_id = cast(persons.source_key as varchar)
        where persons.source is null or records.source is null
        limit 20
        """
    )
    assert differing == []


def test_products_are_recognised_without_exception(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        with ours as (
            select
                codes.source,
                case when codes.source = 'shop' then codes.sku else codes.source_product_id end
                    as source_code,
                products.sku as product_number
            from intermediate.int_product_codes_unioned as codes
            inner join intermediate.int_products_matched as matched using (product_code_key)
            inner join core.dim_products as products using (product_key)
        )

        select *
        from ours
        full outer join truth('products') as theirs using (source, source_code)
        where ours.product_number is distinct from theirs.product_number
        limit 20
        """
    )
    assert differing == []


def test_sessions_equal_the_truth_one_by_one(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        select *
        from (select * from web.fct_sessions where not is_bot) as ours
        full outer join truth('web_sessions') as theirs using (client_id, started_at)
        where
            ours.ended_at is distinct from theirs.ended_at
            or ours.event_count is distinct from theirs.event_count
            or ours.page_view_count is distinct from theirs.page_view_count
            or ours.last_step is distinct from theirs.last_step
            or ours.country_code is distinct from theirs.country_code
            or ours.device is distinct from theirs.device
        limit 20
        """
    )
    assert differing == []


def test_page_loads_equal_the_truth_by_month_and_dimension(
    example_warehouse: ExampleWarehouse,
) -> None:
    differing = example_warehouse.rows(
        """
        select *
        from web.rpt_page_load_month_over_month as ours
        full outer join truth('web_page_loads') as theirs
            on
                ours.load_month = theirs.month
                and ours.page_type = theirs.page_type
                and ours.country_code = theirs.country_code
                and ours.device = theirs.device
                and ours.connection_type = theirs.connection
        where
            ours.view_count is distinct from theirs.view_count
            or ours.measured_count is distinct from theirs.measured_count
            or round(ours.p50_ms, 6) is distinct from round(theirs.p50_ms, 6)
            or round(ours.p75_ms, 6) is distinct from round(theirs.p75_ms, 6)
            or round(ours.p95_ms, 6) is distinct from round(theirs.p95_ms, 6)
        limit 20
        """
    )
    assert differing == []


def test_the_slower_checkout_of_june_is_found(example_warehouse: ExampleWarehouse) -> None:
    [(page, change)] = example_warehouse.rows(
        """
        select page_type, p50_change_pct
        from web.rpt_page_load_month_over_month
        where
            load_month = date '2026-06-01'
            and page_type != 'all'
            and country_code = 'all' and device = 'all' and connection_type = 'all'
        order by p50_change_pct desc
        limit 1
        """
    )
    assert page == "checkout"
    assert change > 30


def test_the_funnel_equals_the_truth_by_day_device_and_country(
    example_warehouse: ExampleWarehouse,
) -> None:
    differing = example_warehouse.rows(
        """
        with theirs as (
            select
                cast(started_at as date) as session_date,
                device,
                country_code,
                count(*) as session_count,
                count(*) filter (where last_step != 'page_view') as product_view_count,
                count(*) filter (where last_step in ('add_to_cart', 'checkout', 'purchase'))
                    as cart_count,
                count(*) filter (where last_step in ('checkout', 'purchase')) as checkout_count,
                count(*) filter (where last_step = 'purchase') as purchase_count
            from truth('web_sessions')
            group by all
        )

        select *
        from web.rpt_funnel as ours
        full outer join theirs using (session_date, device, country_code)
        where
            ours.session_count is distinct from theirs.session_count
            or ours.product_view_count is distinct from theirs.product_view_count
            or ours.cart_count is distinct from theirs.cart_count
            or ours.checkout_count is distinct from theirs.checkout_count
            or ours.purchase_count is distinct from theirs.purchase_count
        limit 20
        """
    )
    assert differing == []


def test_minutes_of_pages_equal_the_truth(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        with ours as (
            select minute_at, cast(sum(begun_session_count) as bigint) as session_count
            from web.fct_page_minutes
            group by minute_at
            having session_count > 0
        ),

        theirs as (
            select date_trunc('minute', started_at) as minute_at, count(*) as session_count
            from truth('web_sessions')
            group by all
        ),

        our_views as (
            select
                cast(date_trunc('month', minute_at) as date) as month,
                page_type,
                cast(sum(view_count) as bigint) as view_count,
                cast(sum(measured_count) as bigint) as measured_count
            from web.fct_page_minutes
            group by all
            having sum(view_count) > 0
        ),

        their_views as (
            select month, page_type, view_count, measured_count
            from truth('web_page_loads')
            where
                page_type != 'all'
                and country_code = 'all'
                and device = 'all'
                and connection = 'all'
        )

        select cast(ours as varchar), cast(theirs as varchar)
        from ours
        full outer join theirs using (minute_at)
        where ours.session_count is distinct from theirs.session_count
        union all
        select cast(our_views as varchar), cast(their_views as varchar)
        from our_views
        full outer join their_views using (month, page_type)
        where
            (our_views.view_count, our_views.measured_count)
            is distinct from (their_views.view_count, their_views.measured_count)
        limit 20
        """
    )
    assert differing == []


def test_documents_equal_the_truth_and_are_linked(example_warehouse: ExampleWarehouse) -> None:
    differing = example_warehouse.rows(
        """
        select *
        from documents.fct_documents as ours
        full outer join truth('documents') as theirs
            on ours.source_document_id = theirs.document
        where
            -- a text file ends with a line feed
            rtrim(ours.body, chr(10)) is distinct from theirs.body
            or ours.language_code is distinct from theirs.language
            or ours.source_ticket_id is distinct from theirs.ticket_id
            or ours.ticket_key is null
        limit 20
        """
    )
    assert differing == []


def test_the_build_passed_every_test(example_warehouse: ExampleWarehouse) -> None:
    assert "ERROR=0" in example_warehouse.build_log
    assert "WARN=0" in example_warehouse.build_log
