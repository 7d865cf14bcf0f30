"""Keyed staging and what is made from it work on what new loads touch, and equal a full rebuild."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from ingestion.settings import load_settings
from runner.transform import Dbt, Selection

SIDES = (
    "staging", "quarantine", "rejected", "absent_keys", "ledger_outcomes", "findings", "history",
)  # fmt: skip
LEDGER = (
    "create schema if not exists ledger; create table if not exists ledger.files (source varchar,"
    " table_name varchar, file varchar, load_id varchar, status varchar, rows_loaded bigint,"
    " loaded_at timestamp)"
)
TEST_ACCOUNT = {"name": "test_account", "where": "city = 'test'", "reason": "our own"}
BUYERS = {"buyer_id": "varchar", "city": "varchar", "zip": "varchar", "updated_at": "varchar"}
ORDERS = {"order_id": "varchar", "buyer_id": "varchar", "total": "varchar", "updated_at": "varchar"}
PAYMENTS = {"payment_id": "varchar", "order_id": "varchar", "means": "varchar"}
TABLES = ("buyers", "orders", "payments")
HEAD = (
    "{{{{ config(materialized='by_key', unique_key={key}, meta={{'touched_by': {touched}}}) }}}}\n"
)
MODELS = {
    "orders_placed": ("'order_id'", {
        "stg_lab__orders": "order_id",
        "stg_lab__buyers": {"via": "stg_lab__orders", "on": "buyer_id"},
    }, "with orders as (\n"
       "select * from {{ ref('stg_lab__orders') }} where {{ in_touched('order_id') }})\n"
       "select orders.order_id, orders.buyer_id, buyers.city, orders.total, tellers.teller"
       " from orders inner join {{ ref('stg_lab__buyers') }} as buyers using (buyer_id)"
       " cross join {{ ref('tellers') }} as tellers"),
    "buyer_totals": ("'buyer_id'", {"orders_placed": "buyer_id"},
        "select buyer_id, count(*) as order_count, sum(total) as total"
        " from {{ ref('orders_placed') }} where {{ in_touched('buyer_id') }} group by buyer_id"),
    "cities": ("'city'", {},
        "select city, count(*) as buyer_count from {{ ref('stg_lab__buyers') }} group by city"),
    "city_buyers": ("['city', 'buyer_id']", {
        "orders_placed": ["city", "buyer_id"],
        "cities": {"via": "orders_placed", "on": {"city": "city"}},
    }, "select placed.city, placed.buyer_id, max(buyer_count) as buyer_count,"
       " count(*) as order_count from {{ ref('orders_placed') }} as placed"
       " inner join {{ ref('cities') }} as cities on placed.city = cities.city"
       " where {{ in_touched(['placed.city', 'placed.buyer_id']) }}"
       " group by placed.city, placed.buyer_id"),
}  # fmt: skip


class Shop:
    """Buyers, orders that refer to them, payments that refer to orders; they come load by load."""

    def __init__(self, folder: Path, as_files: bool = False) -> None:
        self.lab = Lab(folder)
        self.lab.declare(*TABLES)
        self.pieces: dict[str, list[str]] | None = (
            {table: [] for table in TABLES} if as_files else None
        )
        for table, columns in zip(TABLES, (BUYERS, ORDERS, PAYMENTS), strict=True):
            self.lab.raw(table, columns, [])
        self.lab.execute(LEDGER)
        self.lab.write("seeds/means.csv", "means\ncard\nwire\n")
        self.lab.write("seeds/tellers.csv", "teller\nann\n")
        for name, (key, touched, sql) in MODELS.items():
            head = HEAD.format(key=key, touched=touched)
            self.lab.write(f"models/intermediate/{name}.sql", head + sql)
        self.loads = 0
        updated = "try_cast(updated_at as timestamp) as updated_at"
        self.lab.stage(
            "stg_lab__buyers", "buyers",
            f"nullif(buyer_id, '') as buyer_id, nullif(city, '') as city, zip, {updated}",
            staging={"key": ["buyer_id"], "version_order": ["updated_at"], "history": True,
                     "filters": [TEST_ACCOUNT]},
            rules={"city": [{"required": True}, {"determined_by": "zip"}]},
        )  # fmt: skip
        self.stage_orders()
        self.lab.stage(
            "stg_lab__payments", "payments", "payment_id, order_id, means",
            staging={"key": ["payment_id", "order_id"]}, refers_to=("stg_lab__orders", "means"),
            rules={"order_id": [{"reference": {"model": "stg_lab__orders", "column": "order_id"}}],
                   "means": [{"reference": {"model": "means", "column": "means"}}]},
        )  # fmt: skip

    def stage_orders(self, extra: str = "", highest: int = 100) -> None:
        of_buyer = {"reference": {"model": "stg_lab__buyers", "column": "buyer_id"}}
        self.lab.stage(
            "stg_lab__orders", "orders",
            "order_id, buyer_id, try_cast(total as integer) as total,"
            f" try_cast(updated_at as timestamp) as updated_at{extra}",
            staging={"key": ["order_id"], "version_order": ["updated_at"], "history": {
                "valid_from": "updated_at"}},
            rules={"buyer_id": [{"required": True}, of_buyer],
                   "total": [{"typed_from": "total"}, {"between": [0, highest]}],
                   "updated_at": [{"in_order": True}]},
            refers_to=("stg_lab__buyers",),
        )  # fmt: skip

    def bring(self, table: str, *rows: dict[str, Any]) -> str:
        """A further load of a table, as one file."""
        self.loads += 1
        load_id = f"17900000{self.loads:02}.5"
        file = f"{table}/{load_id}"
        for number, row in enumerate(rows, 1):
            full = {"_file": file, "_row": number, "_load_id": load_id, "_deleted": False} | row
            values = ", ".join("null" if v is None else f"'{v}'" for v in full.values())
            place = f"raw_lab.{table}" if self.pieces is None else f"brought.{table}"
            if number == 1 and self.pieces is not None:
                self.begin_file(table)
            self.lab.execute(f"insert into {place} ({', '.join(full)}) values ({values})")
        if self.pieces is not None:
            self.end_file(table, file, load_id)
        self.enter(table, load_id, len(rows))
        return load_id

    def begin_file(self, table: str) -> None:
        """An empty table in the shape of raw."""
        self.lab.execute("create schema if not exists brought")
        self.lab.execute(f"create or replace table brought.{table} as from raw_lab.{table} limit 0")

    def end_file(self, table: str, file: str, load_id: str) -> None:
        """What was brought as a further file of a raw table that is a view."""
        assert self.pieces is not None
        path = self.lab.data / f"{table}-{load_id}.parquet"
        self.lab.execute(f"copy (from brought.{table} order by _row) to '{path}' (format parquet)")
        kinds = self.lab.query(f"describe brought.{table}")
        told = {kind[0]: f"data.{kind[0]}" for kind in kinds} | {
            "_file": f"'{file}'", "_row": "data.file_row_number + 1", "_load_id": f"'{load_id}'",
        }  # fmt: skip
        listed = ", ".join(f"cast({sql} as {kind[1]}) as {kind[0]}"
                           for kind, sql in zip(kinds, told.values(), strict=True))  # fmt: skip
        self.pieces[table].append(
            f"select {listed} from read_parquet(['{path}'], file_row_number = true) as data"
        )
        if len(self.pieces[table]) == 1:
            self.lab.execute(f"drop table raw_lab.{table}")
        view = " union all ".join(self.pieces[table])
        self.lab.execute(f"create or replace view raw_lab.{table} as {view}")

    def enter(self, table: str, load_id: str, rows: int) -> None:
        self.lab.execute(
            f"insert into ledger.files values ('lab', '{table}', '{table}/{load_id}',"
            f" '{load_id}', 'loaded', {rows}, now()::timestamp)"
        )

    def run(self, *arguments: str) -> None:
        results = self.lab.dbt("build", *arguments)
        assert {status for status, _ in results.values()} == {"success"}, results

    def state(self) -> dict[str, list[str]]:
        """All that staging made, as sorted rows."""
        found = {}
        for table in TABLES:
            for side in SIDES:
                if (side, table) != ("history", "payments"):
                    rows = self.lab.query(f"select * from {side}.stg_lab__{table}")
                    found[f"{side}.{table}"] = sorted(map(repr, rows))
        for name in MODELS:
            found[name] = sorted(map(repr, self.lab.query(f"select * from intermediate.{name}")))
        return found

    def made(self) -> dict[str, int]:
        """What tells a table that was replaced from one that has grown."""
        return dict(
            self.lab.query(
                "select table_name, table_oid from duckdb_tables()"
                " where schema_name in ('staging', 'intermediate')"
            )
        )

    def generations(self) -> set[int]:
        names = " union all ".join(f"select generation from marks.stg_lab__{t}" for t in TABLES)
        return {generation for (generation,) in self.lab.query(names)}

    def versions(self) -> dict[str, int]:
        """By model, how often a build has changed it."""
        names = [*(f"stg_lab__{table}" for table in TABLES), *MODELS]
        return {name: self.lab.query(f"select version from marks.{name}")[0][0] for name in names}

    def check(self) -> None:
        """A rebuild makes the same, and every row has one outcome."""
        grown = self.state()
        self.run("--full-refresh")
        rebuilt = self.state()
        for place, rows in grown.items():
            assert rebuilt[place] == rows, place
        for table in TABLES:
            counts = f"select coalesce(sum(row_count), 0) from ledger_outcomes.stg_lab__{table}"
            assert self.lab.query(counts) == self.lab.query(f"select count(*) from raw_lab.{table}")


def buyer(chance: random.Random) -> dict[str, Any]:
    return {
        "buyer_id": chance.choice([*"abcdefghij", ""]),
        "city": chance.choice(["Bern", "Bern", "Chur", "test", ""]),
        "zip": chance.choice("123"),
        "updated_at": f"2026-06-{chance.randint(1, 28):02}",
        "_deleted": chance.random() < 0.15,
    }


def order(chance: random.Random) -> dict[str, Any]:
    return {
        "order_id": chance.choice([*map(str, range(40)), None]),
        "buyer_id": chance.choice([*"abcdefghijkl", None]),
        "total": chance.choice(["5", "5", "7", "x", "-1"]),
        "updated_at": chance.choice([f"2026-06-{chance.randint(1, 28):02}", "soon"]),
        "_deleted": chance.random() < 0.1,
    }


def payment(chance: random.Random) -> dict[str, Any]:
    return {
        "payment_id": chance.choice([*map(str, range(25)), None]),
        "order_id": chance.choice([*map(str, range(44)), None]),
        "means": chance.choice(["card", "wire", "shells"]),
        "_deleted": chance.random() < 0.1,
    }


def fill(shop: Shop, chance: random.Random, number: int) -> None:
    for table, make in zip(TABLES, (buyer, order, payment), strict=True):
        for _ in range(chance.randint(0, 2) or number // 100):
            rows = [make(chance) for _ in range(number)]
            # the same row twice in a file
            shop.bring(table, *rows, *rows[:1])


@pytest.mark.parametrize("as_files", [False, True])
def test_many_loads_equal_a_rebuild(tmp_path: Path, as_files: bool) -> None:
    shop, chance = Shop(tmp_path, as_files), random.Random(11)
    fill(shop, chance, 100)
    shop.run()
    grown = 0
    for number in range(7):
        before = shop.made()
        fill(shop, chance, chance.choice([1, 3, 3]))
        if number == 5:
            shop.lab.write("seeds/tellers.csv", "teller\nbob\n")
        shop.run()
        grown += sum(
            shop.made()[name] == oid for name, oid in before.items() if name.startswith("stg")
        )
    assert shop.generations() == {1}
    assert grown > 12, "most loads were added to what was there"
    shop.check()


def test_a_view_of_no_file_yet_is_known_to_be_read_row_by_row(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    kinds = shop.lab.query("describe raw_lab.payments")
    listed = ", ".join(f"cast(null as {kind[1]}) as {kind[0]}" for kind in kinds)
    shop.lab.execute("drop table raw_lab.payments")
    shop.lab.execute(f"create view raw_lab.payments as select {listed} where false")
    shop.run()
    assert shop.lab.query("select sees_rows_alone from marks.stg_lab__payments") == [(True,)]
    assert not shop.lab.query("from duckdb_tables() where table_name like '%__empty'")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    rows = [{"buyer_id": x, "city": "Bern", "zip": "1", "updated_at": "2026-06-01"} for x in "abcd"]
    shop.bring("buyers", *rows)
    shop.bring(
        "orders",
        *({"order_id": str(number), "buyer_id": "abcde"[number % 5], "total": "5"}
          for number in range(20)),
    )  # fmt: skip
    shop.run()
    return shop


class Runner:
    """A shop that is built as the runner does; one of its tables is of events."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop(folder)
        self.lab = self.shop.lab
        self.lab.declare(*TABLES, "visits")
        self.lab.raw("visits", {"visit_id": "varchar", "page": "varchar"}, [])
        self.lab.stage(
            "stg_lab__visits", "visits", "visit_id, nullif(page, '') as page",
            staging={"events": True, "key": ["visit_id"]}, rules={"page": [{"required": True}]},
        )  # fmt: skip
        self.number = 10
        some = {"city": "Bern", "zip": "1", "updated_at": "2026-06-01"}
        self.shop.bring("buyers", *({"buyer_id": x} | some for x in "abcd"))
        orders = [{"order_id": str(n), "buyer_id": "abcde"[n % 5], "total": "5"} for n in range(20)]
        self.shop.bring("orders", *orders)
        self.shop.bring("payments", {"payment_id": "1", "order_id": "3", "means": "card"})
        self.shop.bring("visits", *({"visit_id": str(n), "page": "a"} for n in range(9)))

    def bring(self) -> None:
        """News of each kind: a row that came late, a correction, rows that are new or rejected."""
        self.number += 1
        self.shop.bring("buyers", {"buyer_id": "e", "city": "Chur", "zip": str(self.number)})
        self.shop.bring("orders", {"order_id": "3", "buyer_id": "b", "total": str(self.number)})
        pages = [{"visit_id": f"{self.number}{page}", "page": page} for page in ("", "b")]
        self.shop.bring("visits", *pages)

    def upset(self) -> None:
        """Files are read again, and parts of two models are lost."""
        self.lab.execute("update ledger.files set loaded_at = loaded_at + interval 1 second")
        self.lab.execute("drop table findings.stg_lab__orders; drop table marks.orders_placed")

    def build(self) -> Dbt:
        dbt = Dbt(load_settings())
        results = dbt.build(Selection())
        assert {result.status for result in results} == {"ok"}, results
        return dbt

    def replaced(self) -> set[str]:
        """Tables that a build replaces, for which nothing is asked of dbt."""
        columns = (
            "select schema_name || '.' || table_name, min(column_name) from duckdb_columns() where"
            " schema_name in ('staging', 'intermediate') and (comment = 'former' or {}) group by 1"
        )
        before = self.lab.query(columns.format("true"))
        for table, column in before:
            self.lab.execute(f"comment on column {table}.{column} is 'former'")
        assert self.build()._manifest is None
        return {table for table, _ in before} - dict(self.lab.query(columns.format("false"))).keys()


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    made = Runner(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WELLSPRING_DATA", str(made.lab.data))
    return made


def test_what_a_first_build_tells_of_later_ones_is_what_dbt_sends(runner: Runner) -> None:
    """So that no later one needs dbt, whatever the loads bring."""
    rehearsed = runner.build().kept.recordings
    staged = {f"staging.stg_lab__{table}" for table in (*TABLES, "visits")}
    ways = {runner.bring: set(), runner.upset: staged | {"intermediate.orders_placed"}}
    for happen, replaced in ways.items():
        happen()
        assert runner.replaced() == replaced
        (runner.lab.data / "state" / "compiled" / "statements.json").unlink()
        happen()
        for unique_id, sent in runner.build().kept.recordings.items():
            assert set(sent) <= set(rehearsed[unique_id])


def test_what_no_load_has_reached_stays_as_it_is(runner: Runner) -> None:
    runner.build()

    def built() -> set[str]:
        results = Dbt(load_settings()).build(Selection(), lazy=True)
        assert {result.status for result in results} == {"ok"}, results
        return {result.name for result in results if not result.unchanged}

    assert built() == set()
    runner.shop.bring("payments", {"payment_id": "2", "order_id": "4", "means": "card"})
    reached = built()
    assert "stg_lab__payments" in reached
    assert not {"stg_lab__buyers", "stg_lab__orders", "orders_placed"} & reached
    runner.lab.execute("delete from intermediate.orders_placed")
    assert "orders_placed" in built(), "another program has changed it"


def changed(shop: Shop, side: str = "staged") -> set[str]:
    """Orders that the last build changed."""
    rows = shop.lab.query(
        f"select distinct order_id from changes.stg_lab__orders where _side = '{side}'"
        " and _version = (select version from marks.stg_lab__orders)"
    )
    return {order_id for (order_id,) in rows}


def test_a_row_is_judged_again_when_what_it_refers_to_changes(shop: Shop) -> None:
    before = shop.made()
    late = {"buyer_id": "e", "city": "Bern", "zip": "1", "updated_at": "2026-06-02"}
    shop.bring("buyers", late)
    shop.run()
    for table in ("buyers", "orders"):
        name = f"stg_lab__{table}"
        assert shop.made()[name] == before[name], "nothing was built anew"
    assert changed(shop) == {"4", "9", "14", "19"}, "orders whose buyer came later"
    shop.bring("buyers", late | {"city": "", "updated_at": "2026-06-03"})
    shop.bring("buyers", late | {"_deleted": True})
    shop.run()
    assert changed(shop) == {"4", "9", "14", "19"}, "they follow a deleted buyer"
    gone = shop.lab.query(
        "select distinct buyer_id, _is_removed from changes.buyer_totals"
        " where _version = (select version from marks.buyer_totals)"
    )
    assert gone == [("e", True)], "what is made from them, too, and nothing else"
    before, versions = shop.made()["stg_lab__orders"], shop.versions()
    same = {"city": "Bern", "zip": "1", "updated_at": "2026-06-01"}
    shop.bring("buyers", *({"buyer_id": x} | same for x in "abcd"))
    shop.run()
    assert shop.versions() == versions, "what was sent again as it was is no change"
    assert shop.made()["stg_lab__orders"] == before
    shop.check()


def test_all_are_judged_where_what_was_judged_may_be_otherwise(shop: Shop) -> None:
    def is_replaced() -> bool:
        before = shop.made()["stg_lab__orders"]
        shop.run()
        return shop.made()["stg_lab__orders"] != before

    assert not is_replaced(), "nothing is new"
    shop.lab.execute("update ledger.files set loaded_at = loaded_at + interval 1 second")
    assert is_replaced(), "a file was read again"
    assert changed(shop) == set(), "and told the same"
    shop.enter("orders", "1780000000.5", 0)
    assert is_replaced(), "an older load was loaded late"
    shop.bring("orders", *({"order_id": str(number), "buyer_id": "a"} for number in range(15)))
    assert is_replaced(), "more than a third of the rows"
    assert shop.generations() == {1}, "readers of the changes go on"
    shop.stage_orders(highest=4)
    assert is_replaced(), "a rule was changed"
    shop.stage_orders(", row_number() over (order by _row) as place")
    assert is_replaced()
    shop.bring("orders", {"order_id": "30", "buyer_id": "a", "total": "1"})
    assert is_replaced(), "its SQL looks at other rows"
    shop.stage_orders(", now() as seen_at")
    assert is_replaced()
    shop.bring("orders", {"order_id": "31", "buyer_id": "a", "total": "1"})
    assert is_replaced(), "its SQL tells the time"
    shop.stage_orders()
    shop.run()
    shop.lab.execute("drop table findings.stg_lab__orders")
    assert is_replaced(), "a part was lost"
    shop.check()
