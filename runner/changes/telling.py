"""What a run says of the changes that it met: as they are met, in its summary, in the history.

noted changes of extract and load -> what depends on them -> reporter, items of the step
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingestion.schema.words import tell
from runner.changes.reach import Reach
from runner.changes.report import reaches
from runner.history import Item

if TYPE_CHECKING:
    from ingestion.schema.journal import Noted
    from runner.steps import Run

KIND = "schema_change"
# So many changes of one kind in a table are told one by one.
_ONE_BY_ONE = 3
_NAMED = 8


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
    for group in _grouped(due):
        reach = {m for n in group if n.id in found for m in found[n.id].models}
        text = _told(
            group,
            Reach(tuple({m.model: m for m in reach}.values())).told if group[0].id in found else "",
        )
        items.append(Item(KIND, name_of(group[0]), "warned", message=text))
        run.reporter.item(step, name_of(group[0]), "warned", text, kind=KIND)
    if note:
        run.reporter.warn(note)
    return items


def _grouped(noted: Sequence[Noted]) -> list[list[Noted]]:
    """Changes one by one, but for many of one kind in a table."""
    groups: dict[tuple[str, str, str], list[Noted]] = {}
    for entry in noted:
        groups.setdefault((entry.source, entry.table, entry.change.kind), []).append(entry)
    return [
        part
        for group in groups.values()
        for part in ([group] if len(group) > _ONE_BY_ONE else [[entry] for entry in group])
    ]


def _told(group: Sequence[Noted], depends: str) -> str:
    first = group[0]
    text = tell(first.change)
    where = first.id
    if len(group) > 1:
        verb = "lost" if first.change.kind == "column_lost" else first.change.kind.split("_")[1]
        names = ", ".join(entry.change.column for entry in group[:_NAMED])
        more = len(group) - _NAMED
        text = f"{verb} {len(group)} columns: {names}" + (f" and {more} more" if more > 0 else "")
        where = name_of(first)
    elif first.change.kind == "column_added" and first.change.evidence:
        text += f" ({first.change.evidence[0]})"
    refused = ", which its contract refuses" if first.status == "refused" else ""
    depends = f": {depends}" if depends else ""
    return f"{text}{refused}{depends} (`wellspring changes {where}`)"


def name_of(noted: Noted) -> str:
    """The table that has changed."""
    return f"{noted.source}.{noted.table}"
