"""Defects that can be put into a clean raw row, as SQL.

columns of a raw table, what staging makes of them -> `mutations` -> how to change, double or drop
one row, and for which rows that makes a difference

Left out: doing it, which `mutate` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

Role = Literal["number", "time", "flag", "code", "text", "free text", "other"]
Way = Literal["change", "append", "remove"]

# Rows that are added get numbers that no file has.
NEW_ROW = 10**12
# Loads are named by their time (seconds since 1970): what was added counts as read last.
NEW_LOAD = "9999999999.0"
CODE_VALUES = 50
FREE_TEXT_LENGTH = 25
_YEARS_AHEAD = 100
_CONTACT = " Call me at +49 170 5550123 or write to jane.doe@example.com."


@dataclass(frozen=True)
class RawColumn:
    """A column of a raw table, as far as staging reads it.

    Attributes:
        name: Its name.
        kind: Its type in DuckDB.
        role: What staging takes it for.
        staged: Names of the staged columns that are made from it.
        is_key: Whether it is part of the key.
        refers: Whether it points to another table, as rules or tests say.
        orders: Whether it says which version of a key is the latest.
    """

    name: str
    kind: str
    role: Role
    staged: tuple[str, ...]
    is_key: bool = False
    refers: bool = False
    orders: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the raw table holds it as text."""
        return self.kind == "VARCHAR"

    @property
    def sql(self) -> str:
        """Its name as SQL writes it."""
        return '"' + self.name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Mutation:
    """One kind of defect in one place.

    Attributes:
        kind: Its name.
        columns: The raw columns concerned; empty for defects of the whole row.
        way: Whether a row is changed, a changed copy of it added, or the row removed.
        sets: New values by column, as SQL over the row.
        where: For which rows it makes a difference, as SQL.
        caught_if_last: Whether an added row is right to win (a newer version) as long as one row
            of the key is left; otherwise the row that was there has to stay.
    """

    kind: str
    columns: tuple[RawColumn, ...]
    way: Way = "change"
    sets: dict[str, str] = field(default_factory=dict)
    where: str = "true"
    caught_if_last: bool = True

    @property
    def staged(self) -> tuple[str, ...]:
        """Staged columns that it shows in."""
        names = [name for column in self.columns for name in column.staged]
        return tuple(dict.fromkeys(names))


def mutations(columns: Sequence[RawColumn]) -> list[Mutation]:
    """All defects that can be put into a table.

    Args:
        columns: Its raw columns that staging reads.
    """
    found = [mutation for column in columns for mutation in _of_column(column)]
    found += _swaps(columns)
    found += _of_row(columns)
    return found


def _of_column(column: RawColumn) -> Iterator[Mutation]:
    name = column.sql
    told = f"{name} is not null" + (f" and trim({name}) <> ''" if column.is_text else "")
    yield _set("missing", column, "null", told)
    if column.is_text and column.role in ("number", "flag"):
        yield _set("mistyped", column, "'n/k'", told)
    if column.is_key:
        return
    if column.refers:
        yield from _orphaned(column, told)
        return
    if column.role == "number":
        yield from _of_number(column, told)
    elif column.role == "time":
        yield from _of_time(column, told)
    elif column.role == "code" and column.is_text:
        yield _set("unknown code", column, f"{name} || '?'", told)
    elif column.role in ("text", "free text") and column.is_text:
        yield from _of_text(column, told)


def _set(kind: str, column: RawColumn, value: str, where: str) -> Mutation:
    return Mutation(kind, (column,), sets={column.name: value}, where=where)


def _orphaned(column: RawColumn, told: str) -> Iterator[Mutation]:
    name = column.sql
    if column.is_text:
        # Of the same form, because a form can be checked without knowing the other table.
        value = f"translate({name}, '0123456789', '9999999999')"
        yield _set("orphaned", column, value, f"{told} and {value} <> {name}")
    elif column.kind.endswith(("INT", "INTEGER")):
        value = f"try_cast({name} + 1000000007 as {column.kind})"
        yield _set("orphaned", column, value, f"{told} and {value} is not null")


