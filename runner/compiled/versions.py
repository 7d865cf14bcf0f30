"""Names the data of each relation by what it is made of, so that nothing is made of it twice.

ledger -> versions of source tables -> with the code, versions of nodes -> compared with the mark

A node's version is a hash of its code and of the versions of its parents. It stands as a comment on
the node's relation, written in the transaction that builds it: whoever builds the relation anew
without us takes the mark away with it. A relation that is added to in place keeps its comment, so
its mark names its rows and what it has noted of the loads taken, too. A node has no version, and is
always built, if its result is not decided by code and parents: it asks for the time or chance, is
not kept, or keeps a comment of its own. Left out: equal content of different origin.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from ingestion.failpoints import failpoint
from runner.compiled.store import Kept, short_hash
from runner.project import is_volatile, parents

if TYPE_CHECKING:
    import duckdb

_MARK = "wellspring: "
# Where models note which loads they have taken.
MARKS = "marks"
# What may get other rows without being made anew.
_ADDED_TO = ("by_key", "incremental", "staging", "seed")
# Rows of a table outside of the ledger whose content is worth reading to name it.
_MOST_ROWS = 200_000
Versions = Mapping[str, str | None]


class DataVersions:
    """Versions of all that is in a warehouse, as they are when it is made.

    Args:
        kept: The project.
        connection: The warehouse.
    """

    def __init__(self, kept: Kept, connection: duckdb.DuckDBPyConnection) -> None:
        self._kept = kept
        self._connection = connection
        self._columns = _columns(connection)
        commented = _commented(connection).items()
        self._comments = {place: comment for place, (comment, _) in commented}
        self._rows = _counts(connection, self._counted())
        self._noted = _contents(connection, [p for p in self._columns if p[0] == MARKS])
        self._sources = self._source_versions()

    def expected(self, chosen: Collection[str]) -> dict[str, str | None]:
        """What the versions are once the chosen nodes are built; of others, what they are now."""
        view = self._kept.view
        nodes = view.nodes
        found: dict[str, str | None] = dict(self._sources)
        order = TopologicalSorter({key: parents(view, key) for key in nodes})
        for key in order.static_order():
            if key not in nodes:
                found.setdefault(key, None)
            elif str(nodes[key].resource_type) in ("model", "seed", "snapshot"):
                is_made = key in chosen or nodes[key].config.materialized == "ephemeral"
                found[key] = self._made(key, found) if is_made else self._current(key)
        return found

    def unchanged(self, chosen: Collection[str], expected: Versions) -> set[str]:
        """Those of the chosen nodes that are there already as they would be made."""
        return {
            key
            for key in chosen
            if (version := expected.get(key)) is not None
            and self._comment(key) == self.mark(key, version)
        }

    def mark(self, key: str, version: str) -> str:
        """What a node's relation bears when it has a version."""
        schema, name = self._place(key)
        return _mark(version, self._rows.get((schema, name)), self._noted.get((MARKS, name)))

    # -- inside --------------------------------------------------------------------------------

    def _made(self, key: str, found: Versions) -> str | None:
        kept = self._kept
        node = kept.view.nodes[key]
        is_inlined = node.config.materialized == "ephemeral"
        if not is_inlined and (key not in kept.recordings or _says_itself(node)):
            return None
        ways = kept.recordings.get(key, [])
        if any(is_volatile(sql) for way in ways for sql in way.statements):
            return None
        above = {one: found.get(one) for one in parents(kept.view, key)}
        if None in above.values():
            return None
        return short_hash([kept.reach.get(key, kept.key), above])

    def _current(self, key: str) -> str | None:
        """The version that a relation bears; None if it bears none that holds."""
        comment = self._comment(key) or ""
        version = comment.rpartition(" ")[2]
        if not comment.startswith(_MARK) or comment != self.mark(key, version):
            return None
        return version

    def _place(self, key: str) -> tuple[str, str]:
        node = self._kept.view.nodes[key]
        return (node.schema, node.alias)

    def _comment(self, key: str) -> str | None:
        return self._comments.get(self._place(key))

    def _counted(self) -> list[tuple[str, str]]:
        """Tables whose rows are counted: of sources, and what is added to in place."""
        view = self._kept.view
        places = [(source.schema, source.identifier) for source in view.sources.values()]
        for node in view.nodes.values():
            if _is_in_place(node):
                places.append((node.schema, node.alias))
        return [place for place in dict.fromkeys(places) if place in self._columns]

    def _source_versions(self) -> dict[str, str | None]:
        ledger = self._ledger()
        sources = self._kept.view.sources
        declared = {key for key, node in sources.items() if "ingest" in _meta(node)}
        others = [(n.schema, n.identifier) for key, n in sources.items() if key not in declared]
        small = [place for place in others if self._rows.get(place, _MOST_ROWS + 1) <= _MOST_ROWS]
        contents = _contents(self._connection, small)
        found: dict[str, str | None] = {}
        for key, source in sources.items():
            place = (source.schema, source.identifier)
            own = [self._columns.get(place), self._rows.get(place)]
            if key in declared:
                found[key] = short_hash([*own, ledger.get((source.source_name, source.name))])
            elif place not in self._columns or place in contents:
                found[key] = short_hash([*own, contents.get(place)])
            else:
                found[key] = None
        return found

    def _ledger(self) -> dict[tuple[str, str], list[Any]]:
        """By source and table, a name for all files that were taken."""
        if ("ledger", "files") not in self._columns:
            return {}
        rows = self._connection.execute(
            "select source, table_name, count(*), sum(hash(files)) from ledger.files as files "
            "group by all"
        ).fetchall()
        return {(source, table): [number, str(told)] for source, table, number, told in rows}


