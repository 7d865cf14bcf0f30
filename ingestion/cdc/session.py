"""What landers of change logs share: the load in the making, the checkpoint, the status.

checkpoint -> changes -> `ChangeLoad` -> landed when it is due -> the next

Left out: where changes come from (`lander` for PostgreSQL, `binlog_session` for MariaDB).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingestion.cdc.writing import (
    ChangeLoad,
    Checkpoint,
    Converter,
    newest_checkpoint,
    remove_unfinished,
)
from ingestion.declarations import SourceDeclaration
from ingestion.lander.written import state_folder
from ingestion.landing import completed_loads
from ingestion.settings import Settings


class Session:
    """A log, from the checkpoint on.

    Args:
        converter: Writes texts of the log as reading the table does.
        declaration: The source.
        settings: The project's settings.
        note: Told of each load that has landed.
    """

    def __init__(
        self,
        converter: Converter,
        declaration: SourceDeclaration,
        settings: Settings,
        note: Callable[[ChangeLoad], None],
    ) -> None:
        from ingestion.warehouse import in_memory

        assert declaration.cdc is not None
        self._converter = converter
        self._declaration = declaration
        self._settings = settings
        self._note = note
        self._flush = declaration.cdc.flush
        remove_unfinished(settings, declaration.name, [t.name for t in declaration.all_tables])
        self._duckdb = in_memory(settings)
        self._duckdb.execute("set threads = 2")
        self._checkpoint = newest_checkpoint(settings, declaration.name)
        self._newest = max(completed_loads(settings, declaration.name), default="")
        self._position = 0
        self._load = self._new_load()

    def _new_load(self) -> ChangeLoad:
        name = self._declaration.name
        return ChangeLoad(self._settings, name, self._converter, self._duckdb, self._newest)

    def _patience(self, longest: float) -> float:
        """How long to wait for news: not beyond the time at which a load is due."""
        if self._load.began is None:
            return longest
        left = self._load.began + float(self._flush.seconds) - time.monotonic()
        return min(longest, max(0.001, left))

    def _is_due(self) -> bool:
        began = self._load.began
        return began is not None and time.monotonic() - began >= float(self._flush.seconds)

    def _is_full(self) -> bool:
        flush = self._flush
        return self._load.rows >= flush.rows or self._load.bytes >= float(flush.megabytes) * 1e6

    def _land_at(self, checkpoint: Checkpoint) -> bool:
        """Lands what there is; False if there is nothing."""
        if self._load.is_empty:
            return False
        self._load.land(checkpoint)
        self._newest = self._load.load_id
        self._checkpoint = replace(checkpoint, load_id=self._newest)
        self._note(self._load)
        self._load = self._new_load()
        return True


def status_path(settings: Settings, source: str) -> Path:
    """Where a lander tells how far it is."""
    return state_folder(settings) / f"{source}.json"


def read_status(settings: Settings, source: str) -> dict[str, Any]:
    """What the lander of a source told last; empty if it never did."""
    try:
        found = json.loads(status_path(settings, source).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note_status(settings: Settings, source: str, **told: object) -> None:
    """Tells how far the lander of a source is; what is not given stays as it was told."""
    path = status_path(settings, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    content = {**read_status(settings, source), **told, "name": source, "kind": "cdc", "at": now}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
