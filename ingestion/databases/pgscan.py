"""PostgreSQL through DuckDB's own scanner: binary COPY on several connections, straight to Parquet.

columns -> select list (what DuckDB has no equal type for, as text) -> ranges of pages
-> one connection a lane, all in the source's snapshot -> checked while passing -> Parquet files

The scanner is fast and not exact: it turns NaN into 0.00, and times beyond DuckDB's range into
others. So such values are asked for beside the rows, and the first one ends the reading: the caller
then reads the table as text. Left out: whatever the catalog says is not exactly the type landed.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.databases.base import Column, Parts, Target
from ingestion.delta import ROW_GROUP, literal, quoted
from ingestion.errors import disk_full, first_line
from ingestion.failpoints import failpoint
from ingestion.progress import interruption
from ingestion.redaction import redact

if TYPE_CHECKING:
    import duckdb

logger = logging.getLogger(__name__)

_EXTENSION = "postgres_scanner"
_LOOK_SECONDS = 0.2
_TAKEN_OVER = (
    *("memory_limit", "temp_directory", "max_temp_directory_size", "threads", "TimeZone"),
    *("extension_directory", "autoinstall_known_extensions", "enable_progress_bar"),
)
# What the text road keeps as text, so that both roads land the same.
_WITHIN = {
    "date": "between date '0001-01-01' and date '9999-12-31'",
    "timestamp": "between timestamp '0001-01-01' and timestamp '9999-12-31 23:59:59.999999'",
    "timestamp with time zone": "between timestamptz '0001-01-01 00:00:00+00' "
    "and timestamptz '9999-12-31 23:59:59.999999+00'",
    "time": "< time '24:00:00'",
}


@dataclass(frozen=True)
class Query:
    """What is asked of the server.

    Attributes:
        columns: The columns, whose expressions are called c0, c1 and so on.
        select: The list of these expressions.
        source: `from`, and `where` if only some rows are read.
        ranges: Conditions that divide the rows among them; one that is empty for all rows at once.
    """

    columns: Sequence[Column]
    select: str
    source: str
    ranges: Sequence[str] = ("",)

    def of(self, condition: str) -> str:
        """The statement for one of the ranges."""
        return f"select {self.select} from {self.source}{condition}"


class PostgresScan:
    """Reads tables of one database, in one snapshot.

    Args:
        address: The database, as libpq takes it.
        snapshot: Name of the exported snapshot.
        settings: Statements that make a connection's texts independent of the server's settings.
        lanes: How many connections may be open at the same time, over all tables.
    """

    def __init__(self, address: str, snapshot: str, settings: Sequence[str], lanes: int) -> None:
        self._address = address
        self._begin = "; ".join(
            [f"set transaction snapshot '{snapshot}'", "set client_encoding = 'UTF8'", *settings]
        )
        self._free = threading.BoundedSemaphore(lanes)
        self._numbers = itertools.count()
        self._opening = threading.Lock()
        self._duckdb: duckdb.DuckDBPyConnection | None = None
        self.lanes = lanes

    def close(self) -> None:
        """Lets go of the DuckDB that the lanes shared."""
        if self._duckdb is not None:
            self._duckdb.close()
            self._duckdb = None

    def read(self, query: Query, target: Target) -> Parts | None:
        """Reads rows into Parquet files, a file each range; None if only text would be exact."""
        import duckdb

        reading = _Reading(query, target)
        taken = self._take(len(query.ranges))
        try:
            with _threads(target.connection, 1):
                self._work(reading, taken)
        except duckdb.Error as error:
            reading.remove()
            interruption.check()
            if disk_full(error) or isinstance(error, duckdb.OutOfMemoryException):
                raise
            # Whatever it is: the text road succeeds, or tells the fault as the server's own.
            logger.info("%s is read as text: %s", target.label, redact(first_line(error)))
            return None
        except BaseException:
            reading.remove()
            raise
        finally:
            for _ in range(taken):
                self._free.release()
        failpoint("extract.scanned")
        return reading.parts()

    def _take(self, wanted: int) -> int:
        """Waits for a lane, and takes further ones as far as they are free."""
        while not self._free.acquire(timeout=_LOOK_SECONDS):
            interruption.check()
        taken = 1
        while taken < wanted and self._free.acquire(blocking=False):
            taken += 1
        return taken

    def _work(self, reading: _Reading, lanes: int) -> None:
        """Reads all ranges; the first fault, or the user, ends the others."""
        with ThreadPoolExecutor(lanes, "scan") as pool:
            works: list[Future[None]] = [pool.submit(self._lane, reading) for _ in range(lanes)]
            open_ = set(works)
            while open_:
                done, open_ = wait(open_, timeout=_LOOK_SECONDS)
                if interruption.event.is_set() or any(work.exception() for work in done):
                    self._cancel(reading.stop())
        interruption.check()
        # A lane that was stopped because of another one's fault is not the cause.
        faults = [fault for work in works if (fault := work.exception())]
        faults.sort(key=lambda fault: "INTERRUPT" in str(fault))
        if faults:
            raise faults[0]

    def _cancel(self, backends: Sequence[int]) -> None:
        """Ends statements at the server: an interrupted COPY would be read to its end."""
        import psycopg

        # A server that is gone has nothing left to end; what failed before is what is told.
        with suppress(psycopg.Error), psycopg.connect(self._address, autocommit=True) as connection:
            for backend in backends:
                connection.execute("select pg_catalog.pg_cancel_backend(%s)", [backend])

    def _lane(self, reading: _Reading) -> None:
        """Reads ranges through one connection until none is left."""
        with self._connection(reading) as (connection, name):
            reading.check_types(connection, name)
            while (next_ := reading.next_range()) is not None:
                reading.copy(connection, name, *next_)

    def _cursor(self, target: Target) -> duckdb.DuckDBPyConnection:
        """A cursor of the one DuckDB that has the scanner, set as that of whoever asks first.

        To load it, DuckDB takes the checksum of its 40 MB, so that is not done for each table.
        """
        import duckdb

        with self._opening:
            if self._duckdb is None:
                shown = ", ".join(f"current_setting({literal(name)})" for name in _TAKEN_OVER)
                given = target.connection.execute(f"select {shown}").fetchone()
                assert given is not None
                made = duckdb.connect(":memory:")
                for name, value in zip(_TAKEN_OVER, given, strict=True):
                    made.execute(f"set {name} = {literal(str(value))}")
                made.execute(f"load {_EXTENSION}")
                # A connection lives as long as its lane and is no one else's.
                made.execute("set pg_pool_max_connections = 0")
                self._duckdb = made
            return self._duckdb.cursor()

    @contextmanager
    def _connection(self, reading: _Reading) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
        """A connection to the server inside the snapshot, as a database attached to DuckDB."""
        import duckdb

        cursor = self._cursor(reading.target)
        name = f"wellspring_lane_{next(self._numbers)}"
        try:
            cursor.execute(f"attach {literal(self._address)} as {name} (type postgres, read_only)")
            try:
                cursor.execute("begin")
                cursor.execute(f"call postgres_execute({literal(name)}, {literal(self._begin)})")
                reading.join(cursor, _backend(cursor, name))
                yield cursor, name
            finally:
                reading.leave(cursor)
                # A transaction that has failed may be over by itself.
                with suppress(duckdb.Error):
                    cursor.execute("rollback")
                cursor.execute(f"detach {name}")
        finally:
            cursor.close()


@dataclass
class _Reading:
    """One reading of one table, shared by its lanes."""

    query: Query
    target: Target
    _counts: dict[int, int] = field(default_factory=dict)
    _lanes: dict[duckdb.DuckDBPyConnection, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._left: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        for number, condition in enumerate(self.query.ranges):
            self._left.put((number, condition))

    def next_range(self) -> tuple[int, str] | None:
        """The next range to read; None if there is none left."""
        # Empty is the end of the work.
        with suppress(queue.Empty):
            if not self._stopped:
                return self._left.get_nowait()
        return None

    def join(self, lane: duckdb.DuckDBPyConnection, backend: int) -> None:
        """Makes a lane and the server's process for it known, so that it can be stopped."""
        with self._lock:
            self._lanes[lane] = backend

    def leave(self, lane: duckdb.DuckDBPyConnection) -> None:
        """Forgets a lane."""
        with self._lock:
            self._lanes.pop(lane, None)

    def stop(self) -> list[int]:
        """Ends the work of all lanes; returns the server's processes for them."""
        self._stopped = True
        with self._lock:
            for lane in self._lanes:
                lane.interrupt()
            return list(self._lanes.values())

    def check_types(self, lane: duckdb.DuckDBPyConnection, name: str) -> None:
        """Makes sure that every column arrives in the type that it is landed in."""
        import duckdb

        statement = literal(self.query.of(self.query.ranges[0]))
        sql = f"describe select * from postgres_query({literal(name)}, {statement})"
        found = [str(row[1]).lower().replace(",", ", ") for row in lane.execute(sql).fetchall()]
        for column, kind in zip(self.query.columns, found, strict=False):
            if kind != column.type:
                told = f"{column.name} arrives as {kind}, {column.type} is expected"
                raise duckdb.InvalidInputException(told)

    def copy(self, lane: duckdb.DuckDBPyConnection, name: str, number: int, condition: str) -> None:
        """Reads one range into its file."""
        names, statement = self.target.names, literal(self.query.of(condition))
        selected = [
            f"c{n} as {quoted(names[column.name])}" for n, column in enumerate(self.query.columns)
        ]
        row = lane.execute(
            f"copy (select {', '.join([*selected, *self.target.added])} "
            f"from postgres_query({literal(name)}, {statement}) "
            f"where {_all_fit(self.query.columns)}) to {literal(str(self._path(number)))} "
            f"(format parquet, compression zstd, compression_level 1, row_group_size {ROW_GROUP})"
        ).fetchone()
        assert row is not None
        self._counts[number] = int(row[0])

    def parts(self) -> Parts:
        """The files, in the order of the ranges; empty ones only if there is no other."""
        paths = [self._path(number) for number in sorted(self._counts)]
        filled = [self._path(number) for number in sorted(self._counts) if self._counts[number]]
        kept = filled or paths[:1]
        for path in set(paths) - set(kept):
            path.unlink()
        return Parts(kept, sum(self._counts.values()))

    def remove(self) -> None:
        """Removes what was written."""
        for number in range(len(self.query.ranges)):
            self._path(number).unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        out = self.target.out
        return out.with_name(f"{out.name}-{number:06d}.parquet")


