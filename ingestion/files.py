"""Tables that arrive as files: new and changed files land byte for byte, and are registered.

URL + glob -> listing -> new or changed against the register -> originals/<folder>/<sha256>-<name>
(hashed while copied, fsync, rename) -> `preparing.prepare` -> register rows -> dlt -> landing

The register makes bytes count: an original whose register row is not part of a completed load is
ignored, and landing it again gives the same name. A file that cannot be read is registered as
refused, with its reason, and does not hinder the others; the loader reads it again when its
declaration has changed. Left out: reading rows (`load.py`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import posixpath
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ingestion.connections import Connection, resolve
from ingestion.declarations import FilesTable, SourceDeclaration, TableDeclaration
from ingestion.durable import sync
from ingestion.errors import (
    RIGHTS,
    IngestionError,
    SourceFailed,
    SourceUnreachable,
    disk_full,
    disk_full_error,
    first_line,
    network_fault,
    not_allowed,
)
from ingestion.failpoints import failpoint
from ingestion.formats import streams
from ingestion.formats.preparing import Unit, look_for, prepare, reading_of
from ingestion.formats.streams import Encoding, TextLook
from ingestion.landing import REGISTER_SUFFIX, RegisterRow, register_rows, register_table
from ingestion.periods import Period, days_of_file
from ingestion.progress import OnProgress, Reporter
from ingestion.redaction import redact
from ingestion.settings import Settings

if TYPE_CHECKING:
    from dlt.extract import DltResource
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)

_REMOTE_WORKERS = 8
# Local files of so many bytes on average are worth a core each.
_LARGE_BYTES = 2**20
_REGISTER_BATCH = 200
_ATTEMPTS = 3
# Copying and hashing share buffers that stay in the processor's cache.
_COPIED_AT_ONCE, _BUFFERS = streams.CHUNK, 8
# After so many bytes the disk is told to begin.
_SYNCED_BYTES = 64 * 2**20
_LEFTOVER_SECONDS = 24 * 3600
_LOCAL = ("file", "local")


@dataclass
class FilesOutcome:
    """What became of a table's files in one extraction; filled while dlt runs the resource.

    Attributes:
        table: Name of the table.
        found: Files that match the table's path.
        files: Files that are new or changed and were landed.
        bytes: Their size.
        rows: Rows in them, as far as known before loading.
        refused: Register rows of what cannot be read.
        busy: Files left for the next time because they were still being written.
        seconds: Time taken.
    """

    table: str
    found: int = 0
    files: int = 0
    bytes: int = 0
    rows: int = 0
    refused: list[RegisterRow] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class FilesExtraction:
    """The dlt resources of a files source, and what will become of each table.

    Attributes:
        resources: One resource a table, named `<table>__files`, yielding register rows as Arrow.
        outcomes: By table; complete once dlt has run the resources.
    """

    resources: list[DltResource]
    outcomes: dict[str, FilesOutcome]


@dataclass(frozen=True)
class OriginFile:
    """A file at its origin.

    Attributes:
        path: Where the file system finds it.
        name: Its path below the table's connection.
        size: Its size in bytes, if the listing says.
        modified_at: When it was modified, as an ISO text; empty if the origin does not say.
        etag: The origin's own mark of this version; empty if it has none.
    """

    path: str
    name: str
    size: int | None
    modified_at: str
    etag: str


OnlyFiles = Callable[[str, OriginFile], bool]


def files_resources(
    declaration: SourceDeclaration,
    settings: Settings,
    *,
    full_refresh: bool = False,
    on_progress: OnProgress | None = None,
    period: Period | None = None,
    only: OnlyFiles | None = None,
) -> FilesExtraction:
    """The dlt resources that land the new and changed files of a source of kind `files`.

    Call it after `landing.finish_pending`, and hand `resources` to `landing.run`. Nothing is read
    from the origin before dlt runs them. Their only state is the register, read from landing.

    Args:
        declaration: A source of kind `files`.
        settings: The project's settings.
        full_refresh: Read every file again and compare its bytes, whatever its date says.
        on_progress: Told of every landed file.
        period: Read the files of it again and compare their bytes, and no other.
        only: Asked for each file of a table whether it is to be read now; others wait.

    Returns:
        Resources and, by table, the outcomes that they fill.

    Raises:
        ConnectionMissing: The connection is not configured.

    The resources raise `SourceUnreachable` (no such place, no permission), `SourceFailed` (reading
    broke off) and `DiskFull`.
    """
    connection = resolve(declaration.connection or "")
    outcomes = {table.name: FilesOutcome(table.name) for table in declaration.tables}
    reporter = Reporter("extract", declaration.name, on_progress)
    resources = []
    for table in declaration.tables:
        work = _TableFiles(
            declaration,
            table,
            connection,
            settings,
            outcomes[table.name],
            reporter,
            full_refresh,
            period,
            only,
        )
        resources.append(_resource(work, table.name + REGISTER_SUFFIX))
    return FilesExtraction(resources, outcomes)


def list_origin(
    declaration: SourceDeclaration, table: TableDeclaration, settings: Settings
) -> tuple[AbstractFileSystem, list[OriginFile]]:
    """The files of a table that are at their origin now, by name.

    Args:
        declaration: A source of kind `files`.
        table: Its table.
        settings: The project's settings.

    Raises:
        ConnectionMissing: The connection is not configured.
        SourceUnreachable: The place cannot be listed.
    """
    connection = resolve(declaration.connection or "")
    outcome = FilesOutcome(table.name)
    reporter = Reporter("reconcile", declaration.name, None)
    work = _TableFiles(declaration, table, connection, settings, outcome, reporter, False)
    return work.listed()


def _resource(work: _TableFiles, name: str) -> DltResource:
    """The dlt resource of a table's register."""
    import dlt

    def rows() -> Iterator[Any]:
        yield from work.register()

    return dlt.resource(
        rows,
        name=name,
        write_disposition="append",
        primary_key=("file",),
        schema_contract="evolve",
        max_table_nesting=0,
    )


