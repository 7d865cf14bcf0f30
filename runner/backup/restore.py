"""Brings a backup back, whole or not at all.

mark `restore.json` -> what the backup does not have goes -> each file fetched under another name,
checked, renamed -> links -> history -> mark removed

As long as the mark lies there every command that opens landing refuses, so that a half-restored
landing is never taken for a whole one. Killed at any point, the same command goes on: files that
are there with their checksum are not fetched again. The warehouse goes, because it was made of
another landing; `wellspring rebuild` makes it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ingestion.durable import sync
from ingestion.errors import BadInput, DiskFull
from ingestion.failpoints import failpoint
from ingestion.schema.journal import journal_folder
from ingestion.settings import Settings
from runner.backup.manifest import HISTORY, Entry, Manifest
from runner.backup.store import Store
from runner.history import now

OnFile = Callable[[int, int, str], None]
_THREADS = 4
_PART = ".part"


@dataclass(frozen=True)
class Restored:
    """What a restore did.

    Attributes:
        manifest: The backup that was brought back.
        fetched: Files that were fetched; the others were there already.
        removed: Files that went because the backup does not have them.
        seconds: How long it took.
    """

    manifest: Manifest
    fetched: int
    removed: int
    seconds: float


def under_way(settings: Settings) -> str | None:
    """The backup that a restore is bringing back, or was when it broke off."""
    try:
        content = json.loads(settings.restore_mark.read_text(encoding="utf-8"))
        return str(content["backup"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""


def occupied_by(settings: Settings) -> list[Path]:
    """What a restore would replace or remove."""
    found = [settings.landing_dir] if _files_below(settings.landing_dir) else []
    places = (settings.history_path, settings.warehouse_path)
    return found + [place for place in places if place.exists()]


def restore(
    settings: Settings,
    store: Store,
    manifest: Manifest,
    *,
    replace: bool = False,
    on_file: OnFile | None = None,
) -> Restored:
    """Makes landing and history what they were; call it under the lock.

    Args:
        settings: The project's settings.
        store: Where the backup lies.
        manifest: The backup.
        replace: Whether what is here now may be replaced.
        on_file: Called as `on_file(done, total, name)` for each file.

    Raises:
        BadInput: There is something here already, or the backup is damaged.
        DiskFull: There is no room for it.
        StoreFailed: The place of the backups cannot be read.
    """
    began = time.monotonic()
    here = occupied_by(settings)
    if here and not replace and under_way(settings) != manifest.id:
        raise BadInput(
            "there is something here already: " + ", ".join(str(place) for place in here),
            file=settings.data_dir,
            hint="`wellspring restore --yes` replaces it; what the backup does not have is lost.",
        )
    _check_room(settings, manifest)
    _mark(settings, store, manifest)
    failpoint("restore.marked")
    removed = _remove_others(settings, manifest)
    fetched = _fetch_all(settings, store, manifest, on_file)
    _make_links(settings, manifest)
    failpoint("restore.before_unmarked")
    settings.restore_mark.unlink()
    sync(settings.data_dir)
    return Restored(manifest, fetched, removed, time.monotonic() - began)


def _check_room(settings: Settings, manifest: Manifest) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    present = sum(
        entry.bytes for entry in manifest.files if _size(settings.data_dir / entry.path) is not None
    )
    needed = manifest.bytes - present
    free = shutil.disk_usage(settings.data_dir).free
    if free < needed:
        raise DiskFull(
            f"the backup takes {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free below "
            f"{settings.data_dir}",
            hint="Free space, or set WELLSPRING_DATA to a larger disk. Nothing was changed.",
        )


def _mark(settings: Settings, store: Store, manifest: Manifest) -> None:
    content = {"backup": manifest.id, "from": store.shown, "begun_at": now()}
    temporary = settings.restore_mark.with_name(f".{settings.restore_mark.name}{_PART}")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(json.dumps(content) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(settings.restore_mark)
    sync(settings.data_dir)


def _remove_others(settings: Settings, manifest: Manifest) -> int:
    """Removes what is made of another landing, and files of landing that the backup lacks."""
    warehouse = settings.warehouse_path
    for path in (warehouse, warehouse.with_name(f"{warehouse.name}.wal")):
        path.unlink(missing_ok=True)
    journals = journal_folder(settings)
    for folder in (settings.dlt_dir, settings.spool_dir, settings.state_dir / "backup", journals):
        # dlt may have loads pending there that belong to another time, as journals of changes do.
        shutil.rmtree(folder, ignore_errors=True)
    kept = {settings.data_dir / entry.path for entry in manifest.files}
    others = [path for path in _files_below(settings.landing_dir) if path not in kept]
    for path in others:
        path.unlink()
        failpoint("restore.file_removed")
    for folder in sorted(_folders_below(settings.landing_dir), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return len(others)


def _fetch_all(settings: Settings, store: Store, manifest: Manifest, on_file: OnFile | None) -> int:
    """Fetches what is not here with its checksum; the history comes last."""
    entries = sorted(manifest.files, key=lambda entry: entry.path == HISTORY)
    landed = [entry for entry in entries if entry.path != HISTORY]
    fetched = 0
    with ThreadPoolExecutor(_THREADS, "restore") as pool:
        jobs = [pool.submit(_fetch, settings, store, entry) for entry in landed]
        try:
            for number, (entry, job) in enumerate(zip(landed, jobs, strict=True), start=1):
                fetched += job.result()
                failpoint("restore.file_fetched")
                if on_file is not None:
                    on_file(number, len(entries), entry.path)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for folder in {(settings.data_dir / entry.path).parent for entry in landed}:
        sync(folder)
    for entry in entries[len(landed) :]:
        for ending in ("-wal", "-shm"):
            # They belong to the history that was here; SQLite would apply them to the other one.
            settings.history_path.with_name(f"history.sqlite{ending}").unlink(missing_ok=True)
        fetched += _fetch(settings, store, entry)
        sync(settings.history_path.parent)
    return fetched


def _fetch(settings: Settings, store: Store, entry: Entry) -> int:
    """Fetches a file unless it is here; returns how many were fetched."""
    target = settings.data_dir / entry.path
    if _size(target) == entry.bytes and _sha256(target) == entry.sha256:
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}{_PART}")
    came = store.fetch(entry.name, temporary)
    if came != entry.sha256:
        temporary.unlink()
        raise BadInput(
            f"{entry.path} is damaged in the backup: its checksum is another one",
            file=store.shown,
            hint="`wellspring backup --verify` tells what else is; restore an earlier backup with "
            "`--backup`. Landing stays closed until a restore has ended.",
        )
    # With its time, the next backup need not read it again.
    os.utime(temporary, ns=(entry.modified_ns, entry.modified_ns))
    temporary.replace(target)
    return 1


def _make_links(settings: Settings, manifest: Manifest) -> None:
    for link in manifest.links:
        path = settings.data_dir / link.path
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(link.target)
        temporary.replace(path)
        sync(path.parent)


def _files_below(folder: Path) -> list[Path]:
    return [Path(place) / name for place, _, names in os.walk(folder) for name in names]


def _folders_below(folder: Path) -> list[Path]:
    return [Path(place) / name for place, names, _ in os.walk(folder) for name in names]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
