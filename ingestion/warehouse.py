"""The one place that opens DuckDB: the warehouse, or a database in memory with the same budget.

settings -> `connect` -> connection with memory, threads, temporary and extension folder set

DuckDB lets one process write and shuts all others out, so a held file ends in `LockHeld` and says
who holds it. Left out: published versions, which readers open by themselves, read-only.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.budget import apply_budget
from ingestion.errors import BadInput, LockHeld, disk_full, disk_full_error, first_line
from ingestion.extensions import prepare_extensions
from ingestion.lock import current_owner, lock_path
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

# Older formats try three compressions for each text column; see docs/decisions/0030.
_FORMAT = "v1.5.0"
_DAMAGED = ("Corrupt database file", "not a valid DuckDB database")
# How long a reader waits for the end of a cycle of `wellspring watch`.
_CYCLE_SECONDS = 10.0
_GRACE_SECONDS = 0.3
_PAUSE_SECONDS = 0.05
_HOLDER = re.compile(r"PID (\d+)")


def connect(settings: Settings, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Opens the warehouse file, which is made if absent.

    Args:
        settings: The project's settings.
        read_only: Open for reading; other processes may then read too.

    Raises:
        LockHeld: Another process has the file open.
        BadInput: The file is no DuckDB database, or does not exist when opened read-only.
        DiskFull: There is no room to make it.
    """
    import duckdb

    path = settings.warehouse_path
    if read_only and not path.is_file():
        raise BadInput("there is no warehouse yet", file=path, hint="Run `wellspring load` first.")
    began = time.monotonic()
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _make(path)
            connection = duckdb.connect(str(path), read_only=read_only)
            break
        except (duckdb.Error, OSError) as error:
            told = _explain(settings, error)
            waited = time.monotonic() - began
            is_held = isinstance(told, LockHeld) and read_only
            if not is_held or waited > _longest_wait(settings):
                raise told from error
            time.sleep(_PAUSE_SECONDS)
    _configure(connection, settings)
    return connection


def _make(path: Path) -> None:
    """Makes the empty file in DuckDB's newest format, which compresses texts in one pass.

    Whoever opens it later keeps to that format, dbt included.
    """
    import duckdb

    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    place = str(temporary).replace("'", "''")
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"attach '{place}' as made (storage_version '{_FORMAT}')")
            connection.execute("detach made")
        # Another process may have been quicker; a link does not take the place of its file.
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _longest_wait(settings: Settings) -> float:
    """How long a reader waits: for `wellspring watch` to end its cycle, for others not."""
    owner = current_owner(lock_path(settings))
    if owner is None:
        # It has let go since, or is no process of ours.
        return _GRACE_SECONDS
    return _CYCLE_SECONDS if owner.gives_way else 0.0


def in_memory(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A DuckDB database in memory, with the same budget, for work on files."""
    import duckdb

    connection = duckdb.connect(":memory:")
    _configure(connection, settings)
    return connection


def _configure(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    settings.temporary_dir.mkdir(parents=True, exist_ok=True)
    apply_budget(connection, settings)
    connection.execute("set preserve_insertion_order = true")
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set enable_progress_bar = false")
    prepare_extensions(connection, settings.extensions_dir)


def _explain(settings: Settings, error: Exception) -> Exception:
    path = settings.warehouse_path
    text = str(error)
    if "Conflicting lock" in text or "Could not set lock" in text:
        holder = _HOLDER.search(text)
        who = f" (process {holder.group(1)})" if holder else ""
        return LockHeld(
            f"another process{who} has the warehouse open",
            file=path,
            hint="Wait until it has ended, or close it. Readers use the published version instead.",
        )
    if disk_full(error):
        return disk_full_error(path.parent, error)
    if damaged(text):
        return damaged_error(settings, text)
    return BadInput(
        f"the warehouse cannot be opened: {first_line(error)}",
        file=path,
        hint="If the file is damaged: `wellspring rebuild` makes it again from landing.",
    )


def damaged(text: str) -> bool:
    """Whether a message of DuckDB says that the bytes of a file are not what it wrote."""
    return any(sign in text for sign in _DAMAGED)


def damaged_error(settings: Settings, text: str) -> BadInput:
    """What is said of a damaged warehouse, whoever comes upon it.

    Args:
        settings: The project's settings.
        text: DuckDB's message.
    """
    lines = [line.strip() for line in text.splitlines() if damaged(line)]
    return BadInput(
        f"the warehouse is damaged: {(lines or [text])[0]}",
        file=settings.warehouse_path,
        hint="`wellspring rebuild` makes it again from landing, with the same rows. Readers keep "
        "the published version meanwhile. See whether the disk is sound.",
    )
