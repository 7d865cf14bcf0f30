"""A PostgreSQL under random changes, its change log landed and loaded, all of it killed meanwhile.

workers: inserts, updates, keys, deletes, truncates, columns ─> PostgreSQL ─> lander ─> loader
driver: kills lander, loader and server; copies the tables at random moments
at the end: current state = source, raw as of each moment = its copy, every change once

    .venv/bin/python tests/torture/change_capture.py [--seconds 600] [--kills 100] [--moments 20]
        [--seed 7] [--failpoints] [--keep FOLDER]

Each transaction notes in a journal of the source what it changed, so that what was committed when
the server died is known. `--failpoints` lets the lander die at each of its failpoints first. Ends
non-zero if anything differs. Left out: power cuts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "python" / "ingestion")]

import psycopg  # noqa: E402  # by the lines above
from cdc_kit import change_source, logical_server  # noqa: E402  # the same
from failpoints_in_code import failpoints_in_code  # noqa: E402  # the same

from ingestion.cdc.lander import ChangeLander  # noqa: E402  # the same
from ingestion.errors import IngestionError  # noqa: E402  # the same
from ingestion.landing import landed_files  # noqa: E402  # the same
from ingestion.load import load  # noqa: E402  # the same
from ingestion.reconcile import reconcile  # noqa: E402  # the same
from ingestion.settings import Settings  # noqa: E402  # the same
from ingestion.warehouse import connect  # noqa: E402  # the same

# Areas of failpoints at which this lets processes die.
AREAS = ("cdc",)
KEYS = {"items": ("id",), "pairs": ("a", "b")}
BASE = {"items": ("id", "name", "big", "amount", "tags"), "pairs": ("a", "b", "n", "note")}
SOURCE = change_source(
    {name: {"primary_key": list(key)} for name, key in KEYS.items()}, flush={"seconds": 0.3}
)
DDL = (
    "create table items (id int primary key, name text, big text, amount numeric(10, 2), "
    "tags text[])",
    "alter table items alter big set storage external",
    "create table pairs (a int, b text, n int, note text, primary key (a, b))",
    "alter table pairs alter note set storage external, replica identity full",
    "create table journal (id bigserial primary key, name text, operation text, number int)",
)
LARGE = "(select string_agg(md5(n::text || random()::text), '') from generate_series(1, 100) n)"
IDS = 3000


@dataclass
class Moment:
    """The tables as they were at a position of the log.

    Attributes:
        lsn: The position.
        columns: By table: name, type and modifier of each column.
        rows: By table: the rows, every value as text.
    """

    lsn: int
    columns: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    rows: dict[str, set[tuple[str | None, ...]]] = field(default_factory=dict)


class Worker(threading.Thread):
    """Changes the source at random until told to stop.

    Args:
        url: The database.
        seed: Decides what it does.
        alters: Whether it changes tables as well.
        pace: Seconds of rest between transactions.
    """

    def __init__(self, url: str, seed: int, alters: bool, pace: float) -> None:
        super().__init__(daemon=True)
        self.gate = threading.Lock()
        self.ended = threading.Event()
        self.transactions = 0
        self.failed: Counter[str] = Counter()
        self.altered: Counter[str] = Counter()
        self._url = url
        self._random = random.Random(seed)
        self._alters = alters
        self._pace = pace
        self._extra = 0

    def run(self) -> None:
        """Works."""
        connection: psycopg.Connection[Any] | None = None
        while not self.ended.is_set():
            with self.gate:
                try:
                    if connection is None or connection.closed:
                        connection = psycopg.connect(
                            self._url, connect_timeout=5, prepare_threshold=None
                        )
                    self._transaction(connection)
                    self.transactions += 1
                except psycopg.Error as error:
                    self.failed[type(error).__name__] += 1
                    with suppress(psycopg.Error):
                        if connection is not None:
                            connection.rollback()
                    if isinstance(error, psycopg.OperationalError):
                        if connection is not None:
                            connection.close()
                        time.sleep(0.1)
            time.sleep(self._pace * self._random.random())

    def _transaction(self, connection: psycopg.Connection[Any]) -> None:
        rng = self._random
        done: Counter[tuple[str, str]] = Counter()
        size = rng.choice([1, 1, 2, 5, 20])
        for _ in range(size):
            self._change(connection, done)
        altered = []
        if self._alters and rng.random() < 0.01:
            altered.append(self._alter(connection))
        if rng.random() < 0.004:
            altered.append("truncate")
            name = rng.choice(["items", "pairs"])
            connection.execute(f"truncate {name} restart identity")
        if rng.random() < 0.003:
            # More rows than one part of a load holds is not needed for its order to be tested.
            start = rng.randrange(10**6)
            number = connection.execute(
                f"insert into items select n, 'many', null, 1, null from "
                f"generate_series({start}, {start + 4000}) n on conflict do nothing"
            ).rowcount
            done["items", "insert"] += number
        for (name, operation), number in done.items():
            connection.execute(
                "insert into journal (name, operation, number) values (%s, %s, %s)",
                [name, operation, number],
            )
        if rng.random() < 0.1:
            connection.rollback()
            return
        connection.commit()
        self.altered.update(altered)

    def _change(self, connection: psycopg.Connection[Any], done: Counter[tuple[str, str]]) -> None:
        rng = self._random
        name = rng.choice(["items", "items", "pairs"])
        number, other = rng.randrange(IDS), rng.randrange(IDS)
        where = f"id = {number}" if name == "items" else f"a = {number % 300} and b = 'k'"
        kind = rng.choices(["insert", "update", "touch", "move", "delete"], [4, 3, 2, 1, 2])[0]
        if kind == "insert":
            values = (
                f"({number}, 'n{other}', {LARGE}, {other}.25, array['a', '{other}'])"
                if name == "items"
                else f"({number % 300}, 'k', {other}, {LARGE})"
            )
            listed = ", ".join(BASE[name])
            statement = f"insert into {name} ({listed}) values {values} on conflict do nothing"
        elif kind == "update":
            what = (
                f"name = 'u{other}', big = case when id % 3 = 0 then {LARGE} else big end"
                if name == "items"
                else f"n = {other}"
            )
            statement = f"update {name} set {what} where {where}"
        elif kind == "touch":
            what = f"amount = {other}" if name == "items" else f"n = n + {other}"
            near = f"id between {number} and {number + 20}" if name == "items" else where
            statement, kind = f"update {name} set {what} where {near}", "update"
        elif kind == "move":
            what = f"id = {IDS + number * 7 + other}" if name == "items" else f"b = 'm{other}'"
            statement = f"update {name} set {what} where {where}"
        else:
            statement = f"delete from {name} where {where}"
        found = connection.execute(statement).rowcount
        done[name, kind] += found

    def _alter(self, connection: psycopg.Connection[Any]) -> str:
        rng = self._random
        name = rng.choice(["items", "pairs"])
        extra = [
            column
            for (column,) in connection.execute(
                "select attname from pg_attribute where attrelid = %s::regclass "
                "and attname like 'x%%' and attnum > 0 and not attisdropped",
                [name],
            )
        ]
        kind = rng.choice(["add", "add", "drop", "type"])
        if kind == "add" or not extra:
            self._extra += 1
            what = rng.choice(["int", "int default 7", "int default (random() * 1000)::int"])
            column = f"x{rng.randrange(10**9)}"
            connection.execute(f"alter table {name} add column {column} {what}")
        elif kind == "drop":
            connection.execute(f"alter table {name} drop column {rng.choice(extra)}")
        else:
            column = rng.choice(extra)
            connection.execute(f"alter table {name} alter {column} drop default")
            connection.execute(f"alter table {name} alter {column} type text using 't' || {column}")
        return kind if extra else "add"


class Children:
    """The lander and the loader, each a process of its own.

    Args:
        folder: The project.
        url: The database.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, failpoint: str = "") -> subprocess.Popen[bytes]:
        """Starts one, if it does not run."""
        running = self._running.get(name)
        if running is not None and running.poll() is None:
            return running
        environment = {**os.environ, "CONNECTIONS__SRC__URL": self._url}
        environment.pop("WELLSPRING_FAILPOINT", None)
        if failpoint:
            environment["WELLSPRING_FAILPOINT"] = failpoint
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, __file__, "--child", name, "--keep", str(self._folder)],
                env=environment,
                stdout=log,
                stderr=log,
            )
        return self._running[name]

    def kill(self, name: str) -> None:
        """Kills one at this very moment."""
        process = self.start(name)
        process.kill()
        process.wait()

    def failed(self) -> list[str]:
        """Those that ended by themselves, which none should."""
        return [
            f"{name} ended with {process.returncode}: see {self._folder / name}.log"
            for name, process in self._running.items()
            if process.poll() not in (None, -signal.SIGKILL)
        ]

    def stop(self) -> None:
        """Lets both come to their end."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self._running.values():
            process.wait(60)


def child(name: str, folder: Path) -> None:
    """What a child process does until it is told to stop."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = Settings(project_dir=folder, data_dir=folder / "data")
    if name == "land":
        ChangeLander(SOURCE, settings).run(stop)
        return
    while not stop.is_set():
        result = load([SOURCE], settings)
        if result.error is not None:
            raise result.error
        stop.wait(0.3)


