"""The ledger: what was read, loaded, rejected and refused, and how raw tables changed.

loader -> `Ledger.write`, inside the transaction that loads the rows -> schema `ledger`

One row a landed file: a file that has one is not loaded again, so that raw and ledger cannot
disagree. `replay` takes files out, to enter them anew in the same transaction, and leaves a row in
`replays`; files whose time is over leave one in `expired_files`, with the counts that they had.
Only the loader writes here; dbt reads these tables as sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        reading varchar,
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
    "replays": """
        source varchar not null,
        table_name varchar not null,
        file varchar not null,
        load_id varchar not null,
        cause varchar not null check (cause in ('refused', 'declaration', 'asked')),
        status_before varchar not null,
        rows_loaded_before bigint not null,
        rows_rejected_before bigint not null,
        status_after varchar not null,
        rows_loaded_after bigint not null,
        rows_rejected_after bigint not null,
        reading_before varchar,
        reading_after varchar,
        replayed_at timestamp not null
    """,
    "expired_files": """
        source varchar not null,
        table_name varchar not null,
        file varchar not null,
        load_id varchar not null,
        origin_name varchar,
        bytes bigint,
        sha256 varchar,
        rows_read bigint not null,
        rows_loaded bigint not null,
        rows_rejected bigint not null,
        status varchar not null check (status in ('loaded', 'refused')),
        expired_at timestamp not null
    """,
}
# What ledgers of earlier versions lack.
_ADDED = {"files": {"reading": "varchar"}}
Cause = Literal["refused", "declaration", "asked"]


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
        reading: Fingerprint of the declaration that it was read under; None where none decides.
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
    reading: str | None


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


@dataclass(frozen=True)
class ReplayEntry:
    """One row of `ledger.replays`: a file that was read again, and what that changed.

    Attributes:
        source: Name of the source.
        table_name: Name of the table.
        file: What raw rows state in `_file`.
        load_id: dlt's load id, the same before and after.
        cause: It had been `refused`, its `declaration` reads it otherwise, or it was `asked` for.
        status_before: Whether it was loaded or refused.
        rows_loaded_before: Its rows in raw.
        rows_rejected_before: Its rejected records.
        status_after: Whether it is loaded or refused now.
        rows_loaded_after: Its rows in raw now.
        rows_rejected_after: Its rejected records now.
        reading_before: Fingerprint of the declaration before; None if that is not known.
        reading_after: Fingerprint of the declaration now.
    """

    source: str
    table_name: str
    file: str
    load_id: str
    cause: Cause
    status_before: str
    rows_loaded_before: int
    rows_rejected_before: int
    status_after: str
    rows_loaded_after: int
    rows_rejected_after: int
    reading_before: str | None
    reading_after: str | None


@dataclass(frozen=True)
class ExpiredEntry:
    """One row of `ledger.expired_files`: a file that left landing and raw by its table's retention.

    Attributes:
        source: Name of the source.
        table_name: Name of the table.
        file: What raw rows stated in `_file`.
        load_id: dlt's load id.
        origin_name: Name at the origin.
        bytes: Size of what had landed.
        sha256: Checksum of what had landed.
        rows_read: Records that were in it.
        rows_loaded: Rows that were in raw.
        rows_rejected: Records that were rejected.
        status: Whether it had been loaded or refused.
        expired_at: When its time was found to be over, UTC.
    """

    source: str
    table_name: str
    file: str
    load_id: str
    origin_name: str | None
    bytes: int
    sha256: str
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    status: str
    expired_at: datetime


def ensure_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    """Makes the ledger's schema, tables and columns where they are absent."""
    connection.execute("create schema if not exists ledger")
    for name, columns in _TABLES.items():
        connection.execute(f"create table if not exists ledger.{name} ({columns})")
        for column, kind in _ADDED.get(name, {}).items():
            connection.execute(
                f"alter table ledger.{name} add column if not exists {column} {kind}"
            )


