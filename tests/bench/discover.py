"""How fast tables are discovered, and how much of a declared truth is found.

    .venv/bin/python tests/bench/discover.py speed --rows 1000000
    .venv/bin/python tests/bench/discover.py sqlite path/to/Chinook_Sqlite.sqlite
    .venv/bin/python tests/bench/discover.py shop data/warehouse/wellspring.duckdb
    .venv/bin/python tests/bench/discover.py across data/warehouse/wellspring.duckdb

`speed` makes a table of 20 columns and looks at it with two threads and 1 GB, in turns with
`summarize` of DuckDB itself; the ratio is what counts. `sqlite` hides what a SQLite file declares
(`pragma foreign_key_list`, primary keys) and compares; `shop` does the same with the
example's shop, whose primary keys PostgreSQL declares and whose references nothing does: they are
written below. `across` looks, without any declared key, for what links customers, products and
orders of the example's systems.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import duckdb

from ingestion.declarations import SourceDeclaration, TableDeclaration, TableIngest
from ingestion.extensions import prepare_extensions
from runner.discover.find import discover
from runner.discover.model import Discovery

_WIDE = """
    select
        i as order_id, 'NA-' || lpad(i::varchar, 9, '0') as order_number,
        (hash(i) % 800000)::int as customer_id, (hash(i + 1) % 5000)::int as product_id,
        ['new', 'paid', 'sent', 'back'][1 + (hash(i + 2) % 4)::int] as status,
        ['US', 'DE', 'FR', 'JP', 'BR'][1 + (hash(i + 3) % 5)::int] as country_code,
        'person' || (hash(i) % 800000) || '@mail.example' as email,
        ((hash(i + 4) % 100000) / 100)::decimal(12, 2) as amount,
        replace(((hash(i + 5) % 100000) / 100)::decimal(12, 2)::varchar, '.', ',') as freight,
        strftime(date '2020-01-01' + (hash(i + 6) % 2000)::int, '%d.%m.%Y') as shipped_on,
        timestamp '2020-01-01' + i * interval 7 second as ordered_at,
        timestamp '2020-01-01' + i * interval 9 second as updated_at,
        (hash(i + 7) % 9)::int as quantity, (hash(i + 8) % 2 = 0)::varchar as is_gift,
        case when i % 3 = 0 then 'note ' || hash(i + 9) end as note,
        md5(i::varchar) as session_id, (hash(i + 10) % 100)::double / 7 as score,
        'W' || (hash(i + 11) % 40) as site, (hash(i + 12) % 28 + 1)::varchar as day,
        case when i % 10 = 0 then 'n/a' else (hash(i + 13) % 1000)::varchar end as points,
        'f' as _file, i as _row, 'load1' as _load_id, false as _deleted
    from range(1, ? + 1) t(i)
