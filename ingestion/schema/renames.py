"""Whether a lost and a new column are one column under two names.

lost columns x new columns -> values, names, types, places -> points -> pairs that are certain

Values weigh most. Where rows have a key, the new column is compared with the old one row by row; a
column that says the same of every row proves nothing, so agreement counts by how unlikely it is by
chance. Without a key, the values of the one are looked up among those of the other. Two columns
that disagree row by row are two columns, whatever their names are. Left out: what a rename means
for models, which the runner knows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingestion.evolution import quoted
from ingestion.schema.shapes import Change, Shape, ShapeColumn

if TYPE_CHECKING:
    import duckdb

# Points from which a pair is one column, and by how many it must beat every other pair.
STRONG = 6
_AHEAD = 2
_SAMPLE = 10_000
_AGREED = 0.95
_DISAGREED = 0.5
_LEAST_ROWS = 5
_LEAST_VALUES = 5
_WORDS = re.compile(r"[^a-z0-9]+|(?<=[a-z])(?=[0-9])")


@dataclass(frozen=True)
class Side:
    """Rows before or since.

    Attributes:
        sql: What stands behind `from`.
        columns: Types of its columns by name.
    """

    sql: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Values:
    """Where values can be compared; without it only names, types and places tell.

    Attributes:
        connection: DuckDB.
        old: Rows before, the latest of each key if there is one.
        new: Rows since.
        key: Columns that identify a row on both sides.
    """

    connection: duckdb.DuckDBPyConnection
    old: Side
    new: Side
    key: Sequence[str] = ()


@dataclass
class _Pair:
    old: ShapeColumn
    new: ShapeColumn
    points: int = 0
    evidence: list[str] = field(default_factory=list)
    is_refuted: bool = False

    def add(self, points: int, told: str) -> None:
        self.points += points
        if told:
            self.evidence.append(told)


def paired(
    changes: Sequence[Change], former: Shape, now: Shape, values: Values | None
) -> tuple[Change, ...]:
    """The changes, with a rename in place of each pair of columns that are one.

    Args:
        changes: As `compare` gives them.
        former: The shape before.
        now: The shape since.
        values: Where values can be compared.
    """
    lost = [change.column for change in changes if change.kind == "column_lost"]
    added = [change.column for change in changes if change.kind == "column_added"]
    if not lost or not added:
        return tuple(changes)
    pairs = [
        _weighed(former, now, old, new, values, len(lost) == len(added) == 1)
        for old in lost
        for new in added
    ]
    renamed = _certain(pairs)
    gone = {name for pair in renamed for name in (pair.old.name, pair.new.name)}
    found = [
        change
        for change in changes
        if change.kind not in ("column_lost", "column_added") or change.column not in gone
    ]
    for pair in renamed:
        told = tuple(pair.evidence)
        found.append(Change("column_renamed", pair.new.name, pair.old.name, pair.new.name, told))
        if pair.old.told_type != pair.new.told_type:
            types = pair.old.told_type, pair.new.told_type
            found.append(Change("column_retyped", pair.new.name, *types))
    return tuple(found)


def _certain(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Pairs with enough points, each column in one at most, none nearly as likely as another."""
    found: list[_Pair] = []
    for pair in sorted(pairs, key=lambda pair: -pair.points):
        rivals = [
            other
            for other in pairs
            if other is not pair
            and not other.is_refuted
            and (other.old.name == pair.old.name or other.new.name == pair.new.name)
        ]
        is_ahead = all(pair.points >= other.points + _AHEAD for other in rivals)
        if pair.points >= STRONG and not pair.is_refuted and is_ahead:
            found.append(pair)
    return found


def _weighed(
    former: Shape, now: Shape, old: str, new: str, values: Values | None, is_only: bool
) -> _Pair:
    pair = _Pair(former.by_name[old], now.by_name[new])
    if values is not None:
        _weigh_values(pair, values)
    likeness = name_likeness(old, new)
    points = 3 if likeness >= 0.85 else 2 if likeness >= 0.6 else 1 if likeness >= 0.4 else 0
    pair.add(points, f"the names are {likeness:.0%} alike" if points else "")
    if pair.old.told_type == pair.new.told_type:
        pair.add(1, f"the same type, {pair.new.told_type}")
    elif _family(pair.old) != _family(pair.new):
        pair.add(-3, f"another type, {pair.old.told_type} and {pair.new.told_type}")
    if former.position(old) == now.position(new):
        pair.add(1, f"the same place, column {now.position(new)}")
    if is_only:
        pair.add(1, "no other column is lost or new")
    return pair