def has_ledger(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the warehouse has the ledger as this version writes it."""
    (columns,) = connection.execute(
        "select count(*) from duckdb_columns() where schema_name = 'ledger' "
        "and table_name = 'files' and column_name = 'reading'"
    ).fetchall()[0]
    return bool(columns)


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
    _insert(connection, "loads", entries)


@dataclass(frozen=True)
class KnownFile:
    """What the ledger has of a landed file.

    Attributes:
        table: Name of its table.
        file: What raw rows state in `_file`.
        load_id: dlt's load id.
        origin_name: Name at the origin; None where the origin is no file.
        status: Whether it is loaded or refused.
        rows_loaded: Its rows in raw.
        rows_rejected: Its rejected records.
        reason: Why it was refused.
        reading: Fingerprint of the declaration that it was read under; None if not known.
    """

    table: str
    file: str
    load_id: str
    origin_name: str | None
    status: str
    rows_loaded: int
    rows_rejected: int
    reason: str | None
    reading: str | None


def known_files(
    connection: duckdb.DuckDBPyConnection, source: str
) -> dict[tuple[str, str], KnownFile]:
    """What the ledger has of a source, by table and file.

    A file that was refused in one load and loaded by a later one counts as loaded.
    """
    found = connection.execute(
        "select table_name, file, load_id, origin_name, status, rows_loaded, rows_rejected, "
        "reason, reading from ledger.files where source = ? order by status desc, load_id",
        [source],
    ).fetchall()
    return {(row[0], row[1]): KnownFile(*row) for row in found}


def forget_files(
    connection: duckdb.DuckDBPyConnection, source: str, table: str, files: Sequence[str] | None
) -> None:
    """Removes what the ledger has of files; belongs inside the transaction that enters them anew.

    Args:
        connection: The warehouse.
        source: Name of the source.
        table: Name of its table.
        files: The files; None for all of the table, with the changes of its columns.
    """
    names = ["files", "rejected_records", *(["schema_changes"] if files is None else [])]
    for name in names:
        statement = f"delete from ledger.{name} where source = ? and table_name = ?"
        if files is None:
            connection.execute(statement, [source, table])
        else:
            connection.execute(
                f"{statement} and list_contains(?, file)", [source, table, list(files)]
            )


def write_ledger(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[FileEntry],
    rejected: Sequence[RejectedEntry],
    changes: Sequence[ChangeEntry],
    replays: Sequence[ReplayEntry] = (),
) -> None:
    """Adds entries; belongs inside the transaction that loads the rows they tell of."""
    now = datetime.now(UTC).replace(tzinfo=None)
    _insert(connection, "files", files, loaded_at=now)
    _insert(connection, "rejected_records", rejected)
    _insert(connection, "schema_changes", changes)
    _insert(connection, "replays", replays, replayed_at=now)


def noted_expired(connection: duckdb.DuckDBPyConnection, source: str) -> set[tuple[str, str]]:
    """Table and name of the files of a source that the ledger has as expired."""
    found = connection.execute(
        "select table_name, file from ledger.expired_files where source = ?", [source]
    ).fetchall()
    return {(table, file) for table, file in found}


def write_expired_entries(
    connection: duckdb.DuckDBPyConnection, entries: Sequence[ExpiredEntry]
) -> None:
    """Notes files as expired; belongs inside the transaction that takes out their rows."""
    _insert(connection, "expired_files", entries)


def _insert(
    connection: duckdb.DuckDBPyConnection, table: str, entries: Sequence[Any], **same: datetime
) -> None:
    if not entries:
        return
    import pyarrow as pa

    rows = [{**vars(entry), **same} for entry in entries]
    # One statement whatever the number of rows; the table's types decide, not Arrow's guess.
    described = connection.execute(f"describe ledger.{table}").fetchall()
    kinds = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "TIMESTAMP": pa.timestamp("us")}
    columns = {
        name: pa.array([row[name] for row in rows], kinds[kind]) for name, kind, *_ in described
    }
    connection.register("wellspring_entries", pa.table(columns))
    try:
        connection.execute(f"insert into ledger.{table} by name select * from wellspring_entries")
    finally:
        connection.unregister("wellspring_entries")