"""
_SHOP = {
    ("addresses", "customer_id", "customers", "customer_id"),
    ("orders", "customer_id", "customers", "customer_id"),
    ("order_items", "order_id", "orders", "order_id"),
    ("order_items", "product_id", "products", "product_id"),
    ("payments", "order_id", "orders", "order_id"),
    ("refunds", "order_id", "orders", "order_id"),
    ("refunds", "order_item_id", "order_items", "order_item_id"),
}
_SHOP_KEYS = {
    "addresses": {"address_id"},
    "customers": {"customer_id"},
    "orders": {"order_id"},
    "order_items": {"order_item_id"},
    "payments": {"payment_id"},
    "products": {"product_id"},
    "refunds": {"refund_id"},
}

_ACROSS = {
    # customers
    ("card_payments.transactions", "customer_id", "shop.customers", "customer_id"),
    ("device_registry.devices", "customer_id", "shop.customers", "customer_id"),
    ("game.session_events", "customer_id", "shop.customers", "customer_id"),
    ("web.events", "customer", "shop.customers", "customer_id"),
    ("documents.records", "customer", "helpdesk.users", "id"),
    # products
    ("web.events", "product", "shop.products", "sku"),
    # orders
    ("card_payments.transactions", "order_number", "shop.orders", "order_number"),
    ("device_registry.devices", "order_number", "shop.orders", "order_number"),
    ("pixelco.cases", "order_ref", "shop.orders", "order_number"),
    ("web.events", "order", "shop.orders", "order_number"),
    ("helpdesk.tickets.custom_fields", "value_360001", "shop.orders", "order_number"),
    ("helpdesk.tickets.custom_fields", "value_360001", "erp.orders", "order_no"),
    ("helpdesk.tickets.custom_fields", "value_360001", "marketplace.orders", "order_id"),
    ("helpdesk.tickets.custom_fields", "value_360001", "distributor.orders", "id"),
    # inside a system, but in lists
    ("marketplace.orders.items", "listing_id", "marketplace.listings", "listing_id"),
    ("distributor.orders.lines", "code", "distributor.catalog", "code"),
}
_ENTITIES = (
    {
        *("shop.customers", "erp.customers", "marketplace.buyers"),
        *("pixelco.accounts", "helpdesk.users"),
    },
    {"shop.products", "erp.materials", "marketplace.listings", "distributor.catalog"},
)


def _source(name: str, tables: list[str]) -> SourceDeclaration:
    known = tuple(TableDeclaration(table, table, TableIngest()) for table in tables)
    return SourceDeclaration(name, f"raw_{name}", "files", None, "", known)


def speed(rows: int, rounds: int, sample: int | None) -> None:
    """Looks at a table of 20 columns, in turns with `summarize`."""
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wellspring.duckdb"
        with duckdb.connect(str(path)) as connection:
            connection.execute("set threads = 2; create schema raw_shop")
            connection.execute(f"create table raw_shop.orders as {_WIDE}", [rows])
        for _ in range(rounds):
            with duckdb.connect(str(path), read_only=True) as connection:
                connection.execute(
                    f"set threads = 2; set memory_limit = '1GB'; set temp_directory = '{folder}/t'"
                )
                began = time.perf_counter()
                connection.execute("summarize raw_shop.orders").fetchall()
                bare.append(time.perf_counter() - began)
                began = time.perf_counter()
                discover(connection, [_source("shop", ["orders"])], sample=sample)
                ours.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    one, other = statistics.median(ours), statistics.median(bare)
    print(
        f"{rows:,} rows x 20 columns: discover {one:.1f} s, summarize {other:.1f} s, "
        f"ratio {one / other:.2f}; peak of the process {peak:,.0f} MB"
    )


def _compare(
    found: Discovery,
    references: set[tuple[str, str, str, str]],
    keys: dict[str, set[str]],
) -> None:
    def short(table: str) -> str:
        return table.partition(".")[2]

    told = {
        (short(r.from_table), column, short(r.to_table), aim)
        for r in found.references
        for column, aim in zip(r.from_columns, r.to_columns, strict=True)
    }
    right = told & references
    print(f"references: {len(references)} declared, {len(told)} told, {len(right)} right")
    print(f"  precision {len(right) / max(1, len(told)):.3f}")
    print(f"  recall    {len(right) / max(1, len(references)):.3f}")
    for reference in sorted(told - references):
        print("  wrong:", *reference)
    for reference in sorted(references - told):
        print("  missed:", *reference)
    chosen = {t.name: set(t.primary_key.columns) if t.primary_key else set() for t in found.tables}
    good = sum(chosen.get(table) == key for table, key in keys.items())
    print(f"primary keys: {good} of {len(keys)}")
    for table, key in keys.items():
        if chosen.get(table) != key:
            print("  wrong:", table, chosen.get(table), "instead of", key)


def sqlite(path: Path) -> None:
    """Compares with what a SQLite file declares."""
    import sqlite3

    references, keys = set(), {}
    with closing(sqlite3.connect(path)) as origin:
        names = [
            str(row[0])
            for row in origin.execute("select name from sqlite_master where type = 'table'")
            if not str(row[0]).startswith("sqlite_")
        ]
        for name in names:
            keys[name] = {
                str(row[1]) for row in origin.execute(f'pragma table_info("{name}")') if row[5]
            }
            for row in origin.execute(f'pragma foreign_key_list("{name}")'):
                references.add((name, str(row[3]), str(row[2]), str(row[4])))
    with duckdb.connect(":memory:") as connection, tempfile.TemporaryDirectory() as folder:
        prepare_extensions(connection, Path(folder))
        connection.execute(f"attach '{path}' as origin (type sqlite, read_only)")
        connection.execute("create schema raw_origin")
        for name in names:
            connection.execute(
                f"create table raw_origin.\"{name}\" as select *, 'f' as _file, "
                f"row_number() over () as _row, 'load1' as _load_id, false as _deleted "
                f'from origin."{name}"'
            )
        found = discover(connection, [_source("origin", names)], use_declared=False)
    _compare(found, references, keys)


def shop(path: Path) -> None:
    """Compares with what is known of the example's shop."""
    with duckdb.connect(str(path), read_only=True) as connection:
        source = _source("shop", sorted(_SHOP_KEYS))
        found = discover(connection, [source], use_declared=False)
    _compare(found, _SHOP, _SHOP_KEYS)


def across(path: Path) -> None:
    """Compares with what is known to link the example's systems."""
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("set threads = 2")
        tables: dict[str, list[str]] = {}
        for schema, table in connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name like 'raw_%'"
        ).fetchall():
            tables.setdefault(str(schema).removeprefix("raw_"), []).append(str(table))
        sources = [_source(name, sorted(names)) for name, names in sorted(tables.items())]
        found = discover(connection, sources, use_declared=False)
    told = {
        (r.from_table, *r.from_columns, r.to_table, *r.to_columns)
        for r in found.references
        if len(r.from_columns) == 1
    }
    print(f"{len(found.tables)} tables in {found.seconds:.0f} s, {len(told)} references")
    print(f"links: {len(told & _ACROSS)} of {len(_ACROSS)}")
    for link in sorted(_ACROSS - told):
        print("  missed:", *link)
    for wanted in _ENTITIES:
        best = max((set(e.tables) & wanted for e in found.entities), key=len, default=set())
        print(f"the same things: {len(best)} of {len(wanted)} tables:", ", ".join(sorted(best)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("speed", "sqlite", "shop", "across"))
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int)
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.rows, given.rounds, given.sample)
    elif given.path is None:
        parser.error("a path is needed")
    elif given.what == "sqlite":
        sqlite(given.path)
    elif given.what == "shop":
        shop(given.path)
    else:
        across(given.path)


if __name__ == "__main__":
    main()
