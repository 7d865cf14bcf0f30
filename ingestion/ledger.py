"""The ledger: what was read, loaded, rejected and refused, and how raw tables changed.

loader -> `Ledger.write`, inside the transaction that loads the rows -> schema `ledger`

One row a landed file and load: a file that has one is never loaded again, so that raw and ledger
cannot disagree. Only the loader writes here; dbt reads these tables as sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import duckdb

LoadStatus = Literal["loaded", "held", "refused", "pending"]
_TABLES = {
    "loads": """
        source varchar not null,
        table_name varchar not null,
        load_id varchar not null,
        rows_read bigint,
        rows_landed bigint,
        rows_deleted bigint,
        files_landed bigint,
        status varchar not null check (status in ('loaded', 'held', 'refused', 'pending')),
        reason varchar
    """,
    "files": """
        source varchar not null,
        table_name varchar not null,
        file varchar not null,
        load_id varchar not null,
        origin_name varchar,
        reader varchar,
        bytes bigint,
        sha256 varchar,
        rows_read bigint not null,
        rows_loaded bigint not null,
        rows_rejected bigint not null,
        status varchar not null check (status in ('loaded', 'refused')),
        reason varchar,
        loaded_at timestamp not null,
        check (rows_read = rows_loaded + rows_rejected)
    """,
    "rejected_records": """
        source varchar not null,
        table_name varchar not null,
        file varchar not null,
        record_number bigint not null,
        reason varchar not null,
        raw_record varchar,
        load_id varchar not null
    """,
    "schema_changes": """
        source varchar not null,
        table_name varchar not null,
        file varchar not null,
        column_name varchar not null,
        change varchar not null,
        old_type varchar,
        new_type varchar,
        load_id varchar not null
    """,
}


@dataclass(frozen=True)
class FileEntry:
    """One row of `ledger.files`.

    Attributes:
        source: Name of the source.
        table_name: Name of the table.
        file: What raw rows state in `_file`.
        load_id: dlt's load id.
        origin_name: Name at the origin; None where the origin is no file.
        reader: How it was read; None if it could not be.
        bytes: Size of what landed.
        sha256: Checksum of what landed.
        rows_read: Records in it.
        rows_loaded: Records in raw.
        rows_rejected: Records in `ledger.rejected_records`.
        status: Whether it was loaded.
        reason: Why it was refused.
    """

    source: str
    table_name: str
    file: str
    load_id: str
    origin_name: str | None
    reader: str | None
    bytes: int
    sha256: str
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    status: Literal["loaded", "refused"]
    reason: str | None


@dataclass(frozen=True)
class LoadEntry:
    """One row of `ledger.loads`: what a load was to bring of a table, and what became of it.

    Attributes:
        source: Name of the source.
        table_name: Name of the table.
        load_id: dlt's load id.
        rows_read: Rows that the extraction read from the source; None where it did not count them.
        rows_landed: Rows that it was to land: new and changed ones, and marks of deletion.
        rows_deleted: Of these, marks of deletion.
        files_landed: Lines that it was to land in the register of files.
        status: `loaded`; `held` back by a frozen contract; `refused` because landing does not hold
            what was extracted; `pending` as long as the table was not among those selected.
        reason: Why it was held back or refused.
    """

    source: str
    table_name: str
    load_id: str
    rows_read: int | None
    rows_landed: int | None
    rows_deleted: int | None
    files_landed: int | None
    status: LoadStatus
    reason: str | None


@dataclass(frozen=True)
class RejectedEntry:
    """One row of `ledger.rejected_records`.

    Attributes:
        source: Name of the source.
        table_name: Name of the table.
        file: What raw rows state in `_file`.
        record_number: Its line in the file, or its position where the format has no lines.
        reason: Why it was rejected.
        raw_record: The record as it stands in the file.
        load_id: dlt's load id.
    """

    source: str
    table_name: str
    file: str
    record_number: int
    reason: str
    raw_record: str
    load_id: str


@dataclass(frozen=True)
class ChangeEntry:
    """One row of `ledger.schema_changes`.

    Attributes:
        source: Name of the source.
        table_name: Name of the table.
        file: The file that brought the change.
        column_name: The column.
        change: `added`, `widened` (number to a wider number) or `to_text`.
        old_type: Type before; None for an added column.
        new_type: Type since.
        load_id: dlt's load id.
    """

    source: str
    table_name: str
    file: str
    column_name: str
    change: Literal["added", "widened", "to_text"]
    old_type: str | None
    new_type: str
    load_id: str


def ensure_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the ledger's schema and tables where they are absent."""
    connection.execute("create schema if not exists ledger")
    for name, columns in _TABLES.items():
        connection.execute(f"create table if not exists ledger.{name} ({columns})")


