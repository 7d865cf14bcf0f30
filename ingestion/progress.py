"""What a step tells while it works, and how it tells it from many threads.

step -> `ProgressEvent` -> `Reporter` (one lock) -> the caller's function
Ctrl-C -> `interruption` -> every reading thread stops at its next batch, page or table

Left out: how an event is shown; the command line draws it, a log writes it, a test collects it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

State = Literal["started", "advanced", "finished", "failed"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgressEvent:
    """One step forward.

    Attributes:
        step: Name of the runner's step, such as `extract` or `load`.
        source: Name of the source concerned.
        table: Name of its table; None if the event is about the whole source.
        state: Whether it starts, goes on, or has ended well or badly.
        rows: Rows dealt with so far.
        files: Files dealt with so far.
        message: A sentence for people; no secrets.
    """

    step: str
    source: str
    table: str | None
    state: State
    rows: int = 0
    files: int = 0
    message: str = ""


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def span(time: timedelta) -> str:
    """`1 day`, `36 hours`: a time as a declaration would state it."""
    seconds = int(time.total_seconds())
    for size, noun in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size and seconds % size == 0:
            return counted(seconds // size, noun)
    return counted(seconds, "second")


class Interrupted(Exception):
    """The user ended the run while a thread was still reading."""


class Interruption:
    """Tells the threads that read sources to stop; one a process, as Ctrl-C is for the process."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def event(self) -> threading.Event:
        """What is set, for those who wait for something else as well."""
        return self._event

    def clear(self) -> None:
        """Begins anew."""
        self._event.clear()

    def set(self) -> None:
        """Ends the work of all threads at their next `check`."""
        self._event.set()

    def check(self) -> None:
        """Call it between batches, pages and tables.

        Raises:
            Interrupted: The run has been interrupted.
        """
        if self._event.is_set():
            raise Interrupted("interrupted")


interruption = Interruption()
OnProgress = Callable[[ProgressEvent], None]


class Reporter:
    """Passes the events of one source on, from any thread, one at a time.

    Args:
        step: Name of the step that reports.
        source: Name of the source concerned.
        on_progress: Who listens; nobody if None.
    """

    _lock = threading.Lock()

    def __init__(self, step: str, source: str, on_progress: OnProgress | None) -> None:
        self._step = step
        self._source = source
        self._on_progress = on_progress

    def tell(
        self,
        state: State,
        table: str | None = None,
        *,
        rows: int = 0,
        files: int = 0,
        message: str = "",
    ) -> None:
        """Sends an event; a listener that fails is logged and never stops the work."""
        if self._on_progress is None:
            return
        event = ProgressEvent(self._step, self._source, table, state, rows, files, message)
        try:
            with self._lock:
                self._on_progress(event)
        except Exception:
            logger.exception("the listener for progress failed")
