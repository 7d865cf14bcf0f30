"""What a watch tells besides its lines: how sources change, what fails, and what is well again.

outcome of a cycle -> changes met, each once, with what depends on them -> reporter
                   -> what is wrong now, against the open problems -> history -> messages to people

Messages are sent beside the cycles, because readers wait for those. Left out: what was met by a
watch that was killed before it told; `wellspring changes` has it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ingestion.errors import LockHeld
from ingestion.schema.words import tell
from ingestion.settings import Settings
from runner.history import History
from runner.notify import outbox, problems
from runner.notify.message import make_message
from runner.notify.targets import targets
from runner.report import Reporter
from runner.watch.cycle import Cycles, Outcome

if TYPE_CHECKING:
    from ingestion.schema.journal import Noted
    from runner.changes.telling import Told

STEP = "watch"
_PATIENCE = 60.0


class Teller:
    """Tells what cycles meet, each thing once.

    Args:
        settings: The project's settings.
        reporter: Who tells people.
        run_id: Name of the watch in the run history.

    Attributes:
        refused: What contracts refuse at present, by table.
    """

    def __init__(self, settings: Settings, reporter: Reporter, run_id: str) -> None:
        self._settings = settings
        self._reporter = reporter
        self._run_id = run_id
        self._known: set[tuple[str, str]] = set()
        self._due: list[Noted] = []
        self._failing: dict[problems.Key, str] | None = None
        self._messages = 0
        self._is_due = False
        self._sending: threading.Thread | None = None
        self.refused: dict[str, str] = {}

    def tell(self, outcome: Outcome, cycles: Cycles) -> None:
        """Tells of a cycle."""
        self._meet(outcome)
        sources = self._changes(cycles) if self._due else []
        failing = self._found(outcome)
        if sources or failing != self._failing:
            self._note(failing, sources, cycles)
            self._failing = failing
        self._send()

    def end(self) -> None:
        """Waits for messages that are on their way."""
        self._send()
        if self._sending is not None:
            self._sending.join(_PATIENCE)

    def _meet(self, outcome: Outcome) -> None:
        """Sorts what is new from what the cycle before has met too: refused files wait."""
        refused: dict[str, list[str]] = {}
        for noted in outcome.schema:
            if noted.status == "refused":
                texts = refused.setdefault(f"{noted.source}.{noted.table}", [])
                texts += [text for text in [tell(noted.change)] if text not in texts]
            if (noted.id, noted.status) not in self._known:
                self._known.add((noted.id, noted.status))
                self._due.append(noted)
        self.refused = {
            table: f"{'; '.join(texts)}, which its contract refuses"
            for table, texts in refused.items()
        }

    def _changes(self, cycles: Cycles) -> list[Told]:
        """Says how sources have changed; returns what somebody has to decide about."""
        from runner.changes.telling import KIND

        try:
            told, note = cycles.changed(self._due)
        except LockHeld:
            return []
        self._due = []
        for change in told:
            self._reporter.item(STEP, change.name, "warned", change.text, kind=KIND)
        if note:
            self._reporter.warn(note)
        return [change for change in told if change.needs_decision]

    def _found(self, outcome: Outcome) -> dict[problems.Key, str]:
        """What is wrong now."""
        found = {
            (STEP, "schema_change", table): problems.shortened(text)
            for table, text in self.refused.items()
        }
        if outcome.error is not None:
            found[STEP, "watch", "live models"] = problems.shortened(str(outcome.error))
        return found

    def _note(
        self, failing: dict[problems.Key, str], sources: Sequence[Told], cycles: Cycles
    ) -> None:
        told = targets(self._settings)
        with closing(History(self._settings.history_path)) as history:
            before = problems.open_problems(history)
            change = problems.differences(
                failing, before, self._run_id, lambda known: known.step == STEP
            )
            noted = list(problems.statements(change, self._run_id))
            if (change or sources) and told:
                self._messages += 1
                project, number = cycles.project, self._messages
                message = make_message(
                    self._settings, self._run_id, change, project, (), sources, number
                )
                noted += outbox.statements(message, told)
                self._is_due = True
            history.write_all(noted)

    def _send(self) -> None:
        """Sends what is due, unless sending is still under way."""
        if self._is_due and (self._sending is None or not self._sending.is_alive()):
            self._is_due = False
            self._sending = threading.Thread(target=self._deliver, name="notify", daemon=True)
            self._sending.start()

    def _deliver(self) -> None:
        with closing(History(self._settings.history_path)) as history:
            outbox.deliver_all(history, targets(self._settings), self._reporter)
