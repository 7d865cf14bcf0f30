"""The shape of a table as a reading shows it, and the differences between two shapes.

columns of a catalog, a header or records -> `Shape` - the former one -> `compare` -> `Difference`

A catalog or a header names every column, so one that is not there is gone. Records name only what
they hold: there a column is gone once so many rows came without it that ten were to be expected
with it. The order of columns is no part of a shape, because they are matched by name. Left out:
whether a lost and a new column are one (`renames`), and what is done about it (`journal`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ingestion.evolution import TEXT, widened

Kind = Literal[
    "column_added",
    "column_lost",
    "column_back",
    "column_renamed",
    "column_respelled",
    "column_retyped",
    "column_redeclared",
    "column_null",
    "column_default",
    "field_added",
    "field_retyped",
    "key_changed",
    "table_added",
    "table_lost",
    "table_renamed",
    "table_back",
    "table_emptied",
]
# So many rows with a column must have been expected before none of them means that it is gone.
_EXPECTED = 10
OTHER_DELIMITER = "its name holds those of all columns before: the delimiter may have changed"
# What a text reads as, if the other readings of it are special cases.
_WIDER = {("whole number", "number"), ("date", "timestamp")}


@dataclass(frozen=True)
class ShapeColumn:
    """A column of a reading.

    Attributes:
        name: Its name in raw.
        type: Its DuckDB type.
        origin: Its name in the source.
        native: Its type in the source's own words, with the values of an enumeration.
        nullable: Whether the source allows it to be absent; None if it does not say.
        default: What the source fills in; None if it does not say.
        reads: What nine of ten texts read as, such as `whole number`; empty if that is not known.
        fields: Types of what its JSON holds, by path.
    """

    name: str
    type: str = TEXT
    origin: str = ""
    native: str = ""
    nullable: bool | None = None
    default: str | None = None
    reads: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def told_type(self) -> str:
        """Its type for people."""
        if self.native:
            return self.native
        if self.reads and self.reads != "text":
            return f"text that reads as {self.reads}"
        return "text" if self.type == TEXT else self.type.lower()


@dataclass(frozen=True)
class Shape:
    """A table as one reading shows it.

    Attributes:
        columns: Its columns in order.
        key: Columns of its primary key, as the source says; empty if it does not.
        is_certain: Whether all columns are named, so that one that is absent is gone.
        rows: Rows of the reading; None if not counted.
        is_empty: Whether all of the table was read and there was no row.
    """

    columns: tuple[ShapeColumn, ...]
    key: tuple[str, ...] = ()
    is_certain: bool = True
    rows: int | None = None
    is_empty: bool = False

    @property
    def by_name(self) -> dict[str, ShapeColumn]:
        """Its columns by name."""
        return {column.name: column for column in self.columns}

    def position(self, name: str) -> int:
        """Place of a column, from 1 on."""
        return [column.name for column in self.columns].index(name) + 1

    def fields(self) -> dict[str, Any]:
        """The shape as values for JSON."""
        columns = [
            {k: v for k, v in vars(c).items() if v not in ("", None, {})} for c in self.columns
        ]
        return {"columns": columns, "key": list(self.key), "is_empty": self.is_empty}

    @staticmethod
    def of_fields(fields: Mapping[str, Any]) -> Shape:
        """The shape that `fields` told of."""
        columns = tuple(ShapeColumn(**column) for column in fields["columns"])
        return Shape(columns, tuple(fields["key"]), is_empty=fields.get("is_empty", False))


@dataclass(frozen=True)
class Change:
    """A difference between two shapes.

    Attributes:
        kind: What happened.
        column: The column concerned, by its name in raw; empty for the table.
        old: What it was before: a name, a type; empty if there is nothing to say.
        new: What it is now.
        evidence: Why this is believed, where it is not plain to see.
    """

    kind: Kind
    column: str = ""
    old: str = ""
    new: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What is different, and the shape to compare the next reading with.

    Attributes:
        changes: What happened.
        shape: The shape since.
    """

    changes: tuple[Change, ...]
    shape: Shape


