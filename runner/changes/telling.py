"""What is said of changes of sources by who met them: a run in its summary and history, a watch.

noted changes of extract and load -> what depends on them -> `Told` -> reporter, items of the step,
who is notified
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingestion.schema.words import tell
from runner.changes.reach import Reach
from runner.changes.report import reaches
from runner.history import Item

if TYPE_CHECKING:
    from ingestion.schema.journal import Noted
    from ingestion.settings import Settings
    from runner.steps import Run
    from runner.transform import Dbt

KIND = "schema_change"
# So many changes of one kind in a table are told one by one.
_ONE_BY_ONE = 3
_NAMED = 8


@dataclass(frozen=True)
class Told:
    """Changes of a table that are told together.

    Attributes:
        name: The table, as `source.table`.
        text: What happened, for people.
        needs_decision: Whether the contract refuses it, or a model depends on what has changed.
    """

    name: str
    text: str
    needs_decision: bool


def told_changes(settings: Settings, due: Sequence[Noted], dbt: Dbt) -> tuple[list[Told], str]:
    """Changes in words, and why it cannot be told what depends on them.

    Args:
        settings: The project's settings.
        due: The changes.
        dbt: The project's dbt.
    """
    found, note = reaches(settings, due, dbt)
    told = []
    for group in _grouped(due):
        models = {m.model: m for n in group if n.id in found for m in found[n.id].models}
        depends = Reach(tuple(models.values())).told if group[0].id in found else ""
        needs_decision = bool(models) or any(n.status == "refused" for n in group)
        told.append(Told(name_of(group[0]), _text(group, depends), needs_decision))
    return told, note


def tell_changes(run: Run, step: str) -> list[Item]:
    """Tells the changes that a run met so far, each once.

    Args:
        run: The run.
        step: The step that tells them.

    Returns:
        An item for each.
    """
    due, run.changes_met = run.changes_met, []
    told, note = told_changes(run.settings, due, run.dbt)
    for change in told:
        run.reporter.item(step, change.name, "warned", change.text, kind=KIND)
    if note:
        run.reporter.warn(note)
    run.changes_told += told
    return [Item(KIND, change.name, "warned", message=change.text) for change in told]


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


def _text(group: Sequence[Noted], depends: str) -> str:
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
