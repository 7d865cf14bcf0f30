"""Whoever wants to know of a run while it goes on: one list, told from one place.

pipeline -> `Observers` -> each `Observer`, in order: a run begins, a step begins, a step has ended,
the run has ended

An observer looks on; nothing that it does or fails to do changes what a run comes to. One that
raises is logged, told once as a warning, and still told of what follows. Each bounds its own time:
a run waits for it. Left out: who is told what on the terminal, which is the reporter's.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingestion.errors import first_line
from ingestion.settings import Settings

if TYPE_CHECKING:
    from runner.machine import Visit
    from runner.pipeline import RunResult
    from runner.steps import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        status: succeeded, partly, failed or interrupted, as it stands in the run history.
        exit_code: The exit code of the command.
        message: What went wrong, one line a fault.
        seconds: How long the run took.
        result: All of it; None if the run was interrupted or a fault in the program ended it.
    """

    status: str
    exit_code: int
    message: str
    seconds: float
    result: RunResult | None = None


class Observer:
    """Does nothing; the parent of those that do."""

    name = "observer"

    def on_begin(self, run: Run) -> None:
        """A run has begun, and stands in the history."""

    def on_step_begin(self, run: Run, step: str) -> None:
        """A step begins."""

    def on_step(self, run: Run, step: Visit) -> None:
        """A step has ended, and stands in the history with its items."""

    def on_end(self, run: Run, ending: Ending) -> None:
        """A run has ended, and stands in the history. The lock is still held."""


def observers(settings: Settings) -> list[Observer]:
    """Everyone who looks on at the runs of a project, by its settings.

    The run history comes first, so that those after it find in it what a step took.
    """
    from runner.notify.observer import Notifier
    from runner.usage import Recorder

    found: list[Observer] = [Recorder(), Notifier()]
    if settings.metrics.file:
        from runner.metrics import MetricsFile

        found.append(MetricsFile())
    if settings.openlineage.file or settings.openlineage.url:
        from runner.openlineage.observer import LineageObserver
        from runner.openlineage.sending import sender_of

        found.append(LineageObserver(sender_of(settings)))
    return found


@dataclass
class Observers:
    """Tells all observers, and shields the run from them.

    Args:
        watching: The observers.
    """

    watching: Sequence[Observer] = ()
    _told: set[str] = field(default_factory=set, init=False)
    _one_at_a_time: threading.RLock = field(default_factory=threading.RLock, init=False)

    def begin(self, run: Run) -> None:
        """Tells that a run began."""
        self._each(run, lambda observer: observer.on_begin(run))

    def step_begins(self, run: Run, step: str) -> None:
        """Tells that a step begins."""
        self._each(run, lambda observer: observer.on_step_begin(run, step))

    def step_ends(self, run: Run, step: Visit) -> None:
        """Tells how a step ended."""
        self._each(run, lambda observer: observer.on_step(run, step))

    def end(self, run: Run, ending: Ending) -> None:
        """Tells how a run ended."""
        self._each(run, lambda observer: observer.on_end(run, ending))

    def _each(self, run: Run, tell: Callable[[Observer], None]) -> None:
        with self._one_at_a_time:
            for observer in self.watching:
                try:
                    tell(observer)
                except Exception as error:
                    # Whatever it is: a run must not fail because somebody who looks on does.
                    # Not as an error: what is logged as one is told to people, each time.
                    log.info("%s could not be told", observer.name, exc_info=True)
                    if observer.name not in self._told:
                        self._told.add(observer.name)
                        run.reporter.warn(f"{observer.name}: {first_line(error)} (the run goes on)")