def compare(former: Shape, now: Shape, share: Callable[[str], float]) -> Difference:
    """Differences between two shapes of a table.

    Args:
        former: The shape before.
        now: That of the new reading.
        share: Part of the former rows that had a value in a column.
    """
    changes: list[Change] = []
    before, after = former.by_name, now.by_name
    kept: list[ShapeColumn] = []
    for name, column in after.items():
        if name not in before:
            evidence = _other_delimiter(before, after)
            changes.append(Change("column_added", name, "", column.told_type, evidence))
            kept.append(column)
            continue
        own, merged = _column_changes(before[name], column)
        changes += own
        kept.append(merged)
    for name, column in before.items():
        if name not in after:
            if now.is_certain or (now.rows or 0) * share(name) >= _EXPECTED:
                changes.append(Change("column_lost", name, column.told_type, ""))
            else:
                kept.append(column)
    if former.key and now.key and former.key != now.key:
        changes.append(Change("key_changed", "", ", ".join(former.key), ", ".join(now.key)))
    if now.is_empty and not former.is_empty:
        changes.append(Change("table_emptied"))
    # A reading that says nothing of a key leaves the former one.
    return Difference(tuple(changes), replace(now, columns=tuple(kept), key=now.key or former.key))


def _other_delimiter(before: Mapping[str, ShapeColumn], now: Collection[str]) -> tuple[str, ...]:
    """What is to be said of a single column whose name holds those of all others."""
    if len(now) != 1 or len(before) < 2 or any(name not in next(iter(now)) for name in before):
        return ()
    return (OTHER_DELIMITER,)


def _column_changes(old: ShapeColumn, new: ShapeColumn) -> tuple[list[Change], ShapeColumn]:
    """How a column differs, and what is known of it since."""
    changes = []
    name = new.name
    if old.origin and new.origin and old.origin != new.origin:
        changes.append(Change("column_respelled", name, old.origin, new.origin))
    is_retyped = old.type != new.type and (bool(new.native) or not _fits(old.type, new.type))
    reads = new.reads or old.reads
    if old.reads and new.reads and (new.reads, old.reads) in _WIDER:
        reads = old.reads
    if reads != old.reads and old.reads and not old.native:
        is_retyped = True
    if is_retyped:
        changes.append(Change("column_retyped", name, old.told_type, new.told_type))
    elif old.native and new.native and old.native != new.native:
        changes.append(Change("column_redeclared", name, old.native, new.native))
    if old.nullable is not None and new.nullable is not None and old.nullable != new.nullable:
        words = {True: "may be null", False: "not null"}
        changes.append(Change("column_null", name, words[old.nullable], words[new.nullable]))
    if old.native and new.native and (old.default or "") != (new.default or ""):
        told = old.default or "no default", new.default or "no default"
        changes.append(Change("column_default", name, *told))
    changes += _field_changes(old, new)
    kind = new.type if is_retyped or old.native else _held(old.type, new.type)
    return changes, replace(new, type=kind, reads=reads, fields={**old.fields, **new.fields})


def _field_changes(old: ShapeColumn, new: ShapeColumn) -> list[Change]:
    if not old.fields or not new.fields:
        return []
    changes = []
    for path, kind in new.fields.items():
        former = old.fields.get(path)
        if former is None:
            changes.append(Change("field_added", new.name, "", f"{path} ({kind})"))
        elif kind not in (former, "nothing") and former != "nothing":
            changes.append(Change("field_retyped", new.name, f"{path} ({former})", kind))
    return changes


def _fits(old: str, new: str) -> bool:
    """Whether values of the new type are values of the old one as well."""
    return widened(old, new) == old and old != TEXT


def _held(old: str, new: str) -> str:
    return old if _fits(old, new) else new
