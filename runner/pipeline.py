"""A run from its first step to its last: lock, history, time, what stops it and how it ends.

steps asked for -> part of the flow -> lock -> history -> `Machine` -> `RunResult` with an exit code

A fault that leaves something to do (one source of several failed) lets the run go on and makes it
end non-zero; any other ends it at once, and the steps after it are not done. Left out: what the
steps do, which `steps` knows, and how a result is shown, which `summary` knows.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import FrameType

from ingestion.budget import require_free, sweep_temporary
from ingestion.errors import (
    IngestionError,
    disk_full,
    disk_full_error,
    first_line,
    not_allowed,
    not_allowed_error,
)
from ingestion.failpoints import failpoint
from ingestion.lock import tell_wait, writer_lock
from ingestion.settings import Settings
from ingestion.warehouse import damaged, damaged_error
from runner.flow import FLOW
from runner.history import Attempt, History, new_run_id, origin
from runner.logs import log_path, run_log
from runner.machine import Flow, Machine, Retry, State, Visit, Watch
from runner.observers import Ending, Observers, observers
from runner.report import Reporter
from runner.resuming import Request, unfinished
from runner.steps import Run
from runner.transform import Selection

log = logging.getLogger(__name__)

INTERRUPTED = 130
# Of several faults the one that needs a person first gives the exit code.
_URGENCY = (7, 1, 2, 4, 6, 8)


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run: What was asked for and what came of it.
        steps: The steps that were begun.
        not_done: Names of the steps that were not.
        seconds: How long all of it took.
        exit_code: The exit code of the command.
        stopped_by: The fault that ended it early.
    """

    run: Run
    steps: tuple[Visit, ...]
    not_done: tuple[str, ...]
    seconds: float
    exit_code: int
    stopped_by: IngestionError | None

    @property
    def later(self) -> tuple[IngestionError, ...]:
        """Faults that did not stop it."""
        found = (error for step in self.steps for error in step.result.later)
        return tuple(error for error in found if error is not self.stopped_by)

    @property
    def status(self) -> str:
        """succeeded, failed, or partly (it was done to the end, but not all of it went well)."""
        if self.stopped_by is not None:
            return "failed"
        return "partly" if self.exit_code else "succeeded"


def execute(
    settings: Settings,
    steps: Sequence[str | State],
    selection: Selection,
    full_refresh: bool,
    reporter: Reporter,
    command: str,
    *,
    lazy: bool = False,
    attempts: int | None = None,
) -> RunResult:
    """Does steps in order, under the lock, noted in the history.

    Args:
        settings: The project's settings.
        steps: Names of the steps, or states that are known to their own command only.
        selection: What to work on.
        full_refresh: Whether to extract and build everything anew.
        reporter: Who tells people.
        command: The command line, for the history and for whoever meets the lock.
        lazy: Whether to build and test only if code or rows have changed since it was done last.
        attempts: How often what may pass is tried, in place of what `[retry]` says.

    Raises:
        LockHeld: Another run is under way.
        IngestionError: A fault in the program ended it; the log has the traceback.
        KeyboardInterrupt: It was interrupted; the history says so.
    """
    with _begun(settings, command, reporter) as (run_id, history):
        run = Run(settings, selection, full_refresh, lazy, run_id, history, reporter)
        return _carried(run, steps, command, attempts)


def resume(
    settings: Settings, reporter: Reporter, command: str, *, attempts: int | None = None
) -> RunResult | str:
    """Goes on with the last run from the step that failed, with its request and logical date.

    Args:
        settings: The project's settings.
        reporter: Who tells people.
        command: The command line.
        attempts: How often what may pass is tried, in place of what `[retry]` says.

    Returns:
        How it ended, or why there is nothing to resume.

    Raises:
        LockHeld: Another run is under way.
        IngestionError: A fault in the program ended it; the log has the traceback.
    """
    with _begun(settings, command, reporter) as (run_id, history):
        left = unfinished(history)
        if isinstance(left, str):
            return left
        as_of = replace(settings.measures, as_of=left.logical_date)
        request = left.request
        run = Run(
            replace(settings, measures=as_of),
            request.selection,
            request.full_refresh,
            False,
            run_id,
            history,
            reporter,
            resumption=left,
        )
        return _carried(run, left.steps, command, attempts)


@contextmanager
def _begun(settings: Settings, command: str, reporter: Reporter) -> Iterator[tuple[str, History]]:
    """What surrounds a run: the lock, the history, the log, an end in good order."""
    with (
        writer_lock(
            settings, new_run_id, command, lambda *held: reporter.waiting(tell_wait(*held))
        ) as lock,
        _terminable(),
        closing(History(settings.state_dir / "history.sqlite")) as history,
        run_log(settings, lock.run_id),
    ):
        sweep_temporary(settings)
        if lock.left_behind is not None:
            reporter.warn(f"ended without letting go, killed or cut off: {lock.left_behind}")
        yield lock.run_id, history


def _carried(
    run: Run, steps: Sequence[str | State], command: str, attempts: int | None
) -> RunResult:
    flow = FLOW.only(steps)
    run.steps = tuple(step if isinstance(step, str) else step.name for step in steps)
    left = run.resumption
    run.history.start_run(
        run.run_id,
        command,
        str(run.selection),
        origin(run.settings),
        logical_date=run.settings.measures.as_of or None,
        resumes=left.run_id if left else None,
        request=_request(run, steps),
    )
    failpoint("run.started")
    run.reporter.begin(run.run_id, list(run.steps))
    if left is not None:
        run.reporter.warn(f"resuming run {left.run_id}, which stopped because: {left.why}")
    run.observers = Observers(observers(run.settings))
    given = run.settings.retry
    retry = Retry(attempts or given.attempts, given.first_wait_seconds, given.longest_wait_seconds)
    return _noted(run, flow, retry)


