"""Two published versions, table by table: shape, row counts, rows by key, cells by column.

manifests -> tables whose checksums differ -> both files attached read-only -> `VersionDiff`

Rows are matched by the first declared key that is unique on both sides; a table without one is
compared as a multiset, so that a changed row counts as one removed and one added. DuckDB works
within `[load] memory` and spills. Left out: what made the difference, which `explain` tells.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, first_line
from ingestion.settings import Settings
from runner.versions import Version

if TYPE_CHECKING:
    import duckdb

_BEFORE, _AFTER = "before", "after"
_NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL.*)")
_THERE = '"__there"'


@dataclass(frozen=True)
class Sample:
    """A row that differs.

    Attributes:
        kind: added, removed or changed.
        values: Its key if it was changed, else all of it.
        cells: Of a changed row, value before and after by column.
    """

    kind: str
    values: dict[str, Any]
    cells: dict[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class TableDiff:
    """What differs in one table.

    Attributes:
        table: Schema and name.
        state: added, removed, changed or equal.
        rows_before: Rows in the one version; None if it lacks the table.
        rows_after: Rows in the other version; None if it lacks the table.
        columns_added: Name and type of columns that are new.
        columns_removed: Name and type of columns that are gone.
        columns_retyped: Name, type before and type after.
        key: Columns that rows were matched by; none if they were compared as a multiset.
        added: Rows that only the other version has.
        removed: Rows that only the one version has.
        changed: Rows of one key whose values differ.
        cells: By column, how many of the changed rows differ in it.
        samples: Some of the rows.
    """

    table: str
    state: str
    rows_before: int | None
    rows_after: int | None
    columns_added: tuple[tuple[str, str], ...] = ()
    columns_removed: tuple[tuple[str, str], ...] = ()
    columns_retyped: tuple[tuple[str, str, str], ...] = ()
    key: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    changed: int = 0
    cells: dict[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions.

    Attributes:
        before: Name of the one.
        after: Name of the other.
        tables: Every table of either, by name.
    """

    before: str
    after: str
    tables: tuple[TableDiff, ...]


def compare(
    settings: Settings,
    before: Version,
    after: Version,
    wanted: Collection[str] = (),
    rows: int = 0,
    on_table: Callable[[str], None] | None = None,
) -> VersionDiff:
    """Compares two versions.

    Args:
        settings: The project's settings.
        before: The one.
        after: The other.
        wanted: Tables to compare, `schema.name` or `name`; all if none is named.
        rows: How many rows of each kind to show of each table.
        on_table: Called with each table that has to be read.

    Raises:
        BadInput: No version has such a table, or a file cannot be read.
    """
    import duckdb

    from ingestion.warehouse import in_memory

    manifests = [version.manifest() for version in (before, after)]
    sides = [{table["name"]: table for table in manifest["tables"]} for manifest in manifests]
    comparable = manifests[0]["duckdb_version"] == manifests[1]["duckdb_version"]
    names = _chosen(wanted, sorted({*sides[0], *sides[1]}))
    found = []
    with closing(in_memory(settings)) as connection:
        for catalog, version in ((_BEFORE, before), (_AFTER, after)):
            _attach(connection, catalog, version)
        for name in names:
            old, new = (side.get(name) for side in sides)
            if old is None or new is None:
                found.append(_alone(connection, name, old, new))
            elif comparable and old["checksum"] == new["checksum"]:
                found.append(TableDiff(name, "equal", old["rows"], new["rows"]))
            else:
                if on_table is not None:
                    on_table(name)
                try:
                    found.append(_Comparison(connection, name, old, new, rows).result())
                except duckdb.Error as error:
                    raise BadInput(
                        f"{name} cannot be compared: {first_line(error)}",
                        hint="Leave it out by naming others: --table NAME; `[load] memory` in "
                        "wellspring.toml says what may be used.",
                    ) from error
    return VersionDiff(before.name, after.name, tuple(found))


def _chosen(wanted: Collection[str], known: Sequence[str]) -> list[str]:
    if not wanted:
        return list(known)
    chosen: list[str] = []
    for name in wanted:
        fitting = [table for table in known if name in (table, table.partition(".")[2])]
        if not fitting:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise BadInput(
                f"neither version has a table {name}",
                key="--table",
                hint=f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}.",
            )
        chosen += fitting
    return list(dict.fromkeys(chosen))