@contextmanager
def _threads(connection: duckdb.DuckDBPyConnection, number: int) -> Iterator[None]:
    """Lets a database have so many threads.

    A lane reads in the thread that asked for it. If one of DuckDB's own took the work instead, that
    thread would not sleep meanwhile but ask without a pause whether it is done.
    """
    row = connection.execute("select current_setting('threads')").fetchone()
    assert row is not None
    connection.execute(f"set threads = {number}")
    try:
        yield
    finally:
        connection.execute(f"set threads = {row[0]}")


def _backend(lane: duckdb.DuckDBPyConnection, name: str) -> int:
    """Number of the server's process for a lane."""
    statement = literal("select pg_catalog.pg_backend_pid() as pid")
    row = lane.execute(f"select pid from postgres_query({literal(name)}, {statement})").fetchone()
    assert row is not None
    return int(row[0])


def _all_fit(columns: Sequence[Column]) -> str:
    """Condition that holds for every row, or fails at a value that its type cannot hold."""
    odd = [
        f"not (c{number} {_WITHIN[column.type]})"
        for number, column in enumerate(columns)
        if column.type in _WITHIN
    ]
    if has_numbers(columns):
        odd.append("has_nan")
    if not odd:
        return "true"
    return f"case when {' or '.join(odd)} then error('a value does not fit its type') else true end"


def has_numbers(columns: Sequence[Column]) -> bool:
    """Whether there are decimals, which may be NaN: the select list then ends in `has_nan`."""
    return any(column.type.startswith("decimal") for column in columns)
