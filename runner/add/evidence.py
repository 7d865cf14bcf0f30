"""What the first rows of a table say about its key and its cursor.

names, types, first rows as texts -> a table in DuckDB's memory -> the profile and keys of
`wellspring discover` -> `Proposal`s with the evidence in words

A key is proposed only if it holds without exception and its name agrees, because staging keeps one
row of each key: a wrong one would hide rows. Left out: anything about other tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from runner.add.offers import Proposal

_CONVINCING = 0.6
_FEW = 20
_FIRST_COLUMNS = 6
_MOST_COLUMNS = 16


@dataclass(frozen=True)
class Evidence:
    """What the first rows say.

    Attributes:
        rows: How many were looked at.
        key: Columns that identify each of them; None if none is convincing.
        cursor: A column that tells of changes; None if there is none.
        types: Columns whose values fit their type, and the type; the others are text.
    """

    rows: int = 0
    key: Proposal | None = None
    cursor: Proposal | None = None
    types: Mapping[str, str] = field(default_factory=dict)


def weigh(
    table: str,
    types: Mapping[str, str],
    rows: Sequence[Sequence[str | None]],
    *,
    is_whole: bool,
    wanted_key: Sequence[str] = (),
) -> Evidence:
    """Weighs the first rows of a table.

    Args:
        table: Name of the table, which its key may bear.
        types: The type that each column is said to have, in the order of the values.
        rows: The rows, every value as a text.
        is_whole: Whether these are all rows.
        wanted_key: Columns that are known to be the key, so that none is looked for.
    """
    import duckdb

    from runner.discover import keys as keys_of
    from runner.discover.areas import Area
    from runner.discover.dependencies import find_cursors
    from runner.discover.profile import profile_columns

    if not rows or not types:
        return Evidence()
    with closing(duckdb.connect(":memory:")) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        fitting = _store(connection, types, rows)
        described = connection.execute("describe first_rows").fetchall()
        telling = _telling(types)
        area = Area(
            source="",
            name=table,
            relation="main.first_rows",
            sql="first_rows",
            columns={str(row[0]): str(row[1]) for row in described if row[0] in telling},
            place="hash(rowid)",
            raw_rows=len(rows),
            rows=len(rows),
        )
        columns, _ = profile_columns(connection, area, None)
        keys = [] if wanted_key else keys_of.find_keys(connection, area, columns)
        cursors = find_cursors(connection, area, columns)
    looked = f"{len(rows):,} rows" if is_whole else f"the first {len(rows):,} rows"
    key = next((k for k in keys if k.holds and k.score >= _CONVINCING), None)
    changed = next((c for c in cursors if c.kind == "changed" and not c.nulls), None)
    few = f"; {len(rows)} rows prove little" if len(rows) < _FEW else ""
    return Evidence(
        rows=len(rows),
        key=Proposal(key.columns, f"no two of {looked} share it, none lacks it{few}")
        if key
        else None,
        cursor=Proposal((changed.column,), f"{'; '.join(changed.reasons)} ({looked})")
        if changed
        else None,
        types=fitting,
    )


def _telling(types: Mapping[str, str]) -> set[str]:
    """Columns that may be part of a key or tell of changes: the first ones, and those named so."""
    from runner.discover.words import cursor_kind, has_key_word

    first = list(types)[:_FIRST_COLUMNS]
    named = [name for name in types if has_key_word(name) or cursor_kind(name)]
    return set(list(dict.fromkeys([*first, *named]))[:_MOST_COLUMNS])


def _store(
    connection: object, types: Mapping[str, str], rows: Sequence[Sequence[str | None]]
) -> dict[str, str]:
    """Makes the table `first_rows`: each column in its type if every value fits, else as text."""
    import duckdb
    import pyarrow as pa

    assert isinstance(connection, duckdb.DuckDBPyConnection)
    names = list(types)
    texts = pa.table(
        {
            str(place): pa.array([row[place] for row in rows], pa.string())
            for place in range(len(names))
        }
    )
    connection.register("texts", texts)
    misfits = ", ".join(
        f'count(*) filter (where "{place}" is not null and '
        f'try_cast("{place}" as {types[name]}) is null)'
        for place, name in enumerate(names)
    )
    counted = connection.execute(f"select {misfits} from texts").fetchone()
    assert counted is not None
    fitting = {
        name: types[name] if not missed else "varchar"
        for name, missed in zip(names, counted, strict=True)
    }
    cast = ", ".join(
        f'cast("{place}" as {fitting[name]}) as "{name.replace(chr(34), chr(34) * 2)}"'
        for place, name in enumerate(names)
    )
    connection.execute(f"create table first_rows as select {cast} from texts")
    return fitting
