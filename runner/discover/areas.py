"""The relations that are looked at: current rows of raw tables, and what is nested in them.

declarations, warehouse -> `open_areas` -> versions of one row apart -> `Area`
a column of lists, objects or JSON -> `nested_areas` -> its fields as an area of their own

Everything is made in DuckDB's temporary storage; the warehouse is only read. Where a table came in
several loads, the newest row of each key counts. Left out: nesting deeper than two levels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingestion.evolution import quoted
from ingestion.landing import normalise

if TYPE_CHECKING:
    import duckdb

    from ingestion.declarations import SourceDeclaration

LOADER_COLUMNS = re.compile(r"^(_|__)?(_file|_row|_load_id|_extracted_at|_deleted|_sequence|_shard|"
                            r"_topic|_key|_headers|_published_at|_dlt_.*)$")  # fmt: skip
_DEEPEST = 2
_MOST_FIELDS = 60
_MOST_NESTED = 3_000_000
_MOST_PAIRS = 12


@dataclass
class Area:
    """A relation to look at.

    Attributes:
        source: Name of the source.
        name: Name of the table, with the column for what is nested.
        relation: Where it stands in the warehouse.
        sql: What to select from.
        columns: Its columns and their types, without the loader's.
        place: SQL that draws the same sample each time.
        declared_key: The declared key.
        raw_rows: Rows of raw.
        rows: Rows of `sql`.
        loads: In how many loads they came.
        files: In how many files they came, about.
        versions_by: Columns by which versions were told apart.
        nested_in: The table that it is nested in.
        depth: How deep it is nested.
        notes: What is to be known about it.
    """

    source: str
    name: str
    relation: str
    sql: str
    columns: dict[str, str]
    place: str
    declared_key: tuple[str, ...] = ()
    raw_rows: int = 0
    rows: int = 0
    loads: int = 1
    files: int = 1
    versions_by: tuple[str, ...] = ()
    nested_in: str = ""
    depth: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        """`source.table`."""
        return f"{self.source}.{self.name}"


def open_areas(
    connection: duckdb.DuckDBPyConnection, declarations: Iterable[SourceDeclaration]
) -> list[Area]:
    """The raw tables of sources that have been loaded.

    Args:
        connection: The warehouse.
        declarations: The sources wanted.

    Returns:
        An area a table, of all its rows that are not marked as deleted.
    """
    found = []
    for source in declarations:
        for table in source.tables:
            types = _columns(connection, source.schema, table.name)
            if types:
                # Keys may be declared by the names that the source has for them.
                given = table.ingest.primary_key
                declared = tuple(name if name in types else normalise(name) for name in given)
                area = _area(connection, source.name, source.schema, table.name, types, declared)
                found.append(area)
    return found


def _columns(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> dict[str, str]:
    rows = connection.execute(
        "select column_name, data_type from duckdb_columns() where database_name = "
        "current_database() and schema_name = ? and table_name = ? order by column_index",
        [schema, table],
    ).fetchall()
    return {str(name): str(kind) for name, kind in rows}


def _area(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    schema: str,
    table: str,
    types: dict[str, str],
    declared: tuple[str, ...],
) -> Area:
    relation = f"{quoted(schema)}.{quoted(table)}"
    loads = "count(distinct _load_id)" if "_load_id" in types else "1"
    kept = "where _deleted is not true" if "_deleted" in types else ""
    deleted = "count(*) filter (where _deleted)" if "_deleted" in types else "0"
    files = "approx_count_distinct(_file)" if "_file" in types else "1"
    counted = connection.execute(
        f"select count(*), {loads}, {deleted}, {files} from {relation}"
    ).fetchone()
    assert counted is not None
    own = {name: kind for name, kind in types.items() if not LOADER_COLUMNS.match(name)}
    area = Area(
        source=source,
        name=table,
        relation=f"{schema}.{table}",
        sql=f"(select * from {relation} {kept})" if counted[2] else relation,
        columns=own,
        place="hash(_file, _row)" if {"_file", "_row"} <= types.keys() else "hash(rowid)",
        declared_key=tuple(name for name in declared if name in own),
        raw_rows=counted[0],
        rows=counted[0] - counted[2],
        loads=counted[1],
        files=counted[3],
    )
    if counted[2]:
        area.notes.append(f"{counted[2]:,} rows say that one was deleted at the source")
    return area


def only_current(
    connection: duckdb.DuckDBPyConnection, area: Area, key: Sequence[str], number: int
) -> None:
    """Reduces an area to the newest row of each key; a row without a key stands for itself.

    Args:
        connection: The warehouse.
        area: The area, changed in place.
        key: Columns that identify a row of the source.
        number: A number that no other area has.
    """
    relation = ".".join(quoted(part) for part in area.relation.split(".", 1))
    listed = ", ".join(quoted(name) for name in key)
    missing = " or ".join(f"{quoted(name)} is null" for name in key)
    types = _columns(connection, *area.relation.split(".", 1))
    order = [name for name in ("_load_id", "_file", "_row") if name in types]
    newest = ", ".join(f"{name} desc" for name in order)
    gone = "where _deleted is not true" if "_deleted" in types else ""
    connection.execute(
        f"create or replace temp table discover_{number} as select * from "
        f"(select * from {relation} qualify {missing} or row_number() over "
        f"(partition by {listed} order by {newest}) = 1) {gone}"
    )
    area.sql = f"temp.discover_{number}"
    counted = connection.execute(f"select count(*) from {area.sql}").fetchone()
    assert counted is not None
    area.rows = counted[0]
    area.versions_by = tuple(key)


def nested_areas(
    connection: duckdb.DuckDBPyConnection, area: Area, json_columns: Sequence[str], number: int
) -> list[Area]:
    """Areas of the lists and objects in columns of an area.

    Args:
        connection: The warehouse.
        area: The area that has the columns.
        json_columns: Columns of texts that are JSON.
        number: From here on numbers are free.

    Returns:
        The areas that could be opened; columns that could not are noted in `area`.
    """
    found: list[Area] = []
    if area.depth >= _DEEPEST:
        return found
    for name, kind in area.columns.items():
        if name in json_columns or kind == "JSON":
            kind = _structure(connection, area, name)
            value = (
                f"from_json(case when json_valid({quoted(name)}) then {quoted(name)} end, '{kind}')"
            )
            listed, fields = kind.startswith("["), kind.count(":")
        elif kind.startswith("STRUCT") or kind.endswith("[]"):
            value, listed, fields = quoted(name), kind.endswith("[]"), 0
        else:
            continue
        if kind in ("", '"JSON"', '"NULL"', '["NULL"]', '["JSON"]', "{}"):
            continue
        if fields > _MOST_FIELDS:
            area.notes.append(f"{name} is JSON with {fields} kinds of fields: not looked into")
            continue
        inner = _open(connection, area, name, value, listed, number + len(found))
        if inner is not None:
            found.append(inner)
    return found


def _structure(connection: duckdb.DuckDBPyConnection, area: Area, name: str) -> str:
    row = connection.execute(
        f"select json_group_structure({quoted(name)}::json) from (select {quoted(name)} from "
        f"{area.sql} where {quoted(name)} is not null and json_valid({quoted(name)}) limit 5000)"
    ).fetchone()
    return "" if row is None or row[0] is None else str(row[0]).replace("'", "''")


def _open(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    name: str,
    value: str,
    listed: bool,
    number: int,
) -> Area | None:
    few = f"where {area.place} % {area.rows // _MOST_NESTED + 1} = 0"
    item = f"unnest({value})" if listed else value
    inner = f"(select {item} as item from {area.sql} {few}) where item is not null"
    target = f"temp.discover_{number}"
    probe = connection.execute(f"select typeof(item) from {inner} limit 1").fetchone()
    if probe is None:
        return None
    columns = "item.*" if str(probe[0]).startswith("STRUCT") else 'item as "value"'
    connection.execute(
        f"create or replace temp table discover_{number} as select {columns} from {inner}"
    )
    rows = connection.execute(f"select count(*) from {target}").fetchone()
    described = connection.execute(f"describe {target}").fetchall()
    assert rows is not None
    nested = Area(
        source=area.source,
        name=f"{area.name}.{name}",
        relation=area.relation,
        sql=target,
        columns={str(row[0]): str(row[1]) for row in described},
        place="hash(rowid)",
        raw_rows=rows[0],
        rows=rows[0],
        nested_in=area.name,
        depth=area.depth + 1,
    )
    if area.rows > _MOST_NESTED:
        nested.notes.append("of a sample of the rows that it is nested in")
    _split_pairs(connection, nested, number)
    return nested


def _split_pairs(connection: duckdb.DuckDBPyConnection, nested: Area, number: int) -> None:
    """Makes a list of names and values a table with a column a name."""
    names = [
        name for name in nested.columns if name.lower() in ("id", "key", "name", "field", "code")
    ]
    values = [name for name in nested.columns if name.lower() in ("value", "val")]
    if len(nested.columns) != 2 or len(names) != 1 or len(values) != 1:
        return
    rows = connection.execute(
        f"select distinct {quoted(names[0])}::varchar as name from {nested.sql} "
        f"where name is not null order by 1 limit {_MOST_PAIRS + 1}"
    ).fetchall()
    if not 0 < len(rows) <= _MOST_PAIRS:
        return
    cases = ", ".join(
        f"case when {quoted(names[0])}::varchar = '{str(row[0]).replace(chr(39), chr(39) * 2)}' "
        f"then {quoted(values[0])} end as {quoted(f'{values[0]}_{row[0]}')}"
        for row in rows
    )
    connection.execute(
        f"create or replace temp table discover_pairs_{number} as select {cases} from {nested.sql}"
    )
    nested.sql = f"temp.discover_pairs_{number}"
    kind = nested.columns[values[0]]
    nested.columns = {f"{values[0]}_{row[0]}": kind for row in rows}
    nested.notes.append(f"pairs of {names[0]} and {values[0]}, a column for each {names[0]}")