def crash_server(server: Any) -> None:
    """Kills a server and starts it again; it recovers from its log."""
    process = server._postmaster_info.process
    process.send_signal(signal.SIGQUIT)
    process.wait(30)
    server.ensure_postgres_running()


@contextmanager
def paused(workers: list[Worker]) -> Iterator[None]:
    """No transaction is under way within the block."""
    for worker in workers:
        worker.gate.acquire()
    try:
        yield
    finally:
        for worker in workers:
            worker.gate.release()


def copy_of(url: str) -> Moment:
    """The source's tables as they are now; nobody changes them."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        assert row is not None
        moment = Moment(int(row[0]))
        for name in KEYS:
            columns = connection.execute(
                "select attname, atttypid::bigint, atttypmod from pg_attribute "
                "where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
                [name],
            ).fetchall()
            listed = ", ".join(
                f"to_json({c})::text"
                if c == "tags"
                else f"md5({c})"
                if c in ("big", "note")
                else f"{c}::text"
                for c, *_ in columns
            )
            rows = connection.execute(f"select {listed} from {name}").fetchall()
            moment.columns[name] = [(c[0], c[1], c[2]) for c in columns]
            moment.rows[name] = set(rows)
    return moment


def differences(settings: Settings, moments: list[Moment]) -> tuple[list[str], Counter[str]]:
    """Where raw as of a moment is not what the source was."""
    found, seen = [], Counter[str]()
    folder = settings.landing_dir / "src" / "_dlt_loads"
    marks = [json.loads(path.read_text()) for path in sorted(folder.glob("cdc__*"))]
    with connect(settings, read_only=True) as warehouse:
        for number, moment in enumerate(moments):
            for name, key in KEYS.items():
                there = moment.columns[name]
                # A column that came with values is right from where the table was read again.
                read = {
                    (c[0], c[1], c[2])
                    for mark in marks
                    if mark["lsn"] <= moment.lsn and name in mark["tables"]
                    for c in mark["tables"][name]["columns"]
                }
                places = [n for n, c in enumerate(there) if c[0] in BASE[name] or c in read]
                seen["columns"] += len(places)
                seen["columns just come"] += len(there) - len(places)
                listed = ", ".join(
                    f"md5({there[n][0]})"
                    if there[n][0] in ("big", "note")
                    else f"{there[n][0]}::varchar"
                    for n in places
                )
                keys = ", ".join(key)
                here = set(
                    warehouse.execute(
                        f"with known as (select * from raw_src.{name} where _lsn < ? "
                        f"qualify row_number() over (partition by {keys} "
                        "order by _load_id desc, _row desc) = 1) "
                        f"select {listed} from known where not _deleted",
                        [f"{moment.lsn:016X}"],
                    ).fetchall()
                )
                theirs = {tuple(row[n] for n in places) for row in moment.rows[name]}
                seen["rows"] += len(theirs)
                if here != theirs:
                    few, many = (
                        sorted(theirs - here, key=str)[:2],
                        sorted(here - theirs, key=str)[:2],
                    )
                    found.append(
                        f"moment {number} at {moment.lsn:016X}: {name} differs in "
                        f"{len(here ^ theirs)} rows, such as {few} there, {many} here"
                    )
    return found, seen


def counts_differ(url: str, settings: Settings) -> tuple[list[str], int]:
    """Where raw does not hold exactly the changes that the journal of the source tells."""
    with psycopg.connect(url) as connection:
        told = {
            (name, operation): int(number)
            for name, operation, number in connection.execute(
                "select name, operation, sum(number) from journal group by 1, 2"
            )
            if number
        }
    found = []
    changes = 0
    with connect(settings, read_only=True) as warehouse:
        for name in KEYS:
            here: dict[tuple[str, str], int] = {}
            for operation, is_deleted, number in warehouse.execute(
                f"select _operation, _deleted, count(*) from raw_src.{name} "
                "where _operation not in ('snapshot', 'truncate') group by all"
            ).fetchall():
                changes += number
                kind = "move" if operation == "update" and is_deleted else operation
                here[name, kind] = number
            here[name, "update"] = here.get((name, "update"), 0) - here.get((name, "move"), 0)
            for kind in ("insert", "update", "move", "delete"):
                mine, theirs = here.get((name, kind), 0), told.get((name, kind), 0)
                if mine != theirs:
                    found.append(f"{name}: {theirs:,} times {kind} there, {mine:,} here")
    return found, changes


def die_everywhere(children: Children, workers: list[Worker]) -> list[str]:
    """Lets the lander die at each of its failpoints, while it has something to do."""
    missed = []
    for name in sorted(n for n in failpoints_in_code() if n.partition(".")[0] in AREAS):
        children.kill("land")
        process = children.start("land", failpoint=name)
        for _ in range(150):
            if process.poll() is not None:
                break
            time.sleep(0.2)
        if process.poll() != -signal.SIGKILL:
            missed.append(f"{name}: the lander did not die there")
    return missed


def main() -> int:
    """Runs it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pace", type=float, default=0.02)
    parser.add_argument("--failpoints", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--child", choices=("land", "load"))
    given = parser.parse_args()
    if given.child:
        child(given.child, given.keep)
        return 0
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        return torture(given, given.keep)
    with tempfile.TemporaryDirectory() as folder:
        return torture(given, Path(folder))


def torture(given: argparse.Namespace, folder: Path) -> int:
    """Runs it in a folder."""
    rng = random.Random(given.seed)
    settings = Settings(project_dir=folder, data_dir=folder / "data")
    with logical_server(folder / "pg") as server:
        url = server.get_uri()
        os.environ["CONNECTIONS__SRC__URL"] = url
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in DDL:
                connection.execute(statement)
        ChangeLander(SOURCE, settings).catch_up()
        children = Children(folder, url)
        workers = [
            Worker(url, given.seed * 10 + n, alters=n == 0, pace=given.pace) for n in range(2)
        ]
        for worker in workers:
            worker.start()
        try:
            faults = die_everywhere(children, workers) if given.failpoints else []
            moments, killed, died = disturb(given, rng, server, children, workers, url)
        finally:
            for worker in workers:
                worker.ended.set()
            for worker in workers:
                worker.join()
            children.stop()
        faults += died + settle(settings, url)
        moments.append(copy_of(url))
        different, seen = differences(settings, moments)
        counted, changes = counts_differ(url, settings)
        faults += different + counted
    loads = len({file.load_id for file in landed_files(settings, "src", "items")})
    transactions = sum(worker.transactions for worker in workers)
    print(
        f"{transactions:,} transactions, {changes:,} changes in {loads:,} loads; killed: "
        f"{dict(killed)}; {len(moments)} moments, {seen['rows']:,} rows compared, of "
        f"{seen['columns just come']} columns not yet read again"
    )
    altered = sum((worker.altered for worker in workers), Counter[str]())
    failed = sum((worker.failed for worker in workers), Counter[str]())
    print(f"tables changed: {dict(altered)}; workers met: {dict(failed)}")
    for fault in faults:
        print(f"FAULT {fault}")
    print("nothing lost, nothing doubled" if not faults else f"{len(faults)} faults")
    return 1 if faults else 0


def disturb(
    given: argparse.Namespace,
    rng: random.Random,
    server: Any,
    children: Children,
    workers: list[Worker],
    url: str,
) -> tuple[list[Moment], Counter[str], list[str]]:
    """Kills, and copies the tables, at random times."""
    began = time.monotonic()
    copies = sorted(rng.uniform(0.1, 0.95) * given.seconds for _ in range(given.moments))
    kills = sorted(rng.uniform(0.02, 0.98) * given.seconds for _ in range(given.kills))
    moments: list[Moment] = []
    killed: Counter[str] = Counter()
    faults: list[str] = []
    while (passed := time.monotonic() - began) < given.seconds:
        faults += [fault for fault in children.failed() if fault not in faults]
        for name in ("land", "load"):
            children.start(name)
        if copies and passed >= copies[0]:
            copies.pop(0)
            with paused(workers):
                moments.append(copy_of(url))
        if kills and passed >= kills[0]:
            kills.pop(0)
            what = rng.choices(["land", "load", "server"], [5, 3, 2])[0]
            killed[what] += 1
            if what == "server":
                crash_server(server)
            else:
                children.kill(what)
        time.sleep(0.05)
    return moments, killed, faults


def settle(settings: Settings, url: str) -> list[str]:
    """Lands and loads what is left, and compares the keys with the source by our own command."""
    try:
        ChangeLander(SOURCE, settings).catch_up()
        error = load([SOURCE], settings).error
        if error is not None:
            return [str(error)]
        with connect(settings) as warehouse:
            return [
                f"{compared.table}: {compared.message}"
                for compared in reconcile(warehouse, [SOURCE], settings)
                if compared.verdict != "equal"
            ]
    except IngestionError as error:
        return [str(error)]


if __name__ == "__main__":
    sys.exit(main())
