"""From changes to files in landing: the rows of one load, table by table, in the order of the log.

rows -> text -> typed parts on disk ─┐
TRUNCATE, reading again: `Delta` ────┴─> one file a table -> counts -> marker: the load counts

Memory does not grow with a transaction: what is buffered is spooled when it is enough. The marker
comes last and is the checkpoint: it says up to where the log has been landed, and how its tables
looked then. What a death leaves without a marker counts for nothing and is removed.
Left out: where changes come from.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ingestion import landing
from ingestion.cdc.pgoutput import sortable
from ingestion.cdc.shape import OWN_COLUMNS, Shape
from ingestion.databases.base import TIMESTAMP_TEXT, Column, Raw
from ingestion.databases.texts import typed
from ingestion.delta import Delta, Spool
from ingestion.durable import sync
from ingestion.evolution import literal, quoted
from ingestion.failpoints import failpoint
from ingestion.lander.written import next_load_id
from ingestion.landing import LandedCount, LandedFile
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

_LOADS = "_dlt_loads"
_PREFIX = "cdc__"
_PART_ROWS = 50_000
_PART_BYTES = 32_000_000
_OWN = (
    Column("_operation"),
    Column("_lsn"),
    Column("_committed_at", "timestamp", TIMESTAMP_TEXT),
    Column("_transaction", "bigint"),
    Column("_unchanged"),
    Column("_deleted", "boolean"),
)
_OWN_NAMES = {column.name: column.name for column in _OWN}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Moment:
    """Where a change stands.

    Attributes:
        lsn: Position of the commit, or of the reading.
        committed_at: Time of the commit, in microseconds since 1970.
        transaction: Number of the transaction; None of a reading.
    """

    lsn: int
    committed_at: int
    transaction: int | None

    @property
    def texts(self) -> tuple[str, str, str | None]:
        """The three as landing has them."""
        time_ = _EPOCH + timedelta(microseconds=self.committed_at)
        number = None if self.transaction is None else str(self.transaction)
        text = time_.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
        return sortable(self.lsn), text, number


@dataclass(frozen=True)
class Checkpoint:
    """Up to where a log has been landed, as the newest marker says.

    Attributes:
        lsn: Everything that was committed before this position has landed.
        slot: The replication slot.
        system: The database system's own number.
        timeline: Its timeline.
        tables: Number of the table, and name, type and modifier of its columns, by declared name.
        load_id: The load.
    """

    lsn: int
    slot: str
    system: str
    timeline: int
    tables: dict[str, tuple[int, tuple[tuple[str, int, int], ...]]] = field(default_factory=dict)
    load_id: str = ""


def newest_checkpoint(settings: Settings, source: str) -> Checkpoint | None:
    """The checkpoint of a source; None if none of its log has landed.

    Raises:
        BadInput: Landing is being restored.
    """
    landing.check_whole(settings)
    folder = settings.landing_dir / source / _LOADS
    names = sorted(path.name for path in folder.glob(f"{_PREFIX}*.jsonl"))
    if not names:
        return None
    told = json.loads((folder / names[-1]).read_text(encoding="utf-8"))
    tables = {
        name: (table["oid"], tuple((c[0], c[1], c[2]) for c in table["columns"]))
        for name, table in told["tables"].items()
    }
    load_id = names[-1].removeprefix(_PREFIX).removesuffix(".jsonl")
    return Checkpoint(told["lsn"], told["slot"], told["system"], told["timeline"], tables, load_id)


def remove_unfinished(settings: Settings, source: str, tables: Iterable[str]) -> None:
    """Removes what a death left: spooled rows, and files of loads that never counted."""
    shutil.rmtree(spool(settings, source), ignore_errors=True)
    completed = set(landing.completed_loads(settings, source))
    for table in (*tables, landing.COUNTS_TABLE):
        folder = settings.landing_dir / source / table
        # dlt has its own way of going on with its files; ours are known by the two positions.
        for path in [*folder.glob("*.*.*-*.parquet"), *folder.glob(".*.tmp")]:
            load_id = ".".join(path.name.split(".")[:2])
            if path.name.startswith(".") or (_is_ours(path) and load_id not in completed):
                path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    first, _, last = path.name.split(".")[2].partition("-")
    width = len(sortable(0))
    return len(first) == width == len(last) and all(c in "0123456789ABCDEF" for c in first + last)


def spool(settings: Settings, source: str) -> Path:
    """Folder for what is not landed yet."""
    return settings.spool_dir / "cdc" / source


class Converter(Protocol):
    """Whoever writes texts of the log as reading the table does."""

    def converted(self, texts: Sequence[str], column: Column) -> list[str]:
        """The texts, one for one."""


class TableWriter:
    """The rows of one table in one load.

    Args:
        load: The load.
        table: Name of the table.
        key: Names in raw of the key's columns.

    Attributes:
        read: Changes and rows that the source told.
        deleted: Of the rows, marks of deletion.
        rows: Rows to land.
    """

    def __init__(self, load: ChangeLoad, table: str, key: Sequence[str]) -> None:
        self._load = load
        self._table = table
        self._key = tuple(key)
        self._shape: Shape | None = None
        self._buffer: list[Sequence[str | None]] = []
        self._bytes = 0
        self._parts: list[Path] = []
        self._folder = load.folder / table
        self._folder.mkdir(parents=True)
        self.read = self.deleted = self.rows = 0

    @property
    def shape(self) -> Shape | None:
        """How the rows look that are being added."""
        return self._shape

    def begin(self, shape: Shape) -> None:
        """From here on, rows look like this."""
        if shape is not self._shape:
            self._close_part()
            self._shape = shape

    def add(
        self, values: Sequence[str | None], own: tuple[str | None, ...], *, is_deleted: bool
    ) -> None:
        """Adds a row.

        Args:
            values: Its values, in the order of the shape's columns.
            own: Operation, position, time, transaction, and what the log did not tell.
            is_deleted: Whether it marks a deletion.
        """
        self._buffer.append((*values, *own, "true" if is_deleted else "false"))
        self.rows += 1
        self.deleted += is_deleted
        size = sum([len(value) for value in values if value]) + 64
        self._bytes += size
        self._load.bytes += size
        if len(self._buffer) >= _PART_ROWS or self._bytes >= _PART_BYTES:
            self._close_part()

    def mark_all(self, moment: Moment, operation: str) -> None:
        """Marks every key as deleted that is alive by landing and by this load so far."""
        self.compare(Spool([], self._key, sweep=True), moment, operation)

    def compare(self, reading: Spool, moment: Moment, operation: str) -> None:
        """Adds what a reading of the whole table shows otherwise than landing and this load."""
        import duckdb

        self._close_part()
        try:
            self._compare(reading, moment, operation)
        except duckdb.IOException:
            # Landing was compacted meanwhile: its rows lie in other files now.
            self._compare(reading, moment, operation)

    def _compare(self, reading: Spool, moment: Moment, operation: str) -> None:
        part = self._next_part()
        out = part.with_suffix(".difference")
        with Delta(self._load.settings, self._landed()) as delta:
            found = delta.difference(reading, out)
            if not found.rows:
                self.read += found.read
                return
            columns = delta.describe([out])
            own = _as_sql(moment, operation)
            kept = [name for name in columns if name not in (*OWN_COLUMNS, "_deleted")]
            listed = ", ".join([*map(quoted, kept), *own, "_deleted"])
            delta.connection.execute(
                f"copy (select {listed} from read_parquet({literal(str(out))}) "
                f"order by file_row_number) to {literal(str(part))} "
                "(format parquet, compression zstd)"
            )
        out.unlink()
        self._parts.append(part)
        self.read += found.read
        self.rows += found.rows
        self.deleted += found.deleted
        self._load.bytes += part.stat().st_size

    def _landed(self) -> list[LandedFile]:
        load = self._load
        before = landing.landed_files(load.settings, load.source, self._table)
        own = [LandedFile(self._table, load.load_id, part, str(part)) for part in self._parts]
        return [*before, *own]

    def _next_part(self) -> Path:
        return self._folder / f"{self._load.load_id}.{len(self._parts):06d}.parquet"

    def _close_part(self) -> None:
        """Gives the buffered rows their types, on disk."""
        if not self._buffer:
            return
        assert self._shape is not None
        shape, part = self._shape, self._next_part()
        columns = [*shape.columns, *_OWN]
        raw = self._as_text(shape, columns)
        typed(self._load.connection, raw, columns, {**shape.names, **_OWN_NAMES}, part)
        raw.path.unlink()
        self._parts.append(part)
        self._buffer, self._bytes = [], 0
        failpoint("cdc.part_spooled")

    def _as_text(self, shape: Shape, columns: Sequence[Column]) -> Raw:
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {}
        for column, values in zip(columns, zip(*self._buffer, strict=True), strict=True):
            if column.name in shape.as_read:
                values = self._converted(values, column)
            elif column.name in shape.padded:
                values = tuple(v.rstrip(" ") if v else v for v in values)
            arrays[column.name] = pa.array(values, pa.string())
        path = self._folder / "text.parquet"
        pq.write_table(pa.table(arrays), path, compression="none")
        return Raw(path, "parquet", [column.name for column in columns], len(self._buffer))

    def _converted(self, values: Sequence[str | None], column: Column) -> tuple[str | None, ...]:
        """Values as reading the table writes them; as the log has them if the type is gone."""
        import psycopg

        distinct = sorted({value for value in values if value is not None})
        if not distinct:
            return tuple(values)
        try:
            known = dict(zip(distinct, self._load.server.converted(distinct, column), strict=True))
        except psycopg.errors.Error as error:
            if isinstance(error, psycopg.OperationalError):
                raise
            return tuple(values)
        return tuple(None if value is None else known[value] for value in values)

    def finish(self) -> Path | None:
        """One file of all rows, in their order; None if there are none."""
        self._close_part()
        if len(self._parts) < 2:
            return self._parts[0] if self._parts else None
        whole = self._folder / "whole.parquet"
        listed = ", ".join(literal(str(part)) for part in self._parts)
        self._load.connection.execute(
            f"copy (select * from read_parquet([{listed}], union_by_name = true) "
            f"order by filename, file_row_number) to {literal(str(whole))} "
            "(format parquet, compression zstd)"
        )
        return whole


def _as_sql(moment: Moment, operation: str) -> list[str]:
    lsn, time_, transaction = moment.texts
    return [
        f"{literal(operation)} as _operation",
        f"{literal(lsn)} as _lsn",
        f"timestamp {literal(time_)} as _committed_at",
        f"{transaction or 'null'}::bigint as _transaction",
        "null::varchar as _unchanged",
    ]


class ChangeLoad:
    """One load: whole transactions, in the order of their commits.

    Args:
        settings: The project's settings.
        source: Name of the source.
        server: Asked to write values as reading a table would.
        connection: DuckDB in memory, in UTC.
        after: Id of the newest load that has landed; empty if there is none.

    Attributes:
        load_id: Named after the time of its first row; empty before.
        bytes: About the size of what was added.
        began: When the first row came, by the monotonic clock; None before.
    """

    def __init__(
        self,
        settings: Settings,
        source: str,
        server: Converter,
        connection: duckdb.DuckDBPyConnection,
        after: str,
    ) -> None:
        self.settings = settings
        self.source = source
        self.server = server
        self.connection = connection
        self._after = after
        self.load_id = ""
        self.bytes = 0
        self.began: float | None = None
        self._tables: dict[str, TableWriter] = {}
        self._span: tuple[int, int] | None = None

    @property
    def folder(self) -> Path:
        """Where its rows are until they land."""
        return spool(self.settings, self.source) / self.load_id

    @property
    def is_empty(self) -> bool:
        """Whether nothing has to be landed."""
        return not self._tables

    @property
    def rows(self) -> int:
        """Rows to land so far."""
        return sum(table.rows for table in self._tables.values())

    @property
    def tables(self) -> dict[str, TableWriter]:
        """What was added, by table."""
        return self._tables

    def table(self, name: str, key: Sequence[str], lsn: int) -> TableWriter:
        """Where rows of a table go that stand at a position."""
        self._span = (self._span[0] if self._span else lsn, lsn)
        writer = self._tables.get(name)
        if writer is None:
            if self.began is None:
                self.load_id = next_load_id(self._after)
                self.began = time.monotonic()
            writer = self._tables[name] = TableWriter(self, name, key)
        return writer

    def land(self, checkpoint: Checkpoint) -> None:
        """Makes the load count; afterwards the server may forget what it holds.

        Args:
            checkpoint: Up to where this load has brought landing.
        """
        root = self.settings.landing_dir / self.source
        first, last = self._span or (checkpoint.lsn, checkpoint.lsn)
        name = f"{self.load_id}.{sortable(first)}-{sortable(last)}.parquet"
        for table, writer in self._tables.items():
            made = writer.finish()
            if made is not None and writer.rows:
                _land_file(made, root / table / name)
                failpoint("cdc.file_landed")
        counts = [
            LandedCount(table, writer.read, writer.rows, writer.deleted)
            for table, writer in self._tables.items()
        ]
        self._write_counts(counts, root / landing.COUNTS_TABLE / name)
        failpoint("cdc.before_marker")
        self._write_marker(checkpoint, root / _LOADS)
        failpoint("cdc.marker_landed")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_counts(self, counts: Sequence[LandedCount], target: Path) -> None:
        import pyarrow.parquet as pq

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "counts.parquet"
        pq.write_table(landing.counts_table(counts), path, compression="zstd")
        _land_file(path, target)

    def _write_marker(self, checkpoint: Checkpoint, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        told: dict[str, Any] = {
            "lsn": checkpoint.lsn,
            "slot": checkpoint.slot,
            "system": checkpoint.system,
            "timeline": checkpoint.timeline,
            "tables": {
                name: {"oid": oid, "columns": [list(column) for column in columns]}
                for name, (oid, columns) in checkpoint.tables.items()
            },
        }
        path = folder / f".{self.load_id}.tmp"
        path.write_text(json.dumps(told) + "\n", encoding="utf-8")
        rename_durably(path, folder / f"{_PREFIX}{self.load_id}.jsonl")


def _land_file(made: Path, target: Path) -> None:
    """Moves a file to its place in landing, so that it is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.move(made, temporary)
    rename_durably(temporary, target)


def rename_durably(temporary: Path, target: Path) -> None:
    """Gives a finished file its name; after a power cut it is there whole or not at all.

    Args:
        temporary: The file, on the same disk as the target.
        target: Its name from now on.
    """
    sync(temporary)
    temporary.replace(target)
    sync(target.parent)
