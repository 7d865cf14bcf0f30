"""What a person should look at in a draft: what could not be told from the data alone.

tables + discovery -> `Note`s, by table

Left out: what stands in the drafted files anyway, as descriptions and evidence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runner.discover.model import ColumnProfile, Discovery
from runner.draft.marts import is_wide, unkept
from runner.draft.tables import Table
from runner.report import count

# Figures, and what stands between them in numbers, days and times; long runs as `9{5}`.
_FIGURES = re.compile(r"[-+]?\d[\d{}.,:/' TZ+-]*")
_MOSTLY = 0.8


@dataclass(frozen=True)
class Note:
    """One thing to look at.

    Attributes:
        table: `source.table`.
        told: What it is.
    """

    table: str
    told: str


def notes_on(tables: Sequence[Table], planned: Mapping[str, Table], found: Discovery) -> list[Note]:
    """What a person should look at.

    Args:
        tables: The tables that were drafted.
        planned: They and those that they may refer to, by `source.table`.
        found: The discovery.
    """
    notes = []
    for table in tables:
        notes += [Note(table.full_name, told) for told in _on_table(table)]
        used = {link.found for link in table.links}
        for reference in found.references:
            if reference.from_table != table.full_name or reference in used:
                continue
            columns = ", ".join(reference.from_columns)
            if any(set(reference.from_columns) == set(u.from_columns) for u in used):
                continue
            aim = f"{reference.to_table}.{', '.join(reference.to_columns)}"
            why = _why_not(reference.to_table, reference.is_partial, reference.match, planned)
            notes.append(Note(table.full_name, f"{columns} may lead to {aim}: not joined, {why}"))
    return notes


def _why_not(target: str, is_partial: bool, match: str, planned: Mapping[str, Table]) -> str:
    if target not in planned:
        return "because that table is not drafted"
    if is_partial:
        return "because only a part of its values is there"
    if match == "normal_form":
        return "because both spell it differently"
    return "because that is not its key, or too many of its values are missing there"


def _on_table(table: Table) -> list[str]:
    notes = []
    key = table.profile.primary_key
    if not table.is_keyed:
        notes.append("nothing identifies a row: row_key is made of all columns, copies are one row")
    elif key is not None and not key.holds:
        rows = key.duplicates + key.nulls
        notes.append(f"its key {', '.join(table.key)} does not hold for {count(rows, 'row')}")
    for column in table.columns:
        told = column.reading.told
        if "stays text" in told or "no macro" in told:
            notes.append(f"{column.name}: {told[0].lower()}{told[1:].rstrip('.')}")
        if column.reading.group == "strings" and (almost := almost_figures(column.profile)):
            notes.append(f"{column.name}: {almost}")
        misses = column.profile.behind.misses if column.profile.behind else 0
        if misses and column.reading.is_typed:
            notes.append(
                f"{column.name}: {count(misses, 'row')} cannot be read and will be quarantined"
            )
    names = [column.name for column in unkept(table)]
    if names:
        notes.append(f"{', '.join(names)}: lists or objects, kept in staging, not in its mart")
    if is_wide(table):
        notes.append(f"{len(table.columns)} columns make models of more than 200 lines: split them")
    return notes


def almost_figures(profile: ColumnProfile) -> str:
    """Why a text of numbers or times stays text, if a few values keep it from being one."""
    if profile.behind is not None or profile.personal is not None:
        return ""
    figures = [(form, share) for form, share in profile.shapes if _FIGURES.fullmatch(form)]
    share = sum(share for _, share in figures)
    if not _MOSTLY <= share < 1:
        return ""
    values = [one.value.strip() for one in profile.frequent]
    odd = [f"`{value}`" for value in values if value and not _FIGURES.fullmatch(value)]
    listed = f" because of {', '.join(odd[:3])}" if odd else ""
    return f"stays text{listed}; {share:.0%} of its values look like `{figures[0][0]}`"