def noted_loads(
    connection: duckdb.DuckDBPyConnection, source: str
) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Status and reason of what is noted of a source's loads, by load id and table."""
    found = connection.execute(
        "select load_id, table_name, status, reason from ledger.loads where source = ?", [source]
    ).fetchall()
    return {(load_id, table): (status, reason) for load_id, table, status, reason in found}


def write_loads(connection: duckdb.DuckDBPyConnection, entries: Sequence[LoadEntry]) -> None:
    """Notes loads in place of what was noted of them; belongs inside a transaction."""
    keys = [[e.source, e.table_name, e.load_id] for e in entries]
    if keys:
        connection.executemany(
            "delete from ledger.loads where source = ? and table_name = ? and load_id = ?", keys
        )
    _insert(connection, "loads", [_values(entry) for entry in entries])


@dataclass(frozen=True)
class KnownFiles:
    """What the ledger has of a source.

    Attributes:
        entered: (table, file, load id) of every entry.
        loaded: (table, file) of what is in raw.
    """

    entered: frozenset[tuple[str, str, str]]
    loaded: frozenset[tuple[str, str]]

    def is_new(self, table: str, file: str, load_id: str) -> bool:
        """Whether a landed file is to be loaded: each goes into raw once, by whatever load."""
        return (table, file) not in self.loaded and (table, file, load_id) not in self.entered


def known_files(connection: duckdb.DuckDBPyConnection, source: str) -> KnownFiles:
    """Reads what the ledger has of a source."""
    found = connection.execute(
        "select table_name, file, load_id, status from ledger.files where source = ?", [source]
    ).fetchall()
    return KnownFiles(
        frozenset((table, file, load_id) for table, file, load_id, _ in found),
        frozenset((table, file) for table, file, _, status in found if status == "loaded"),
    )


def write_ledger(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[FileEntry],
    rejected: Sequence[RejectedEntry],
    changes: Sequence[ChangeEntry],
) -> None:
    """Adds entries; belongs inside the transaction that loads the rows they tell of."""
    now = datetime.now(UTC).replace(tzinfo=None)
    _insert(connection, "files", [(*_values(entry), now) for entry in files])
    _insert(connection, "rejected_records", [_values(entry) for entry in rejected])
    _insert(connection, "schema_changes", [_values(entry) for entry in changes])


def _values(entry: Any) -> tuple[Any, ...]:
    return tuple(getattr(entry, field.name) for field in fields(entry))


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    import pyarrow as pa

    # One statement whatever the number of rows; the table's types decide, not Arrow's guess.
    described = connection.execute(f"describe ledger.{table}").fetchall()
    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "TIMESTAMP": pa.timestamp("us")}
    columns = {
        name: pa.array([row[i] for row in rows], kinds[kind])
        for i, (name, kind, *_) in enumerate(described)
    }
    connection.register("wellspring_entries", pa.table(columns))
    try:
        connection.execute(f"insert into ledger.{table} select * from wellspring_entries")
    finally:
        connection.unregister("wellspring_entries")
