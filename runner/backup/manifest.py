"""What a backup holds: its manifest, and how the files of all backups lie side by side.

<place>/files/ab/abcd... (named by SHA-256) <- named by <place>/backups/<id>.json, written last

A file that a backup needs and that is there already is not sent again, whichever backup brought it
and whatever it was called. Without its manifest a backup does not exist; the manifest carries a
checksum of itself. Left out: sending and fetching.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from ingestion.errors import BadInput
from runner.backup.store import Store

FORMAT = 1
BACKUPS, FILES = "backups", "files"
HISTORY = "state/history.sqlite"
_MANIFEST = re.compile(r"\d{6,}-\d{8}T\d{6}Z\.json")


@dataclass(frozen=True)
class Entry:
    """A file of a backup.

    Attributes:
        path: Where it lies below the data folder.
        bytes: Its size.
        sha256: Its checksum, which is its name among the backups.
        modified_ns: When it was modified, as the disk had it: a file that still has this time and
            size is not read again for the next backup.
    """

    path: str
    bytes: int
    sha256: str
    modified_ns: int

    @property
    def name(self) -> str:
        """Its name at the place of the backups."""
        return f"{FILES}/{self.sha256[:2]}/{self.sha256}"


@dataclass(frozen=True)
class Link:
    """A symbolic link of a backup.

    Attributes:
        path: Where it lies below the data folder.
        target: What it points to, relative to its own folder.
    """

    path: str
    target: str


@dataclass(frozen=True)
class Manifest:
    """One backup.

    Attributes:
        id: Its name, which sorts by time.
        made_at: When it was complete (ISO 8601, UTC).
        host: The machine that it was made on.
        data_dir: The folder that it was made of.
        git_revision: Commit of the project, if it is one.
        wellspring_version: Version of the program that made it.
        versions: Whether published versions are in it.
        files: Its files, by path.
        links: Its links.
    """

    id: str
    made_at: str
    host: str
    data_dir: str
    git_revision: str | None
    wellspring_version: str
    versions: bool
    files: tuple[Entry, ...] = field(repr=False)
    links: tuple[Link, ...] = ()

    @property
    def bytes(self) -> int:
        """Size of all its files."""
        return sum(entry.bytes for entry in self.files)

    @property
    def objects(self) -> dict[str, Entry]:
        """One entry for each different content, by its name at the place of the backups."""
        return {entry.name: entry for entry in self.files}


def encoded(manifest: Manifest) -> bytes:
    """A manifest as it is stored."""
    content = {"format": FORMAT, "bytes": manifest.bytes, **asdict(manifest)}
    content["checksum"] = _checksum(content)
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _checksum(content: dict[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "checksum"}
    return sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def manifest_name(backup_id: str) -> str:
    """Name of a backup's manifest at the place of the backups."""
    return f"{BACKUPS}/{backup_id}.json"


def backup_ids(store: Store) -> list[str]:
    """The backups that are there, oldest first."""
    names = (PurePosixPath(name).name for name in store.sizes(BACKUPS))
    return sorted(name.removesuffix(".json") for name in names if _MANIFEST.fullmatch(name))


def next_id(store: Store) -> str:
    """A name for a new backup: `000012-20260630T120000Z`.

    Numbered, so that they sort as they were made, also within a second or after the clock went
    back.
    """
    last = backup_ids(store)[-1:]
    number = int(last[0].partition("-")[0]) + 1 if last else 1
    return f"{number:06}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def read_manifest(store: Store, backup_id: str) -> Manifest:
    """What a backup holds.

    Raises:
        BadInput: There is no such backup, or its manifest is damaged or of a later version.
    """
    text = store.read(manifest_name(backup_id))
    try:
        content = json.loads(text)
        if content["format"] > FORMAT:
            raise BadInput(
                f"the backup {backup_id} was made by a later version of Wellspring",
                file=store.shown,
                hint=f"Use version {content['wellspring_version']} or later.",
            )
        if content["checksum"] != _checksum(content):
            raise ValueError("it is not what was written")
        kept = {k: content[k] for k in Manifest.__dataclass_fields__}
        files = tuple(Entry(**entry) for entry in kept.pop("files"))
        links = tuple(Link(**link) for link in kept.pop("links"))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"the manifest of the backup {backup_id} is damaged: {error}",
            file=store.shown,
            hint="Take another backup: `wellspring backup --list` shows them.",
        ) from error
    _check_paths(backup_id, [*(e.path for e in files), *(link.path for link in links)])
    return Manifest(files=files, links=links, **kept)


def _check_paths(backup_id: str, paths: Iterable[str]) -> None:
    """No path leads out of the data folder.

    Raises:
        BadInput: One does.
    """
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or ".." in parts or parts[0] not in ("landing", "published", "state"):
            raise BadInput(
                f"the backup {backup_id} names a file outside its places: {path!r}",
                hint="It was not made by `wellspring backup`; nothing of it is restored.",
            )


def all_manifests(store: Store) -> list[Manifest]:
    """Every backup, oldest first.

    Raises:
        BadInput: A manifest is damaged.
    """
    return [read_manifest(store, backup_id) for backup_id in backup_ids(store)]


def chosen(store: Store, backup_id: str | None) -> Manifest:
    """The backup of that name, or the newest.

    Raises:
        BadInput: There is none.
    """
    ids = backup_ids(store)
    if not ids:
        raise BadInput(
            "there is no backup", file=store.shown, hint="`wellspring backup` makes one."
        )
    if backup_id is not None and backup_id not in ids:
        raise BadInput(
            f"there is no backup {backup_id!r}", file=store.shown, hint=f"There are: {_some(ids)}."
        )
    return read_manifest(store, backup_id or ids[-1])


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(reversed(ids[-5:]))
    return f"{shown} and {len(ids) - 5} older ones" if len(ids) > 5 else shown
