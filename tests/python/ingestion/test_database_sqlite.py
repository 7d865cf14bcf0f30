"""Reading SQLite files: what is stored counts, not what is declared."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sources_kit import declared, landed, landed_types, rows_of, run, settings_in

from ingestion.databases import base
from ingestion.errors import DeclarationError, SourceUnreachable
from ingestion.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """An empty file, and the connection `src` that leads to it."""
    path = tmp_path / "a folder" / "shop 100%.db"
    path.parent.mkdir()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", f"sqlite:///{path}".replace("%", "%25"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_declared_types_are_kept_where_every_value_fits(
    db: sqlite3.Connection, settings: Settings
) -> None:
    db.execute(
        "create table kinds (Id integer primary key, price numeric(10, 2), share real, "
        "made datetime, "
        "day date, active boolean, photo blob, name nvarchar(40), anything)"
    )
    db.execute(
        "insert into kinds values (1, 0.99, 0.1, '2026-01-02 03:04:05.5', '2026-01-02', "
        "1, x'00ff', 'é', 5), "
        "(2, 12, 3, '2026-01-02T03:04', null, 0, null, '', 'text'), (3, null, 1e300, "
        "null, null, null, null, "
        "null, null)"
    )
    assert rows_of(run(declared("database", {"kinds": {}}), settings)) == {"kinds": 3}
    assert landed(settings, "kinds")[:2] == [
        {
            "id": 1,
            "price": Decimal("0.99"),
            "share": 0.1,
            "made": datetime(2026, 1, 2, 3, 4, 5, 500_000),
            "day": date(2026, 1, 2),
            "active": True,
            "photo": b"\x00\xff",
            "name": "é",
            "anything": "5",
            "_deleted": False,
        },
        {
            "id": 2,
            "price": Decimal("12.00"),
            "share": 3.0,
            "made": datetime(2026, 1, 2, 3, 4),
            "day": None,
            "active": False,
            "photo": None,
            "name": "",
            "anything": "text",
            "_deleted": False,
        },
    ]
    assert run(declared("database", {"kinds": {}}), settings).status == "nothing_new"


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("integer", 1.5, "1.5"),
        ("integer", "many", "many"),
        ("numeric(10, 2)", 1.005, "1.005"),
        ("real", "n/a", "n/a"),
        ("datetime", 1718000000, "1718000000"),
        ("date", "2026-01-02 10:00:00", "2026-01-02 10:00:00"),
        ("boolean", 2, "2"),
        ("blob", "words", "words"),
        ("text", b"\x00\xff", "\\x00ff"),
        ("int", 2**62 + 1, str(2**62 + 1)),
    ],
)
def test_a_value_that_does_not_fit_keeps_its_text(
    db: sqlite3.Connection, settings: Settings, kind: str, value: object, text: str
) -> None:
    db.execute(f"create table odd (id integer primary key, v {kind})")
    db.execute("insert into odd values (1, ?)", [value])
    run(declared("database", {"odd": {}}), settings)
    assert str(landed(settings, "odd")[0]["v"]) == text


def test_values_of_all_kinds_in_one_column_are_told_apart(
    db: sqlite3.Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one kind are taken whole, mixed ones a value at a time; both say the same."""
    monkeypatch.setattr(base, "BATCH", 4)
    stored = [
        1,
        2,
        None,
        -(2**63),
        "a",
        "é 😀",
        "",
        "1",
        0.1,
        3.0,
        1e300,
        2**53 + 1,
        2,
        2.5,
        "2",
        b"\x00a",
    ]
    expected = ["1", "2", None, str(-(2**63)), "a", "é 😀", "", "1", "0.1", "3.0", "1e+300"]
    expected += [str(2**53 + 1), "2", "2.5", "2", "\\x0061"]
    db.execute("create table kinds (id integer primary key, anything, whole blob, absent text)")
    db.executemany(
        "insert into kinds values (?, ?, ?, null)",
        [(n, value, n) for n, value in enumerate(stored)],
    )
    assert rows_of(run(declared("database", {"kinds": {}}), settings)) == {"kinds": len(stored)}
    rows = landed(settings, "kinds")
    assert [row["anything"] for row in rows] == expected
    assert [row["id"] for row in rows] == list(range(len(stored)))
    assert {row["absent"] for row in rows} == {None}


def test_bytes_that_are_no_text_are_not_lost(db: sqlite3.Connection, settings: Settings) -> None:
    db.execute("create table bad (v text)")
    db.execute("insert into bad values (cast(x'ff41' as text))")
    run(declared("database", {"bad": {}}), settings)
    assert landed(settings, "bad")[0]["v"] == "\\xff41"