def _family(column: ShapeColumn) -> str:
    kind = column.type.upper()
    if kind.startswith(("DECIMAL", "FLOAT", "DOUBLE")) or "INT" in kind:
        return "number"
    return "time" if kind.startswith(("DATE", "TIMESTAMP")) else kind


def name_likeness(old: str, new: str) -> float:
    """How alike two names are, from 0 to 1; a word may be cut short: `cust_no`, `customer_no`."""
    mine, theirs = _words(old), _words(new)
    whole = difflib.SequenceMatcher(None, "".join(mine), "".join(theirs)).ratio()
    met = [
        sum(any(_same_word(word, other) for other in others) for word in words) / len(words)
        for words, others in ((mine, theirs), (theirs, mine))
    ]
    return max(whole, min(met))


def _words(name: str) -> list[str]:
    return [word for word in _WORDS.split(name.lower()) if word] or [name]


def _same_word(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return short == long or (len(short) >= 3 and long.startswith(short))


def _weigh_values(pair: _Pair, values: Values) -> None:
    old, new = pair.old.name, pair.new.name
    if old not in values.old.columns or new not in values.new.columns:
        return
    key = [name for name in values.key if name not in (old, new)]
    if values.key and len(key) == len(values.key) and _has_key(values):
        _by_key(pair, values, key)
    else:
        _by_overlap(pair, values)


def _has_key(values: Values) -> bool:
    return all(name in values.old.columns and name in values.new.columns for name in values.key)


def _by_key(pair: _Pair, values: Values, key: Sequence[str]) -> None:
    """Compares the two columns row by row."""
    keys = ", ".join(f"{quoted(name)}::varchar as k{n}" for n, name in enumerate(key))
    names = ", ".join(f"k{n}" for n in range(len(key)))
    mine = _told(pair.old.name, values.old.columns)
    theirs = _told(pair.new.name, values.new.columns)
    rows, same, chance = values.connection.execute(
        f"""
        with since as (
            select {keys}, {theirs} as told from {values.new.sql} limit {_SAMPLE}
        ),
        former as (
            select {keys}, any_value({mine}) as told from {values.old.sql}
            where {mine} is not null group by {names}
        ),
        met as (
            select former.told as old, since.told as new
            from since inner join former using ({names})
        )
        select
            count(*), count(*) filter (where old = new),
            (select sum(n * n) from (select count(*) as n from met group by old))
        from met
        """
    ).fetchall()[0]
    if rows < _LEAST_ROWS:
        return
    told = f"the same value in {same:,} of {rows:,} rows of the same key"
    surprise = rows * (1 - float(chance) / rows**2)
    if same < _DISAGREED * rows:
        pair.is_refuted = True
    elif same >= _AGREED * rows and surprise >= _LEAST_ROWS - 1:
        pair.add(STRONG, told)
    elif same >= _AGREED * rows:
        pair.add(1, f"{told}, but hardly two of them differ")
    else:
        pair.add(2, told)


def _by_overlap(pair: _Pair, values: Values) -> None:
    """Looks the values of the new column up among those of the old one."""
    mine = _told(pair.old.name, values.old.columns)
    theirs = _told(pair.new.name, values.new.columns)
    count, known = values.connection.execute(
        f"""
        with since as (
            select distinct told
            from (select {theirs} as told from {values.new.sql} limit {_SAMPLE})
            where told is not null
        )
        select count(*), count(*) filter (
            where told in (select {mine} from {values.old.sql} where {mine} is not null)
        )
        from since
        """
    ).fetchall()[0]
    if count and known >= 0.9 * count:
        points = 3 if count >= _LEAST_VALUES else 1
        pair.add(points, f"{known:,} of {count:,} values are among those of {pair.old.name}")


def _told(name: str, types: Mapping[str, str]) -> str:
    """A value as a text that does not depend on the scale of its type."""
    text = f"{quoted(name)}::varchar"
    if types[name].upper().startswith("DECIMAL"):
        return f"rtrim(rtrim({text}, '0'), '.')"
    return text
