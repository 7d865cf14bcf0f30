"""Change capture from a real MariaDB: what its binary log says, and what raw then says."""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest
import warm
from cdc_kit import change_source, raw, state
from mysql_servers import PASSWORD, USER, mariadb
from sources_kit import declared, landed, landed_types, rows_of, run, settings_in

from ingestion.cdc.lander import ChangeLander, probe
from ingestion.errors import SourceFailed
from ingestion.load import load
from ingestion.settings import Settings

pytestmark = pytest.mark.skipif(
    not shutil.which("mariadbd") and not os.environ.get("CI"),
    reason="no mariadbd on this machine: the log of MariaDB cannot be had otherwise",
)

ID = {"primary_key": ["id"]}
OPTIONS = (
    "--log-bin=bin",
    "--server-id=1",
    "--binlog-format=ROW",
    "--binlog-row-metadata=FULL",
    "--sync-binlog=0",
)


class Shop:
    """A connection to the database `shop`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = pymysql.connect(
            host="127.0.0.1", port=port, user="root", database="shop", autocommit=True
        )

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with mariadb(tmp_path_factory.mktemp("db"), *OPTIONS) as server:
        yield server.port


@pytest.fixture
def db(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    address = f"mysql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/shop"
    monkeypatch.setenv("CONNECTIONS__SRC__URL", address)
    shop = Shop(port)
    with closing(shop.connection):
        shop.execute("drop database shop", "create database shop character set utf8mb4", "use shop")
        shop.execute("set session sql_mode = ''", "set session time_zone = '+00:00'")
        yield shop


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def make_orders(db: Shop, rows: int = 3) -> None:
    db.execute(
        "create table orders (id bigint primary key, name varchar(40), amount decimal(10, 2))",
        f"insert into orders select seq, concat('o', seq), seq from seq_1_to_{rows}",
    )


def caught_up(declaration: Any, settings: Settings) -> dict[str, int]:
    rows = rows_of(run(declaration, settings))
    result = load([declaration], settings)
    assert result.error is None, str(result.error)
    return rows


def test_the_rows_there_are_and_then_every_change_in_order(db: Shop, settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID})

    assert caught_up(source, settings) == {"orders": 3}
    db.execute(
        "start transaction",
        "insert into orders values (4, 'four', 4)",
        "update orders set name = 'ONE' where id = 1",
        "delete from orders where id = 2",
        "commit",
        "update orders set name = 'four again' where id = 4",
        "update orders set id = 30 where id = 3",
    )
    assert caught_up(source, settings) == {"orders": 6}

    told = raw(settings, "orders", "_operation, id, name, _deleted, _transaction, _lsn")
    assert [row[:4] for row in told[3:]] == [
        ("insert", 4, "four", False),
        ("update", 1, "ONE", False),
        ("delete", 2, "o2", True),
        ("update", 4, "four again", False),
        ("update", 3, "o3", True),
        ("update", 30, "o3", False),
    ]
    assert {row[0] for row in told[:3]} == {"snapshot"}
    assert [len({row[number] for row in told[3:]}) for number in (4, 5)] == [3, 3]
    assert [row[5] for row in told] == sorted(row[5] for row in told)
    assert state(settings, "orders", "id, name") == [(1, "ONE"), (4, "four again"), (30, "o3")]
    assert run(source, settings).status == "nothing_new"


def test_a_transaction_stays_in_one_load_over_files_of_the_log(
    db: Shop, settings: Settings
) -> None:
    make_orders(db)
    source = change_source({"orders": ID}, flush={"rows": 10})
    caught_up(source, settings)

    for start in range(100, 400, 100):
        db.execute(f"insert into orders select seq, 'x', 1 from seq_{start}_to_{start + 40}")
        db.execute("flush binary logs")
    caught_up(source, settings)

    told = raw(settings, "orders", "_transaction, _load_id")[3:]
    assert len(told) == 123
    assert len({number for number, _ in told}) == len({load_id for _, load_id in told}) == 3
    assert len(set(told)) == 3


def test_a_truncate_marks_every_key_that_is_alive(db: Shop, settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute(
        "insert into orders values (4, 'new', 4)",
        "delete from orders where id = 2",
        "truncate table `shop`.`orders`",
        "insert into orders values (1, 'back', 1)",
    )
    assert caught_up(source, settings) == {"orders": 6}

    told = raw(settings, "orders", "_operation, id, _deleted")[5:]
    assert sorted(told[:3]) == [(("truncate"), key, True) for key in (1, 3, 4)]
    assert told[3:] == [("insert", 1, False)]
    assert state(settings, "orders", "id, name") == [(1, "back")]


def test_columns_come_go_and_change_their_type(db: Shop, settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute(
        "insert into orders values (4, 'before', 4)",
        "alter table orders add column grade int default 7 after id",
        "insert into orders values (5, 8, 'after', 5)",
    )
    caught_up(source, settings)
    db.execute(
        "alter table orders drop column amount",
        "update orders set name = 'last' where id = 1",
        "alter table orders modify name text, modify grade varchar(9)",
        "update orders set grade = 'good' where id = 2",
    )
    caught_up(source, settings)

    assert state(settings, "orders", "id, name, grade") == [
        (1, "last", "7"),
        (2, "o2", "good"),
        (3, "o3", "7"),
        (4, "before", "7"),
        (5, "after", "8"),
    ]
    assert run(source, settings).status == "nothing_new"


def test_a_table_that_was_made_anew_or_renamed_is_read_again(db: Shop, settings: Settings) -> None:
    make_orders(db)
    db.execute("create table items (id int primary key)")
    source = change_source({"orders": ID, "items": ID})
    caught_up(source, settings)

    db.execute(
        "create table other (id bigint primary key, name varchar(40), amount decimal(10, 2))",
        "insert into other values (2, 'o2', 2), (9, 'nine', 9)",
        "rename table orders to former, other to orders",
    )
    caught_up(source, settings)
    assert state(settings, "orders", "id, name") == [(2, "o2"), (9, "nine")]

    db.execute("drop table orders")
    caught_up(source, settings)
    assert state(settings, "orders", "id, name") == [(2, "o2"), (9, "nine")]
    db.execute("create table orders (id bigint primary key, name varchar(40))")
    db.execute("insert into orders values (1, 'third')")
    caught_up(source, settings)
    assert state(settings, "orders", "id, name") == [(1, "third")]


def test_what_a_session_tells_as_statements_or_in_part_is_found(
    db: Shop, settings: Settings
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("set session binlog_format = 'STATEMENT'", "delete from orders where id = 1")
    db.execute("set session binlog_format = 'ROW'", "set session binlog_row_image = 'MINIMAL'")
    db.execute("update orders set name = 'two' where id = 2")
    db.execute("xa start 'x'", "insert into orders values (7, 'xa', 1)", "xa end 'x'")
    db.execute("xa prepare 'x'", "xa commit 'x'")
    caught_up(source, settings)

    db.execute("xa start 'y'", "insert into orders values (8, 'lost', 1)", "xa end 'y'")
    db.execute("xa prepare 'y'", "xa rollback 'y'")
    caught_up(source, settings)
    assert state(settings, "orders", "id, name") == [(2, "two"), (3, "o3"), (7, "xa")]


def test_values_have_the_types_that_reading_the_table_gives(
    db: Shop, settings: Settings, tmp_path: Path
) -> None:
    db.execute(
        "create table kinds (id int primary key, a tinyint unsigned, b smallint, c mediumint, "
        "d bigint unsigned, e decimal(30, 10), f float, g double, h bit(12), i date, "
        "j datetime(3), k timestamp(6) null, l time(2), m year, n char(5), o varchar(300), p text, "
        "q binary(6), r varbinary(9), s blob, t enum('x', 'ü'), u set('a', 'b', 'c'), v json, "
        "w varchar(20) character set latin1, x point, y decimal(50, 3), z mediumint unsigned, "
        "da date, db datetime, ta time(6), fa float, ea decimal(9, 9), "
        "vi int as (b + 1) virtual, st int as (b + 2) stored)"
    )
    source = change_source({"kinds": ID})
    caught_up(source, settings)
    names = "id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, "
    db.execute(
        f"insert into kinds ({names} da, db, ta, fa, ea) values (1, 255, -32768, -8388608, "
        "18446744073709551615, -12345678901234567890.0123456789, 0.1, -1.5e-300, "
        "b'101010101010', '2026-01-31', '2026-01-31 23:59:59.120', "
        "'2026-01-31 23:59:59.000001', '-01:02:03.45', 1999, 'ab ', 'ünï', 'täxt', "
        "x'dead', x'00ff', x'', 'ü', 'c,a', '{\"b\": 1}', 'é', point(1, 2), "
        "-12345678901234567890123456789012345678901234567.125, 16777215, '2026-02-01', "
        "'2026-02-01 00:00:00', '-00:00:00.000001', 3.25, -0.000000001)",
        f"insert into kinds ({names} da) values (2, 0, 0, 0, 0, 0, 0, 0, 0, null, null, null, "
        "null, null, '', '', '', '', '', null, null, '', null, '', null, 0, 0, '2026-03-04')",
    )
    caught_up(source, settings)

    other = settings_in(tmp_path / "other")
    plain = {"exclude_columns": ["vi"], **ID}
    run(declared("database", {"kinds": plain}), other)
    own = ("_operation", "_lsn", "_committed_at", "_transaction", "_unchanged")
    mine, theirs = landed(settings, "kinds"), landed(other, "kinds")
    assert [{k: v for k, v in row.items() if k not in own} for row in mine] == theirs
    types = landed_types(settings, "kinds")
    assert {k: v for k, v in types.items() if k not in own} == landed_types(other, "kinds")


def test_columns_that_cannot_be_told_may_be_left_out(db: Shop, settings: Settings) -> None:
    db.execute(
        "create table parts (id int primary key, u uuid, n varchar(9), "
        "t varchar(9) character set ucs2, e enum('ä') character set latin1, z int)"
    )
    source = change_source({"parts": {**ID, "exclude_columns": ["u", "t", "e"]}})
    caught_up(source, settings)
    db.execute("insert into parts values (1, uuid(), 'n', 't', 'ä', 5)")
    caught_up(source, settings)
    assert state(settings, "parts", "id, n, z") == [(1, "n", 5)]


def test_log_that_did_not_name_columns_is_made_up_for(db: Shop, settings: Settings) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)
    db.execute("set global binlog_row_metadata = 'NO_LOG'", "delete from orders where id = 1")
    db.execute("insert into orders values (4, 'four', 4)")
    db.execute("set global binlog_row_metadata = 'FULL'", "delete from orders where id = 2")
    caught_up(source, settings)
    assert state(settings, "orders", "id, name") == [(3, "o3"), (4, "four")]


def test_zeros_and_impossible_dates_stay_as_they_are(
    db: Shop, settings: Settings, tmp_path: Path
) -> None:
    db.execute("create table odd (id int primary key, a date, b datetime, c timestamp null)")
    db.execute("insert into odd values (1, '2026-01-01', '2026-01-01', '2026-01-01')")
    source = change_source({"odd": ID})
    caught_up(source, settings)
    db.execute("insert into odd values (2, '0000-00-00', '2026-00-10 00:00:00', 0)")
    caught_up(source, settings)

    other = settings_in(tmp_path / "other")
    run(declared("database", {"odd": ID}), other)
    texts = [{k: str(v) for k, v in row.items()} for row in landed(other, "odd")]
    told = [{k: str(row[k]) for k in texts[0]} for row in landed(settings, "odd")]
    assert told[1] == texts[1]


def purge(db: Shop) -> None:
    """Removes all files of the log but the newest, as soon as the last reader is off them."""
    ((file, *_),) = db.execute("show master status")
    for _ in range(100):
        db.execute(f"purge binary logs to '{file}'")
        if len(db.execute("show binary logs")) == 1:
            return
        time.sleep(0.1)
    raise AssertionError("the server keeps its log")


def test_a_log_that_is_gone_or_begun_anew_is_noticed(
    db: Shop, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)

    db.execute("delete from orders where id = 1", "flush binary logs")
    purge(db)
    assert caught_up(source, settings) == {"orders": 1}
    assert "let go of the log" in caplog.text
    assert state(settings, "orders", "id") == [(2,), (3,)]

    caplog.clear()
    db.execute("reset master", "delete from orders where id = 2")
    assert caught_up(source, settings) == {"orders": 1}
    assert "reset or restored" in caplog.text
    assert state(settings, "orders", "id") == [(3,)]

    caplog.clear()
    time.sleep(1.1)  # a file's age is told in seconds
    db.execute("reset master", "delete from orders where id = 3")
    db.execute("insert into orders select seq, 'n', 1 from seq_10_to_20")
    caught_up(source, settings)
    assert "All tables are read again" in caplog.text
    assert len(state(settings, "orders", "id")) == 11


def test_log_that_said_nothing_to_us_may_go(
    db: Shop, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    caught_up(source, settings)
    db.execute("create table noise (id int)", "insert into noise values (1)", "flush binary logs")
    caught_up(source, settings)
    purge(db)
    db.execute("delete from orders where id = 1")

    assert caught_up(source, settings) == {"orders": 1}
    assert "read again" not in caplog.text
    assert raw(settings, "orders", "_operation, id")[-1] == ("delete", 1)


@pytest.mark.parametrize(
    ("name", "value", "usual"),
    [
        ("binlog_format", "MIXED", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_metadata", "MINIMAL", "FULL"),
        ("log_bin_compress", "ON", "OFF"),
    ],
)
def test_a_wrong_setting_is_told_with_what_mends_it(
    db: Shop, name: str, value: str, usual: str
) -> None:
    make_orders(db)
    source = change_source({"orders": ID})
    db.execute(f"set global {name} = '{value}'")
    try:
        with pytest.raises(SourceFailed, match=f"{name} is {value}") as told:
            probe(source)
    finally:
        db.execute(f"set global {name} = '{usual}'")
    assert f"set global {name} = '{usual}'" in str(told.value.hint)
    assert "its log can be read" in probe(source)


def test_a_user_without_rights_is_told_what_to_ask_for(
    db: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_orders(db)
    db.execute(
        "create or replace user poor@'127.0.0.1' identified by 'x'",
        "grant select on shop.* to poor@'127.0.0.1'",
    )
    monkeypatch.setenv("CONNECTIONS__SRC__URL", f"mysql://poor:x@127.0.0.1:{db.port}/shop")
    with pytest.raises(SourceFailed, match="lacks replication slave") as told:
        probe(change_source({"orders": ID}))
    assert told.value.hint is not None
    db.execute(told.value.hint.partition(": ")[2].rstrip(";"))
    assert "its log can be read" in probe(change_source({"orders": ID}))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("create table t (id int primary key) engine = MyISAM", "kept by MyISAM"),
        (
            "create table t (id int primary key, u text compressed)",
            "the column u of shop.t is compressed",
        ),
        ("create view t as select 1 as id", "is a view"),
        (
            "create table t (id int primary key, p int, "
            "foreign key (p) references orders2 (id) on delete cascade)",
            "changes rows by itself",
        ),
        ("create table t (id int primary key, u uuid)", "the column u of shop.t is uuid"),
        (
            "create table t (id int primary key, u varchar(9) character set ucs2)",
            "the column u of shop.t is written in ucs2",
        ),
    ],
)
def test_a_table_of_which_the_log_does_not_tell_all_is_refused(
    db: Shop, table: str, told: str
) -> None:
    db.execute("create table orders2 (id int primary key)", table)
    with pytest.raises(SourceFailed, match=told):
        probe(change_source({"t": ID}))


_LANDER = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cdc_kit import change_source
from sources_kit import settings_in
from ingestion.cdc.lander import ChangeLander
source = change_source({"acts": {"primary_key": ["id"]}}, flush={"rows": 20, "seconds": 0.05})
ChangeLander(source, settings_in(Path(sys.argv[2]))).run(threading.Event())
"""