class _TableFiles:
    """Lands the files of one table."""

    def __init__(
        self,
        source: SourceDeclaration,
        table: TableDeclaration,
        connection: Connection,
        settings: Settings,
        outcome: FilesOutcome,
        reporter: Reporter,
        full_refresh: bool,
        period: Period | None = None,
        only: OnlyFiles | None = None,
    ) -> None:
        self._period = period
        self._only = only
        self._source = source.name
        self._table = table.name
        self._declared: FilesTable = table.files
        self._reading = reading_of(table.files)
        self._connection = connection
        self._settings = settings
        self._outcome = outcome
        self._reporter = reporter
        self._full_refresh = full_refresh
        self._folder = settings.landing_dir / source.name / table.name

    def register(self) -> Iterator[Any]:
        """Yields Arrow tables of register rows; the body of the dlt resource."""
        started = time.monotonic()
        self._reporter.tell("started", self._table)
        self._remove_leftovers()
        known = by_origin(register_rows(self._settings, self._source, self._table))
        filesystem, found = self.listed()
        self._outcome.found = len(found)
        if not found and not known:
            log.warning("%s.%s: no file matches %s", self._source, self._table, self._declared.path)
        fresh = [f for f in found if self._is_wanted(f, known)]
        batch: list[RegisterRow] = []
        for rows in self._landed(filesystem, fresh, known):
            batch.extend(rows)
            if len(batch) >= _REGISTER_BATCH:
                yield register_table(batch)
                batch = []
        if batch:
            yield register_table(batch)
        self._outcome.seconds = time.monotonic() - started
        self._reporter.tell(
            "finished", self._table, rows=self._outcome.rows, files=self._outcome.files
        )

    def _remove_leftovers(self) -> None:
        """Removes copies that a killed run left half done; those of a live one are younger."""
        oldest = time.time() - _LEFTOVER_SECONDS
        for part in (self._folder / "originals").glob(".*.part"):
            if part.stat().st_mtime < oldest:
                part.unlink(missing_ok=True)

    def listed(self) -> tuple[AbstractFileSystem, list[OriginFile]]:
        """The file system and the files that match the table's path."""
        base, options = self._place()
        pattern = posixpath.join(base.rstrip("/"), self._declared.path)
        try:
            import fsspec

            filesystem, root = fsspec.core.url_to_fs(base, **options)
            glob = posixpath.join(root.rstrip("/"), self._declared.path)
            details = filesystem.glob(glob, detail=True)
            entries = [info for info in details.values() if info.get("type") != "directory"]
            if not entries and _is_local(filesystem) and not filesystem.isdir(root):
                raise FileNotFoundError(f"there is no folder {root}")
            found = [_described(filesystem, root, info) for info in entries]
        except ImportError as error:
            raise self._failed(
                SourceUnreachable,
                f"reading {redact(pattern)} needs a package that is not installed: {error}",
                f"Add it to the environment: {_scheme(base)} is read through fsspec.",
            ) from error
        except IngestionError:
            raise
        except Exception as error:
            raise self._failed(
                SourceUnreachable,
                f"the files below {self._connection.safe_url} cannot be listed: "
                f"{first_line(error)}",
                f"Check the connection {self._connection.name!r} and its permissions.",
                may_pass=network_fault(error),
            ) from error
        return filesystem, sorted(found, key=lambda f: f.name)

    def _place(self) -> tuple[str, dict[str, Any]]:
        """The connection's URL for fsspec and the further keys that fsspec takes."""
        url = self._connection.url
        if "://" not in url:
            url = str((self._settings.project_dir / Path(url).expanduser()).resolve())
        return url, dict(self._connection.options)

    def _is_wanted(self, found: OriginFile, known: Mapping[str, list[RegisterRow]]) -> bool:
        if self._only is not None and not self._only(self._table, found):
            return False
        if self._period is not None:
            return self._period.holds(days_of_file(found.name, found.modified_at))
        return self._full_refresh or self._is_new(found, known)

    def _is_new(self, found: OriginFile, known: Mapping[str, list[RegisterRow]]) -> bool:
        """Whether a file's bytes have to be looked at."""
        rows = known.get(found.name)
        if not rows:
            return True
        last = rows[-1]
        told = found.etag or found.modified_at
        same = (found.size, found.modified_at, found.etag)
        return not told or same != (last.size, last.modified_at, last.etag)

    def _landed(
        self,
        filesystem: AbstractFileSystem,
        fresh: list[OriginFile],
        known: Mapping[str, list[RegisterRow]],
    ) -> Iterator[list[RegisterRow]]:
        """Register rows of each file, in the order of their names."""

        def land(found: OriginFile) -> list[RegisterRow]:
            return self._land(filesystem, found, known.get(found.name, []))

        workers = _REMOTE_WORKERS
        if _is_local(filesystem):
            # They are read whole: what unpacks and decodes leaves the interpreter free.
            is_large = sum(f.size or 0 for f in fresh) >= len(fresh) * _LARGE_BYTES
            workers = len(os.sched_getaffinity(0)) if is_large else 1
        if workers < 2 or len(fresh) < 2:
            yield from map(land, fresh)
            return
        # Remote files wait for the network; a bounded number ahead.
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(fresh), _REGISTER_BATCH):
                yield from pool.map(land, fresh[start : start + _REGISTER_BATCH])

    def _land(
        self, filesystem: AbstractFileSystem, found: OriginFile, rows: list[RegisterRow]
    ) -> list[RegisterRow]:
        try:
            copy = self._fetched(filesystem, found)
            if copy is None:
                return []
            try:
                return self._placed(found, rows, copy)
            finally:
                copy.path.unlink(missing_ok=True)
        except OSError as error:
            if disk_full(error):
                raise disk_full_error(self._folder, error, source=self._source) from error
            raise self._failed(
                SourceFailed,
                f"it cannot be landed: {first_line(error)}",
                RIGHTS if not_allowed(error) else "It is read again by the next run.",
                found.name,
                may_pass=network_fault(error),
            ) from error

    def _fetched(self, filesystem: AbstractFileSystem, found: OriginFile) -> _Copy | None:
        """Copies a file into landing while hashing it; None if it changed meanwhile."""
        folder = self._folder / "originals"
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                look = look_for(found.name, self._declared)
                copy = _copied(filesystem, found.path, folder, look)
            except FileNotFoundError:
                log.warning("%s vanished while it was being read", found.name)
                return None
            except OSError as error:
                if disk_full(error) or attempt == _ATTEMPTS or _is_local(filesystem):
                    raise
                log.warning("%s: %s; reading it again", found.name, first_line(error))
                time.sleep(attempt)
                continue
            if _is_local(filesystem) and not _unchanged(filesystem, found, copy.size):
                copy.path.unlink(missing_ok=True)
                log.warning("%s is still being written; it is left for the next time", found.name)
                self._outcome.busy.append(found.name)
                return None
            return copy
        raise AssertionError("the last attempt returns or raises")

    def _placed(self, found: OriginFile, rows: list[RegisterRow], copy: _Copy) -> list[RegisterRow]:
        """Gives landed bytes their name, prepares and registers them."""
        if rows and rows[-1].sha256 == copy.sha256:
            return []
        original = self._folder / "originals" / _original_name(found.name, rows, copy.sha256)
        original.parent.mkdir(parents=True, exist_ok=True)
        if not original.exists():
            copy.path.replace(original)
            sync(original.parent)
        failpoint("files.original_placed")
        folder = self._prepared_folder(original)
        units = prepare(original, found.name, self._declared, folder, copy.encoding)
        failpoint("files.prepared")
        made = [self._row(found, original, copy.sha256, copy.size, unit) for unit in units]
        self._outcome.files += 1
        self._outcome.bytes += original.stat().st_size
        self._outcome.rows += sum(row.rows or 0 for row in made)
        self._outcome.refused += [row for row in made if row.status == "refused"]
        self._reporter.tell(
            "advanced", self._table, rows=self._outcome.rows, files=self._outcome.files
        )
        return made

    def _prepared_folder(self, original: Path) -> Path:
        return prepared_folder(self._folder, original)

    def _row(
        self, found: OriginFile, original: Path, sha256: str, size: int, unit: Unit
    ) -> RegisterRow:
        landing = self._settings.landing_dir
        member = f"!{unit.member}" if unit.member else ""
        place = original.relative_to(landing).as_posix()
        if unit.refused:
            log.warning(
                "%s.%s: %s%s is refused: %s",
                self._source,
                self._table,
                found.name,
                member,
                unit.refused,
            )
        return RegisterRow(
            origin_url=redact(f"{self._connection.safe_url.rstrip('/')}/{found.name}"),
            origin_name=found.name + member,
            size=found.size if found.size is not None else size,
            modified_at=found.modified_at,
            etag=found.etag,
            sha256=sha256,
            original=place,
            file=place + member,
            read_path=unit.path.relative_to(landing).as_posix(),
            reader=unit.reader or "",
            reader_options=json.dumps({**unit.options, "reading": self._reading}),
            columns=json.dumps(unit.columns),
            rows=unit.rows,
            status="refused" if unit.refused else "landed",
            reason=redact(unit.refused),
            encoding=unit.encoding,
        )

    def _failed(
        self,
        kind: type[IngestionError],
        message: str,
        hint: str,
        file: str | None = None,
        may_pass: bool = False,
    ) -> IngestionError:
        where = {"source": self._source, "table": self._table, "file": file}
        return kind(message, hint=hint, may_pass=may_pass, **where)


