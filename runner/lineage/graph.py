"""The columns of the whole project as a graph: what is made from what.

compiled models, in order + columns of sources and seeds -> `read_query` each (kept by its text) ->
`ColumnGraph` -> `up`, `down`

What a model has for columns is read off its SQL, so that the graph tells of the code as it is, also
where the warehouse is older. Rules, filters and keys of a staging model decide about its rows, as
conditions in SQL do. Left out: rows (`explain`), Python models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.lineage.queries import Column, Made, QueryLineage, read_query
from runner.project import in_order

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# What staging keeps beside a model's table, under the model's name.
BESIDE = ("history", "quarantine", "rejected", "absent_keys", "ledger_outcomes", "findings")
_STORED = 1
# So many former texts are kept for each present one.
_TEXTS = 2


@dataclass(frozen=True)
class Table:
    """A relation of the project.

    Attributes:
        relation: Its full name, `schema.table`.
        unique_id: dbt's name of it; empty for one that dbt does not know.
        name: How people call it: `orders` of a model, `shop.orders` of a source.
        kind: source, seed, snapshot, staging, model, or beside for what staging keeps beside one.
        columns: Its columns and what each is made of, in order.
        decides: Columns that decide about its rows, by how: filter, join, grouping, limit, unnest,
            rule, key, or unknown where its SQL cannot be followed.
        note: Why its columns cannot be followed; empty if they can.
    """

    relation: str
    unique_id: str
    name: str
    kind: str
    columns: Mapping[str, Made]
    decides: Mapping[str, frozenset[Column]] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Link:
    """One step between two columns.

    Attributes:
        above: The column that is read.
        below: The column that is made of it; of no name where it decides about all rows.
        how: unchanged, computed, or how it decides about rows.
    """

    above: Column
    below: Column
    how: str


@dataclass(frozen=True)
class ColumnGraph:
    """The columns of a project.

    Attributes:
        tables: Its relations by full name, in the order in which they can be made.
    """

    tables: Mapping[str, Table]

    @cached_property
    def _above(self) -> Mapping[Column, list[Link]]:
        found: dict[Column, list[Link]] = {}
        for table in self.tables.values():
            for name, made in table.columns.items():
                below = Column(table.relation, name)
                how = "unchanged" if made.unchanged else "computed"
                found[below] = [Link(above, below, how) for above in sorted(made.columns)]
            rows = Column(table.relation, "")
            found[rows] = [
                Link(above, rows, how)
                for how, columns in table.decides.items()
                for above in sorted(columns)
            ]
        return found

    @cached_property
    def _below(self) -> Mapping[Column, list[Link]]:
        found: dict[Column, list[Link]] = {}
        for links in self._above.values():
            for link in links:
                found.setdefault(link.above, []).append(link)
        return found

    def above(self, column: Column) -> Sequence[Link]:
        """What a column is made of; for one without a name, what decides about its table's rows."""
        return self._above.get(column, ())

    def below(self, column: Column) -> Sequence[Link]:
        """What is made of a column, and the tables about whose rows it decides."""
        return self._below.get(column, ())

    def affected(self, columns: Iterable[Column]) -> dict[str, Affected]:
        """What changes if columns do, however far below.

        Args:
            columns: The columns; one without a name stands for the rows of its table.

        Returns:
            By full name of a table below, in order, what of it is affected.
        """
        seen: dict[Column, None] = {}
        ahead = list(columns)
        begun = {column.relation for column in ahead}
        while ahead:
            column = ahead.pop()
            if column in seen:
                continue
            seen[column] = None
            if column.name:
                ahead += [link.below for link in self.below(column)]
            else:
                ahead += [Column(name, "") for name in self._readers.get(column.relation, ())]
        found: dict[str, Affected] = {}
        for name, table in self.tables.items():
            own = {column.name for column in seen if column.relation == name}
            if own and name not in begun:
                listed = tuple(column for column in table.columns if column in own)
                found[name] = Affected(table, listed, rows="" in own)
        return found

    @cached_property
    def _readers(self) -> Mapping[str, list[str]]:
        """Names of the tables whose rows are made of those of another, by the other's name."""
        found: dict[str, dict[str, None]] = {}
        for links in self._above.values():
            for link in links:
                found.setdefault(link.above.relation, {})[link.below.relation] = None
        return {name: list(readers) for name, readers in found.items()}