def _lander(folder: Path) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    return warm.Popen(["-c", _LANDER, here, str(folder)])


def _act(db: Shop, chance: random.Random, number: int) -> None:
    """One transaction of a few changes; seldom a TRUNCATE or another column."""
    if chance.random() < 0.02:
        db.execute("truncate acts")
    if chance.random() < 0.02:
        db.execute(f"alter table acts add column c{number} int default {number}")
    db.execute("start transaction")
    for _ in range(chance.randint(1, 6)):
        key = chance.randint(1, 40)
        db.execute(
            chance.choice(
                [
                    f"replace into acts (id, name) values ({key}, 'n{number}')",
                    f"insert into acts (id, name) values ({key}, 'i') "
                    "on duplicate key update name = concat(name, 'u')",
                    f"update acts set name = 'u{number}' where id % 7 = {key % 7}",
                    f"update ignore acts set id = {key} where id = {key % 20}",
                    f"delete from acts where id = {key}",
                ]
            )
        )
    db.execute("rollback" if chance.random() < 0.1 else "commit")


def test_a_random_workload_and_killed_landers_give_the_state_of_the_source(
    db: Shop, settings: Settings, tmp_path: Path
) -> None:
    chance = random.Random(20)
    db.execute("create table acts (id int primary key, name varchar(200))")
    process = _lander(tmp_path)
    folder = settings.landing_dir / "src" / "_dlt_loads"
    number = 0
    try:
        for _ in range(3):
            loads, deadline = len(list(folder.glob("cdc__*"))), time.monotonic() + 60
            while len(list(folder.glob("cdc__*"))) < loads + 12:
                assert time.monotonic() < deadline, "the lander lands nothing"
                number += 1
                _act(db, chance, number)
                time.sleep(0.03)
            process.kill()
            process.wait()
            process = _lander(tmp_path)
    finally:
        process.kill()
        process.wait()
    source = change_source({"acts": ID})
    caught_up(source, settings)

    columns = [name for name, *_ in db.execute("show columns from acts")]
    listed = ", ".join(columns)
    theirs = db.execute(f"select {listed} from acts order by id")
    assert state(settings, "acts", listed) == theirs
    told = raw(settings, "acts", "_transaction, _load_id")
    by_number: dict[int, set[str]] = {}
    for number, load_id in told:
        if number is not None:
            by_number.setdefault(number, set()).add(load_id)
    assert len(by_number) > 20, "the landers landed hardly anything by the log"
    assert all(len(loads) == 1 for loads in by_number.values())


def test_a_lander_lands_what_comes_and_ends_in_order(
    db: Shop, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_orders(db)
    source = change_source({"orders": ID}, flush={"seconds": 0.05})
    stop, came = threading.Event(), threading.Semaphore(0)
    lander = ChangeLander(source, settings, lambda _: came.release())
    thread = threading.Thread(target=lander.run, args=(stop,))
    thread.start()
    try:
        assert came.acquire(timeout=30)
        db.execute("insert into orders values (4, 'live', 1)")
        assert came.acquire(timeout=10)
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert lander.landed["orders"].rows == 4
    load([source], settings)
    assert len(state(settings, "orders", "id")) == 4
