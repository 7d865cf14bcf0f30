"""Which columns identify a row.

profiles -> columns that could alone -> counted exactly -> pairs and triples of what is left,
refuted on parts of the rows, then counted exactly -> `Key`, best first -> the primary key

A combination is refuted on all rows of some values of its first column: rows with equal values lie
in that part together, so a small part tells. Left out: keys of more than three columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from ingestion.evolution import quoted
from runner.discover.areas import Area
from runner.discover.model import ColumnProfile, Key
from runner.discover.profile import is_nested, is_number, is_text, is_time
from runner.discover.words import (
    cursor_kind,
    has_key_word,
    is_measure,
    is_own_key,
    stem,
    tokens,
    word_set,
)

if TYPE_CHECKING:
    import duckdb

# Real systems send rows twice: a key may be broken by so many rows, and is told to be.
_TOLERATED = 0.02
# The estimate of different values is off by a seventh, one in a hundred times by a third.
_ESTIMATE = 0.5
_LONGEST = 64
_PART_ROWS = 20_000
_MOST_COLUMNS = 8
_MOST_COUNTED = 8
_WIDEST = 3
_CONVINCING = 0.6
_LEAST = 0.2
_PLACES = word_set("line position sequence seq step part item index ordinal rank year month day ")


def find_keys(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    columns: Sequence[ColumnProfile],
    within: str = "",
) -> list[Key]:
    """Candidate keys of an area.

    Args:
        connection: The warehouse.
        area: The area.
        columns: Profiles of its columns.
        within: A column within whose values a key has to hold, such as the load.

    Returns:
        Keys that hold or nearly hold, best first.
    """
    if not area.rows:
        return []
    single = [_single(connection, area, c, i, within) for i, c in enumerate(columns)]
    found = [key for key in single if key is not None]
    best = max((key.score for key in found), default=0.0)
    if len(found) < len(columns) and (best < _CONVINCING or area.rows <= 1_000_000):
        found += _combined(connection, area, columns, found, within)
    return sorted(found, key=lambda key: (-key.score, len(key.columns), key.columns))


def primary_key(keys: Sequence[Key], declared: Key | None) -> Key | None:
    """The key to use: the declared one if it holds or nearly does, else the best candidate."""
    if declared is not None:
        return declared
    return keys[0] if keys and keys[0].score >= _LEAST else None


def declared_key(
    connection: duckdb.DuckDBPyConnection, area: Area, columns: Sequence[ColumnProfile]
) -> Key | None:
    """The declared key with what the data say of it."""
    if not area.declared_key:
        return None
    duplicates, nulls = count(connection, area, area.declared_key, "")
    if duplicates + nulls > _TOLERATED * area.rows:
        area.notes.append(
            f"the declared key ({', '.join(area.declared_key)}) does not hold: {duplicates:,} "
            f"rows too many, {nulls:,} without a value"
        )
        return None
    return Key(area.declared_key, duplicates, nulls, 1.0, ("declared", *_held(duplicates, nulls)))


def count(
    connection: duckdb.DuckDBPyConnection, area: Area, names: Sequence[str], within: str = ""
) -> tuple[int, int]:
    """Rows too many for a key, and rows that lack a part of it.

    Args:
        connection: The warehouse.
        area: The area.
        names: Columns of the key.
        within: A column within whose values the key has to hold.
    """
    listed = ", ".join(quoted(name) for name in (*names, *([within] if within else [])))
    filled = " and ".join(f"{quoted(name)} is not null" for name in names)
    row = connection.execute(
        f"select (select count(*) from {area.sql} where {filled}), "
        f"(select count(*) from (select distinct {listed} from {area.sql} where {filled}))"
    ).fetchone()
    assert row is not None
    return row[0] - row[1], area.rows - row[0]


def _held(duplicates: int, nulls: int) -> tuple[str, ...]:
    told = []
    if duplicates:
        told.append(f"{duplicates:,} rows have the values of another one")
    if nulls:
        told.append(f"{nulls:,} rows have no value")
    return tuple(told) or ("no value occurs twice",)


def _single(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    column: ColumnProfile,
    place: int,
    within: str,
) -> Key | None:
    floating = column.data_type in ("DOUBLE", "FLOAT", "BOOLEAN")
    too_long = (column.longest or 0) > 4 * _LONGEST
    # A time may be unique, but identifies nothing unless the table begins with it.
    late = is_time(column.data_type) and place > 0
    if floating or too_long or late or is_nested(column.data_type):
        return None
    if column.null_share > _TOLERATED:
        return None
    if column.distinct < _ESTIMATE * area.rows and not within:
        return None
    duplicates, nulls = count(connection, area, (column.name,), within)
    if duplicates + nulls > _TOLERATED * area.rows or column.distinct < 2 < area.rows:
        return None
    points, reasons = _points(area, column, place)
    score = 0.4 + points - (0.1 if duplicates else 0) - (0.1 if nulls else 0)
    return Key(
        (column.name,), duplicates, nulls, _bounded(score), (*_held(duplicates, nulls), *reasons)
    )


def _points(area: Area, column: ColumnProfile, place: int) -> tuple[float, list[str]]:
    """What speaks for and against a column as an identifier, besides being unique."""
    points, reasons = 0.0, []
    own, said = is_own_key(column.name, area.name), has_key_word(column.name)
    if own and (said or len(stem(column.name)) > 0):
        points += 0.25
        reasons.append("its name says that it identifies the table's rows")
    elif said:
        points += 0.1
        reasons.append("its name says that it identifies something")
    elif not own and place:
        # Many measures are unique by chance, in small tables above all.
        points -= 0.25
    if tokens(column.name)[-1:] in (("id",), ("key",)):
        points += 0.03
    points += 0.15 / (1 + place)
    if place == 0:
        reasons.append("it is the first column")
    if column.personal is not None:
        points -= 0.35
        reasons.append("it holds personal data, which may change")
    if is_time(column.data_type) or (column.behind and column.behind.kind in ("date", "timestamp")):
        points -= 0.3
    if is_measure(column.name) or (column.data_type.startswith("DECIMAL") and not said):
        points -= 0.3
    points += _form_points(column, reasons)
    return points, reasons


def _form_points(column: ColumnProfile, reasons: list[str]) -> float:
    if is_number(column.data_type):
        return 0.1 if not column.data_type.startswith("DECIMAL") else 0.0
    if not is_text(column.data_type):
        return 0.1 if column.data_type == "UUID" else 0.0
    if column.behind is not None and column.behind.kind in ("integer", "uuid"):
        return 0.1
    forms = [form for form, _ in column.shapes]
    if column.behind is not None and column.behind.kind in ("date", "timestamp"):
        return 0.0
    if (column.longest or 0) > _LONGEST or any(" " in form for form in forms):
        return -0.25
    even = bool(column.shapes) and column.shapes[0][1] >= 0.9
    if even and any(c in forms[0] for c in "9A"):
        reasons.append(f"all have the form {forms[0]}")
        return 0.1
    return 0.0


def _bounded(score: float) -> float:
    return round(min(1.0, max(0.0, score)), 3)


def _combined(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    columns: Sequence[ColumnProfile],
    single: Sequence[Key],
    within: str,
) -> list[Key]:
    """Minimal combinations of columns of which none is a key alone."""
    alone = {key.columns[0] for key in single}
    parts = [(c, i) for i, c in enumerate(columns) if c.name not in alone and _could_be_part(c)]
    parts.sort(key=lambda part: -_part_points(part[0], part[1]))
    chosen = parts[:_MOST_COLUMNS]
    found: list[Key] = []
    counted = 0
    for width in range(2, _WIDEST + 1):
        asked = [
            combination
            for combination in combinations(chosen, width)
            if _many_enough(area, [c for c, _ in combination])
            and not any(set(key.columns) <= {c.name for c, _ in combination} for key in found)
        ]
        for combination in _not_refuted(connection, area, asked, within):
            names = tuple(c.name for c, _ in sorted(combination, key=lambda part: part[1]))
            if counted >= _MOST_COUNTED:
                break
            counted += 1
            duplicates, nulls = count(connection, area, names, within)
            if duplicates + nulls <= _TOLERATED * area.rows:
                points = sum(_part_points(c, i) for c, i in combination) / width
                score = _bounded(0.3 + points - 0.05 * (width - 2) - (0.1 if duplicates else 0))
                reasons = (*_held(duplicates, nulls), "no part of it is enough")
                found.append(Key(names, duplicates, nulls, score, reasons))
    return found


def _could_be_part(column: ColumnProfile) -> bool:
    if is_nested(column.data_type) or column.data_type in ("DOUBLE", "FLOAT"):
        return False
    fractional = column.behind is not None and column.behind.kind in ("decimal", "json", "url")
    if fractional or (
        column.data_type.startswith("DECIMAL") and not column.data_type.endswith("0)")
    ):
        return False
    return (
        column.null_share <= _TOLERATED
        and column.distinct > 1
        and (column.longest or 0) <= _LONGEST
    )


def _part_points(column: ColumnProfile, place: int) -> float:
    """How likely a column is a part of a key: identifiers and places first, then days and codes."""
    points = 0.1 / (1 + place)
    if has_key_word(column.name):
        points += 0.3
    elif set(tokens(column.name)) & _PLACES:
        points += 0.25
    elif is_time(column.data_type) or cursor_kind(column.name) == "created":
        points += 0.15 if column.data_type == "DATE" or "date" in tokens(column.name) else 0.0
    elif column.behind is not None and column.behind.kind in ("country", "currency", "date"):
        points += 0.2
    if is_measure(column.name) and not set(tokens(column.name)) & _PLACES:
        points -= 0.3
    return points - (0.15 if cursor_kind(column.name) == "changed" else 0.0)


def _many_enough(area: Area, columns: Sequence[ColumnProfile]) -> bool:
    """Whether there are combinations of values for all rows; estimates may be far too low."""
    product = 1.0
    for column in columns:
        product *= max(1, column.distinct) * (1 if column.is_distinct_exact else 1.6)
    return product >= area.rows / max(1, area.loads) * (1 - _TOLERATED)


def _not_refuted(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    asked: Sequence[tuple[tuple[ColumnProfile, int], ...]],
    within: str,
) -> list[tuple[tuple[ColumnProfile, int], ...]]:
    """Combinations that hold on all rows of some values of their most different column."""
    kept = []
    groups: dict[str, list[tuple[tuple[ColumnProfile, int], ...]]] = {}
    for combination in asked:
        first = max(combination, key=lambda part: part[0].distinct)[0].name
        groups.setdefault(first, []).append(combination)
    share = area.rows // _PART_ROWS + 1
    for first, group in groups.items():
        counts = ", ".join(
            "count(distinct hash("
            + ", ".join([quoted(c.name) for c, _ in combination] + ([within] if within else []))
            + "))"
            for combination in group
        )
        row = connection.execute(
            f"select count(*), {counts} from {area.sql} where hash({quoted(first)}) % {share} = 0"
        ).fetchone()
        assert row is not None
        kept += [
            combination
            for combination, distinct in zip(group, row[1:], strict=True)
            if row[0] - distinct <= 3 * _TOLERATED * row[0]
        ]
    return sorted(kept, key=lambda combination: -sum(_part_points(c, i) for c, i in combination))


def exact(columns: Sequence[ColumnProfile], keys: Sequence[Key], rows: int) -> list[ColumnProfile]:
    """The profiles with the counts that the search for keys has made exact."""
    known = {
        key.columns[0]: rows - key.duplicates - key.nulls for key in keys if len(key.columns) == 1
    }
    return [
        replace(c, distinct=known[c.name], is_distinct_exact=True) if c.name in known else c
        for c in columns
    ]
