"""Columns that follow from another one, columns that tell what is new, and deleted rows.

profile -> columns that could decide -> pairs that hold on a sample -> counted on all rows;
columns of times -> how they move from load to load -> `Cursor`

Left out: dependencies on several columns, and those on a key, which decides everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingestion.evolution import quoted
from runner.discover.areas import Area
from runner.discover.model import ColumnProfile, Cursor, Dependency, Key
from runner.discover.profile import is_nested, is_number, is_text, is_time
from runner.discover.words import cursor_kind, tokens

if TYPE_CHECKING:
    import duckdb

_SAMPLE = 5_000
_MOST_ROWS = 5_000_000
_MOST_COLUMNS = 16
_MOST_TOLD = 20
_EXCEPTIONS = 0.03
_BETTER = 0.2


def find_dependencies(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    columns: Sequence[ColumnProfile],
    keys: Sequence[Key],
) -> list[Dependency]:
    """Columns of which each value goes with one value of another column.

    Args:
        connection: The warehouse.
        area: The area.
        columns: Profiles of its columns.
        keys: Its candidate keys.

    Returns:
        Dependencies with few exceptions, those of many values first.
    """
    alone = {key.columns[0] for key in keys if len(key.columns) == 1}
    usable = [
        c
        for c in columns
        if not is_nested(c.data_type)
        and c.name not in alone
        and c.distinct > 1
        and c.null_share < 0.5
        and (c.longest or 0) <= 80
    ][:_MOST_COLUMNS]
    asked = [
        (one.name, other.name)
        for one in usable
        for other in usable
        if one is not other and _could_decide(one, other, area.rows)
    ]
    if not asked or area.rows < 20 or area.rows > _MOST_ROWS:
        return []
    held = _held(connection, area, asked)
    found = [d for pair in held if (d := _counted(connection, area, *pair)) is not None]
    return sorted(found, key=lambda d: (-d.values, d.determinant, d.dependent))[:_MOST_TOLD]


def _could_decide(one: ColumnProfile, other: ColumnProfile, rows: int) -> bool:
    """Whether values of `one` occur often enough to tell, and are at least as many as `other`'s."""
    often = 2 <= one.distinct * 2 <= rows
    kind = one.data_type
    exact = is_text(kind) or (
        is_number(kind) and not kind.startswith(("DOUBLE", "FLOAT", "DECIMAL"))
    )
    return often and exact and one.distinct >= other.distinct * 0.9 and other.distinct > 1


def _held(
    connection: duckdb.DuckDBPyConnection, area: Area, asked: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Pairs that may hold, as all rows of some values of what decides tell.

    Each pair of values beyond one a determinant stands in at least one row that is an exception.
    """
    kept = []
    by_first: dict[str, list[str]] = {}
    for one, other in asked:
        by_first.setdefault(one, []).append(other)
    for one, others in by_first.items():
        column = quoted(one)
        counts = ", ".join(
            f"count(distinct hash({column}, {quoted(o)})) filter (where {quoted(o)} is not null), "
            f"count(distinct {column}) filter (where {quoted(o)} is not null), count({quoted(o)})"
            for o in others
        )
        part = area.rows // _SAMPLE + 1
        row = connection.execute(
            f"select {counts} from {area.sql} where {column} is not null "
            f"and hash({column}) % {part} = 0"
        ).fetchone()
        assert row is not None
        for place, other in enumerate(others):
            both, single, rows = row[3 * place : 3 * place + 3]
            if single and both - single <= 2 * _EXCEPTIONS * rows:
                kept.append((one, other))
    return kept


def _counted(
    connection: duckdb.DuckDBPyConnection, area: Area, one: str, other: str
) -> Dependency | None:
    """The dependency with its exceptions; None if it does not hold, or if anything would decide.

    Where nearly all rows have the same value, each column seems to decide it: what decides must
    leave far fewer exceptions than always taking the most frequent value.
    """
    decides, follows = quoted(one), quoted(other)
    row = connection.execute(
        f"with pairs as (select {decides} as d, {follows} as f, count(*) as n from {area.sql} "
        f"where {decides} is not null and {follows} is not null group by 1, 2), "
        "each as (select sum(n) as rows, sum(n) - max(n) as others from pairs group by d) "
        "select count(*), sum(rows), sum(others), "
        "(select max(often) from (select sum(n) as often from pairs group by f)) from each"
    ).fetchone()
    if row is None or not row[0]:
        return None
    values, rows, exceptions, often = (int(value) for value in row)
    if exceptions > _EXCEPTIONS * rows or rows < 2 * values:
        return None
    if exceptions > _BETTER * (rows - often):
        return None
    return Dependency(one, other, values, exceptions)


def find_cursors(
    connection: duckdb.DuckDBPyConnection, area: Area, columns: Sequence[ColumnProfile]
) -> list[Cursor]:
    """Columns of times that may tell what is new, best first.

    Args:
        connection: The warehouse.
        area: The area.
        columns: Profiles of its columns.
    """
    found = []
    for column in columns:
        kind = cursor_kind(column.name)
        behind = column.behind.kind if column.behind is not None else ""
        timely = is_time(column.data_type) or behind in ("timestamp", "date", "epoch")
        if not timely or not kind or column.personal is not None or area.nested_in:
            continue
        found.append(_cursor(connection, area, column, kind))
    return sorted(found, key=lambda cursor: (-cursor.score, cursor.column))


def _cursor(
    connection: duckdb.DuckDBPyConnection, area: Area, column: ColumnProfile, kind: str
) -> Cursor:
    score, reasons = (0.6, ["its name tells of changes"]) if kind == "changed" else (
        0.4, ["its name tells when a row came about, not of later changes"]
    )  # fmt: skip
    if set(tokens(column.name)) & {"updated", "modified", "changed"}:
        score += 0.1
    if column.nulls:
        score -= 0.3
        reasons.append(f"{column.nulls:,} rows have none")
    else:
        score += 0.1
        reasons.append("every row has it")
    by_day = column.data_type == "DATE" or (column.behind and column.behind.kind == "date")
    if by_day:
        score -= 0.1
        reasons.append("it tells days only: read again the last one")
    if is_time(column.data_type) and area.loads > 1:
        moved = _moves(connection, area, column.name)
        score += 0.2 * moved - 0.1
        reasons.append(f"in {moved:.0%} of the later loads its newest value is newer than before")
    return Cursor(
        column.name, kind, column.nulls, round(min(1.0, max(0.0, score)), 3), tuple(reasons)
    )


def _moves(connection: duckdb.DuckDBPyConnection, area: Area, name: str) -> float:
    """Share of the loads whose newest value is newer than that of all before."""
    relation = ".".join(quoted(part) for part in area.relation.split(".", 1))
    row = connection.execute(
        "select avg((newest > before)::int) from (select newest, max(newest) over (order by "
        "_load_id rows between unbounded preceding and 1 preceding) as before from (select "
        f"_load_id, max({quoted(name)}) as newest from {relation} group by 1)) "
        "where before is not null"
    ).fetchone()
    return float(row[0]) if row is not None and row[0] is not None else 0.0