def _of_number(column: RawColumn, told: str) -> Iterator[Mutation]:
    name = column.sql
    if column.is_text:
        larger = rf"regexp_replace({name}, '^(\s*-?\d+)', '\1000')"
        less, over_zero = f"'-' || ltrim({name})", f"regexp_matches({name}, '^\\s*[0-9,.]*[1-9]')"
    else:
        larger = f"try_cast({name} * 1000 as {column.kind})"
        less, over_zero = f"try_cast(-{name} as {column.kind})", f"{name} > 0"
    yield _set("outlying", column, larger, f"{told} and {over_zero} and {larger} is not null")
    yield _set("wrong sign", column, less, f"{told} and {over_zero} and {less} is not null")


def _of_time(column: RawColumn, told: str) -> Iterator[Mutation]:
    name = column.sql
    if column.is_text:
        yield _set("impossible date", column, f"regexp_replace({name}, '[0-9]', '9', 'g')", told)
        later = rf"regexp_replace({name}, '(19|20)(\d\d)', '21\2')"
        yield _set("skewed clock", column, later, f"{told} and {later} <> {name}")
    elif column.kind.startswith(("DATE", "TIMESTAMP")):
        later = f"cast({name} + interval {_YEARS_AHEAD} years as {column.kind})"
        yield _set("skewed clock", column, later, told)


def _of_text(column: RawColumn, told: str) -> Iterator[Mutation]:
    name = column.sql
    half = f"left({name}, length({name}) // 2)"
    yield _set("truncated", column, half, f"{told} and length({name}) > 3")
    # What an umlaut looks like when UTF-8 is read as Latin-1.
    garbled = f"left({name}, 1) || 'Ã¼' || substr({name}, 3)"
    yield _set("wrong encoding", column, garbled, f"{told} and length({name}) > 2")
    if column.role == "free text":
        yield _set("personal data", column, f"{name} || '{_CONTACT}'", told)


def _swaps(columns: Sequence[RawColumn]) -> Iterator[Mutation]:
    plain = [c for c in columns if not c.is_key and not c.refers and c.role != "other"]
    for one, other in pairwise(plain):
        if one.kind == other.kind and _alike(one.role, other.role):
            yield Mutation(
                "swapped columns",
                (one, other),
                sets={one.name: other.sql, other.name: one.sql},
                where=f"{one.sql} <> {other.sql}",
            )


def _alike(one: Role, other: Role) -> bool:
    texts = ("text", "free text")
    return one == other or (one in texts and other in texts)


def _of_row(columns: Sequence[RawColumn]) -> Iterator[Mutation]:
    yield Mutation("duplicated row", (), "append")
    changed = _other_values(columns)
    if changed:
        yield Mutation("repeated key", (), "append", changed)
    earlier = {
        column.name: f"cast({column.sql} - interval 30 days as {column.kind})"
        for column in columns
        if column.orders and column.kind.startswith(("DATE", "TIMESTAMP"))
    }
    if earlier and changed:
        told = " and ".join(c.sql + " is not null" for c in columns if c.name in earlier)
        sets = {**changed, **earlier}
        yield Mutation("outdated version", (), "append", sets, told, caught_if_last=False)
    yield Mutation("lost row", (), "remove")


def _other_values(columns: Sequence[RawColumn]) -> dict[str, str]:
    """Another value for one column in which a valid row may differ."""
    plain = [c for c in columns if not (c.is_key or c.refers or c.orders)]
    for column in plain:
        if column.role == "number" and not column.is_text:
            return {
                column.name: f"coalesce(try_cast({column.sql} + 1 as {column.kind}), {column.sql})"
            }
    for column in plain:
        if column.role in ("text", "free text") and column.is_text:
            return {column.name: f"{column.sql} || ' II'"}
    return {}
