"""Which files of a table have left landing because their time was over.

landing/<source>/<table>/expired.json -> `expired_files` -> loader, verification, reconciliation

The list lies in landing, so that a warehouse that is made anew from landing is the one that was: it
has none of these rows either, and its ledger tells the same of them. A file is expired from the
moment it stands in the list; its bytes go afterwards. Left out: what may expire and when, which
`expire` knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from ingestion.durable import write_whole
from ingestion.errors import BadInput
from ingestion.settings import Settings

LIST = "expired.json"


@dataclass(frozen=True)
class ExpiredFile:
    """A file that has left landing, with what the ledger had of it.

    Attributes:
        file: What raw rows stated in `_file`.
        load_id: dlt's load id.
        origin_name: Name at the origin.
        bytes: Size of what had landed.
        sha256: Checksum of what had landed.
        rows_read: Records that were in it.
        rows_loaded: Rows that were in raw.
        rows_rejected: Records that were rejected.
        status: Whether it had been loaded or refused.
        expired_at: When its time was found to be over (ISO 8601, UTC, no zone).
    """

    file: str
    load_id: str
    origin_name: str | None
    bytes: int
    sha256: str
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    status: str
    expired_at: str


def list_path(settings: Settings, source: str, table: str) -> Path:
    """Where the list of a table lies."""
    return settings.landing_dir / source / table / LIST


def expired_files(settings: Settings, source: str, table: str) -> dict[str, ExpiredFile]:
    """Files of a table that have expired, by what raw rows stated in `_file`.

    Raises:
        BadInput: The list is damaged.
    """
    path = list_path(settings, source, table)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [ExpiredFile(**entry) for entry in content["files"]]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"the list of expired files is damaged: {error}",
            source=source,
            table=table,
            file=path,
            hint="Restore it from a backup of landing: `wellspring restore`.",
        ) from error
    return {entry.file: entry for entry in found}


def write_expired(
    settings: Settings, source: str, table: str, files: Iterable[ExpiredFile]
) -> None:
    """Puts a list in the place of the one that was, durably and in one step."""
    path = list_path(settings, source, table)
    listed = sorted(files, key=lambda entry: (entry.load_id, entry.file))
    write_whole(path, json.dumps({"files": [asdict(entry) for entry in listed]}, indent=0))
