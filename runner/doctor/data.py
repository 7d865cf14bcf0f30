"""Checks of the data itself: run history, warehouse, published versions, loads on their way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingestion.errors import IngestionError, first_line
from ingestion.lock import current_owner, lock_path
from ingestion.settings import Settings
from ingestion.units import tell_seconds
from runner.doctor.findings import Finding
from runner.versions import CURRENT, current_version, require_whole

_OLD_BACKUP_SECONDS = 7 * 86_400.0
_NO_HISTORY = (
    "Move it away: a new one is begun, and no data is lost (`wellspring audit publish` vouches for "
    "the warehouse again). A backup has an older one."
)
_REBUILD = "Delete it, then `wellspring load build audit publish docs`: all of it is in landing."


def history(settings: Settings) -> Iterator[Finding]:
    """Whether the run history is whole."""
    path = settings.history_path
    if not path.is_file():
        if settings.warehouse_path.is_file():
            mend = "Restore it from a backup, or `wellspring audit publish docs` to begin anew."
            yield Finding("history", "warn", f"{path} is missing, the warehouse is not", mend)
        else:
            yield Finding("history", "ok", "nothing was run yet")
        return
    try:
        with closing(_opened(path)) as connection:
            faults = [row[0] for row in connection.execute("pragma integrity_check(5)")]
            runs = connection.execute("select count(*) from runs").fetchone()[0]
    except sqlite3.DatabaseError as error:
        yield Finding("history", "fail", f"{path}: {error}", _NO_HISTORY)
        return
    if faults != ["ok"]:
        yield Finding("history", "fail", f"{path} is damaged: {faults[0]}", _NO_HISTORY)
    else:
        yield Finding("history", "ok", f"whole, {runs:,} runs")


def _opened(path: Path) -> sqlite3.Connection:
    """The history for reading; nothing is made, upgraded or cleared up by it."""
    # Without a log beside it nobody writes, and SQLite need not make one to read.
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=10)


def newest_moment(settings: Settings) -> float | None:
    """The newest moment that a run or a landed load bears; None if there is none."""
    moments = []
    started = _asked(settings, "select max(started_at) from runs")
    try:
        moments += [datetime.fromisoformat(started).timestamp()] if started else []
    except ValueError:
        # A damaged history is told by its own check.
        moments = []
    for place in settings.landing_dir.glob("*/_dlt_loads/*.jsonl"):
        load_id = place.name.removesuffix(".jsonl").rpartition("__")[2]
        if load_id.replace(".", "", 1).isdigit():
            moments.append(float(load_id))
    return max(moments, default=None)


def warehouse(settings: Settings) -> Iterator[Finding]:
    """Whether the warehouse can be opened, and was closed in good order."""
    import duckdb

    path = settings.warehouse_path
    if not path.is_file():
        yield Finding("warehouse", "ok", "there is none yet; `wellspring load build` makes it")
        return
    if current_owner(lock_path(settings)) is not None:
        yield Finding("warehouse", "ok", "not opened while a run is under way")
        return
    try:
        with closing(duckdb.connect(str(path), read_only=True)) as connection:
            tables = connection.execute("select count(*) from duckdb_tables()").fetchall()[0][0]
    except duckdb.Error as error:
        held = "lock on file" in str(error)
        mend = "End the process that has it open." if held else _REBUILD
        text = f"{path} cannot be opened: {first_line(error)}"
        yield Finding("warehouse", "fail", text, mend, 5 if held else 6)
        return
    log = path.with_name(f"{path.name}.wal")
    if log.is_file() and log.stat().st_size:
        mend = "Nothing needs to be done: whoever opens it next takes the log over."
        yield Finding("warehouse", "warn", f"opens, {tables:,} tables; a log was left", mend)
    else:
        yield Finding("warehouse", "ok", f"opens, {tables:,} tables")


def versions(settings: Settings, deep: bool) -> Iterator[Finding]:
    """Whether readers get a whole version.

    Args:
        settings: The project's settings.
        deep: Whether to compare the checksums of its files too, which reads all of them.
    """
    import duckdb

    link = settings.published_dir / CURRENT
    version = current_version(settings)
    if version is None:
        if link.is_symlink() or link.exists():
            mend = "`wellspring rollback` to a version that is there, or `wellspring publish`."
            yield Finding("published", "fail", f"{link} points to no whole version", mend)
        else:
            yield Finding("published", "ok", "nothing is published yet")
        return
    try:
        if deep:
            require_whole(version)
        with closing(duckdb.connect(str(version.database), read_only=True)) as connection:
            tables = connection.execute("select count(*) from duckdb_tables()").fetchall()[0][0]
        made = datetime.fromisoformat(version.manifest()["created_at"])
    except (duckdb.Error, IngestionError, OSError, ValueError, KeyError) as error:
        text = f"version {version.name}: {first_line(error)}"
        mend = "`wellspring rollback` to another version, or `wellspring publish` makes one anew."
        yield Finding("published", "fail", text, mend, 6)
        return
    age = tell_seconds((datetime.now(UTC) - made).total_seconds())
    how = ", checksums as sealed" if deep else ""
    yield Finding("published", "ok", f"{version.name}, {tables} tables, {age} old{how}")


def pending(settings: Settings) -> Iterator[Finding]:
    """Whether extractions wait to be landed, and messages to be delivered."""
    waiting = sorted(
        {
            path.relative_to(settings.dlt_dir / "pipelines").parts[0]
            for pattern in ("*/load/normalized/*", "*/normalize/extracted/*")
            for path in (settings.dlt_dir / "pipelines").glob(pattern)
        }
    )
    if waiting and current_owner(lock_path(settings)) is None:
        text = f"read but not landed yet: {', '.join(waiting)}"
        yield Finding("pending", "warn", text, "`wellspring extract` lands it first.")
    else:
        yield Finding("pending", "ok", "nothing that was read waits to be landed")
    notices = _asked(settings, "select count(*) from notices where told_at is null")
    if notices:
        text = f"{notices} messages could not be delivered"
        yield Finding(
            "notifications", "warn", text, "`wellspring notify` tries again and says why."
        )


def backups(settings: Settings) -> Iterator[Finding]:
    """How old the last backup is, where backups have a place."""
    if not settings.backup.url:
        yield Finding("backup", "ok", "no place is set ([backup] url)")
        return
    mend = "`wellspring backup` makes one; `wellspring schedule` can do it every night."
    last = _asked(settings, "select max(made_at) from backups")
    if last is None:
        yield Finding("backup", "warn", "none was made yet", mend)
        return
    age = (datetime.now(UTC) - datetime.fromisoformat(last)).total_seconds()
    text = f"the last one is {tell_seconds(age)} old"
    if age > _OLD_BACKUP_SECONDS:
        yield Finding("backup", "warn", text, mend)
    else:
        yield Finding("backup", "ok", text)


def _asked(settings: Settings, sql: str) -> Any:
    """A single value from the history; None if there is none, or no history that has it."""
    path = settings.history_path
    if not path.is_file():
        return None
    try:
        with closing(_opened(path)) as connection:
            return connection.execute(sql).fetchone()[0]
    except sqlite3.DatabaseError:
        # Of an older version, or damaged, which its own check tells.
        return None