def prepared_folder(table_folder: Path, original: Path) -> Path:
    """Where what is prepared from an original lies: beside the originals, under its name."""
    return table_folder / "prepared" / original.relative_to(table_folder / "originals")


def by_origin(rows: Iterable[RegisterRow]) -> dict[str, list[RegisterRow]]:
    """Register rows by the name of their file, members with their archive, oldest first."""
    known: dict[str, list[RegisterRow]] = {}
    for row in rows:
        member = row.file.removeprefix(row.original)
        known.setdefault(row.origin_name.removesuffix(member), []).append(row)
    return known


def _original_name(name: str, rows: list[RegisterRow], sha256: str) -> str:
    """Name of an original: its folder at the origin, its checksum, its own name.

    Bytes that come back after others had replaced them are a new version and get a number.
    """
    folder, base = posixpath.split(_safe_relative(name))
    earlier = {row.original for row in rows if row.sha256 == sha256}
    count = f".{len(earlier) + 1}" if earlier else ""
    return posixpath.join(folder, f"{sha256[:16]}{count}-{base}")


def _safe_relative(name: str) -> str:
    """A relative path without steps upwards, each part short enough for a file system."""
    parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
    return "/".join(part if len(part) <= 180 else part[-180:] for part in parts)


def _is_local(filesystem: AbstractFileSystem) -> bool:
    protocol = filesystem.protocol
    return any(p in _LOCAL for p in ([protocol] if isinstance(protocol, str) else protocol))