def _attach(connection: duckdb.DuckDBPyConnection, catalog: str, version: Version) -> None:
    import duckdb

    path = str(version.database).replace("'", "''")
    try:
        connection.execute(f"attach '{path}' as \"{catalog}\" (read_only)")
    except duckdb.Error as error:
        raise BadInput(
            f"version {version.name} cannot be read: {first_line(error)}",
            file=version.database,
            hint="`wellspring versions` lists the versions that are kept.",
        ) from error


def _alone(
    connection: duckdb.DuckDBPyConnection, name: str, old: Any | None, new: Any | None
) -> TableDiff:
    """A table that only one version has."""
    if new is not None:
        columns = tuple(_columns(connection, _AFTER, name).items())
        return TableDiff(name, "added", None, new["rows"], columns, added=new["rows"])
    assert old is not None
    columns = tuple(_columns(connection, _BEFORE, name).items())
    return TableDiff(
        name, "removed", old["rows"], None, columns_removed=columns, removed=old["rows"]
    )


def _columns(connection: duckdb.DuckDBPyConnection, side: str, table: str) -> dict[str, str]:
    return {
        row[0]: row[1] for row in connection.execute(f"describe {_place(side, table)}").fetchall()
    }


class _Comparison:
    """One table of both versions.

    Args:
        connection: Both versions attached.
        name: The table.
        old: What the one manifest says of it.
        new: What the other manifest says of it.
        rows: How many rows of each kind to show.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, name: str, old: Any, new: Any, rows: int
    ) -> None:
        self._connection = connection
        self._name = name
        self._counts = (old["rows"], new["rows"])
        self._rows = rows
        self._before = _columns(connection, _BEFORE, name)
        self._after = _columns(connection, _AFTER, name)
        self._common = [column for column in self._after if column in self._before]
        declared = [*new.get("keys", ()), *old.get("keys", ())]
        self._key = next((key for key in map(self._spelled, declared) if self._is_key(key)), ())

    def result(self) -> TableDiff:
        """Shape, counts and samples."""
        added = tuple(i for i in self._after.items() if i[0] not in self._before)
        removed = tuple(i for i in self._before.items() if i[0] not in self._after)
        retyped = tuple(
            (name, self._before[name], self._after[name])
            for name in self._common
            if self._before[name] != self._after[name]
        )
        counts = self._by_key() if self._key else self._as_multisets()
        differs = any((added, removed, retyped, *counts[:3]))
        # Descriptions belong to the checksum, but are no difference that a query could meet.
        state = "changed" if differs else "equal"
        samples = self._samples(counts) if self._rows and differs else ()
        return TableDiff(
            self._name,
            state,
            rows_before=self._counts[0],
            rows_after=self._counts[1],
            columns_added=added,
            columns_removed=removed,
            columns_retyped=retyped,
            key=self._key,
            added=counts[0],
            removed=counts[1],
            changed=counts[2],
            cells=counts[3],
            samples=samples,
        )

    def _spelled(self, key: Sequence[str]) -> tuple[str, ...]:
        """A declared key, which is in lower case, as the columns are spelled; empty without one."""
        names = {name.lower(): name for name in self._common}
        return tuple(names[name] for name in key) if set(key) <= set(names) else ()

    def _is_key(self, key: Sequence[str]) -> bool:
        if not key:
            return False
        listed = ", ".join(map(_name, key))
        for side in (_BEFORE, _AFTER):
            twice = self._connection.execute(
                f"select 1 from {_place(side, self._name)} group by {listed} "
                "having count(*) > 1 limit 1"
            ).fetchone()
            if twice is not None:
                return False
        return True

    def _by_key(self) -> tuple[int, int, int, dict[str, int]]:
        compared = [name for name in self._common if name not in self._key]
        both = f"b.{_THERE} and a.{_THERE}"
        counts = [
            f"count(*) filter (where b.{_THERE} is null)",
            f"count(*) filter (where a.{_THERE} is null)",
            f"count(*) filter (where {both} and ({self._differs(compared)}))",
            *(f"count(*) filter (where {both} and {self._distinct(name)})" for name in compared),
        ]
        row = self._one(f"select {', '.join(counts)} from {self._joined()}")
        cells = {name: n for name, n in zip(compared, row[3:], strict=True) if n}
        return row[0], row[1], row[2], cells

    def _as_multisets(self) -> tuple[int, int, int, dict[str, int]]:
        if not self._common:
            return self._counts[1], self._counts[0], 0, {}
        row = self._one(
            f"select (select count(*) from ({self._surplus(_AFTER, _BEFORE)})), "
            f"(select count(*) from ({self._surplus(_BEFORE, _AFTER)}))"
        )
        return row[0], row[1], 0, {}

    def _surplus(self, one: str, other: str) -> str:
        """Rows of which one side has more copies, over the columns that both have."""
        columns = ", ".join(self._comparable(name) for name in self._common)
        place, without = _place(one, self._name), _place(other, self._name)
        return f"select {columns} from {place} except all select {columns} from {without}"

    def _comparable(self, name: str) -> str:
        """A column so that equal values of two types are equal."""
        column = _name(name)
        kinds = (self._before[name], self._after[name])
        if kinds[0] == kinds[1] or all(_NUMBER.fullmatch(kind) for kind in kinds):
            return column
        return f"{column}::varchar as {column}"

    def _distinct(self, name: str) -> str:
        cast = "::varchar" if "::varchar" in self._comparable(name) else ""
        column = _name(name)
        return f"b.{column}{cast} is distinct from a.{column}{cast}"

    def _differs(self, names: Sequence[str]) -> str:
        return " or ".join(map(self._distinct, names)) or "false"

    def _joined(self) -> str:
        same = " and ".join(f"b.{_name(n)} is not distinct from a.{_name(n)}" for n in self._key)
        sides = (
            f"(select *, true as {_THERE} from {_place(side, self._name)}) as {side[0]}"
            for side in (_BEFORE, _AFTER)
        )
        # The sides are called `b` (before) and `a` (after).
        return " full join ".join(sides) + f" on {same}"

    # -- samples -------------------------------------------------------------------------------

    def _samples(self, counts: tuple[int, int, int, dict[str, int]]) -> tuple[Sample, ...]:
        found: list[Sample] = []
        for kind, number in zip(("added", "removed", "changed"), counts, strict=False):
            if number:
                found += self._changed() if kind == "changed" else self._moved(kind)
        return tuple(found)

    def _moved(self, kind: str) -> list[Sample]:
        one, other = (_AFTER, _BEFORE) if kind == "added" else (_BEFORE, _AFTER)
        if self._key:
            there = f"{other[0]}.{_THERE} is null"
            query = f"select {one[0]}.* exclude ({_THERE}) from {self._joined()} where {there}"
            order = ", ".join(f"{one[0]}.{_name(name)}" for name in self._key)
        else:
            query, order = self._surplus(one, other), "all"
        rows = self._read(f"{query} order by {order} limit {self._rows}")
        return [Sample(kind, row) for row in rows]

    def _changed(self) -> list[Sample]:
        compared = [name for name in self._common if name not in self._key]
        columns = [f"a.{_name(name)} as {_name(f'k.{name}')}" for name in self._key]
        for name in compared:
            columns += [f"{side}.{_name(name)} as {_name(f'{side}.{name}')}" for side in "ba"]
            columns.append(f"{self._distinct(name)} as {_name(f'd.{name}')}")
        order = ", ".join(f"a.{_name(name)}" for name in self._key)
        rows = self._read(
            f"select {', '.join(columns)} from {self._joined()} "
            f"where b.{_THERE} and a.{_THERE} and ({self._differs(compared)}) "
            f"order by {order} limit {self._rows}"
        )
        return [
            Sample(
                "changed",
                {name: row[f"k.{name}"] for name in self._key},
                {
                    name: (row[f"b.{name}"], row[f"a.{name}"])
                    for name in compared
                    if row[f"d.{name}"]
                },
            )
            for row in rows
        ]

    def _read(self, sql: str) -> list[dict[str, Any]]:
        cursor = self._connection.execute(sql)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self._connection.execute(sql).fetchone()
        assert row is not None
        return row


def _place(side: str, table: str) -> str:
    schema, _, name = table.partition(".")
    return f'"{side}".{_name(schema)}.{_name(name)}'


def _name(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
