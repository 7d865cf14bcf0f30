"""Many landers side by side: one a stream, in a few processes, until they are told to end.

declarations -> `Work`, one a stream or change log -> shared out over processes -> a thread each
SIGTERM, or the parent's end -> every lander lands what has arrived, and ends

Messages are read in Python, so that threads of one process share one processor: more processes
land more. A process that dies is started anew; what it had not landed yet comes again. A lander
that cannot go on is told of, and the others do not care. Left out: how one stream is landed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection as Pipe
from typing import Any

from ingestion.declarations import SourceDeclaration
from ingestion.errors import IngestionError, SourceFailed, first_line, our_error
from ingestion.lander.states import StateFile
from ingestion.settings import Settings

log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_STEP_SECONDS = 0.2
# Longer than any flush takes; a process that has not ended by then hangs.
_END_SECONDS = 60.0


@dataclass(frozen=True)
class Work:
    """What one lander does.

    Attributes:
        declaration: The source; of a stream, with the one table.
        table: Name of the table; empty where a lander lands all of the source.
    """

    declaration: SourceDeclaration
    table: str = ""

    @property
    def name(self) -> str:
        """`source.table`, or the source alone."""
        return f"{self.declaration.name}.{self.table}" if self.table else self.declaration.name


@dataclass(frozen=True)
class Ended:
    """How a lander ended.

    Attributes:
        name: Name of its work.
        error: Why it could not go on; None if it was told to end.
    """

    name: str
    error: IngestionError | None = None


OnEnded = Callable[[Ended], None]


def works_of(declarations: Sequence[SourceDeclaration]) -> list[Work]:
    """What there is to land without end, by name."""
    found = []
    for declaration in declarations:
        if declaration.kind == "cdc":
            found.append(Work(declaration))
        elif declaration.kind == "files":
            watched = tuple(table for table in declaration.tables if table.files.watch)
            if watched:
                found.append(Work(replace(declaration, tables=watched)))
        elif declaration.kind == "stream":
            for table in declaration.tables:
                found.append(Work(replace(declaration, tables=(table,)), table.name))
    return sorted(found, key=lambda work: work.name)


def land(
    works: Sequence[Work],
    settings: Settings,
    stop: threading.Event,
    on_ended: OnEnded | None = None,
) -> list[Ended]:
    """Lands until it is told to stop, or until no lander can go on.

    Args:
        works: What to land.
        settings: The project's settings.
        stop: Set to end all of them in order.
        on_ended: Told of each lander that ends.

    Returns:
        How each ended.
    """
    told = on_ended or (lambda _: None)
    processes = min(settings.land.processes, len(works))
    if processes <= 1:
        return _land_here(works, settings, stop, told)
    return _Processes(works, settings, stop, told, processes).run()


def land_one(work: Work, settings: Settings, stop: threading.Event) -> None:
    """Does one lander's work.

    Raises:
        IngestionError: It cannot go on.
    """
    if work.declaration.kind == "cdc":
        from ingestion.cdc.lander import ChangeLander

        ChangeLander(work.declaration, settings).run(stop)
        return
    with StateFile(settings, work.name) as state:
        if work.declaration.kind == "files":
            from ingestion.lander.folder import FolderLander

            FolderLander(work.declaration, settings, state.tell).run(stop)
            return
        stream_lander(work, settings, stop, state.tell).run()


def stream_lander(
    work: Work, settings: Settings, stop: threading.Event | None = None, tell: Any = None
) -> Any:
    """The lander of one stream, ready to run.

    Raises:
        IngestionError: The connection is not configured, or nothing reads its address.
    """
    from ingestion.connections import resolve
    from ingestion.lander.decoding import prepare_decoding
    from ingestion.lander.opening import open_consumer
    from ingestion.lander.stream import StreamLander

    declaration, table = work.declaration, work.declaration.table(work.table)
    connection = resolve(declaration.connection or "")
    return StreamLander(
        settings,
        declaration.name,
        table.name,
        table.stream,
        open_consumer(declaration, table, connection),
        prepare_decoding(table.stream, settings.project_dir),
        stop=stop,
        on_progress=tell,
    )


def _land_here(
    works: Sequence[Work], settings: Settings, stop: threading.Event, told: OnEnded
) -> list[Ended]:
    """Landers as threads of this process."""
    from ingestion.extract import prepare_extraction

    prepare_extraction(settings)
    ended: list[Ended] = []

    def do(work: Work) -> None:
        error: IngestionError | None = None
        try:
            land_one(work, settings, stop)
        except Exception as raised:
            # Whatever it is, the other landers go on, and it is told in the end.
            error = _ours(raised, work)
        ended.append(Ended(work.name, error))
        told(ended[-1])

    threads = [threading.Thread(target=do, args=(work,), name=work.name) for work in works]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        stop.wait(_STEP_SECONDS)
        if stop.is_set():
            for thread in threads:
                thread.join()
    return ended


def _ours(error: Exception, work: Work) -> IngestionError:
    ours = our_error(error)
    if ours is None:
        log.error("%s", work.name, exc_info=error)
        told = f"{type(error).__name__}: {first_line(error)}"
        hint = "What it had landed counts, and it goes on behind that. The log holds the details."
        ours = SourceFailed(told, hint=hint)
    ours.source = ours.source or work.declaration.name
    ours.table = ours.table or work.table or None
    return ours


# -- processes ---------------------------------------------------------------------------------


@dataclass
class _Process:
    """A process, and what it still has to do."""

    works: dict[str, Work]
    pause: float = _FIRST_PAUSE
    process: Any = None
    pipe: Any = None
    began: float = 0.0
    again_at: float = 0.0


def _shares(works: Sequence[Work], number: int) -> list[list[Work]]:
    """Works by process; those that listen on one address are in one."""
    groups: dict[str, list[Work]] = {}
    for work in works:
        groups.setdefault(_address(work) or work.name, []).append(work)
    shares: list[list[Work]] = [[] for _ in range(number)]
    for group in groups.values():
        min(shares, key=len).extend(group)
    return [share for share in shares if share]


def _address(work: Work) -> str:
    """Where a lander listens; empty if it does not."""
    from ingestion.connections import resolve

    if work.declaration.kind != "stream":
        return ""
    try:
        url = resolve(work.declaration.connection or "").url
    except IngestionError:
        # Its own lander will tell.
        return ""
    scheme, _, rest = url.partition("://")
    return rest.partition("/")[0] if scheme in ("http", "https") else ""


class _Processes:
    """Keeps some processes of landers alive."""

    def __init__(
        self,
        works: Sequence[Work],
        settings: Settings,
        stop: threading.Event,
        told: OnEnded,
        number: int,
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._told = told
        self._ended: list[Ended] = []
        # A new interpreter: threads of this one must not be copied in the middle of something.
        self._context = multiprocessing.get_context("spawn")
        shares = _shares(works, number)
        self._processes = [_Process({work.name: work for work in share}) for share in shares]

    def run(self) -> list[Ended]:
        """Until all have ended."""
        try:
            for process in self._processes:
                self._start(process)
            while not self._stop.is_set() and any(p.works for p in self._processes):
                self._stop.wait(_STEP_SECONDS)
                for process in self._processes:
                    self._look_after(process)
        finally:
            self._end()
        return self._ended

    def _start(self, process: _Process) -> None:
        own, theirs = self._context.Pipe()
        process.pipe = own
        process.process = self._context.Process(
            target=_be_process,
            args=(list(process.works.values()), self._settings, theirs),
            name="landers",
            daemon=True,
        )
        process.process.start()
        theirs.close()
        process.began = time.monotonic()

    def _look_after(self, process: _Process) -> None:
        self._hear(process)
        if not process.works or process.process.is_alive():
            return
        self._hear(process)
        if not process.works:
            return
        now = time.monotonic()
        if not process.again_at:
            if now - process.began > _LONGEST_PAUSE:
                process.pause = _FIRST_PAUSE
            names = ", ".join(process.works)
            log.warning(
                "the process that lands %s ended with code %s; it is started again",
                *(names, process.process.exitcode),
            )
            process.again_at = now + process.pause
            process.pause = min(2 * process.pause, _LONGEST_PAUSE)
        if now >= process.again_at:
            process.again_at = 0.0
            self._start(process)

    def _hear(self, process: _Process) -> None:
        """Takes what a process has told of landers that ended."""
        try:
            while process.pipe.poll():
                ended: Ended = process.pipe.recv()
                if process.works.pop(ended.name, None) is not None:
                    self._ended.append(ended)
                    self._told(ended)
        except (EOFError, OSError):
            # It has ended, and told all that it had to tell.
            return

    def _end(self) -> None:
        """Ends the processes in order."""
        for process in self._processes:
            if process.process is not None and process.process.is_alive():
                process.process.terminate()
        deadline = time.monotonic() + _END_SECONDS
        for process in self._processes:
            if process.process is None:
                continue
            while process.process.is_alive() and time.monotonic() < deadline:
                # A full pipe would keep it from ending.
                self._hear(process)
                process.process.join(_STEP_SECONDS)
            if process.process.is_alive():
                log.error("a process of landers does not end; it is killed, and nothing is lost")
                process.process.kill()
                process.process.join()
            self._hear(process)
            process.pipe.close()


def _be_process(works: list[Work], settings: Settings, pipe: Pipe) -> None:
    """What a process of landers does."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches all processes of a terminal; the parent tells us when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_to_stderr()

    def end_with_parent() -> None:
        try:
            pipe.recv()
        except (EOFError, OSError):
            stop.set()

    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()

    def tell(ended: Ended) -> None:
        try:
            pipe.send(ended)
        except OSError:
            log.debug("nobody is left to tell that %s ended", ended.name)

    _land_here(works, settings, stop, tell)
    pipe.close()
    os._exit(0)


def log_to_stderr() -> None:
    """What landers tell, as lines for a terminal or a service's log."""
    from ingestion.redaction import RedactingFilter

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    handler.addFilter(RedactingFilter())
    # In place of what libraries have set up: a line is to be told once.
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger("ingestion").setLevel(logging.INFO)
