"""Watched folders: files are extracted soon after they have settled.

notice of the file system, or the time for a look -> listing -> files that no longer change ->
the source's own extraction, of these files -> landing

A file has settled when two looks some time apart found it the same; one that is still being written
does not keep others waiting. Names that uploads bear until they are whole are passed over. Folders
are looked at now and then in any case, as network file systems and object stores give no notice.
Left out: landing itself: the extraction that `wellspring run` uses does it, and compares.
"""

from __future__ import annotations

import fnmatch
import logging
import posixpath
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ingestion.connections import resolve
from ingestion.declarations import SourceDeclaration
from ingestion.errors import IngestionError
from ingestion.extract import extract_source
from ingestion.files import OriginFile, list_origin
from ingestion.lander.stream import Progress
from ingestion.settings import Settings

log = logging.getLogger(__name__)

_UNFINISHED = ("*.part", "*.partial", "*.tmp", "*.temp", "*.filepart", "*.crdownload", "*.swp")
_HIDDEN = (".", "~$")
_NOTICE_MILLISECONDS = 250
_LONGEST_PAUSE = 300.0


@dataclass
class _Seen:
    """A file as it was found last.

    Attributes:
        version: What tells that it has changed.
        since: Since when it has looked like this.
        done: Whether this version has been extracted.
    """

    version: tuple[int | None, str, str]
    since: float
    done: bool = False


class FolderLander:
    """Extracts a source of files whenever its folders have something new.

    Args:
        declaration: The source, with the tables to watch.
        settings: The project's settings; `[land]` says how often to look and when a file settles.
        tell: Told of what it does, some times a second.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        settings: Settings,
        tell: Callable[[Progress], None] | None = None,
    ) -> None:
        self.progress = Progress(state="watching")
        self._declaration = declaration
        self._settings = settings
        self._tell = tell or (lambda _: None)
        self._settle = settings.land.settle_seconds
        self._every = settings.land.look_seconds
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._next_look = 0.0
        self._pause = 0.0

    def run(self, stop: threading.Event) -> Progress:
        """Watches until it is told to stop.

        Raises:
            ConnectionMissing: The connection is not configured.
        """
        resolve(self._declaration.connection or "")
        for noticed in self._notices(stop):
            if noticed:
                self._next_look = 0.0
            if time.monotonic() >= self._next_look and not stop.is_set():
                self._look()
            self._tell(self.progress)
        return self.progress

    def _look(self) -> None:
        """Extracts what has settled, and says when to look again."""
        self._next_look = time.monotonic() + self._every
        try:
            if self._settled_ones():
                self._extract()
            self._pause = 0.0
            self.progress.error, self.progress.state = "", "watching"
            if any(not seen.done for seen in self._seen.values()):
                self._next_look = time.monotonic() + self._settle / 2
        except IngestionError as error:
            self._pause = min(max(2 * self._pause, float(self._every)), _LONGEST_PAUSE)
            self._next_look = time.monotonic() + self._pause
            if self.progress.error != str(error):
                log.warning("%s: %s", self._declaration.name, error.sentence)
            self.progress.error, self.progress.state = str(error), "waiting"

    def _settled_ones(self) -> bool:
        """Looks at the folders; whether there is something that has settled and is not extracted.

        Raises:
            SourceUnreachable: A folder cannot be listed.
        """
        now = time.monotonic()
        found: dict[tuple[str, str], _Seen] = {}
        for table in self._declaration.tables:
            _, files = list_origin(self._declaration, table, self._settings)
            for file in files:
                if _is_unfinished(file.name):
                    continue
                key, version = (table.name, file.name), _version(file)
                before = self._seen.get(key)
                same = before is not None and before.version == version
                found[key] = before if before and same else _Seen(version, now)
        self._seen = found
        waiting = [seen for seen in found.values() if not seen.done]
        self.progress.waiting = len(waiting)
        return any(now - seen.since >= self._settle for seen in waiting)

    def _extract(self) -> None:
        """Extracts the files that have settled.

        Raises:
            IngestionError: The extraction failed; it is tried again.
        """
        now = time.monotonic()
        ready = {key: s for key, s in self._seen.items() if now - s.since >= self._settle}

        def is_ready(table: str, file: OriginFile) -> bool:
            seen = ready.get((table, file.name))
            return seen is not None and seen.version == _version(file)

        self.progress.state = "extracting"
        self._tell(self.progress)
        result = extract_source(self._declaration, self._settings, only=is_ready)
        if result.error is not None:
            raise result.error
        for seen in ready.values():
            seen.done = True
        files = sum(table.files for table in result.tables)
        if files:
            self.progress.files += files
            self.progress.bytes += sum(table.bytes for table in result.tables)
            self.progress.faults += sum(table.refused for table in result.tables)
            self.progress.last_landed_at = time.time()

    # When to look

    def _notices(self, stop: threading.Event) -> Iterator[bool]:
        """Some times a second: whether the file system told of a change."""
        while not stop.is_set():
            root = self._local_root()
            if root is not None and root.is_dir():
                yield from self._watched(root, stop)
            if not stop.wait(_NOTICE_MILLISECONDS / 1000):
                yield False

    def _watched(self, root: Path, stop: threading.Event) -> Iterator[bool]:
        from watchfiles import watch

        try:
            # The files that came while nobody watched are found by a look.
            self._next_look = 0.0
            for changes in watch(
                root,
                watch_filter=None,
                debounce=_NOTICE_MILLISECONDS,
                step=50,
                rust_timeout=_NOTICE_MILLISECONDS,
                yield_on_timeout=True,
                stop_event=stop,
                raise_interrupt=False,
            ):
                yield bool(changes)
                if not root.is_dir():
                    return
        except (OSError, RuntimeError) as error:
            # No notices here, such as too many folders for inotify: looks alone have to do.
            log.warning(
                "%s: the file system gives no notice of changes (%s); it is looked at every %d s",
                *(self._declaration.name, error, self._every),
            )
            while not stop.wait(_NOTICE_MILLISECONDS / 1000) and root.is_dir():
                yield False

    def _local_root(self) -> Path | None:
        """The folder, if it is one of this machine."""
        url = resolve(self._declaration.connection or "").url
        scheme, found, rest = url.partition("://")
        if not found:
            return (self._settings.project_dir / Path(url).expanduser()).resolve()
        return Path(rest) if scheme in ("file", "local") else None


def _is_unfinished(name: str) -> bool:
    base = posixpath.basename(name)
    return base.startswith(_HIDDEN) or any(fnmatch.fnmatch(base.lower(), p) for p in _UNFINISHED)


def _version(file: OriginFile) -> tuple[int | None, str, str]:
    return file.size, file.modified_at, file.etag
