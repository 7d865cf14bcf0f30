"""Sources whose tables change: what is noted, what a contract does, and that no row is lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files_kit import Lab
from sources_kit import declared, landed, rows_of, run, settings_in

from ingestion.declarations import DeclaredColumn, SourceDeclaration
from ingestion.load import load
from ingestion.replay import replay
from ingestion.schema.journal import read_journal
from ingestion.schema.renames import name_likeness
from ingestion.schema.shapes import Shape, ShapeColumn, compare
from ingestion.schema.words import tell
from ingestion.settings import Settings
from ingestion.warehouse import connect


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """A shop with 30 items, and the connection `src` that leads to it."""
    path = tmp_path / "shop.db"
    monkeypatch.setenv("CONNECTIONS__SRC__URL", f"sqlite:///{path}")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "create table items (id integer primary key, title text, price integer, is_new boolean)"
        )
        connection.executemany(
            "insert into items values (?, ?, ?, 1)", [(n, f"item {n}", n * 7) for n in range(30)]
        )
        yield connection


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", "drop")
    lab = Lab(tmp_path)
    lab.drop.mkdir()
    return lab


def told(settings: Settings, source: str = "src") -> list[str]:
    """All changes that were noted, in words, with their state."""
    noted = read_journal(settings, source).changes
    return [f"{n.table} {tell(n.change)} ({n.status})" for n in noted]


def with_columns(source: SourceDeclaration, **columns: str) -> SourceDeclaration:
    """The source, the columns of its one table declared."""
    listed = tuple(DeclaredColumn(name, kind) for name, kind in columns.items())
    return replace(source, tables=(replace(source.tables[0], columns=listed),))


def test_the_first_reading_and_one_like_it_note_nothing(
    db: sqlite3.Connection, settings: Settings
) -> None:
    source = declared("database", {"items": {}})
    assert rows_of(run(source, settings)) == {"items": 30}
    written = (settings.state_dir / "schema" / "src.json").stat().st_mtime_ns
    assert rows_of(run(source, settings)) == {"items": 0}
    assert told(settings) == []
    assert (settings.state_dir / "schema" / "src.json").stat().st_mtime_ns == written


def test_a_lost_and_a_new_column_are_told_and_history_stays(
    db: sqlite3.Connection, settings: Settings
) -> None:
    source = declared("database", {"items": {}})
    run(source, settings)
    db.execute("alter table items drop column price")
    db.execute("alter table items add column colour text")
    result = run(source, settings)
    assert rows_of(result) == {"items": 0}, "what has gone changes no row"
    assert [tell(noted.change) for noted in result.changes] == [
        "gained column colour (TEXT)",
        "lost column price (INTEGER)",
    ]
    assert {row["price"] for row in landed(settings, "items")} == {n * 7 for n in range(30)}
    db.execute("alter table items add column price integer")
    run(source, settings)
    assert told(settings)[-1] == "items has column price again (INTEGER) (taken)"


def test_a_rename_is_recognised_by_its_values(db: sqlite3.Connection, settings: Settings) -> None:
    source = declared("database", {"items": {}})
    run(source, settings)
    db.execute("alter table items rename column title to bezeichnung")
    (noted,) = run(source, settings).changes
    assert tell(noted.change) == "renamed column title to bezeichnung"
    assert "the same value in 30 of 30 rows of the same key" in noted.change.evidence


def test_columns_that_say_the_same_of_every_row_prove_no_rename(
    db: sqlite3.Connection, settings: Settings
) -> None:
    source = declared("database", {"items": {}})
    run(source, settings)
    db.execute("alter table items drop column is_new")
    db.execute("alter table items add column can_be_sent boolean default 1")
    run(source, settings)
    assert {line.partition(" column")[0] for line in told(settings)} == {
        "items gained",
        "items lost",
    }


def test_a_like_name_with_other_values_is_another_column(
    db: sqlite3.Connection, settings: Settings
) -> None:
    source = declared("database", {"items": {}})
    run(source, settings)
    db.execute("alter table items add column price_net integer")
    db.execute("update items set price_net = price * 100 + 1")
    db.execute("alter table items drop column price")
    run(source, settings)
    assert not any("renamed" in line for line in told(settings))


def test_a_renamed_key_marks_no_row_as_deleted(db: sqlite3.Connection, settings: Settings) -> None:
    source = declared("database", {"items": {"deletes": "sweep"}})
    run(source, settings)
    db.execute("alter table items rename column id to item_id")
    result = run(source, settings)
    assert result.error is None
    assert sum(table.deleted for table in result.tables) == 0
    assert not any(row["_deleted"] for row in landed(settings, "items"))


def test_a_frozen_table_is_refused_until_the_declaration_allows_it(
    db: sqlite3.Connection, settings: Settings
) -> None:
    frozen = with_columns(
        declared("database", {"items": {"contract": "freeze"}}),
        id="bigint",
        title="string",
        price="bigint",
        is_new="boolean",
    )
    run(frozen, settings)
    db.execute("alter table items drop column price")
    for _ in range(2):
        result = run(frozen, settings)
        assert result.error is not None
        assert result.error.exit_code == 6
        assert "the source has changed: lost column price" in str(result.error)
        assert told(settings) == ["items lost column price (INTEGER) (refused)"]
    gone = [replace(c, is_gone=c.name == "price") for c in frozen.tables[0].columns]
    allowed = replace(frozen, tables=(replace(frozen.tables[0], columns=tuple(gone)),))
    assert rows_of(run(allowed, settings)) == {"items": 0}
    assert told(settings) == ["items lost column price (INTEGER) (taken)"]


def test_a_source_that_goes_back_on_a_refused_change_is_taken_again(
    db: sqlite3.Connection, settings: Settings
) -> None:
    frozen = declared("database", {"items": {"contract": "freeze"}})
    run(frozen, settings)
    db.execute("alter table items add column colour text")
    assert run(frozen, settings).status == "failed"
    db.execute("alter table items drop column colour")
    assert run(frozen, settings).error is None
    assert told(settings) == ["items gained column colour (TEXT) (reverted)"]


def test_a_dropped_cursor_is_noted_though_the_table_cannot_be_read(
    db: sqlite3.Connection, settings: Settings
) -> None:
    source = declared("database", {"items": {"cursor": "price"}})
    run(source, settings)
    db.execute("alter table items drop column price")
    assert "ingest.cursor: found price" in str(run(source, settings).error)
    assert told(settings) == ["items lost column price (INTEGER) (taken)"]


def test_tables_that_go_come_back_and_are_renamed(
    db: sqlite3.Connection, settings: Settings
) -> None:
    source = declared("database", {"items": {}})
    run(source, settings)
    db.execute("create table gifts (id integer)")
    db.execute("alter table items rename to wares")
    assert run(source, settings).status == "failed"
    db.execute("alter table wares rename to items")
    assert run(source, settings).error is None
    assert told(settings) == [
        "items is called wares now instead of items (taken)",
        "gifts is a new table (taken)",
        "items is there again (taken)",
    ]


def test_rows_that_do_not_fit_are_kept_aside_and_taken_once_declared(
    db: sqlite3.Connection, settings: Settings
) -> None:
    ingest = {"items": {"contract": "quarantine"}}
    kinds = {"id": "bigint", "title": "string", "price": "bigint", "is_new": "boolean"}
    source = with_columns(declared("database", ingest), **kinds)
    run(source, settings)
    load([source], settings)
    db.execute("alter table items add column colour text")
    db.execute("update items set colour = 'red' where id < 4")
    db.execute("update items set title = 'new title' where id = 20")
    db.execute("update items set price = 'n/a' where id = 21")
    run(source, settings)
    result = load([source], settings)
    (table,) = result.tables
    assert (table.rows, table.rejected) == (1, 5)
    with closing(connect(settings, read_only=True)) as connection:
        found = connection.execute(
            "select reason, count(*), any_value(raw_record) from ledger.rejected_records "
            "group by 1 order by 1"
        ).fetchall()
    assert [row[:2] for row in found] == [
        ("price is no BIGINT: n/a", 1),
        ("the column colour is not declared", 4),
    ]
    assert json.loads(found[1][2])["colour"] == "red"
    wider = with_columns(declared("database", ingest), **{**kinds, "colour": "string"})
    assert load([wider], settings).outdated == {"src.items": 2}
    replay([wider], settings)
    with closing(connect(settings, read_only=True)) as connection:
        rows = connection.execute("select count(*), count(colour) from raw_src.items").fetchall()
        aside = connection.execute("select count(*) from ledger.rejected_records").fetchall()
    assert (rows, aside) == ([(35, 4)], [(1,)])


def test_a_file_without_a_column_is_told_and_a_frozen_table_waits(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "contract": "freeze"}
    lab.put("a.csv", "id,name\n1,x\n")
    lab.run()
    lab.put("b.csv", "id\n2\n")
    lab.put("c.csv", "id,name\n3,z\n")
    for _ in range(2):
        lab.extract()
        (refused,) = lab.load().refused
        assert "the contract is frozen, but the source lost column name" in refused.reason
    assert [row["id"] for row in lab.raw("t")] == ["1", "3"]
    lab.tables["t"]["contract"] = "evolve"
    lab.load()
    assert [(row["id"], row["name"]) for row in lab.raw("t", order="id")][1] == ("2", None)


def test_a_header_renamed_half_way_is_found_in_the_first_load(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "primary_key": ["id"]}
    for name, head in (("a", "title"), ("b", "heading")):
        rows = "".join(f"{n},title {n}\n" for n in range(20))
        lab.put(f"{name}.csv", f"id,{head}\n{rows}")
    result = lab.run()
    assert [(tell(n.change), n.place) for n in result.schema] == [
        ("renamed column title to heading", "b.csv")
    ]


def test_another_delimiter_is_named_as_what_it_is(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "id,name\n1,x\n")
    lab.run()
    lab.put("b.csv", "id;name\n2;y\n")
    evidence = [n.change.evidence for n in lab.run().schema if n.change.kind == "column_added"]
    assert "delimiter" in evidence[0][0]
    assert len(lab.raw("t")) == 2


def test_records_that_leave_a_key_out_lose_it_only_when_that_is_no_chance(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.ndjson"}

    def lines(rows: list[dict[str, Any]]) -> str:
        return "".join(json.dumps(row) + "\n" for row in rows)

    lab.put("a.ndjson", lines([{"id": n, "rare": 1} if n < 3 else {"id": n} for n in range(100)]))
    lab.run()
    lab.put("b.ndjson", lines([{"id": n} for n in range(100)]))
    assert lab.run().schema == [], "three of a hundred are not missed in a hundred"
    lab.put("c.ndjson", lines([{"id": n} for n in range(1000)]))
    assert [tell(n.change) for n in lab.run().schema] == [
        "lost column rare (text)",
    ]


def test_what_texts_read_as_is_a_change_when_most_of_them_change(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "id,at\n" + "".join(f"{n},2026-01-{n + 1:02d}\n" for n in range(25)))
    lab.run()
    lab.put("b.csv", "id,at\n" + "".join(f"{n},2026-01-{n + 1:02d}\n" for n in range(24)) + "5,?\n")
    assert lab.run().schema == [], "one bad value is a bad row"
    lab.put("c.csv", "id,at\n" + "".join(f"{n},{n + 1} Jan\n" for n in range(25)))
    (noted,) = lab.run().schema
    assert tell(noted.change) == ("retyped column at from text that reads as date to text")


def test_a_column_without_values_has_no_type_that_could_differ(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.parquet"}
    for name, values in (("a", [1, 2]), ("b", [None, None])):
        kind = pa.int64() if name == "a" else pa.string()
        pq.write_table(pa.table({"n": pa.array(values, kind)}), lab.put(f"{name}.parquet", ""))
        assert lab.run().schema == []
    pq.write_table(pa.table({"n": ["x"]}), lab.put("c.parquet", ""))
    assert [tell(n.change) for n in lab.run().schema] == ["retyped column n from bigint to text"]


def test_a_rebuild_notes_nothing_twice(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "id,name\n1,x\n")
    lab.run()
    lab.put("b.csv", "id\n2\n")
    lab.run()
    before = read_journal(lab.settings, "src").changes
    lab.settings.warehouse_path.unlink()
    assert lab.load().schema == []
    assert read_journal(lab.settings, "src").changes == before


def test_a_damaged_journal_is_begun_anew(db: sqlite3.Connection, settings: Settings) -> None:
    source = declared("database", {"items": {}})
    run(source, settings)
    (settings.state_dir / "schema" / "src.json").write_text("{")
    assert run(source, settings).error is None
    assert read_journal(settings, "src").shape("items") is not None


def test_kinds_of_change_between_two_catalogs() -> None:
    before = Shape(
        (
            ShapeColumn("a", "INTEGER", "a", "int", True),
            ShapeColumn("b", "VARCHAR", "b", "varchar(5)", True),
            ShapeColumn("c", "VARCHAR", "c", "mood (x)", False, "x"),
            ShapeColumn("d", "DATE", "d", "date"),
        ),
        ("a",),
    )
    now = Shape(
        (
            ShapeColumn("d", "TIMESTAMP", "D", "timestamp"),
            ShapeColumn("a", "SMALLINT", "a", "smallint", False),
            ShapeColumn("b", "VARCHAR", "b", "varchar(9)", True),
            ShapeColumn("c", "VARCHAR", "c", "mood (x, y)", False, "y"),
        ),
        ("b",),
    )
    changes = compare(before, now, lambda _: 1.0).changes
    assert [(change.kind, change.column) for change in changes] == [
        ("column_respelled", "d"),
        ("column_retyped", "d"),
        ("column_retyped", "a"),
        ("column_null", "a"),
        ("column_redeclared", "b"),
        ("column_redeclared", "c"),
        ("column_default", "c"),
        ("key_changed", ""),
    ]
    moved = Shape(tuple(reversed(before.columns)), before.key)
    assert compare(before, moved, lambda _: 1.0).changes == (), "order is no part of a shape"


@pytest.mark.parametrize(
    ("old", "new", "least", "most"),
    [
        ("cust_no", "customer_no", 1.0, 1.0),
        ("customer_id", "CustomerID", 0.85, 1.0),
        ("title", "heading", 0.0, 0.4),
    ],
)
def test_names_are_alike_as_people_see_it(old: str, new: str, least: float, most: float) -> None:
    assert least <= name_likeness(old, new) <= most