def write_marks(connection: duckdb.DuckDBPyConnection, kept: Kept, built: Collection[str]) -> None:
    """Marks nodes that were built by dbt with the versions that they have now."""
    expected = DataVersions(kept, connection).expected(built)
    connection.execute("begin")
    for key in built:
        version = expected.get(key)
        if version is not None:
            put_mark(connection, kept.view.nodes[key], version)
    failpoint("build.before_marks")
    connection.execute("commit")


def put_mark(connection: duckdb.DuckDBPyConnection, node: Any, version: str) -> None:
    """Writes the mark of a version onto the relation of a node, as it is now."""
    rows, noted = None, None
    if _is_in_place(node):
        place, marks = (node.schema, node.alias), (MARKS, node.alias)
        rows = _counts(connection, [place])[place]
        known = connection.execute(
            "select 1 from duckdb_tables() where schema_name = ? and table_name = ?", marks
        ).fetchone()
        noted = _contents(connection, [marks])[marks] if known else None
    kind = "view" if node.config.materialized == "view" else "table"
    mark = _mark(version, rows, noted)
    connection.execute(f"comment on {kind} {node.relation_name} is '{mark}'")


def drop_marks(connection: duckdb.DuckDBPyConnection) -> bool:
    """Takes the marks away from all relations; returns whether there were any."""
    marked = [
        (schema, name, kind)
        for (schema, name), (comment, kind) in _commented(connection).items()
        if comment.startswith(_MARK)
    ]
    connection.execute("begin")
    for schema, name, kind in marked:
        connection.execute(f'comment on {kind} "{schema}"."{name}" is null')
    connection.execute("commit")
    return bool(marked)


def _mark(version: str, rows: int | None, noted: str | None) -> str:
    return f"{_MARK}{short_hash([version, rows, noted])} {version}"


def _is_in_place(node: Any) -> bool:
    kind = str(node.resource_type)
    return kind in ("model", "seed") and node.config.materialized in _ADDED_TO


def _meta(source: Any) -> dict[str, Any]:
    config = getattr(source, "config", None)
    parts = (source.source_meta, source.meta, getattr(config, "meta", None))
    return {key: value for part in parts for key, value in (part or {}).items()}


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    rows = connection.execute(
        "select schema_name, table_name, column_name || ' ' || data_type from duckdb_columns() "
        "where database_name = current_database() and not internal order by all"
    ).fetchall()
    for schema, table, column in rows:
        found.setdefault((schema, table), []).append(column)
    return found


def _commented(
    connection: duckdb.DuckDBPyConnection,
) -> dict[tuple[str, str], tuple[str, str]]:
    """Comments by schema and name, with the word for what bears them."""
    rows = connection.execute(
        "select schema_name, table_name, comment, 'table' from duckdb_tables() "
        "where database_name = current_database() and comment is not null "
        "union all select schema_name, view_name, comment, 'view' from duckdb_views() "
        "where database_name = current_database() and comment is not null"
    ).fetchall()
    return {(schema, name): (comment, kind) for schema, name, comment, kind in rows}


def _counts(
    connection: duckdb.DuckDBPyConnection, places: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    parts = [f'select {n}, count(*) from "{s}"."{t}"' for n, (s, t) in enumerate(places)]
    if not parts:
        return {}
    rows = connection.execute("\nunion all\n".join(parts)).fetchall()
    return {places[number]: count for number, count in rows}


def _contents(
    connection: duckdb.DuckDBPyConnection, places: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """A name for the rows of each of some small tables, whatever their order."""
    parts = [
        f'select {number}, sum(hash(told)), bit_xor(hash(told)) from "{schema}"."{table}" as told'
        for number, (schema, table) in enumerate(places)
    ]
    if not parts:
        return {}
    rows = connection.execute("\nunion all\n".join(parts)).fetchall()
    return {places[number]: f"{one} {other}" for number, one, other in rows}


def _says_itself(node: Any) -> bool:
    """Whether dbt writes a comment of its own onto the relation."""
    return bool((node.config.persist_docs or {}).get("relation"))