@dataclass(frozen=True)
class Affected:
    """What of a table changes with columns above it.

    Attributes:
        table: The table.
        columns: Its columns whose values are made of them.
        rows: Whether they decide which rows it has.
    """

    table: Table
    columns: tuple[str, ...]
    rows: bool


def column_graph(
    manifest: Manifest,
    warehouse: Mapping[str, Sequence[str]],
    seeds: Mapping[str, Sequence[str]],
    kept: Path | None = None,
) -> ColumnGraph:
    """Reads the lineage of all columns of a project.

    Args:
        manifest: The project, its models compiled (`transform.Dbt.compile`).
        warehouse: Columns of what the warehouse holds, by full name; for raw tables beside those
            that are declared, and for tables that dbt does not know.
        seeds: Columns of seeds, by unique id.
        kept: A file that keeps what was read, to spare models whose code has not changed.
    """
    reader = _Project(manifest, warehouse, seeds, _Kept(kept))
    return reader.read()


class _Project:
    def __init__(
        self,
        manifest: Manifest,
        warehouse: Mapping[str, Sequence[str]],
        seeds: Mapping[str, Sequence[str]],
        kept: _Kept,
    ) -> None:
        self._manifest = manifest
        self._seeds = seeds
        self._kept = kept
        self._tables: dict[str, Table] = {}
        self._columns: dict[str, dict[str, list[str]]] = {}
        for relation, columns in warehouse.items():
            self._set_columns(relation, columns)

    def read(self) -> ColumnGraph:
        for source in self._manifest.sources.values():
            self._add_source(source)
        kinds = ("model", "seed", "snapshot")
        ids = [k for k, node in self._manifest.nodes.items() if str(node.resource_type) in kinds]
        for node in in_order(self._manifest, ids):
            if str(node.resource_type) == "model":
                self._add_model(node)
            else:
                self._add(node, str(node.resource_type), self._seeds.get(node.unique_id))
        self._add_unknown()
        self._kept.write()
        return ColumnGraph(self._tables)

    def _add_source(self, source: Any) -> None:
        relation = f"{source.schema}.{source.identifier}".lower()
        declared = [name.lower() for name in source.columns]
        names = dict.fromkeys([*declared, *self._known(relation)])
        self._put(
            relation, source.unique_id, f"{source.source_name}.{source.name}", "source", names
        )

    def _add(self, node: Any, kind: str, columns: Iterable[str] | None) -> None:
        relation = f"{node.schema}.{node.alias}".lower()
        declared = [name.lower() for name in node.columns]
        names = dict.fromkeys(columns if columns is not None else [*declared])
        self._put(relation, node.unique_id, node.name, kind, names or self._known(relation))

    def _put(
        self,
        relation: str,
        unique_id: str,
        name: str,
        kind: str,
        names: Iterable[str],
        note: str = "",
    ) -> None:
        nothing = Made(frozenset(), unchanged=False)
        columns = dict.fromkeys((n.lower() for n in names), nothing)
        self._tables[relation] = Table(relation, unique_id, name, kind, columns, note=note)
        self._set_columns(relation, list(columns))

    def _put_unread(self, node: Any, relation: str, kind: str, note: str) -> None:
        """A model of which it is only known what it reads: any column of that may decide."""
        self._put(relation, node.unique_id, node.name, kind, list(node.columns), note)
        read = [t for t in self._tables.values() if t.unique_id in node.depends_on.nodes]
        above = frozenset(Column(t.relation, name) for t in read for name in t.columns)
        self._tables[relation] = replace(self._tables[relation], decides={"unknown": above})

    def _add_model(self, node: Any) -> None:
        relation = f"{node.schema}.{node.alias}".lower()
        kind = "staging" if node.config.materialized == "staging" else "model"
        if str(node.language) != "sql" or not node.compiled_code:
            note = (
                "it is written in Python" if str(node.language) != "sql" else "it is not compiled"
            )
            self._put_unread(node, relation, kind, note)
            return
        try:
            read = self._kept.read(node.compiled_code, self._tables_of(node))
        except ValueError as error:
            self._put_unread(node, relation, kind, str(error))
            return
        decides = dict(read.decides)
        columns = {name: made for name, made in read.columns.items() if name != "_record"}
        if kind == "staging":
            decides |= _declared_decisions(node, columns)
        self._tables[relation] = Table(relation, node.unique_id, node.name, kind, columns, decides)
        self._set_columns(relation, [*columns, *self._known(relation)])
        if kind == "staging":
            self._add_beside(node, relation, columns)

    def _add_beside(self, node: Any, relation: str, columns: Mapping[str, Made]) -> None:
        """What staging keeps beside a model holds its columns as they are."""
        for schema in BESIDE:
            name = f"{schema}.{node.alias}".lower()
            own = self._known(name)
            if own:
                passed = {
                    column: Made(frozenset({Column(relation, column)}), unchanged=True)
                    if column in columns
                    else Made(frozenset(), unchanged=False)
                    for column in own
                }
                self._tables[name] = Table(name, node.unique_id, name, "beside", passed)

    def _add_unknown(self) -> None:
        """Tables that models read and dbt does not know."""
        read = {
            column.relation
            for table in self._tables.values()
            for made in table.columns.values()
            for column in made.columns
        }
        for relation in sorted(read - set(self._tables)):
            self._put(relation, "", relation, "source", self._known(relation))

    def _tables_of(self, node: Any) -> dict[str, dict[str, list[str]]]:
        """Columns of the tables that a model may read: a small share of all, so that it is kept."""
        text = node.compiled_code.lower()
        return {
            schema: found
            for schema, names in self._columns.items()
            if (found := {name: listed for name, listed in names.items() if name in text})
        }

    def _known(self, relation: str) -> list[str]:
        schema, _, name = relation.partition(".")
        return self._columns.get(schema, {}).get(name, [])

    def _set_columns(self, relation: str, columns: Iterable[str]) -> None:
        schema, _, name = relation.lower().partition(".")
        listed = list(dict.fromkeys(column.lower() for column in columns))
        self._columns.setdefault(schema, {})[name] = listed


