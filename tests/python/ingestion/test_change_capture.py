"""Change capture from a real PostgreSQL server: what is landed, and what raw then says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cdc_kit import change_source, logical_server, raw, state
from sources_kit import declared, landed, landed_types, rows_of, run, settings_in

from ingestion.cdc.lander import ChangeLander, probe
from ingestion.cdc.writing import TableWriter
from ingestion.compact import compact
from ingestion.errors import IngestionError, SourceFailed
from ingestion.lander.states import lander_states
from ingestion.landing import completed_loads
from ingestion.load import load
from ingestion.reconcile import reconcile
from ingestion.settings import Settings
from ingestion.verify import verify_landing
from ingestion.warehouse import connect

ID = {"primary_key": ["id"]}
BIG = "(select string_agg(md5(n::text || random()::text), '') from generate_series(1, 200) n)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with logical_server(tmp_path_factory.mktemp("pg")) as server:
        yield server


@pytest.fixture
def db(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """An empty schema, no slot and no publication; the connection `src` leads to it."""
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.get_uri())
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("drop schema public cascade; create schema public")
        for (name,) in connection.execute("select pubname from pg_publication").fetchall():
            connection.execute(f"drop publication {name}")
        drop_slots(connection)
        yield connection
        drop_slots(connection)


def drop_slots(db: psycopg.Connection[Any]) -> None:
    """Removes all slots, even of a reader that is only just ending."""
    for _ in range(100):
        with suppress(psycopg.errors.ObjectInUse):
            db.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
            return
        time.sleep(0.05)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def make_orders(db: psycopg.Connection[Any], rows: int = 3) -> None:
    db.execute("create table orders (id bigint primary key, name text, amount numeric(10, 2))")
    db.execute(f"insert into orders select n, 'o' || n, n from generate_series(1, {rows}) n")


def caught_up(declaration: Any, settings: Settings) -> dict[str, int]:
    """Rows that landed by table, after landing and loading what there is."""
    rows = rows_of(run(declaration, settings))
    result = load([declaration], settings)
    assert result.error is None, str(result.error)
    return rows


def test_the_rows_there_are_and_then_every_change_in_order(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})

    assert caught_up(source, settings) == {"orders": 3}
    with db.transaction():
        db.execute("insert into orders values (4, 'four', 4)")
        db.execute("update orders set name = 'ONE' where id = 1")
        db.execute("delete from orders where id = 2")
    db.execute("update orders set name = 'four again' where id = 4")
    assert caught_up(source, settings) == {"orders": 4}

    told = raw(settings, "orders", "_operation, id, name, _deleted")
    assert told[3:] == [
        ("insert", 4, "four", False),
        ("update", 1, "ONE", False),
        ("delete", 2, None, True),
        ("update", 4, "four again", False),
    ]
    assert {row[0] for row in told[:3]} == {"snapshot"}
    assert state(settings, "orders", "id, name") == [(1, "ONE"), (3, "o3"), (4, "four again")]
    assert run(source, settings).status == "nothing_new"


def test_a_transaction_stays_in_one_load(db: psycopg.Connection[Any], settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID}, flush={"rows": 10})
    caught_up(source, settings)

    with db.transaction():
        db.execute("insert into orders select n, 'x', n from generate_series(100, 190) n")
    for number in range(200, 225):
        db.execute("insert into orders values (%s, 'y', 1)", [number])
    caught_up(source, settings)

    with connect(settings, read_only=True) as warehouse:
        loads = warehouse.execute(
            "select _transaction, count(distinct _load_id), count(*) from raw_src.orders "
            "where _transaction is not null group by all"
        ).fetchall()
        split = warehouse.execute("select count(distinct _load_id) from raw_src.orders").fetchall()
    assert {count for _, count, _ in loads} == {1}
    assert max(rows for *_, rows in loads) == 91
    assert split[0][0] > 3


def test_another_key_is_a_deletion_and_a_new_row(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("update orders set id = 30 where id = 3")
    caught_up(source, settings)

    assert raw(settings, "orders", "_operation, id, name, _deleted")[3:] == [
        ("update", 3, None, True),
        ("update", 30, "o3", False),
    ]
    assert [row[0] for row in state(settings, "orders", "id")] == [1, 2, 30]


def test_a_truncate_marks_every_key_that_is_alive(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    db.execute("create table lines (id int primary key, order_id bigint references orders)")
    db.execute("insert into lines values (1, 1)")
    source = change_source({"orders": ID, "lines": ID})
    caught_up(source, settings)

    with db.transaction():
        db.execute("insert into orders values (4, 'new', 4)")
        db.execute("delete from orders where id = 2")
        db.execute("truncate orders restart identity cascade")
        db.execute("insert into orders values (1, 'back', 1)")
    caught_up(source, settings)

    told = raw(settings, "orders", "_operation, id, name, _deleted")[5:]
    assert sorted(told[:3]) == [
        ("truncate", 1, "o1", True),
        ("truncate", 3, "o3", True),
        ("truncate", 4, "new", True),
    ]
    assert told[3:] == [("insert", 1, "back", False)]
    assert state(settings, "lines", "id") == []


def test_a_large_value_that_was_left_alone_is_filled_in(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table docs (id int primary key, n int, body text, other text)")
    db.execute("alter table docs alter body set storage external, alter other set storage external")
    db.execute(f"insert into docs select n, 0, {BIG} || n, {BIG} || n from generate_series(1, 4) n")
    source = change_source({"docs": ID})
    caught_up(source, settings)

    db.execute("update docs set n = 1")
    caught_up(source, settings)
    with db.transaction():
        db.execute("update docs set n = 2 where id = 1")
        db.execute("update docs set id = 10 where id = 1")
        db.execute("update docs set n = 3 where id = 10")
        db.execute("update docs set id = 11 where id = 10")
        db.execute("update docs set body = 'small' where id = 2")
        db.execute("update docs set n = 4 where id = 2")
        db.execute("delete from docs where id = 3")
        db.execute(f"insert into docs values (3, 9, {BIG}, null)")
        db.execute("update docs set n = 10 where id = 3")
    caught_up(source, settings)

    theirs = db.execute("select id, n, md5(body), md5(other) from docs order by id").fetchall()
    assert state(settings, "docs", "id, n, md5(body), md5(other)") == theirs
    told = raw(settings, "docs", "_unchanged")
    assert ('["body", "other"]',) in told
    assert ('["other"]',) in told
    before = raw(settings, "docs", "_row, md5(body), md5(other)")
    settings.warehouse_path.unlink()
    load([source], settings)
    assert raw(settings, "docs", "_row, md5(body), md5(other)") == before


def test_a_full_replica_identity_tells_large_values_and_whole_deleted_rows(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table docs (id int primary key, n int, body text)")
    db.execute("alter table docs alter body set storage external, replica identity full")
    db.execute(f"insert into docs select n, 0, {BIG} from generate_series(1, 2) n")
    source = change_source({"docs": ID})
    caught_up(source, settings)

    db.execute("update docs set n = 5")
    db.execute("delete from docs where id = 1")
    caught_up(source, settings)

    assert raw(settings, "docs", "_unchanged")[2:] == [(None,)] * 3
    assert raw(settings, "docs", "_deleted, n, length(body)")[-1] == (True, 5, 6400)


def test_columns_come_and_go(db: psycopg.Connection[Any], settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("insert into orders values (4, 'before', 4)")
    db.execute("alter table orders add column grade int default 7")
    db.execute("alter table orders alter grade drop default")
    db.execute("insert into orders values (5, 'after', 5, 8)")
    caught_up(source, settings)
    db.execute("alter table orders drop column amount")
    db.execute("update orders set name = 'last' where id = 1")
    assert caught_up(source, settings) == {"orders": 1}, "a dropped column needs no reading"

    assert state(settings, "orders", "id, name, grade, amount") == [
        (1, "last", 7, None),
        (2, "o2", 7, 2),
        (3, "o3", 7, 3),
        (4, "before", 7, 4),
        (5, "after", 8, 5),
    ]


def test_a_type_that_changes_is_read_again(db: psycopg.Connection[Any], settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("alter table orders alter amount type text using 'about ' || amount")
    assert caught_up(source, settings) == {"orders": 3}

    assert state(settings, "orders", "amount")[0] == ("about 1.00",)
    assert run(source, settings).status == "nothing_new"


def test_values_have_the_types_that_reading_the_table_gives(
    db: psycopg.Connection[Any], settings: Settings, tmp_path: Path
) -> None:
    db.execute("create type mood as enum ('sad', 'ok'); create domain cents as numeric(8, 2)")
    db.execute("create type pair as (a int, b text)")
    db.execute(
        "create table kinds (id int primary key, a int[], b bytea, c char(4), d date, e mood, "
        "f float8, g cents, h inet, i interval, j jsonb, n numeric, p pair, s smallint, "
        "t time, ts timestamp, tz timestamptz, u uuid, v varchar(9), x text[], z boolean, "
        "dd date[], r int4range, m money, nan numeric(6, 1), inf timestamp)"
    )
    row = (
        "'{1,null,3}', '\\xdead', 'ab', '2026-01-31', 'ok', 1.5e-300, 12.5, '10.0.0.1', "
        "'1 day 02:00', '{\"b\": 1, \"a\": [2]}', 1.500, '(7,\"x, y\")', 3, '12:34:56.5', "
        "'2026-01-31 23:59:59.123456', '2026-01-31 23:59:59+02', "
        "'7f0f0000-0000-4000-8000-000000000001', 'v', '{\"a,b\",\"c\\\"d\"}', true, "
        "'{2026-01-31}', '[1,5)', '12.34', 'NaN', 'infinity'"
    )
    source = change_source({"kinds": ID})
    caught_up(source, settings)
    db.execute(f"insert into kinds values (1, {row})")
    caught_up(source, settings)

    other = settings_in(tmp_path / "other")
    run(declared("database", {"kinds": ID}), other)
    own = ("_operation", "_lsn", "_committed_at", "_transaction", "_unchanged")
    (mine,), (theirs,) = landed(settings, "kinds"), landed(other, "kinds")
    assert {name: value for name, value in mine.items() if name not in own} == theirs
    types = landed_types(settings, "kinds")
    assert {name: kind for name, kind in types.items() if name not in own} == landed_types(
        other, "kinds"
    )


def test_a_partitioned_table_is_one_table(db: psycopg.Connection[Any], settings: Settings) -> None:
    db.execute("create table parts (id int primary key, v text) partition by range (id)")
    db.execute("create table parts_1 partition of parts for values from (0) to (100)")
    db.execute("create table parts_2 partition of parts for values from (100) to (200)")
    db.execute("insert into parts values (1, 'a'), (101, 'b')")
    source = change_source({"parts": ID})
    caught_up(source, settings)

    db.execute("update parts set id = 102 where id = 1")
    db.execute("update parts set v = 'c' where id = 101")
    caught_up(source, settings)

    assert state(settings, "parts", "id, v") == [(101, "c"), (102, "a")]


def test_generated_columns_come_as_far_as_the_log_tells_them(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute(
        "create table sums (id int primary key, a int, "
        "twice int generated always as (a * 2) stored, "
        "thrice int generated always as (a * 3) virtual)"
    )
    db.execute("insert into sums values (1, 10)")
    source = change_source({"sums": ID})
    caught_up(source, settings)
    db.execute("insert into sums values (2, 20)")
    caught_up(source, settings)

    assert state(settings, "sums", "id, a, twice") == [(1, 10, 20), (2, 20, 40)]
    assert "thrice" not in landed_types(settings, "sums")


def test_a_lost_slot_is_noticed_and_all_is_read_again(
    db: psycopg.Connection[Any], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    drop_slots(db)
    db.execute("delete from orders where id = 1")
    db.execute("update orders set name = 'unseen' where id = 2")
    assert caught_up(source, settings) == {"orders": 2}

    assert "the slot wellspring_src is gone" in caplog.text
    assert state(settings, "orders", "id, name") == [(2, "unseen"), (3, "o3")]


def test_a_slot_that_was_made_anew_is_noticed(
    db: psycopg.Connection[Any], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    drop_slots(db)
    db.execute("delete from orders where id = 1")
    db.execute("select pg_create_logical_replication_slot('wellspring_src', 'pgoutput')")
    caught_up(source, settings)

    assert "made anew" in caplog.text
    assert state(settings, "orders", "id") == [(2,), (3,)]


def test_another_reader_of_the_slot_is_noticed(
    db: psycopg.Connection[Any], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("delete from orders where id = 3")
    db.execute(
        "select count(*) from pg_logical_slot_get_binary_changes('wellspring_src', null, null, "
        "'proto_version', '1', 'publication_names', 'wellspring_src')"
    )
    caught_up(source, settings)

    assert "somebody else has read from it" in caplog.text
    assert state(settings, "orders", "id") == [(1,), (2,)]


def test_going_on_from_a_database_source_lands_only_what_differs(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    before = declared("database", {"orders": ID})
    rows_of(run(before, settings))
    load([before], settings)
    db.execute("delete from orders where id = 1")
    db.execute("update orders set name = 'changed' where id = 2")

    source = change_source({"orders": ID})
    assert caught_up(source, settings) == {"orders": 2}
    db.execute("insert into orders values (9, 'nine', 9)")
    assert caught_up(source, settings) == {"orders": 1}

    assert state(settings, "orders", "id, name") == [(2, "changed"), (3, "o3"), (9, "nine")]


def test_a_table_that_is_declared_later_is_read_then(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    db.execute("create table later (id int primary key); insert into later values (1)")
    caught_up(change_source({"orders": ID}), settings)

    db.execute("insert into later values (2)")
    source = change_source({"orders": ID, "later": ID})
    assert caught_up(source, settings) == {"orders": 0, "later": 2}
    db.execute("insert into later values (3)")
    assert caught_up(source, settings) == {"orders": 0, "later": 1}


def test_a_table_that_another_one_replaced_is_read_whole(
    db: psycopg.Connection[Any], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("drop table orders")
    make_orders(db, rows=1)
    db.execute("insert into orders values (50, 'fifty', 50)")
    caught_up(source, settings)

    assert "another table has taken its name" in caplog.text
    assert state(settings, "orders", "id") == [(1,), (50,)]


def test_what_the_server_lacks_is_told_with_the_statement_that_mends_it(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table keyless (id int); create view seen as select * from keyless")
    with pytest.raises(SourceFailed, match="the log tells nothing") as told:
        probe(change_source({"keyless": ID}))
    assert "alter table public.keyless replica identity full" in told.value.hint
    with pytest.raises(SourceFailed, match="a view") as told:
        probe(change_source({"seen": ID}))
    assert "kind: database" in told.value.hint

    make_orders(db)
    error = run(change_source({"orders": ID}, create=False), settings).error
    assert error is not None
    assert "create publication" in error.hint
    db.execute(
        "create publication wellspring_src for all tables with (publish_via_partition_root = true)"
    )
    error = run(change_source({"orders": ID}, create=False), settings).error
    assert error is not None
    assert "pg_create_logical_replication_slot" in error.hint
    assert completed_loads(settings, "src") == []


def test_a_lander_lands_while_it_runs_and_confirms_what_says_nothing_to_it(
    db: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.cdc.lander._CATALOG_SECONDS", 0.3)
    monkeypatch.setattr("ingestion.cdc.lander._CONFIRM_SECONDS", 0.3)
    make_orders(db)
    db.execute("create table noise (id int)")
    source = change_source({"orders": ID}, flush={"seconds": 0.1})
    stop, loads = threading.Event(), threading.Semaphore(0)
    lander = ChangeLander(source, settings, on_landed=lambda load_id: loads.release())
    thread = threading.Thread(target=lander.run, args=[stop])
    thread.start()
    try:
        assert loads.acquire(timeout=20)
        for number in range(100, 103):
            db.execute("insert into orders values (%s, 'live', 1)", [number])
            assert loads.acquire(timeout=20)
        busy = run(source, settings)
        assert busy.error is None
        assert "lander" in busy.tables[0].message
        db.execute("alter table orders add column extra text default 'e'")
        assert loads.acquire(timeout=20), "a new column is noticed without a change"
        db.execute("insert into noise select generate_series(1, 1000)")
        until = db.execute("select pg_current_wal_lsn()").fetchone()
        assert until is not None
        assert confirmed_beyond(db, until[0])
    finally:
        stop.set()
        thread.join(30)
    load([source], settings)
    assert len(state(settings, "orders", "id")) == 6
    assert {row[0] for row in state(settings, "orders", "extra")} == {"e"}
    (state_,) = lander_states(settings)
    assert (state_.name, state_.state, state_.told["lag_bytes"]) == ("src", "ended", 0)
    assert (state_.told["rows"], state_.told["files"]) == (12, 5)


def confirmed_beyond(db: psycopg.Connection[Any], lsn: str) -> bool:
    """Waits until the slot lets go of the log before a position."""
    for _ in range(200):
        found = db.execute(
            "select confirmed_flush_lsn >= %s::pg_lsn from pg_replication_slots", [lsn]
        ).fetchone()
        if found == (True,):
            return True
        time.sleep(0.1)
    return False


def test_landing_and_source_agree_and_the_books_balance(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db, rows=20)
    source = change_source({"orders": ID})
    caught_up(source, settings)
    db.execute("delete from orders where id < 5")
    db.execute("update orders set id = id + 100 where id > 15")
    caught_up(source, settings)

    with connect(settings) as warehouse:
        (compared,) = reconcile(warehouse, [source], settings)
    assert compared.verdict == "equal"
    assert compared.here == compared.there == 16


def test_a_frozen_contract_lets_our_own_columns_in_and_no_others(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    make_orders(db)
    source = change_source({"orders": {**ID, "contract": "freeze"}})
    assert caught_up(source, settings) == {"orders": 3}

    db.execute("insert into orders values (4, 'four', 4)")
    db.execute("alter table orders add column extra int default 1")
    rows_of(run(source, settings))
    error = load([source], settings).error
    assert error is not None
    assert "extra" in error.message


def test_many_loads_together_make_the_raw_table_that_they_make_one_by_one(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table docs (id int primary key, n int, body text)")
    db.execute("alter table docs alter body set storage external")
    source = change_source({"docs": ID})
    for number in range(6):
        db.execute(f"insert into docs values ({number}, 0, {BIG})")
        db.execute("update docs set n = n + 1")
        if number == 3:
            db.execute("alter table docs add column extra numeric(6, 2) default 1.5")
        db.execute(f"update docs set id = id + 100 where id = {number}")
        caught_up(source, settings)
    columns = "id, n, md5(body), extra, _operation, _deleted, _file, _row, _load_id, _extracted_at"
    one_by_one = raw(settings, "docs", columns)
    settings.warehouse_path.unlink()
    load([source], settings)

    assert raw(settings, "docs", columns) == one_by_one
    theirs = db.execute("select id, n, md5(body), extra from docs order by id").fetchall()
    assert state(settings, "docs", "id, n, md5(body), extra") == theirs


def test_the_server_waits_while_a_long_comparison_is_made(
    db: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.cdc.lander._CONFIRM_SECONDS", 0.3)
    compare = TableWriter.compare

    def slowly(self: TableWriter, *given: Any) -> None:
        time.sleep(4)
        compare(self, *given)

    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)
    monkeypatch.setattr(TableWriter, "compare", slowly)
    db.execute("alter system set wal_sender_timeout = '1500ms'")
    db.execute("select pg_reload_conf()")
    try:
        db.execute("truncate orders")
        assert caught_up(source, settings) == {"orders": 3}
    finally:
        db.execute("alter system reset wal_sender_timeout")
        db.execute("select pg_reload_conf()")


def test_a_slot_that_the_server_gave_up_is_replaced(
    db: psycopg.Connection[Any], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("delete from orders where id = 1")
    try:
        db.execute("alter system set max_slot_wal_keep_size = '1MB'; ")
        db.execute("select pg_reload_conf()")
        db.execute("create table noise (filler text)")
        for _ in range(3):
            db.execute("insert into noise select repeat('x', 5000) from generate_series(1, 500)")
            db.execute("select pg_switch_wal()")
        db.execute("checkpoint")
        lost = db.execute("select wal_status from pg_replication_slots").fetchone()
        assert lost == ("lost",)
        assert "is lost" in probe(source)
        caught_up(source, settings)
    finally:
        db.execute("alter system reset max_slot_wal_keep_size")
        db.execute("select pg_reload_conf()")

    assert "the server gave up the log" in caplog.text
    assert state(settings, "orders", "id") == [(2,), (3,)]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("system", "1", "another database system"),
        ("timeline", 99, "a standby took its place"),
        ("lsn", 2**60, "ends before what has landed"),
    ],
)
def test_another_server_behind_the_same_address_is_noticed(
    db: psycopg.Connection[Any],
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    key: str,
    value: object,
    told: str,
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)
    (mark,) = (settings.landing_dir / "src" / "_dlt_loads").glob("cdc__*")
    mark.write_text(json.dumps({**json.loads(mark.read_text()), key: value}))

    db.execute("delete from orders where id = 3")
    caught_up(source, settings)
    assert told in caplog.text
    assert state(settings, "orders", "id") == [(1,), (2,)]
    caplog.clear()
    db.execute("insert into orders values (4, 'x', 1)")
    assert caught_up(source, settings) == {"orders": 1}
    assert "read again" not in caplog.text


def test_a_user_who_may_not_replicate_is_told_what_to_ask_for(
    server: Any, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_orders(db)
    db.execute("drop role if exists reader; create role reader login")
    url = server.get_uri().replace("postgres:@", "reader:@")
    monkeypatch.setenv("CONNECTIONS__SRC__URL", url)
    with pytest.raises(SourceFailed, match="the user reader may not replicate") as told:
        probe(change_source({"orders": ID}))
    assert told.value.hint == 'As a superuser: alter role "reader" replication;'


def test_a_transaction_larger_than_memory_allows_is_spooled_in_order(
    db: psycopg.Connection[Any], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.cdc.writing._PART_ROWS", 40)
    make_orders(db)
    source = change_source({"orders": ID}, flush={"rows": 50})
    caught_up(source, settings)

    with db.transaction():
        for number in range(10, 14):
            db.execute(f"update orders set amount = {number}")
            db.execute(
                f"insert into orders select {number} * 100 + n, 'x' from generate_series(1, 30) n"
            )
        db.execute("truncate orders")
        db.execute("insert into orders select n, 'after', n from generate_series(1, 90) n")
    caught_up(source, settings)

    told = raw(settings, "orders", "_operation, _row, _lsn, _load_id")[3:]
    assert [row[1] for row in told] == list(range(1, len(told) + 1))
    assert len({row[2:] for row in told}) == 1
    operations = [row[0] for row in told]
    assert operations.count("truncate") == 3 + 4 * 30
    assert operations[-90:] == ["insert"] * 90
    assert len(state(settings, "orders", "id")) == 90


def test_landing_can_be_verified_compacted_and_loaded_anew(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    db.execute("create table docs (id int primary key, n int, body text)")
    db.execute("alter table docs alter body set storage external")
    source = change_source({"docs": ID})
    for number in range(4):
        db.execute(f"insert into docs values ({number}, 0, {BIG})")
        caught_up(source, settings)
        db.execute("update docs set n = n + 1")
        caught_up(source, settings)
    columns = "id, n, md5(body), _operation, _lsn, _deleted, _file, _row, _load_id, _extracted_at"
    before = raw(settings, "docs", columns)

    (packed,) = [c for c in compact([source], settings, smaller_than=10**6) if c.table == "docs"]
    assert packed.parts > 1
    with connect(settings) as warehouse:
        assert verify_landing(warehouse, [source], settings, checksums=True) == []
    settings.warehouse_path.unlink()
    load([source], settings)
    assert raw(settings, "docs", columns) == before

    db.execute("truncate docs")
    assert caught_up(source, settings) == {"docs": 4}, "compacted rows are known to be alive"
    assert state(settings, "docs", "id") == []


def test_a_missing_connection_or_table_fails_with_its_name(
    db: psycopg.Connection[Any], settings: Settings
) -> None:
    error = run(change_source({"nowhere": ID}), settings).error
    assert isinstance(error, IngestionError)
    assert "nowhere" in error.message