def _request(run: Run, steps: Sequence[str | State]) -> str | None:
    """The request for the history; None if a step is known to its own command only."""
    if not all(isinstance(step, str) for step in steps):
        return None
    if run.resumption is not None:
        return run.resumption.request.as_json()
    chosen = run.selection
    return Request(run.steps, chosen.select, chosen.exclude, run.full_refresh, run.lazy).as_json()


def _noted(run: Run, flow: Flow, retry: Retry) -> RunResult:
    """Does the steps and notes how it ended, however it ended."""
    began = time.monotonic()
    run.observers.begin(run)
    try:
        result = _do_steps(run, flow, retry)
    except KeyboardInterrupt:
        _ended(run, "interrupted", INTERRUPTED, "interrupted", time.monotonic() - began)
        raise
    except Exception as error:
        log.exception("a fault in the program ended the run")
        what = f"a fault in the program: {type(error).__name__}: {first_line(error)}"
        _ended(run, "failed", 1, what, time.monotonic() - began)
        where = log_path(run.settings, run.run_id)
        raise IngestionError(what, hint=f"{where} tells where; please report it.") from error
    _ended(run, result.status, result.exit_code, _message(result), result.seconds, result)
    return result


def _ended(
    run: Run,
    status: str,
    exit_code: int,
    message: str,
    seconds: float,
    result: RunResult | None = None,
) -> None:
    run.history.finish_run(run.run_id, status, exit_code, message)
    run.observers.end(run, Ending(status, exit_code, message, seconds, result))


def _do_steps(run: Run, flow: Flow, retry: Retry) -> RunResult:
    began = time.monotonic()

    def translate(error: Exception) -> IngestionError | None:
        return _known_fault(run.settings, error)

    def has_room(step: str) -> None:
        require_free(run.settings, "the run does not start" if step == "prepare" else f"no {step}")

    with run.companion:
        visits, not_done = Machine(flow, run, retry, _Noting(run), translate, has_room).run()
    stopped_by = visits[-1].result.stop
    later = [error for visit in visits for error in visit.result.later]
    code = stopped_by.exit_code if stopped_by else _exit_code(later)
    seconds = time.monotonic() - began
    return RunResult(run, tuple(visits), tuple(not_done), seconds, code, stopped_by)


class _Noting(Watch):
    """Notes in the history what the machine does, and tells reporter and observers."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._position = -1
        # Sources are tried by several threads.
        self._one_at_a_time = threading.Lock()

    def begins(self, name: str) -> None:
        run = self._run
        run.step = name
        self._position += 1
        run.history.start_step(run.run_id, self._position, name)
        run.reporter.step_begins(name)
        run.observers.step_begins(run, name)

    def tried(
        self, name: str, thing: str, number: int, seconds: float, error: IngestionError | None
    ) -> None:
        if number == 1 and error is None:
            return
        began = datetime.now(UTC) - timedelta(seconds=seconds)
        moment = began.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        status, text = ("failed", str(error)) if error else ("ok", "")
        attempt = Attempt(name, thing or name, number, moment, round(seconds, 3), status, text)
        with self._one_at_a_time:
            self._run.history.add_attempt(self._run.run_id, attempt)

    def waits(self, name: str, thing: str, seconds: float, error: IngestionError) -> None:
        what = f"{thing or name}: {str(error).splitlines()[0]}"
        self._run.reporter.warn(f"{what}; tried again in {seconds:.0f} s")

    def ends(self, visit: Visit) -> None:
        run, result = self._run, visit.result
        failpoint("run.step_done")
        run.history.add_items(run.run_id, visit.name, result.items)
        failpoint("run.items_noted")
        run.history.finish_step(
            run.run_id, self._position, result.status, visit.seconds, result.text
        )
        failpoint("run.step_noted")
        run.reporter.step_ends(visit.name, result.status, visit.seconds, result.text)
        run.observers.step_ends(run, visit)

    def breaks(self, name: str, seconds: float, error: BaseException) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        status, text = ("interrupted", "") if interrupted else ("failed", first_line(error))
        run = self._run
        run.history.finish_step(run.run_id, self._position, status, seconds, text)


def _known_fault(settings: Settings, error: Exception) -> IngestionError | None:
    """The machine's faults in words of ours; None for a fault in the program."""
    if disk_full(error):
        return disk_full_error(settings.data_dir, error)
    if damaged(str(error)):
        return damaged_error(settings, str(error))
    if isinstance(error, OSError) and not_allowed(error):
        return not_allowed_error(error)
    return None


def _exit_code(later: Sequence[IngestionError]) -> int:
    codes = {error.exit_code for error in later}
    for code in _URGENCY:
        if code in codes:
            return code
    return max(codes, default=0)


def _message(result: RunResult) -> str:
    errors = ([result.stopped_by] if result.stopped_by else []) + list(result.later)
    return "; ".join(str(error).splitlines()[0] for error in errors)


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes a request to terminate end the run in good order, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
