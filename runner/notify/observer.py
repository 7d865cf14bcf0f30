"""Looks at how each run ended, and tells what has changed.

run ends -> problems compared with those of the history, changes of sources -> one message to every
target
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestion.failpoints import failpoint
from runner.notify import outbox, problems
from runner.notify.message import make_message
from runner.notify.targets import targets
from runner.observers import Ending, Observer

if TYPE_CHECKING:
    from runner.compiled.view import Project
    from runner.steps import Run


class Notifier(Observer):
    """Keeps the list of problems, and tells of new ones and of those that are over."""

    name = "notifications"

    def on_end(self, run: Run, ending: Ending) -> None:
        """Notes and tells what the run has changed; an interrupted run has shown nothing."""
        if ending.status == "interrupted":
            return
        change = problems.compare(run, ending, problems.open_problems(run.history))
        told = targets(run.settings)
        sources = [changed for changed in run.changes_told if changed.needs_decision]
        noted = list(problems.statements(change, run.run_id))
        if (change or sources) and told:
            manifest, withheld = _manifest(run, ending), _withheld(ending)
            message = make_message(run.settings, run.run_id, change, manifest, withheld, sources)
            noted += outbox.statements(message, told)
        failpoint("notify.noting")
        run.history.write_all(noted)
        failpoint("notify.noted")
        outbox.deliver_all(run.history, told, run.reporter)


def _withheld(ending: Ending) -> list[str]:
    steps = ending.result.steps if ending.result else ()
    items = [item for step in steps for item in step.result.items]
    return [item.name for item in items if item.kind == "withheld"]


def _manifest(run: Run, ending: Ending) -> Project | None:
    """The project as the run has read it; None if it could not be read."""
    if ending.result is None or ending.result.steps[0].result.status == "failed":
        return None
    return run.dbt.project
