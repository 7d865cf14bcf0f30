"""Reading MySQL: its protocol always, a real MariaDB where one is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest
from mysql_servers import PASSWORD, USER, Server, mariadb, protocol
from sources_kit import declared, landed, rows_of, run, run_periods, settings_in

from ingestion.errors import DeclarationError, SourceFailed, SourceUnreachable
from ingestion.load import load
from ingestion.reconcile import reconcile
from ingestion.settings import Settings
from ingestion.warehouse import connect

REAL = pytest.param(
    mariadb,
    id="mariadb",
    marks=pytest.mark.skipif(
        not shutil.which("mariadbd") and not os.environ.get("CI"),
        reason="no mariadbd on this machine: MySQL's own types are not tried, only its protocol",
    ),
)


def _address(port: int, password: str = PASSWORD, database: str = "shop") -> str:
    return f"mysql://{USER}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


@pytest.fixture(scope="module", params=[pytest.param(protocol, id="protocol"), REAL])
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with request.param(tmp_path_factory.mktemp("db")) as server:
        yield server


@pytest.fixture
def server(started: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", _address(started.port))
    started.execute(
        "drop table if exists orders; drop table if exists parts; drop table if exists broken"
    )
    return started


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def make_orders(server: Server, rows: int = 30) -> None:
    server.execute(
        "create table orders (id int primary key, name varchar(40), price decimal(10, 2), "
        "updated_at datetime)"
    )
    values = [f"({n}, 'order {n}', {n}.5, '2026-01-{n:02d} 10:00:00')" for n in range(1, rows + 1)]
    server.execute(f"insert into orders values {', '.join(values)}")


KEYED = {"cursor": "updated_at", "window": "2 days", "deletes": "sweep"}


def test_a_second_run_lands_nothing(server: Server, settings: Settings) -> None:
    make_orders(server)
    source = declared("database", {"orders": KEYED})
    assert rows_of(run(source, settings)) == {"orders": 30}
    assert landed(settings, "orders")[0] == {
        "id": 1,
        "name": "order 1",
        "price": Decimal("1.50"),
        "updated_at": datetime(2026, 1, 1, 10),
        "_deleted": False,
    }
    again = run(source, settings)
    assert (again.status, again.tables[0].read) == ("nothing_new", 3)
    assert run(source, settings, full_refresh=True).status == "nothing_new"


def test_changed_late_deleted_and_returned_rows(server: Server, settings: Settings) -> None:
    make_orders(server)
    source = declared("database", {"orders": KEYED})
    run(source, settings)
    server.execute(
        "update orders set name = 'naïve 😀', updated_at = '2026-02-01 00:00:00' where id = 1"
    )
    server.execute("delete from orders where id = 2")
    server.execute(
        "insert into orders values (90, '', null, '2026-01-29 00:00:00'), (91, null, 0, null)"
    )
    server.execute(
        "insert into orders values (92, 'older than the window', 1, '2020-01-01 00:00:00')"
    )
    result = run(source, settings)
    assert (rows_of(result), result.tables[0].deleted) == ({"orders": 5}, 1)
    new = {row["id"]: (row["name"], row["_deleted"]) for row in landed(settings, "orders")[30:]}
    assert new == {
        1: ("naïve 😀", False),
        2: ("order 2", True),
        90: ("", False),
        91: (None, False),
        92: ("older than the window", False),
    }
    assert run(source, settings).status == "nothing_new"
    server.execute("insert into orders values (2, 'order 2', 2.5, '2026-01-02 10:00:00')")
    assert rows_of(run(source, settings)) == {"orders": 1}
    assert run(source, settings).status == "nothing_new"


def test_a_key_of_several_columns(server: Server, settings: Settings) -> None:
    server.execute(
        "create table parts (code varchar(9), day date, at datetime, updated_at datetime, "
        "primary key (code, day, at))"
    )
    server.execute(
        "insert into parts values ('a', '2026-01-01', '2026-01-01 01:02:03', '2026-01-01 "
        "00:00:00'), "
        "('b', '2026-01-01', '2026-01-01 01:02:03', '2026-03-01 00:00:00')"
    )
    source = declared("database", {"parts": {**KEYED, "primary_key": ["code", "day", "at"]}})
    run(source, settings)
    server.execute("delete from parts where code = 'a'")
    assert rows_of(run(source, settings)) == {"parts": 1}
    server.execute(
        "insert into parts values ('a', '2026-01-01', '2026-01-01 01:02:03', '2026-01-01 00:00:00')"
    )
    assert rows_of(run(source, settings)) == {"parts": 1}
    assert run(source, settings).status == "nothing_new"


def test_a_missing_table_is_told_with_those_that_there_are(
    server: Server, settings: Settings
) -> None:
    make_orders(server)
    error = run(declared("database", {"ordrs": {}}), settings).error
    assert isinstance(error, DeclarationError)
    assert 'found "ordrs"' in str(error) or "ordrs; expected orders" in str(error)


def test_a_refused_login_and_a_dead_host_show_no_secret(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", _address(server.port, "Wr0ng/Secret"))
    error = run(declared("database", {"orders": {}}), settings).error
    assert isinstance(error, SourceUnreachable)
    assert "the login is refused" in str(error)
    assert "Wr0ng" not in str(error)
    monkeypatch.setenv("CONNECTIONS__SRC__URL", _address(1))
    error = run(declared("database", {"orders": {}}), settings).error
    assert isinstance(error, SourceUnreachable)
    assert "refused" in str(error)


@pytest.mark.parametrize("started", [pytest.param(protocol, id="protocol")], indirect=True)
def test_a_connection_lost_while_reading_lands_nothing(server: Server, settings: Settings) -> None:
    server.execute("create table broken (id int primary key)")
    server.execute(f"insert into broken values {', '.join(f'({n})' for n in range(100))}")
    error = run(declared("database", {"broken": {}}), settings).error
    assert isinstance(error, SourceFailed)
    assert "the connection broke while reading" in str(error)
    assert landed(settings, "broken") == []


@pytest.mark.parametrize("started", [REAL], indirect=True)
def test_types_are_landed_as_the_server_has_them(server: Server, settings: Settings) -> None:
    server.execute(
        """
        drop table if exists kinds;
        create table kinds (
            id bigint unsigned primary key, tiny tinyint, small smallint unsigned,
            whole int unsigned,
            amount decimal(12, 2), wide decimal(65, 30), single float, twice double, bits bit(64),
            word varchar(40), bytes varbinary(9), mood enum('glad', 'sad'), doc json, day date,
            instant timestamp(6) null, local datetime(3), span time(6), zero datetime,
            `per%cent` int
        );
        insert into kinds values (
            18446744073709551615, -128, 65535, 4294967295, -12.30,
            12345678901234567890123456789012345.123456789012345678901234567890, 0.1234567, 0.1,
            0xFFFFFFFFFFFFFFFF, 'naïve "q", 日本 😀', x'00ff', 'sad', '{"a": 1.10}', '2026-01-31',
            '2026-01-31 10:00:00.123456', '2026-01-31 10:00:00.123', '-838:59:59', '0000-00-00', 7
        )
        """
    )
    assert rows_of(run(declared("database", {"kinds": {}}), settings)) == {"kinds": 1}
    row = landed(settings, "kinds")[0]
    assert row == {
        "id": Decimal(18446744073709551615),
        "tiny": -128,
        "small": 65535,
        "whole": 4294967295,
        "amount": Decimal("-12.30"),
        "wide": "12345678901234567890123456789012345.123456789012345678901234567890",
        "single": pytest.approx(0.1234567, rel=1e-7),
        "twice": 0.1,
        "bits": Decimal(18446744073709551615),
        "word": 'naïve "q", 日本 😀',
        "bytes": b"\x00\xff",
        "mood": "sad",
        "doc": '{"a": 1.10}',
        "day": date(2026, 1, 31),
        "instant": row["instant"],
        "local": datetime(2026, 1, 31, 10, 0, 0, 123000),
        "span": "-838:59:59.000000",
        "zero": "0000-00-00 00:00:00",
        "per_pct_cent": 7,
        "_deleted": False,
    }
    assert row["instant"].tzinfo is not None
    assert abs(row["instant"] - datetime(2026, 1, 31, 10, 0, 0, 123456, tzinfo=UTC)).days <= 1
    assert run(declared("database", {"kinds": {}}), settings).status == "nothing_new"


def test_what_was_loaded_is_compared_with_the_database(server: Server, settings: Settings) -> None:
    make_orders(server, 5)
    source = declared("database", {"orders": KEYED})
    assert run(source, settings).error is None
    load([source], settings)
    server.execute("insert into orders values (9, 'new', 1.5, '2026-02-01 10:00:00')")
    with closing(connect(settings)) as connection:
        (made,) = reconcile(connection, [source], settings)
        assert (made.verdict, made.new, made.here, made.there) == ("not yet extracted", 1, 5, 6)
        connection.execute("delete from raw_src.orders where id = 2")
        (made,) = reconcile(connection, [source], settings)
    assert (made.verdict, made.examples) == ("different", ("missing here 2",))


def test_a_period_is_half_open(server: Server, settings: Settings) -> None:
    make_orders(server)
    server.execute("insert into orders values (31, 'at midnight', 1, '2026-01-13 00:00:00')")
    source = declared("database", {"orders": KEYED})

    run_periods(source, settings, date(2026, 1, 11), date(2026, 1, 13), "day")

    assert [row["id"] for row in landed(settings, "orders")] == [11, 12]
