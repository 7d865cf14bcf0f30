"""What depends on a change of a source: models with their columns, and exposures.

noted change -> columns of the raw table, or all its rows -> `ColumnGraph.affected` -> `Reach`

A new column, field or table reaches nothing, because nothing reads it yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.schema.journal import Noted
from runner.lineage.queries import Column

if TYPE_CHECKING:
    from runner.lineage.graph import ColumnGraph

_UNREAD = ("column_added", "field_added", "table_added", "table_back", "column_back")


@dataclass(frozen=True)
class Touched:
    """A model that a change reaches.

    Attributes:
        model: Its name.
        columns: Its columns whose values are made of what has changed.
        rows: Whether that decides which rows it has.
    """

    model: str
    columns: tuple[str, ...]
    rows: bool


@dataclass(frozen=True)
class Reach:
    """What a change reaches.

    Attributes:
        models: The models, in the order in which they are built.
        exposures: What is made of them for people.
    """

    models: tuple[Touched, ...] = ()
    exposures: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """The reach as values."""
        models = [{**vars(touched), "columns": list(touched.columns)} for touched in self.models]
        return {"models": models, "exposures": list(self.exposures)}

    @property
    def told(self) -> str:
        """How far it reaches, in words."""
        if not self.models:
            return "no model depends on it"
        count = len(self.models)
        return "1 model depends on it" if count == 1 else f"{count} models depend on it"


def is_read(noted: Noted) -> bool:
    """Whether a model may depend on what has changed."""
    return noted.change.kind not in _UNREAD


def reach_of(noted: Noted, graph: ColumnGraph, exposures: Mapping[str, Any]) -> Reach:
    """What a change reaches.

    Args:
        noted: The change.
        graph: The project's columns.
        exposures: dbt's exposures by unique id.
    """
    name = f"{noted.source}.{noted.table}".lower()
    tables = [t for t in graph.tables.values() if t.kind == "source" and t.name.lower() == name]
    if not tables or not is_read(noted):
        return Reach()
    columns = [Column(tables[0].relation, column) for column in _columns(noted)]
    found = [
        affected
        for affected in graph.affected(columns).values()
        if affected.table.kind in ("staging", "model", "snapshot")
    ]
    ids = {affected.table.unique_id for affected in found}
    models = tuple(Touched(a.table.name, a.columns, a.rows) for a in found)
    return Reach(models, tuple(sorted(_exposed(exposures, ids))))


def _columns(noted: Noted) -> list[str]:
    """The raw columns concerned; one of no name for the rows of the table."""
    change = noted.change
    if change.kind == "column_renamed":
        return [change.old]
    return [change.column] if change.column else [""]


def _exposed(exposures: Mapping[str, Any], models: Iterable[str]) -> set[str]:
    wanted = set(models)
    return {
        exposure.label or exposure.name
        for exposure in exposures.values()
        if wanted & set(exposure.depends_on.nodes)
    }
