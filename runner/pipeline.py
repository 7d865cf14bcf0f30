"""A run from its first step to its last: lock, history, time, what stops it and how it ends.

steps asked for -> lock -> history -> prepare -> each step in order -> `RunResult` with an exit code

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
from dataclasses import dataclass
from types import FrameType

from ingestion.budget import require_free, sweep_temporary
from ingestion.errors import IngestionError, disk_full, disk_full_error, first_line
from ingestion.lock import tell_wait, writer_lock
from ingestion.settings import Settings
from runner.history import History, new_run_id, origin
from runner.logs import log_path, run_log
from runner.observers import Ending, Observers, observers
from runner.report import Reporter
from runner.steps import STEPS, Run, Step, StepResult, prepare
from runner.transform import Selection

log = logging.getLogger(__name__)

INTERRUPTED = 130
# Of several sources' faults the one that needs a person first gives the exit code.
_URGENCY = (7, 4, 6)


@dataclass(frozen=True)
class FinishedStep:
    """A step that was done, well or badly.

    Attributes:
        name: Its name.
        seconds: How long it took.
        result: What it did.
    """

    name: str
    seconds: float
    result: StepResult


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
    steps: tuple[FinishedStep, ...]
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
    steps: Sequence[str | Step],
    selection: Selection,
    full_refresh: bool,
    reporter: Reporter,
    command: str,
    *,
    lazy: bool = False,
) -> RunResult:
    """Does steps in order, under the lock, noted in the history.

    Args:
        settings: The project's settings.
        steps: Names of the steps, or steps that are known to their own command only.
        selection: What to work on.
        full_refresh: Whether to extract and build everything anew.
        reporter: Who tells people.
        command: The command line, for the history and for whoever meets the lock.
        lazy: Whether to build and test only if code or rows have changed since it was done last.

    Raises:
        LockHeld: Another run is under way.
        IngestionError: A fault in the program ended it; the log has the traceback.
        KeyboardInterrupt: It was interrupted; the history says so.
    """
    with (
        writer_lock(
            settings, new_run_id, command, lambda *held: reporter.waiting(tell_wait(*held))
        ) as lock,
        _terminable(),
        closing(History(settings.state_dir / "history.sqlite")) as history,
        run_log(settings, lock.run_id),
    ):
        run_id = lock.run_id
        work = [STEPS[step] if isinstance(step, str) else step for step in steps]
        history.start_run(run_id, command, str(selection), origin(settings))
        reporter.begin(run_id, [step.name for step in work])
        sweep_temporary(settings)
        if lock.left_behind is not None:
            reporter.warn(f"ended without letting go, killed or cut off: {lock.left_behind}")
        run = Run(settings, selection, full_refresh, lazy, run_id, history, reporter)
        run.observers = Observers(observers(settings))
        return _noted(run, work)


def _noted(run: Run, steps: Sequence[Step]) -> RunResult:
    """Does the steps and notes how it ended, however it ended."""
    began = time.monotonic()
    run.observers.begin(run)
    try:
        result = _do_steps(run, steps)
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


def _do_steps(run: Run, steps: Sequence[Step]) -> RunResult:
    began = time.monotonic()
    done: list[FinishedStep] = []
    with run.companion as companion:
        if run.selection.everything and STEPS["extract"] in steps:
            companion.start()
        for position, step in enumerate((Step("prepare", "", prepare), *steps)):
            done.append(_do_step(run, position, step))
            if done[-1].result.stop is not None:
                break
    stopped_by = done[-1].result.stop
    not_done = tuple(step.name for step in steps[len(done) - 1 :])
    later = [error for step in done for error in step.result.later]
    code = stopped_by.exit_code if stopped_by else _exit_code(later)
    return RunResult(run, tuple(done), not_done, time.monotonic() - began, code, stopped_by)


def _do_step(run: Run, position: int, step: Step) -> FinishedStep:
    run.step = step.name
    run.history.start_step(run.run_id, position, step.name)
    run.reporter.step_begins(step.name)
    run.observers.step_begins(run, step.name)
    began = time.monotonic()
    try:
        is_first = position == 0
        require_free(run.settings, "the run does not start" if is_first else f"no {step.name}")
        result = step.work(run)
    except IngestionError as error:
        result = StepResult("failed", error.message, stop=error)
    except KeyboardInterrupt:
        seconds = time.monotonic() - began
        run.history.finish_step(run.run_id, position, "interrupted", seconds, "")
        raise
    except Exception as error:
        seconds = time.monotonic() - began
        run.history.finish_step(run.run_id, position, "failed", seconds, first_line(error))
        fault = _known_fault(run.settings, error)
        if fault is None:
            raise
        result = StepResult("failed", fault.message, stop=fault)
    seconds = time.monotonic() - began
    run.history.add_items(run.run_id, step.name, result.items)
    run.history.finish_step(run.run_id, position, result.status, seconds, result.text)
    run.reporter.step_ends(step.name, result.status, seconds, result.text)
    finished = FinishedStep(step.name, seconds, result)
    run.observers.step_ends(run, finished)
    return finished


def _known_fault(settings: Settings, error: Exception) -> IngestionError | None:
    """The machine's faults in words of ours; None for a fault in the program."""
    if disk_full(error):
        return disk_full_error(settings.data_dir, error)
    if isinstance(error, PermissionError):
        return IngestionError(
            f"not allowed: {error.strerror}",
            file=error.filename,
            hint="Give this user the right to write there, or set another [paths] data.",
        )
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
