"""What differs between two versions: shape, rows by key or as multisets, cells by column."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from ingestion.errors import BadInput
from ingestion.settings import LimitsSettings, Settings
from runner.diff.compare import TableDiff, VersionDiff, compare
from runner.versions import Version

KEYS = {"shop.orders": [["order_id"]], "shop.lines": [["order_id", "line"]]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path / "data")


def version(settings: Settings, name: str, *statements: str, keys: object = KEYS) -> Version:
    """A version as publish makes it, but for what a comparison does not read."""
    path = settings.published_dir / name
    path.mkdir(parents=True)
    made = Version(name, path)
    with closing(duckdb.connect(str(made.database))) as connection:
        connection.execute("create schema shop")
        for statement in statements:
            connection.execute(statement)
        tables = [
            {
                "name": f"shop.{table}",
                "rows": connection.execute(f"select count(*) from shop.{table}").fetchall()[0][0],
                "checksum": f"{name} {table}",
                "keys": keys.get(f"shop.{table}", []) if isinstance(keys, dict) else [],
            }
            for (table,) in connection.execute(
                "select table_name from duckdb_tables() order by table_name"
            ).fetchall()
        ]
    manifest = {"duckdb_version": duckdb.__version__, "tables": tables, "created_at": name}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return made


def only(diff: VersionDiff) -> TableDiff:
    (table,) = diff.tables
    return table


ORDERS = """create table shop.orders as from (values
    (1, 'open', 9.90), (2, 'paid', 5.00), (3, 'paid', null), (4, 'open', 1.00)
) as rows(order_id, status, amount)"""


def test_rows_are_matched_by_their_key(settings: Settings) -> None:
    before = version(settings, "a", ORDERS)
    after = version(
        settings,
        "b",
        ORDERS,
        "update shop.orders set status = 'paid', amount = 8 where order_id = 1",
        "update shop.orders set amount = 0 where order_id = 3",
        "delete from shop.orders where order_id = 4",
        "insert into shop.orders values (5, 'open', 2), (6, 'open', 3)",
    )

    found = only(compare(settings, before, after, rows=1))

    assert (found.rows_before, found.rows_after) == (4, 5)
    assert (found.added, found.removed, found.changed) == (2, 1, 2)
    assert found.cells == {"status": 1, "amount": 2}
    assert found.key == ("order_id",)
    added, removed, changed = found.samples
    assert (added.kind, added.values["order_id"]) == ("added", 5)
    assert (removed.kind, removed.values["order_id"]) == ("removed", 4)
    assert changed.values == {"order_id": 1}
    assert changed.cells["status"] == ("open", "paid")


def test_key_of_several_columns_with_a_missing_value(settings: Settings) -> None:
    lines = "create table shop.lines as from (values (1, 1, 'a'), (1, null, 'b'), (2, 1, 'c')) "
    lines += "as rows(order_id, line, what)"
    before = version(settings, "a", lines)
    after = version(settings, "b", lines, "update shop.lines set what = 'x' where line is null")

    found = only(compare(settings, before, after, rows=5))

    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    assert found.samples[0].values == {"order_id": 1, "line": None}


def test_columns_added_removed_and_retyped(settings: Settings) -> None:
    before = version(settings, "a", ORDERS)
    after = version(
        settings,
        "b",
        ORDERS,
        "alter table shop.orders alter amount type decimal(12, 4)",
        "alter table shop.orders add column country varchar default 'DE'",
        "alter table shop.orders drop column status",
    )

    found = only(compare(settings, before, after))

    assert found.state == "changed"
    assert found.columns_added == (("country", "VARCHAR"),)
    assert found.columns_removed == (("status", "VARCHAR"),)
    assert found.columns_retyped == (("amount", "DECIMAL(3,2)", "DECIMAL(12,4)"),)
    assert (found.added, found.removed, found.changed) == (0, 0, 0)


def test_number_that_became_text_is_the_same_value(settings: Settings) -> None:
    before = version(settings, "a", ORDERS)
    after = version(
        settings,
        "b",
        ORDERS,
        "alter table shop.orders alter amount type varchar",
        "update shop.orders set amount = 'none' where order_id = 2",
    )

    found = only(compare(settings, before, after, rows=9))

    assert found.changed == 1
    assert found.samples[0].cells["amount"][1] == "none"


def test_table_without_a_key_is_compared_as_a_multiset(settings: Settings) -> None:
    notes = "create table shop.notes as select 'same' as note from range(3)"
    before = version(settings, "a", notes)
    after = version(settings, "b", notes, "insert into shop.notes values ('same'), ('other')")

    found = only(compare(settings, before, after, rows=3))

    assert found.key == ()
    assert (found.added, found.removed, found.changed) == (2, 0, 0)
    assert [sample.values for sample in found.samples] == [{"note": "other"}, {"note": "same"}]


def test_declared_key_that_is_not_unique_is_not_used(settings: Settings) -> None:
    before = version(settings, "a", ORDERS)
    after = version(settings, "b", ORDERS, "insert into shop.orders values (1, 'open', 9.90)")

    found = only(compare(settings, before, after))

    assert found.key == ()
    assert (found.added, found.removed, found.changed) == (1, 0, 0)


def test_tables_added_and_removed(settings: Settings) -> None:
    before = version(settings, "a", ORDERS)
    after = version(settings, "b", "create table shop.lines as select 1 as order_id, 1 as line")

    lines, orders = compare(settings, before, after).tables

    assert (lines.state, lines.added, lines.rows_before) == ("added", 1, None)
    assert (orders.state, orders.removed, orders.rows_after) == ("removed", 4, None)
    assert [name for name, _ in orders.columns_removed] == ["order_id", "status", "amount"]


def test_table_of_equal_checksum_is_not_read(settings: Settings) -> None:
    before = version(settings, "a", ORDERS, "create table shop.notes as select 1 as note")
    after = version(settings, "b", ORDERS, "create table shop.notes as select 1 as note")
    for made in (before, after):
        manifest = made.manifest()
        manifest["tables"][1]["checksum"] = "the same"
        (made.path / "manifest.json").write_text(json.dumps(manifest))
    read: list[str] = []

    found = compare(settings, before, after, on_table=read.append)

    assert read == ["shop.notes"]
    assert [table.state for table in found.tables] == ["equal", "equal"]


def test_versions_of_an_earlier_release_have_no_keys(settings: Settings) -> None:
    before = version(settings, "a", ORDERS, keys=None)
    after = version(settings, "b", ORDERS, "update shop.orders set status = 'new' where order_id=1")

    assert only(compare(settings, before, after)).changed == 1
    assert only(compare(settings, after, before)).key == ("order_id",)


def test_wanted_tables(settings: Settings) -> None:
    before = version(settings, "a", ORDERS, "create table shop.notes as select 1 as note")
    after = version(settings, "b", ORDERS, "create table shop.notes as select 2 as note")

    assert only(compare(settings, before, after, ["notes"])).table == "shop.notes"
    with pytest.raises(BadInput, match="neither version has a table note") as caught:
        compare(settings, before, after, ["note"])
    assert "Did you mean shop.notes?" in caught.value.hint


def test_comparison_keeps_to_the_memory_it_is_given(settings: Settings) -> None:
    many = "create table shop.orders as select range as order_id, md5(range::varchar) as status, "
    before = version(settings, "a", f"{many} uuid()::varchar as amount from range(400_000)")
    after = version(settings, "b", f"{many} uuid()::varchar as amount from range(400_000)")
    small = replace(settings, limits=LimitsSettings(memory="64MB"))

    found = only(compare(small, before, after))

    assert (found.added, found.removed, found.changed) == (0, 0, 400_000)
    assert found.cells == {"amount": 400_000}


def test_damaged_version_is_told(settings: Settings) -> None:
    before, after = version(settings, "a", ORDERS), version(settings, "b", ORDERS)
    before.database.write_bytes(b"no database")

    with pytest.raises(BadInput, match="version a cannot be read"):
        compare(settings, before, after)