def _scheme(url: str) -> str:
    return url.partition("://")[0]


def _described(filesystem: AbstractFileSystem, root: str, info: Mapping[str, Any]) -> OriginFile:
    """What a listing says of a file, whatever the file system calls it."""
    path = str(info["name"])
    name = path.removeprefix(root).lstrip("/") or posixpath.basename(path)
    if _is_local(filesystem):
        stat = Path(path).stat()
        return OriginFile(path, name, stat.st_size, _iso(stat.st_mtime), str(stat.st_mtime_ns))
    if info.get("size") is None or not any(info.get(k) for k in _TOLD):
        info = {**info, **filesystem.info(path)}
    modified = next((info[k] for k in _MODIFIED if info.get(k)), "")
    etag = next((str(info[k]) for k in _ETAGS if info.get(k)), "")
    return OriginFile(path, name, info.get("size"), _iso(modified), etag.strip('"'))


_MODIFIED = ("LastModified", "last_modified", "updated", "modified", "mtime", "created")
_ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "sha", "hash")
_TOLD = (*_MODIFIED, *_ETAGS)


def _iso(value: Any) -> str:
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value, UTC)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat()
    return str(value)


@dataclass(frozen=True)
class _Copy:
    """A file on its way into landing.

    Attributes:
        path: A temporary file, fsynced.
        sha256: Its checksum.
        size: Bytes.
        encoding: How it is encoded, if that could be seen while it passed.
    """

    path: Path
    sha256: str
    size: int
    encoding: Encoding | None


