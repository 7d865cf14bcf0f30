"""`wellspring watch`: cycles for as long as it is wanted.

landing changes -> a cycle -> state file, a line now and then -> SIGTERM or time is up -> history

Where a cycle fails it is said once, tried again after 1, 2, 4 ... seconds, and said once more when
it has recovered. A run in the history stands for the whole of it. Left out: what a cycle does.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from types import FrameType

from ingestion.errors import BadInput, IngestionError, LockHeld
from ingestion.lander.landers import works_of
from ingestion.lock import Owner, tell_wait
from ingestion.settings import Settings
from ingestion.units import seconds_of
from runner.history import Ended, History, new_run_id, now, origin
from runner.logs import run_log
from runner.report import Reporter, count
from runner.watch.changes import Landing, Signature
from runner.watch.cycle import Cycles, Outcome
from runner.watch.lander import LanderProcess
from runner.watch.live_version import tidy_live
from runner.watch.state import WatchState, last_state, only_watch
from runner.watch.telling import Teller

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
# What a batch has built is shown after so long, also where nothing lands.
_LOOK_AGAIN_SECONDS = 30.0
_LONGEST_PAUSE = 60.0
_TELL_SECONDS = 30.0


class WatchService:
    """A watch of one project.

    Args:
        settings: The project's settings.
        reporter: Who tells people.
        command: The command line.
        lands: Whether landers are kept running too.
        once: Whether to end after one cycle, of what has landed by then.
        seconds: How long to go on; None for ever.
    """

    def __init__(
        self,
        settings: Settings,
        reporter: Reporter,
        command: str,
        *,
        lands: bool = True,
        once: bool = False,
        seconds: float | None = None,
    ) -> None:
        self._settings = settings
        self._reporter = reporter
        self._command = command
        self._lands = lands
        self._once = once
        self._seconds = seconds
        self._stop = threading.Event()
        self._state = WatchState(new_run_id())
        self._failing: str | None = None
        self._exit_code = 0
        self._told_at = -_TELL_SECONDS
        self._untold = Outcome()
        self._refused: list[str] = []
        self._teller = Teller(settings, reporter, self._state.run_id)

    def run(self) -> int:
        """Watches until it is told to end.

        Returns:
            0, or the exit code of what failed and has not recovered.

        Raises:
            LockHeld: Another watch is at work on this data.
            DeclarationError: The project is wrong.
            BuildFailed: There is nothing to watch.
        """
        state, settings = self._state, self._settings
        with only_watch(settings), run_log(settings, state.run_id), self._ending():
            before = last_state(settings)
            if before is not None and before.get("doing") != "ended":
                self._note_killed(before)
            state.write(settings)
            status = "failed"
            try:
                self._watch()
                status = "failed" if self._exit_code else "succeeded"
            except IngestionError as error:
                self._exit_code, self._failing = error.exit_code, str(error)
                raise
            finally:
                state.doing = "ended"
                state.write(settings)
                self._note(status)
        return self._exit_code

    def _watch(self) -> None:
        tidy_live(self._settings)
        cycles = Cycles(self._settings, self._state.run_id, self._command, self._tell_wait)
        declared = cycles.declarations
        lands = self._lands and not self._once
        landed = {work.declaration.name for work in works_of(declared)} if lands else set()
        lander = LanderProcess(self._settings, sorted(landed))
        landing = Landing(self._settings.landing_dir, [d.name for d in declared])
        self._reporter.item(
            "watch", "started", "ok", f"sources {_listed(d.name for d in declared)}"
        )
        try:
            self._loop(cycles, landing, lander)
        finally:
            lander.end()
            self._teller.end()

    def _loop(self, cycles: Cycles, landing: Landing, lander: LanderProcess) -> None:
        began = time.monotonic()
        pause = seconds_of(self._settings.watch.pause)
        known: Signature | None = None
        looked = due = began
        failures = 0
        while not self._stop.is_set():
            lander.keep()
            self._state.lander = lander.doing
            signature = landing.signature()
            moment = time.monotonic()
            is_due = signature != known or moment - looked >= _LOOK_AGAIN_SECONDS
            if moment >= due and (is_due or failures):
                outcome = self._cycle(cycles)
                known, looked = signature, moment
                failures = failures + 1 if outcome is None or outcome.error else 0
                wait = min(2.0 ** (failures - 1), _LONGEST_PAUSE) if failures else pause
                due = moment + (0.2 if outcome is None else wait)
                if self._once and outcome is not None:
                    return
            if self._seconds is not None and time.monotonic() - began >= self._seconds:
                return
            self._stop.wait(_LOOK_SECONDS)

    def _cycle(self, cycles: Cycles) -> Outcome | None:
        """Does a cycle and tells of it; None if a reader has the warehouse open."""
        state = self._state
        state.doing = "at work"
        try:
            outcome = cycles.run()
        except LockHeld as error:
            log.info("%s", error)
            return None
        except IngestionError as error:
            outcome = Outcome(error=error)
        state.doing = "waiting for what lands"
        if outcome.did_anything:
            state.cycles += 1
        state.rows += outcome.rows
        state.cycle_seconds = round(outcome.seconds, 3)
        if outcome.version is not None:
            state.published += 1
            state.version, state.published_at = outcome.version, now()
            state.lag_seconds = outcome.lag_seconds
        self._teller.tell(outcome, cycles)
        self._tell(outcome)
        state.write(self._settings)
        return outcome

    def _tell(self, outcome: Outcome) -> None:
        """Says what is new, a line every half minute, and what fails or recovers, at once."""
        log.debug("cycle %s", outcome)
        for refused in outcome.refused:
            # What a contract refuses is looked at again in each cycle.
            if refused not in self._refused:
                self._reporter.warn(refused)
        self._refused = outcome.refused
        failing = str(outcome.error) if outcome.error else None
        if failing != self._failing:
            if outcome.error is not None:
                self._reporter.error(outcome.error)
            else:
                self._reporter.item("watch", "recovered", "ok", "all is well again")
        self._failing = failing
        held_back = BadInput.exit_code if self._teller.refused else 0
        self._exit_code = outcome.error.exit_code if outcome.error else held_back
        self._state.failing = self._teller.refused | ({"cycle": failing} if failing else {})
        self._untold.rows += outcome.rows
        self._untold.version = outcome.version or self._untold.version
        if self._untold.version and time.monotonic() - self._told_at >= _TELL_SECONDS:
            lag = f"{outcome.lag_seconds:.1f} s behind landing; " if outcome.lag_seconds else ""
            text = f"{lag}{count(self._untold.rows, 'row')} loaded, cycle {outcome.seconds:.2f} s"
            self._reporter.item("watch", f"live version {self._untold.version}", "ok", text)
            self._untold, self._told_at = Outcome(), time.monotonic()

    def _tell_wait(self, owner: Owner | None, left: float) -> None:
        self._reporter.waiting(tell_wait(owner, left))

    def _note(self, status: str) -> None:
        state = self._state
        text = f"{count(state.cycles, 'cycle')}, {count(state.published, 'live version')}, "
        text += count(state.rows, "row")
        if self._failing:
            text += f"; failing at its end: {self._failing.splitlines()[0]}"
        with closing(History(self._settings.state_dir / "history.sqlite")) as history:
            history.add_ended_run(
                state.run_id,
                self._command,
                origin(self._settings),
                (state.started_at, now()),
                Ended(status, self._exit_code, text),
            )
        self._reporter.item("watch", "ended", "ok", text)

    def _note_killed(self, before: dict[str, object]) -> None:
        """Notes the watch before, which could not do so itself."""
        started = str(before.get("started_at", now()))
        text = f"killed after {before.get('cycles', 0)} cycles"
        with closing(History(self._settings.state_dir / "history.sqlite")) as history:
            history.add_ended_run(
                str(before.get("run_id", "")),
                self._command,
                origin(self._settings),
                (started, _file_time(self._settings)),
                Ended("interrupted", None, text),
            )
        self._reporter.warn(f"the watch before was {text}; it goes on from there")

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Within the block SIGTERM and Ctrl-C end it after the cycle; Ctrl-C again at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self._stop.is_set() and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop.set()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _file_time(settings: Settings) -> str:
    path = settings.state_dir / "watch.json"
    moment = datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else now()


def _listed(names: Iterator[str]) -> str:
    return ", ".join(sorted(names))