@pytest.mark.parametrize(
    "form", ["{:%Y-%m-%d %H:%M:%S}", "{:%Y-%m-%dT%H:%M:%SZ}", "{:%Y-%m-%dT%H:%M:%S.%f}"]
)
def test_a_cursor_may_be_written_in_any_form_of_iso(
    db: sqlite3.Connection, settings: Settings, form: str
) -> None:
    db.execute("create table t (id integer primary key, at timestamp, name text)")
    for n in range(40):
        moment = datetime(2026, 1, 1 + n // 24, n % 24, tzinfo=UTC)
        db.execute("insert into t values (?, ?, 'a')", [n, form.format(moment)])
    source = declared("database", {"t": {"cursor": "at", "window": "2 hours", "deletes": "sweep"}})
    run(source, settings)
    db.execute("update t set name = 'b', at = ? where id = 1", [form.format(datetime(2026, 2, 1))])
    db.execute("delete from t where id = 2")
    db.execute("insert into t values (100, null, 'no time')")
    result = run(source, settings)
    assert (rows_of(result), result.tables[0].deleted) == ({"t": 3}, 1)
    assert result.tables[0].read <= 6, "only the window is read again"
    assert run(source, settings).status == "nothing_new"


def test_a_number_as_cursor(db: sqlite3.Connection, settings: Settings) -> None:
    db.execute("create table t (id integer primary key, v text)")
    db.executemany("insert into t values (?, 'a')", [[n] for n in range(50)])
    source = declared("database", {"t": {"cursor": "id"}})
    run(source, settings)
    db.execute("insert into t values (50, 'b')")
    result = run(source, settings)
    assert (rows_of(result), result.tables[0].read) == ({"t": 1}, 2)


def test_a_window_on_a_number_is_refused(db: sqlite3.Connection, settings: Settings) -> None:
    db.execute("create table t (id integer primary key, v text)")
    db.execute("insert into t values (1, 'a')")
    source = declared("database", {"t": {"cursor": "id", "window": "1 day"}})
    error = run(source, settings).error
    assert isinstance(error, DeclarationError)
    assert "ingest.window: found" in str(error)
    assert "1 day" in str(error)
    assert "no window" in str(error)


def test_a_missing_file_and_one_that_is_no_database(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = declared("database", {"t": {}})
    monkeypatch.setenv("CONNECTIONS__SRC__URL", f"sqlite:///{tmp_path}/none.db")
    error = run(source, settings).error
    assert isinstance(error, SourceUnreachable)
    assert f"there is no file {tmp_path}/none.db" in str(error)
    assert not (tmp_path / "none.db").exists(), "a typing error makes no database"
    (tmp_path / "none.db").write_bytes(b"something else, " * 100)
    error = run(source, settings).error
    assert isinstance(error, SourceUnreachable)
    assert "not a database" in str(error)


def test_another_kind_of_address_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", "oracle://me:hidden-word@host/x")
    error = run(declared("database", {"t": {}}), settings).error
    assert isinstance(error, DeclarationError)
    assert "'oracle'" in str(error)
    assert "kind: python" in str(error)
    assert "hidden-word" not in str(error)


def test_types_stay_when_a_run_reads_no_row(db: sqlite3.Connection, settings: Settings) -> None:
    db.execute("create table t (id integer primary key, price numeric(8, 2), at timestamp)")
    db.execute("insert into t values (1, 1.5, '2026-01-01 00:00:00')")
    source = declared("database", {"t": {"deletes": "sweep"}})
    run(source, settings)
    db.execute("delete from t")
    assert run(source, settings).tables[0].deleted == 1
    assert landed_types(settings, "t")["price"] == "DECIMAL(8,2)"
    assert landed(settings, "t")[1]["price"] == Decimal("1.50")
    assert run(source, settings).status == "nothing_new"


def test_a_sweep_of_what_has_no_key_says_which_is_missing(
    db: sqlite3.Connection, settings: Settings
) -> None:
    db.execute("create table t (id integer primary key, v text)")
    db.execute("create view seen as select * from t")
    error = run(declared("database", {"seen": {"deletes": "sweep"}}), settings).error
    assert isinstance(error, DeclarationError)
    assert "table seen" in str(error)
    assert "ingest.primary_key" in str(error)
    assert "a sweep needs them" in str(error)


@pytest.mark.parametrize("form", ["{:%Y-%m-%d %H:%M:%S}", "{:%Y-%m-%dT%H:%M:%S}"])
def test_rows_older_than_the_window_are_found_by_any_key(
    db: sqlite3.Connection, settings: Settings, form: str
) -> None:
    db.execute("create table t (n integer, at timestamp, u timestamp, primary key (n, at))")
    for n in range(20):
        moment = form.format(datetime(2026, 1, 1 + n))
        db.execute("insert into t values (?, ?, ?)", [n, moment, moment])
    source = declared("database", {"t": {"cursor": "u", "deletes": "sweep"}})
    run(source, settings)
    old = form.format(datetime(2020, 1, 1))
    db.execute("insert into t values (500, ?, ?)", [old, old])
    assert rows_of(run(source, settings)) == {"t": 1}
    assert run(source, settings).status == "nothing_new"