def _declared_decisions(node: Any, columns: Mapping[str, Made]) -> dict[str, frozenset[Column]]:
    """Columns above a staging model that its declared key, rules and filters look at."""
    staging = (node.config.meta or {}).get("staging") or {}
    keys = [str(name).lower() for name in staging.get("key") or []]
    ruled = []
    for column in node.columns.values():
        config = getattr(column, "config", None)
        meta = (getattr(config, "meta", None) or {}) | (column.meta or {})
        if meta.get("rules"):
            ruled.append(column.name.lower())
    texts = [json.dumps(staging.get(part) or []) for part in ("rules", "filters", "version_order")]
    ruled += [name for name in columns if any(_mentions(text, name) for text in texts)]
    found = {}
    for kind, names in (("key", keys), ("rule", ruled)):
        above = {column for name in names if name in columns for column in columns[name].columns}
        if above:
            found[kind] = frozenset(above)
    return found


def _mentions(text: str, name: str) -> bool:
    import re

    return re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) is not None


class _Kept:
    """What was read of queries, in a file, by a hash of their text and of the columns they read."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._former: dict[str, Any] = {}
        self._used: dict[str, Any] = {}
        if path is not None and path.is_file():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                stored = {}  # half a file of a crash: it is made anew
            if isinstance(stored, dict) and stored.get("format") == _STORED:
                self._former = stored["queries"]

    def read(self, sql: str, tables: Mapping[str, Mapping[str, Sequence[str]]]) -> QueryLineage:
        key = sha256(json.dumps([sql, tables], sort_keys=True).encode()).hexdigest()[:32]
        if key not in self._used:
            self._used[key] = self._former.get(key) or _packed(read_query(sql, tables))
        return _unpacked(self._used[key])

    def write(self) -> None:
        if self._path is None or self._used.keys() <= self._former.keys():
            return
        # A model that adds to its table has two texts, of which a run compiles one.
        former = list(self._former.items())[-_TEXTS * len(self._used) :]
        queries = dict(former) | self._used
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.tmp")
        fresh.write_text(json.dumps({"format": _STORED, "queries": queries}), encoding="utf-8")
        fresh.replace(self._path)


def _packed(read: QueryLineage) -> dict[str, Any]:
    return {
        "columns": {
            name: [made.unchanged, sorted([c.relation, c.name] for c in made.columns)]
            for name, made in read.columns.items()
        },
        "decides": {
            how: sorted([c.relation, c.name] for c in columns)
            for how, columns in read.decides.items()
        },
        "tables": sorted(read.tables),
    }


def _unpacked(stored: Mapping[str, Any]) -> QueryLineage:
    return QueryLineage(
        {
            name: Made(frozenset(Column(*pair) for pair in pairs), unchanged)
            for name, (unchanged, pairs) in stored["columns"].items()
        },
        {
            how: frozenset(Column(*pair) for pair in pairs)
            for how, pairs in stored["decides"].items()
        },
        frozenset(stored["tables"]),
    )
