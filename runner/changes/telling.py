"""What a run says of the changes that it met: as they are met, in its summary, in the history.

noted changes of extract and load -> what depends on them -> reporter, items of the step
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestion.schema.words import tell
from runner.changes.report import reaches
from runner.history import Item

if TYPE_CHECKING:
    from ingestion.schema.journal import Noted
    from runner.steps import Run

KIND = "schema_change"


def tell_changes(run: Run, step: str) -> list[Item]:
    """Tells the changes that a run met so far, each once.

    Args:
        run: The run.
        step: The step that tells them.

    Returns:
        An item for each.
    """
    due, run.changes_met = run.changes_met, []
    found, note = reaches(run.settings, due, run.dbt)
    items = []
    for noted in due:
        depends = f": {found[noted.id].told}" if noted.id in found else ""
        refused = ", which its contract refuses" if noted.status == "refused" else ""
        text = f"{tell(noted.change)}{refused}{depends} (`wellspring changes {noted.id}`)"
        items.append(Item(KIND, name_of(noted), "warned", message=text))
        run.reporter.item(step, name_of(noted), "warned", text, kind=KIND)
    if note:
        run.reporter.warn(note)
    return items


def name_of(noted: Noted) -> str:
    """The table that has changed."""
    return f"{noted.source}.{noted.table}"
