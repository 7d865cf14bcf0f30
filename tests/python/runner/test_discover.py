"""Discovery in a small world whose truth is known, with the traps that real sources set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest
from toyshop import Call, ToyShop

from ingestion.declarations import SourceDeclaration, TableDeclaration, TableIngest
from ingestion.errors import BadInput
from ingestion.lock import RunLock, lock_path
from ingestion.settings import load_settings
from runner.discover.find import discover
from runner.discover.model import Discovery, discovery_fields, read_discovery
from runner.discover.page import discovery_page

BAD_INPUT = 6
LOCKED = 5

# Sources, their tables, and the query that makes each.
WORLD = {
    "store": {
        # two candidate keys, and a self reference
        "employees": "select i as employee_id, 'E-' || (700 + i) as badge_no, 'Ann' as first_name,"
        " 'Lee ' || i as last_name, case when i > 3 then 1 + i % 3 end as reports_to"
        " from range(1, 13) t(i)",
        "customers": "select i as customer_id, 'Pat ' || i as full_name,"
        " 'pat' || i || '@mail.example' as email, 1 + i % 12 as support_rep_id,"
        " ['US', 'CA', 'MX'][1 + i % 3] as country_code, '+1 503 555 ' || (1000 + i) as phone,"
        " case when i % 50 = 0 then 'n/a' else 'Main Street ' || i end as street"
        " from range(1, 301) t(i)",
        "products": "select i as product_id, 'AC-' || lpad(i::varchar, 4, '0') as sku,"
        " 'Thing no. ' || i as product_name, 5 + i * 0.5 as list_price from range(1, 81) t(i)",
        # orphans: customers 901 and 902 are not there
        "orders": "select i as order_id, 'NA-' || lpad(i::varchar, 6, '0') as order_number,"
        " case when i % 400 = 7 then 900 + i % 3 else 1 + (i * 7) % 300 end as customer_id,"
        " ['new', 'paid', 'sent'][1 + i % 3] as status, 1 + i % 5 as priority,"
        " timestamp '2026-01-01' + i * interval 1 hour as ordered_at from range(1, 1201) t(i)",
        # a key of two columns, and many columns 1..n
        "order_lines": "select 1 + i // 3 as order_id, 1 + i % 3 as line_number,"
        " 1 + (i * 11) % 80 as product_id, 1 + i % 9 as quantity, 1 + i % 28 as delivery_days"
        " from range(0, 3600) t(i)",
        # its own key 1..n lies in every other one; so do the orders, one to one
        "payments": "select i as payment_id, i as order_id, 10.5 + i as amount,"
        " ['card', 'cash'][1 + i % 2] as method from range(1, 1001) t(i)",
    },
    "depot": {
        # zeros in front, another spelling of the store's codes, other names for the same things
        "articles": "select lpad(i::varchar, 10, '0') as article_no,"
        " 'ac' || lpad(i::varchar, 4, '0') as shop_code, (i * 0.5)::varchar as weight_kg"
        " from range(1, 81) t(i)",
        "shipments": "select 'S' || (5000 + i) as shipment_no, 'na-' || lpad(i::varchar, 6, '0')"
        " as order_ref, lpad((1 + i % 80)::varchar, 10, '0') as article_no,"
        " strftime(date '2026-01-01' + (i % 300)::int, '%d.%m.%Y') as shipped_on,"
        " replace((i * 1.25)::varchar, '.', ',') as freight, 'DHL' as carrier"
        " from range(1, 901) t(i)",
        "stock": "select lpad((1 + i // 4)::varchar, 10, '0') as article_no, 'W' || (i % 4)"
        " as site, (i * 3)::varchar as pieces from range(0, 320) t(i)",
    },
    "desk": {
        # numbers with gaps, but none among the first ones; and columns that lie in there
        "teams": "select case when i < 200 then i else i * 50 end as team_no, 'Team ' || i as"
        " title from range(1, 600) t(i)",
        "shifts": "select i as shift_no, 1 + i % 60 as desk, 1 + i % 150 as slot"
        " from range(1, 800) t(i)",
        # agents have numbers without gaps, far from those of the customers
        "users": "select case when i <= 200 then 900000000 + i * 37 else 800000000 + i end as id,"
        " 'Pat ' || i as name, upper('pat' || i || '@mail.example') as email"
        " from range(1, 221) t(i)",
        "tickets": "select i as id, 900000000 + (1 + i % 200) * 37 as requester_id,"
        " 800000201 + i % 20 as assignee_id,"
        " case when i % 2 = 0 then 'NA-' || lpad(i::varchar, 6, '0') end as order_number,"
        " case when i % 3 = 0 then 'true' else 'false' end as is_open,"
        " (1700000000 + i * 60)::varchar as created_at, '[{\"sku\":\"AC-' || lpad((1 + i % 80)"
        "::varchar, 4, '0') || '\",\"n\":' || i || '}]' as parts from range(1, 501) t(i)",
        # numbers of the store's orders and of the depot's shipments in one column
        "notes": "select i as note_no, case when i % 2 = 0 then 'NA-' || lpad((i * 2)::varchar, 6,"
        " '0') else 'S' || (5000 + i) end as about from range(1, 401) t(i)",
        "customer_flags": "select 1 + (i * 3) % 300 as customer_id, i % 2 = 0 as is_vip"
        " from range(0, 100) t(i)",
    },
}  # fmt: skip
KEYS = {
    "store.employees": ("employee_id",),
    "store.customers": ("customer_id",),
    "store.products": ("product_id",),
    "store.orders": ("order_id",),
    "store.order_lines": ("order_id", "line_number"),
    "store.payments": ("payment_id",),
    "depot.articles": ("article_no",),
    "depot.shipments": ("shipment_no",),
    "depot.stock": ("article_no", "site"),
    "desk.users": ("id",),
    "desk.teams": ("team_no",),
    "desk.shifts": ("shift_no",),
    "desk.tickets": ("id",),
    "desk.notes": ("note_no",),
    "desk.customer_flags": ("customer_id",),
}
REFERENCES = {
    ("store.employees", "reports_to", "store.employees", "employee_id"),
    ("store.customers", "support_rep_id", "store.employees", "employee_id"),
    ("store.orders", "customer_id", "store.customers", "customer_id"),
    ("store.order_lines", "order_id", "store.orders", "order_id"),
    ("store.order_lines", "product_id", "store.products", "product_id"),
    ("store.payments", "order_id", "store.orders", "order_id"),
    ("depot.shipments", "article_no", "depot.articles", "article_no"),
    ("depot.shipments", "order_ref", "store.orders", "order_number"),
    ("depot.stock", "article_no", "depot.articles", "article_no"),
    ("desk.tickets", "requester_id", "desk.users", "id"),
    ("desk.tickets", "assignee_id", "desk.users", "id"),
    ("desk.tickets", "order_number", "store.orders", "order_number"),
    ("desk.tickets.parts", "sku", "store.products", "sku"),
    ("desk.notes", "about", "store.orders", "order_number"),
    ("desk.notes", "about", "depot.shipments", "shipment_no"),
    ("desk.customer_flags", "customer_id", "store.customers", "customer_id"),
}


def declared(world: dict[str, dict[str, str]]) -> list[SourceDeclaration]:
    return [
        SourceDeclaration(
            name=source,
            schema=f"raw_{source}",
            kind="files",
            connection=None,
            file="",
            tables=tuple(TableDeclaration(name, name, TableIngest()) for name in tables),
        )
        for source, tables in world.items()
    ]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    path = tmp_path_factory.mktemp("world") / "wellspring.duckdb"
    with duckdb.connect(str(path)) as connection:
        for source, tables in WORLD.items():
            connection.execute(f"create schema raw_{source}")
            for name, query in tables.items():
                connection.execute(
                    f"create table raw_{source}.{name} as select *, 'f' as _file, row_number() "
                    f"over () as _row, 'load1' as _load_id, false as _deleted from ({query})"
                )
    with duckdb.connect(str(path), read_only=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def found(warehouse: duckdb.DuckDBPyConnection) -> Discovery:
    return discover(warehouse, declared(WORLD))


def test_each_primary_key_is_found(found: Discovery) -> None:
    chosen = {
        table.full_name: table.primary_key.columns if table.primary_key else ()
        for table in found.tables
        if not table.nested_in
    }
    assert {name: set(columns) for name, columns in chosen.items()} == {
        name: set(columns) for name, columns in KEYS.items()
    }


def test_references_are_found_and_nothing_else(found: Discovery) -> None:
    told = {(r.from_table, *r.from_columns, r.to_table, *r.to_columns) for r in found.references}
    right = told & REFERENCES
    assert len(right) >= 0.95 * len(REFERENCES), REFERENCES - told
    assert len(right) >= 0.95 * len(told), told - REFERENCES


def test_orphans_are_counted_on_all_rows(found: Discovery) -> None:
    (orders,) = [
        r
        for r in found.references
        if (r.from_table, r.from_columns) == ("store.orders", ("customer_id",))
    ]
    assert (orders.rows, orders.orphan_rows) == (1200, 3)


def test_other_spellings_meet_in_their_normal_form(found: Discovery) -> None:
    (shipped,) = [r for r in found.references if r.from_columns == ("order_ref",)]
    assert (shipped.match, shipped.is_across, shipped.orphan_values) == ("normal_form", True, 0)


def test_a_column_may_refer_to_several_tables(found: Discovery) -> None:
    about = [r for r in found.references if r.from_columns == ("about",)]
    assert {(r.to_table, r.is_partial, r.values - r.orphan_values) for r in about} == {
        ("store.orders", True, 200),
        ("depot.shipments", True, 200),
    }


def test_the_same_things_are_recognised(found: Discovery) -> None:
    groups = {frozenset(entity.tables) for entity in found.entities}
    assert frozenset({"store.customers", "desk.users"}) in groups
    assert frozenset({"store.products", "depot.articles"}) in groups


def test_what_texts_mean(found: Discovery) -> None:
    shipments = found.table("depot.shipments")
    shipped = shipments.column("shipped_on").behind
    freight = shipments.column("freight").behind
    assert shipped is not None
    assert (shipped.kind, shipped.format) == ("date", "%d.%m.%Y")
    assert not shipped.is_ambiguous
    assert freight is not None
    assert (freight.kind, freight.decimal_mark, freight.data_type) == (
        "decimal",
        ",",
        "decimal(38, 2)",
    )
    tickets = found.table("desk.tickets")
    kinds = {c.name: c.behind.kind for c in tickets.columns if c.behind is not None}
    assert kinds == {"is_open": "boolean", "created_at": "epoch", "parts": "json"}
    assert found.table("depot.articles").column("weight_kg").unit == "kg"


def test_personal_data_is_named_and_not_shown(found: Discovery) -> None:
    customers = found.table("store.customers")
    kinds = {c.name: c.personal.kind for c in customers.columns if c.personal is not None}
    assert kinds == {"full_name": "name", "email": "email", "phone": "phone", "street": "address"}
    told = json.dumps(discovery_fields(found)) + discovery_page(found)
    assert "pat7@mail.example" not in told
    assert "555 1007" not in told
    assert "Main Street 7" not in told


def test_placeholders_are_problems(found: Discovery) -> None:
    problems = found.table("store.customers").column("street").problems
    assert [(p.kind, p.rows) for p in problems] == [("placeholder", 6)]


def test_json_is_read_back_as_it_was(found: Discovery, tmp_path: Path) -> None:
    path = tmp_path / "discovery.json"
    path.write_text(json.dumps(discovery_fields(found)), encoding="utf-8")
    assert read_discovery(path) == found
    path.write_text(json.dumps(discovery_fields(found) | {"format": 99}), encoding="utf-8")
    with pytest.raises(BadInput, match="format 99"):
        read_discovery(path)


@pytest.mark.parametrize("way", ["a load a day", "a file a day", "times of change", "declared"])
def test_versions_of_a_row_count_once(way: str) -> None:
    days = "i // 200"
    load, file = (days, "0") if way == "a load a day" else ("0", days)
    if way == "times of change":
        # The first file has two versions of each row.
        file = "i // 400"
    (source,) = declared({"till": {"sales": ""}})
    if way == "declared":
        ingest = TableIngest(primary_key=["sale_id"])
        source = replace(source, tables=(TableDeclaration("sales", "sales", ingest),))
    with duckdb.connect(":memory:") as connection:
        connection.execute("create schema raw_till")
        connection.execute(
            "create table raw_till.sales as select 1 + i % 200 as sale_id, i % 7 as stand, "
            f"timestamp '2026-01-01' + {days} * interval 1 day as updated_at, "
            f"'f' || {file} as _file, i as _row, 'load' || {load} as _load_id, "
            "i > 595 as _deleted from range(0, 600) t(i)"
        )
        sales = discover(connection, [source]).table("till.sales")
    assert (sales.raw_rows, sales.rows, sales.versions_by) == (600, 196, ("sale_id",))
    assert sales.primary_key is not None
    assert sales.primary_key.holds


def test_a_sample_makes_figures_while_keys_and_references_are_of_all_rows(
    warehouse: duckdb.DuckDBPyConnection, found: Discovery
) -> None:
    part = discover(warehouse, declared(WORLD), sample=500)
    lines = part.table("store.order_lines")
    assert lines.sampled_rows == 500
    assert lines.column("quantity").nulls == 0
    assert sum(f.rows for f in lines.column("quantity").frequent) <= 3600
    assert {t.full_name: t.primary_key and set(t.primary_key.columns) for t in part.tables} == {
        t.full_name: t.primary_key and set(t.primary_key.columns) for t in found.tables
    }
    assert {(r.from_table, r.from_columns, r.rows, r.orphan_rows) for r in part.references} == {
        (r.from_table, r.from_columns, r.rows, r.orphan_rows) for r in found.references
    }


def test_a_source_without_loaded_tables_is_told() -> None:
    with (
        duckdb.connect(":memory:") as connection,
        pytest.raises(BadInput, match="no table of these sources is loaded"),
    ):
        discover(connection, declared({"till": {"sales": ""}}))


def test_columns_that_follow_are_told_with_their_exceptions() -> None:
    query = """
        select
            i as line, 'C' || (i % 40) as club, 'Town ' || ((i % 40) % 10) as town,
            case when i = 17 then 'Tonw 7' else 'Town ' || ((i % 40) % 10) end as typed_town,
            case when i = 3 then 'b' else 'a' end as mostly_one, hash(i) % 5 as random
        from range(0, 400) t(i)
    """
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"create schema raw_league; create table raw_league.lines as {query}")
        lines = discover(connection, declared({"league": {"lines": ""}})).table("league.lines")
    told = {(d.determinant, d.dependent): d.exceptions for d in lines.dependencies}
    assert told[("club", "town")] == 0
    assert told[("club", "typed_town")] == 1
    assert not {dependent for _, dependent in told} & {"mostly_one", "random", "club"}


def test_odd_tables_and_columns_do_no_harm() -> None:
    world = {"odd": {"empty": "", "strange": ""}}
    with duckdb.connect(":memory:") as connection:
        connection.execute("create schema raw_odd; create table raw_odd.empty (id int, name text)")
        connection.execute(
            """
            create table raw_odd.strange as select
                i as "select", 'it''s' || i as "a ""quoted"" name", null::varchar as "Nothing",
                null::int as none, 'x'::blob as bytes, interval 1 day as "span",
                time '10:00' as hour, uuid() as "UUID",
                'a'::enum('a', 'b') as choice, map {'k': i} as pairs,
                170141183460469231731687303715884105727::hugeint as huge, 'nan'::double as nothing,
                case when i > 2 then 'infinity'::timestamp end as "always",
                repeat('x', 5000) as long, '{"broken": ' as broken, '[]' as empty_list,
                1.5::float as half,
                'äö' as "üml",
                [1, 2] as numbers, {'a': {'b': [{'c': i}]}} as deep, date '9999-12-31' as until
            from range(0, 50) t(i)
            """
        )
        found = discover(connection, declared(world))
    assert {table.name: table.rows for table in found.tables if not table.nested_in} == {
        "empty": 0,
        "strange": 50,
    }
    strange = found.table("odd.strange")
    assert strange.primary_key is not None
    assert strange.primary_key.columns == ("UUID",)
    assert strange.column("Nothing").null_share == 1
    assert [p.kind for p in strange.column("until").problems] == ["placeholder"]
    assert "odd.strange.deep" in {table.full_name for table in found.tables}
    assert discovery_page(found).endswith("</html>\n")


class _Page(HTMLParser):
    """Notes what is left open, what is linked and what the links point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: set[str] = set()
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links |= {value or "" for name, value in attrs if name in ("src", "href")}
        self.places |= {f"#{value}" for name, value in attrs if name == "id"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(found: Discovery) -> None:
    page = _Page(discovery_page(found))
    assert page.open == []
    assert page.links <= page.places
    assert len(page.links) == len(found.tables)


def test_the_command_keeps_what_it_finds(shop: ToyShop, call: Call) -> None:
    told = call(shop, "discover", "--json")
    assert told.code == 0, told.err
    found = read_discovery(shop.data / "state" / "discovery" / "discovery.json")
    assert json.loads(told.out) == json.loads(json.dumps(discovery_fields(found)))
    keys = {t.full_name: t.primary_key.columns for t in found.tables if t.primary_key}
    assert keys == {"stock.toys": ("toy_id",), "till.sales": ("sale_id",)}
    (sold,) = found.references
    assert (sold.from_table, sold.to_table, sold.match) == ("till.sales", "stock.toys", "as_text")
    assert "stock.toys" in (shop.data / "state" / "discovery" / "discovery.html").read_text()
    shown = call(shop, "discover", "till")
    assert shown.code == 0, shown.err
    assert "till.sales" in shown.out
    assert "stock.toys" not in shown.out


def test_wrong_questions_are_answered_in_words(shop: ToyShop, call: Call) -> None:
    unknown = call(shop, "discover", "til")
    assert unknown.code == BAD_INPUT
    assert "no source til is declared" in unknown.err
    assert "till" in unknown.err
    with RunLock(lock_path(load_settings(shop.root)), lambda: "another", "wellspring run"):
        held = call(shop, "discover")
    assert held.code == LOCKED
    (shop.data / "warehouse" / "wellspring.duckdb").unlink()
    missing = call(shop, "discover")
    assert missing.code == BAD_INPUT
    assert "there is no warehouse yet" in missing.err
