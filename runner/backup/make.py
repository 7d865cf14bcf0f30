"""Makes a backup: what is not there yet is sent, then the manifest, then surplus backups go.

landing, history, journals, versions -> entries with checksums -> missing files sent and read back
-> `backups/<id>.json` -> backups beyond `[backup] keep` removed, with files that no other needs

Killed at any point, the backups that were there stay whole, and what was sent already is not sent
again. Left out: the warehouse, which is made again from landing, and working folders.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ingestion.errors import BadInput, IngestionError
from ingestion.failpoints import failpoint
from ingestion.landing import DAY_FOLDER, check_whole, newest_of_streams
from ingestion.schema.journal import journal_folder
from ingestion.settings import Settings
from runner.backup.manifest import (
    FILES,
    HISTORY,
    Entry,
    Link,
    Manifest,
    all_manifests,
    backup_ids,
    encoded,
    manifest_name,
    next_id,
    read_manifest,
)
from runner.backup.store import Store
from runner.history import git_revision, now
from runner.versions import all_versions

OnFile = Callable[[int, int, str], None]
_THREADS = 4
# Copies that a killed run left half done, their names hidden by a dot; no load counts them.
_UNFINISHED = (".part", ".tmp")
# What nothing needs may belong to a backup that is being made elsewhere just now.
_ORPHAN_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Made:
    """What making a backup did.

    Attributes:
        manifest: The backup.
        sent_files: Files that had to be sent.
        sent_bytes: Their size.
        removed: Backups that were removed because newer ones suffice.
        seconds: How long it took.
    """

    manifest: Manifest
    sent_files: int
    sent_bytes: int
    removed: tuple[str, ...]
    seconds: float


def make_backup(
    settings: Settings, store: Store, *, versions: bool, on_file: OnFile | None = None
) -> Made:
    """Makes a backup; call it under the lock.

    Args:
        settings: The project's settings.
        store: Where it goes.
        versions: Whether published versions are to be in it.
        on_file: Called as `on_file(done, total, name)` for each file that is sent.

    Raises:
        BadInput: There is nothing to back up, or landing is being restored.
        StoreFailed: The place cannot be written.
    """
    check_whole(settings)
    began = time.monotonic()
    scratch = settings.state_dir / "backup"
    scratch.mkdir(parents=True, exist_ok=True)
    snapshot = scratch / "history.sqlite"
    try:
        manifest, places = _described(settings, store, snapshot, versions)
        sent = _send(store, manifest, places, on_file)
    finally:
        snapshot.unlink(missing_ok=True)
    store.sync(FILES)
    failpoint("backup.before_manifest")
    store.write(manifest_name(manifest.id), encoded(manifest))
    store.sync("backups")
    failpoint("backup.after_manifest")
    removed = remove_surplus(store, settings.backup.keep)
    size = sum(entry.bytes for entry in sent)
    return Made(manifest, len(sent), size, removed, time.monotonic() - began)


def _described(
    settings: Settings, store: Store, snapshot: Path, versions: bool
) -> tuple[Manifest, dict[str, Path]]:
    """The manifest of what is here now, and where each of its files lies."""
    places = dict(_landed(settings))
    if settings.history_path.is_file():
        copy_history(settings.history_path, snapshot)
        places[HISTORY] = snapshot
    places |= {
        str(path.relative_to(settings.data_dir)): path
        for path in journal_folder(settings).glob("*.json")
    }
    links: tuple[Link, ...] = ()
    if versions:
        places |= dict(_published(settings))
        links = tuple(_links(settings))
    if not places:
        raise BadInput(
            "there is nothing to back up", file=settings.data_dir, hint="`wellspring run` first."
        )
    known = _known(store)
    with ThreadPoolExecutor(_THREADS, "checksums") as pool:
        entries = tuple(
            pool.map(lambda item: _entry(item[0], item[1], known), sorted(places.items()))
        )
    manifest = Manifest(
        id=next_id(store),
        made_at=now(),
        host=socket.gethostname(),
        data_dir=str(settings.data_dir),
        git_revision=git_revision(settings.project_dir),
        wellspring_version=_own_version(),
        versions=versions,
        files=entries,
        links=links,
    )
    return manifest, places


def _landed(settings: Settings) -> Iterator[tuple[str, Path]]:
    newest = newest_of_streams(settings)
    for folder, _, names in os.walk(settings.landing_dir):
        # A lander may be at work. What was there before the walk began is listed whole; of what
        # came since a listing may have a later file without an earlier one.
        last = newest.get(Path(folder).parent) if DAY_FOLDER.match(Path(folder).name) else None
        for name in names:
            path = Path(folder) / name
            is_unfinished = name.startswith(".") and name.endswith(_UNFINISHED)
            is_too_new = DAY_FOLDER.match(path.parent.name) and name > (last or "")
            if not is_unfinished and not is_too_new and not path.is_symlink():
                yield path.relative_to(settings.data_dir).as_posix(), path


def _published(settings: Settings) -> Iterator[tuple[str, Path]]:
    for version in all_versions(settings):
        for path in version.path.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path.relative_to(settings.data_dir).as_posix(), path


def _links(settings: Settings) -> Iterator[Link]:
    """What points to a version: the current one, one that waits for approval."""
    for path in sorted(settings.published_dir.iterdir()) if settings.published_dir.is_dir() else ():
        if path.is_symlink() and not path.name.endswith(_UNFINISHED):
            yield Link(path.relative_to(settings.data_dir).as_posix(), path.readlink().name)


def copy_history(path: Path, target: Path) -> None:
    """Copies the run history as of one moment, whoever writes it meanwhile.

    Raises:
        IngestionError: It is damaged.
    """
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            # A single file, without a write-ahead log beside it.
            copy.execute("pragma journal_mode = delete")
            found = copy.execute("pragma quick_check").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise IngestionError(
            f"the run history is damaged and was not backed up: {found}",
            file=path,
            hint="Move it away (a new one is begun, no data is lost), then back up again.",
        )


def _known(store: Store) -> dict[str, Entry]:
    """What the newest backup has, by path; a damaged manifest spares no work."""
    ids = backup_ids(store)
    if not ids:
        return {}
    try:
        return {entry.path: entry for entry in read_manifest(store, ids[-1]).files}
    except BadInput:
        return {}


def _entry(path: str, place: Path, known: Mapping[str, Entry]) -> Entry:
    found = place.stat()
    before = known.get(path)
    same = before is not None and (before.bytes, before.modified_ns) == (
        found.st_size,
        found.st_mtime_ns,
    )
    # The history is a copy made just now: its time says nothing.
    if same and before is not None and path != HISTORY:
        return before
    with place.open("rb") as handle:
        checksum = hashlib.file_digest(handle, "sha256").hexdigest()
    return Entry(path, found.st_size, checksum, found.st_mtime_ns)


def _own_version() -> str:
    from importlib.metadata import version

    return version("wellspring")


def _send(
    store: Store, manifest: Manifest, places: Mapping[str, Path], on_file: OnFile | None
) -> list[Entry]:
    """Sends what is not there in its full length; returns what was sent."""
    present = store.sizes(FILES)
    missing = [e for name, e in manifest.objects.items() if present.get(name) != e.bytes]
    with ThreadPoolExecutor(_THREADS, "backup") as pool:
        jobs = [pool.submit(store.send, places[e.path], e.name, e.sha256) for e in missing]
        try:
            for number, (entry, job) in enumerate(zip(missing, jobs, strict=True), start=1):
                job.result()
                failpoint("backup.file_sent")
                if on_file is not None:
                    on_file(number, len(missing), entry.path)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return missing


def remove_surplus(store: Store, keep: int) -> tuple[str, ...]:
    """Removes all but the newest backups, and files that no backup needs any more.

    Returns:
        The backups that were removed.

    Raises:
        BadInput: A manifest is damaged: nobody can say then which files it needs.
    """
    removed = tuple(backup_ids(store)[:-keep])
    if not removed:
        return ()
    manifests = all_manifests(store)
    kept = {name for m in manifests if m.id not in removed for name in m.objects}
    gone = {name for m in manifests if m.id in removed for name in m.objects}
    # The manifests first: a backup that lacks a file must not be taken for a whole one.
    store.remove([manifest_name(backup_id) for backup_id in removed])
    store.sync("backups")
    failpoint("backup.manifests_removed")
    oldest = time.time() - _ORPHAN_SECONDS
    orphans = {name for name, moment in store.ages(FILES).items() if moment < oldest}
    store.remove(sorted((gone | orphans) - kept))
    return removed


@dataclass(frozen=True)
class Damage:
    """A file of a backup that is not what it was.

    Attributes:
        backup: The backup, or the first of several.
        path: The file, below the data folder.
        problem: What is wrong with it.
    """

    backup: str
    path: str
    problem: str


def verify_backups(
    store: Store, manifests: list[Manifest], on_file: OnFile | None = None
) -> list[Damage]:
    """Reads every file of backups again and compares its size and checksum.

    Args:
        store: Where they lie.
        manifests: The backups.
        on_file: Called as `on_file(done, total, name)` for each file.

    Returns:
        What is missing or damaged; empty if nothing is.
    """
    wanted = {name: (m.id, e) for m in reversed(manifests) for name, e in m.objects.items()}
    present = store.sizes(FILES)

    def check(item: tuple[str, tuple[str, Entry]]) -> Damage | None:
        name, (backup, entry) = item
        size = present.get(name)
        if size is None:
            return Damage(backup, entry.path, "it is missing")
        if size != entry.bytes:
            return Damage(backup, entry.path, f"it has {size:,} bytes instead of {entry.bytes:,}")
        if store.checksum(name) != entry.sha256:
            return Damage(backup, entry.path, "its bytes are other than those that were sent")
        return None

    damages = []
    with ThreadPoolExecutor(_THREADS, "verify") as pool:
        for number, found in enumerate(pool.map(check, wanted.items()), start=1):
            if found is not None:
                damages.append(found)
            if on_file is not None:
                on_file(number, len(wanted), "")
    return damages