def _copied(
    filesystem: AbstractFileSystem, path: str, folder: Path, look: TextLook | None
) -> _Copy:
    """Copies a file into a temporary one."""
    temporary = folder / f".{uuid.uuid4().hex}.part"
    try:
        with filesystem.open(path, "rb") as origin, temporary.open("wb") as copy:
            sha256, size = _copied_and_hashed(origin, copy, look)
            copy.flush()
            os.fsync(copy.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return _Copy(temporary, sha256, size, look.found() if look else None)


def _copied_and_hashed(origin: Any, copy: BinaryIO, look: TextLook | None) -> tuple[str, int]:
    """Copies and looks at all of a file; hashing it and waiting for the disk go on beside that.

    Both let other threads go on meanwhile. They begin with the first whole buffer, so that small
    files are copied without them.
    """
    digest = hashlib.sha256()
    size = unsynced = 0
    hashed: deque[tuple[Future[None], bytearray]] = deque()
    synced: list[Future[None]] = []
    with ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as syncing:
        while True:
            if len(hashed) == _BUFFERS:
                done, buffer = hashed.popleft()
                done.result()
            else:
                buffer = bytearray(_COPIED_AT_ONCE)
            chunk = memoryview(buffer)[: origin.readinto(buffer)]
            if look is not None:
                look.take(buffer if len(chunk) == len(buffer) else bytes(chunk))
            if not chunk:
                break
            if hashed or len(chunk) == _COPIED_AT_ONCE:
                hashed.append((hashing.submit(digest.update, chunk), buffer))
            else:
                digest.update(chunk)
            copy.write(chunk)
            failpoint("files.half_copied")
            size, unsynced = size + len(chunk), unsynced + len(chunk)
            if unsynced >= _SYNCED_BYTES:
                synced.append(syncing.submit(os.fsync, copy.fileno()))
                unsynced = 0
        for future in (*(done for done, _ in hashed), *synced):
            future.result()
    return digest.hexdigest(), size


def _unchanged(filesystem: AbstractFileSystem, found: OriginFile, size: int) -> bool:
    stat = Path(found.path).stat()
    return (stat.st_size, str(stat.st_mtime_ns)) == (size, found.etag)
