"""How the columns of a raw table follow those of its files.

columns of a raw table + columns of a file -> `Evolution` -> `alter table` statements, noted changes

A new column is added. A number widens to a wider number if no digit can be lost; any other change
of type makes the column text. A column that never had a value takes the type of the first that it
gets, because until then its type is only what the declaration supposes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

METADATA = {
    "_file": "VARCHAR",
    "_row": "BIGINT",
    "_load_id": "VARCHAR",
    "_extracted_at": "TIMESTAMP",
    "_deleted": "BOOLEAN",
}
TEXT = "VARCHAR"
_DIGITS = {
    "TINYINT": 3,
    "SMALLINT": 5,
    "INTEGER": 10,
    "BIGINT": 19,
    "UTINYINT": 3,
    "USMALLINT": 5,
    "UINTEGER": 10,
    "UBIGINT": 20,
    "HUGEINT": 39,
}
_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_DECIMAL = re.compile(r"^DECIMAL\((\d+),\s*(\d+)\)$")
_WIDEST_DECIMAL = 38
# Whole numbers of so many digits are exact in floating point.
_EXACT_DIGITS = {"FLOAT": 7, "DOUBLE": 15}


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Change:
    """A change of one column.

    Attributes:
        column: Its name.
        change: What happens to it.
        old_type: Type before; None for an added column.
        new_type: Type since.
        statement: The SQL that does it.
    """

    column: str
    change: Literal["added", "widened", "to_text", "settled"]
    old_type: str | None
    new_type: str
    statement: str


@dataclass
class Evolution:
    """The columns of a raw table while files are added to it.

    Attributes:
        relation: The table, quoted.
        columns: Name -> DuckDB type of the source's columns.
        empty: Columns without any value so far.
    """

    relation: str
    columns: dict[str, str]
    empty: set[str] = field(default_factory=set)

    def plan(self, found: dict[str, str]) -> list[Change]:
        """Changes that a file's columns (name -> type) ask for; does not carry them out."""
        changes = []
        for name, kind in found.items():
            old = self.columns.get(name)
            if old is None:
                statement = f"alter table {self.relation} add column {quoted(name)} {kind}"
                changes.append(Change(name, "added", None, kind, statement))
            elif old != kind and name in self.empty:
                changes.append(self._retyped(name, "settled", old, kind))
            elif old != kind:
                wide = widened(old, kind)
                if wide != old:
                    how: Literal["widened", "to_text"] = "to_text" if wide == TEXT else "widened"
                    changes.append(self._retyped(name, how, old, wide))
        return changes

    def take(self, changes: list[Change]) -> list[str]:
        """Takes changes over; returns the statements that carry them out, in order."""
        for change in changes:
            self.columns[change.column] = change.new_type
        return [change.statement for change in changes]

    def _retyped(
        self, name: str, change: Literal["widened", "to_text", "settled"], old: str, new: str
    ) -> Change:
        column = quoted(name)
        using = "null" if change == "settled" else converted(column, old, new)
        statement = f"alter table {self.relation} alter column {column} type {new} using {using}"
        return Change(name, change, old, new, statement)


def converted(expression: str, old: str, new: str) -> str:
    """SQL that makes a value of type `old` one of type `new`; nested values become JSON text."""
    if old == new:
        return expression
    if new == TEXT and is_nested(old):
        return f"cast(to_json({expression}) as varchar)"
    return f"cast({expression} as {new})"


def is_nested(kind: str) -> bool:
    """Whether a DuckDB type is a list, struct, map or union."""
    return kind.endswith("]") or kind.startswith(("STRUCT(", "MAP(", "UNION("))


def widened(old: str, new: str) -> str:
    """The type that holds both without losing a digit; text if there is none."""
    if old == new:
        return old
    for family in (_SIGNED, _UNSIGNED):
        if old in family and new in family:
            return max(old, new, key=family.index)
    floats = {old, new} & _EXACT_DIGITS.keys()
    if floats == {"FLOAT", "DOUBLE"}:
        return "DOUBLE"
    if len(floats) == 1:
        kind = floats.pop()
        other = new if old == kind else old
        digits = _DIGITS.get(other, 99)
        return next((k for k in (kind, "DOUBLE") if digits <= _EXACT_DIGITS[k]), TEXT)
    mine, theirs = _whole_and_scale(old), _whole_and_scale(new)
    if mine is None or theirs is None:
        return TEXT
    whole, scale = max(mine[0], theirs[0]), max(mine[1], theirs[1])
    if scale == 0:
        fitting = [k for k in _SIGNED if _DIGITS[k] > whole]
        return fitting[0] if fitting else TEXT
    return f"DECIMAL({whole + scale},{scale})" if whole + scale <= _WIDEST_DECIMAL else TEXT


def _whole_and_scale(kind: str) -> tuple[int, int] | None:
    """Digits before and after the decimal point."""
    if kind in _DIGITS:
        return _DIGITS[kind], 0
    match = _DECIMAL.match(kind)
    return (int(match[1]) - int(match[2]), int(match[2])) if match else None
