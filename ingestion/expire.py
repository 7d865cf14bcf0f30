"""Lets files of events go whose time is over: from landing, raw and the ledger.

declared `retention` -> files of loads that are older -> rows ever changed? -> list in landing ->
rows, entries and rejected records out of the warehouse, one transaction a source -> bytes removed

Killed at any point, the next call goes on: the list says what has expired, the loader takes out
what the warehouse still has of it, what lies there in spite of it is removed. Only tables of files
can have a retention: their register remembers what has arrived, so that a file that is still at its
origin does not land again; the comparison with a database or an API would find its rows missing.
Left out: what was made of the rows, which the next build makes anew without them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import BadInput
from ingestion.evolution import METADATA, quoted
from ingestion.expired import ExpiredFile, expired_files, write_expired
from ingestion.failpoints import failpoint
from ingestion.files import prepared_folder
from ingestion.formats.tables import rejected_path
from ingestion.landing import check_whole, normalise, register_rows
from ingestion.load import LoadResult, SourceLoader, loading
from ingestion.settings import Settings
from ingestion.warehouse import connect

if TYPE_CHECKING:
    import duckdb

_FILES = """
    select
        file, load_id, origin_name, bytes, sha256, rows_read, rows_loaded, rows_rejected, status
    from ledger.files
    where source = ? and table_name = ? and load_id::double < ?
    order by load_id, file
"""


@dataclass(frozen=True)
class Expiry:
    """What expires of one table.

    Attributes:
        source: Name of the source.
        table: Name of the table.
        days: Its retention.
        files: Files that go.
        rows: Their rows in raw.
        bytes: Their size in landing.
    """

    source: str
    table: str
    days: int
    files: int
    rows: int
    bytes: int


def expire(
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    *,
    dry_run: bool = False,
    moment: datetime | None = None,
) -> list[Expiry]:
    """Removes files that are older than their table's retention; call it under the run's lock.

    Args:
        declarations: Sources and tables; those without a retention are passed over.
        settings: The project's settings.
        dry_run: Only say what would go.
        moment: The present; by default the time of the call.

    Returns:
        What went, or would go, of each table with a retention.

    Raises:
        LockHeld: Another process has the warehouse open.
        BadInput: Rows of a table are changed later, so that they are no events; or landing is
            damaged. Nothing of the source is changed then.
    """
    check_whole(settings)
    now = moment or datetime.now(UTC)
    done: list[Expiry] = []
    opened = closing(connect(settings, read_only=True)) if dry_run else loading(settings)
    with opened as connection:
        for source in declarations:
            tables = [table for table in source.tables if _days(table)]
            if not tables:
                continue
            found = {t.name: _over(connection, source, t, now) for t in tables}
            done += [_told(source, table, found[table.name]) for table in tables]
            if not dry_run:
                for table in tables:
                    _list(settings, source.name, table.name, found[table.name])
                loader = SourceLoader(connection, settings, source, LoadResult(), None)
                loader.forget_expired()
                failpoint("expire.forgotten")
                for table in tables:
                    _remove_bytes(settings, source.name, table.name)
    return done


def _days(table: TableDeclaration) -> int:
    retention = getattr(table.ingest, "retention", None)
    return 0 if retention is None else int(retention.days)


def _over(
    connection: duckdb.DuckDBPyConnection,
    source: SourceDeclaration,
    table: TableDeclaration,
    now: datetime,
) -> list[ExpiredFile]:
    """Files of a table whose time is over.

    Raises:
        BadInput: Rows of the table are changed later.
    """
    oldest = (now - timedelta(days=_days(table))).timestamp()
    rows = connection.execute(_FILES, [source.name, table.name, oldest]).fetchall()
    moment = now.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    names = [column.name for column in fields(ExpiredFile)]
    files = [ExpiredFile(**dict(zip(names, (*row, moment), strict=True))) for row in rows]
    if any(entry.rows_loaded for entry in files):
        _require_events(connection, source, table)
    return files


def _require_events(
    connection: duckdb.DuckDBPyConnection, source: SourceDeclaration, table: TableDeclaration
) -> None:
    """No key has rows that differ: of what is changed, the last version must not go by age."""
    keys = [normalise(name) for name in table.ingest.primary_key]
    if not keys:
        return
    relation = f"{quoted(source.schema)}.{quoted(table.name)}"
    described = connection.execute(f"describe {relation}").fetchall()
    values = ", ".join(quoted(row[0]) for row in described if row[0] not in METADATA)
    listed = ", ".join(quoted(key) for key in keys)
    changed = connection.execute(
        f"select {listed} from {relation} group by {listed} "
        f"having min(hash({values})) <> max(hash({values})) limit 1"
    ).fetchall()
    if changed:
        key = ", ".join(f"{n} = {v}" for n, v in zip(keys, changed[0], strict=True))
        raise BadInput(
            f"its rows are changed later (such as {key}), so they cannot go by age: the last "
            "version of what still holds would go with them",
            source=source.name,
            table=table.name,
            key="retention",
            hint="Remove `retention` from its declaration.",
        )


def _list(settings: Settings, source: str, table: str, files: Sequence[ExpiredFile]) -> None:
    """Adds files to the list, which makes them expired."""
    if not files:
        return
    before = expired_files(settings, source, table)
    write_expired(settings, source, table, [*before.values(), *files])
    failpoint("expire.listed")


def _remove_bytes(settings: Settings, source: str, table: str) -> None:
    """Removes what still lies in landing of files that have expired."""
    expired = expired_files(settings, source, table)
    landing, folder = settings.landing_dir, settings.landing_dir / source / table
    kept: set[Path] = set()
    going: dict[Path, Path] = {}
    for row in register_rows(settings, source, table) if expired else ():
        original = landing / row.original
        if row.file in expired:
            going[original] = prepared_folder(folder, original)
        else:
            kept.add(original)
    for original, prepared in going.items():
        # Members of an archive share its bytes.
        if original in kept:
            continue
        if prepared.is_dir():
            shutil.rmtree(prepared)
        for path in (prepared, rejected_path(prepared), original):
            path.unlink(missing_ok=True)
        failpoint("expire.file_removed")


def _told(
    source: SourceDeclaration, table: TableDeclaration, files: Sequence[ExpiredFile]
) -> Expiry:
    return Expiry(
        source=source.name,
        table=table.name,
        days=_days(table),
        files=len(files),
        rows=sum(entry.rows_loaded for entry in files),
        bytes=sum({entry.sha256: entry.bytes for entry in files}.values()),
    )
