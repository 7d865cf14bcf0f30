"""One row of a model, traced to the raw rows, files and loads that it was made from.

model and key -> its row -> the model's SQL rewritten (`provenance`) and asked for that row only ->
rows of its parents -> ... -> staged rows -> raw rows by (_file, _row) -> files of the ledger

The warehouse is opened read-only, under the run's lock, because dbt compiles the models meanwhile.
All contributing rows are followed, a sample of them is shown. Where SQL cannot be rewritten, rows
of a parent are matched by the columns that are passed on unchanged, and the level says so. Left
out: rows that are read by `exists`, `in` and scalar subqueries, which are named but not followed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, first_line
from ingestion.lock import RunLock, lock_path
from ingestion.settings import Settings
from runner.explain.facts import (
    declared_rules,
    findings_place,
    kept_findings,
    last_build,
    last_tests,
    ledger_files,
    other_versions,
    published_versions,
)
from runner.explain.lineage import ColumnLineage, ColumnOrigin
from runner.explain.provenance import ROW_LIMIT, WHY, NotTraceable, Traced, full_name, trace
from runner.history import History, new_run_id
from runner.project import in_order, parents, unique_keys
from runner.query import nearest

if TYPE_CHECKING:
    import duckdb
    from dbt.contracts.graph.manifest import Manifest

    from runner.transform import Dbt

# Keys up to this number stand in the query itself, where DuckDB pushes them down to the tables.
_LITERAL_KEYS = 500
# Temporary tables of several walks over one connection must not meet.
_NUMBERS = itertools.count(1)
_PAIR = re.compile(r",\s*(?=[A-Za-z_]\w*=)")


@dataclass(frozen=True)
class Edge:
    """How many rows of a parent went into the rows of a level.

    Attributes:
        relation: Full name of the parent.
        rows: Number of its rows; None if they could not be told apart from the others.
        how: by row (from the rewritten SQL), by column (equal values of columns that are passed on)
            or by file (staging: `_file` and `_row`).
        columns: Columns of the parent that the explained column is made from.
        note: Why it is not by row.
    """

    relation: str
    rows: int | None
    how: str
    columns: tuple[str, ...] = ()
    note: str = ""


@dataclass
class Level:
    """A relation on the way, and the rows of it that contribute.

    Attributes:
        relation: Full name, `schema.table`.
        unique_id: dbt's name of it; empty if dbt does not know it.
        name: Its short name; `source.table` for a source.
        kind: model, staging, seed, snapshot, source or table.
        is_beside: Whether it is a table that staging keeps beside the staged one.
        file: Where it is written, below the project's root.
        row_count: Contributing rows.
        key: Columns that identify a row; empty if none are declared.
        sample: Some of the contributing rows.
        sql: Compiled SQL; empty for what no SQL makes.
        origins: How each column that the explained one is made from comes about here.
        edges: What its rows are made from.
        built: The run that built it last: its id, git revision and moment; None if no run did.
        tests: Data tests of it with their last result: name, status, failures, moment, run.
        rules: Row rules that its rows were screened by.
        versions: Other raw rows with the keys of the sample: file, row, load, outcome, reasons.
        findings: Defects that were found in its rows and kept: defect, column, rule, rows.
        files: Landed files that its rows stand in, as the ledger knows them.
        unfollowed: Relations that only decide which rows there are.
        notes: What is to be known about this level.
    """

    relation: str
    unique_id: str
    name: str
    kind: str
    is_beside: bool = False
    file: str = ""
    row_count: int = 0
    key: tuple[str, ...] = ()
    sample: list[dict[str, Any]] = field(default_factory=list)
    sql: str = ""
    origins: dict[str, ColumnOrigin] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    built: dict[str, Any] | None = None
    tests: list[dict[str, Any]] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    unfollowed: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Explanation:
    """A row and what it was made from.

    Attributes:
        row: The row's values.
        column: The column that was asked for; None for the whole row.
        levels: Every relation on the way by full name, the explained one first.
        published: Versions that the run which built the relation has published.
    """

    row: dict[str, Any]
    column: str | None
    levels: dict[str, Level]
    published: tuple[str, ...] = ()

    @property
    def root(self) -> Level:
        """The level of the explained row."""
        return next(iter(self.levels.values()))


def find_model(manifest: Manifest, name: str) -> Any:
    """The node of a model, seed or snapshot, by its name or `schema.name`.

    Raises:
        BadInput: There is none of this name.
    """
    known = {
        f"{node.schema}.{node.alias}": node
        for node in manifest.nodes.values()
        if str(node.resource_type) in ("model", "seed", "snapshot")
        and node.config.materialized != "ephemeral"
    }
    for full, node in known.items():
        if name.lower() in (node.name.lower(), node.alias.lower(), full.lower()):
            return node
    raise BadInput(
        f"the project has no model {name}",
        hint=f"Perhaps: {', '.join(nearest(name, list(known))[:5])}.",
    )


def explain(
    settings: Settings,
    dbt: Dbt,
    node: Any,
    key: str,
    column: str | None,
    *,
    history: History | None = None,
    rows: int = 3,
    depth: int | None = None,
) -> Explanation:
    """Traces one row of a model to what it was made from.

    Args:
        settings: The project's settings.
        dbt: The project's dbt; it compiles the model and what lies above it.
        node: The model (see `find_model`).
        key: Its row: one value of the one-column key, or `column=value,column=value`.
        column: The column to explain; None for the whole row.
        history: The run history; without it nothing is said of runs and tests.
        rows: How many contributing rows are shown per relation.
        depth: How many relations deep to go; None for all the way to the raw rows.

    Raises:
        BadInput: There is no such column or row, or several rows match the key.
        LockHeld: Another process has the warehouse open.
    """
    from ingestion.warehouse import connect

    dbt.compile([node.unique_id])
    with closing(connect(settings, read_only=True)) as connection:
        walk = Walk(connection, dbt.manifest, rows, depth)
        explanation = walk.explain(node, key, column)
    for level in explanation.levels.values():
        if level.unique_id in dbt.manifest.nodes:
            level.built = last_build(history, dbt.manifest.nodes[level.unique_id].name)
            level.tests = last_tests(history, dbt.manifest, level.unique_id)
    built = explanation.root.built
    versions = published_versions(history, built["run_id"] if built else None)
    return replace(explanation, published=tuple(versions))


def explain_row(
    settings: Settings,
    model: str,
    key: str,
    column: str | None,
    command: str,
    *,
    rows: int = 3,
    depth: int | None = None,
) -> Explanation:
    """Does what `explain` does, under the run's lock and with the run history.

    Args:
        settings: The project's settings.
        model: The model's name.
        key: Its row.
        column: The column to explain; None for the whole row.
        command: The command line, shown to whoever is refused meanwhile.
        rows: How many contributing rows are shown per relation.
        depth: How many relations deep to go; None for all the way.

    Raises:
        BadInput: There is no such model, column or row.
        LockHeld: A run is under way.
    """
    from ingestion.warehouse import connect
    from runner.transform import Dbt

    path = settings.state_dir / "history.sqlite"
    with ExitStack() as stack:
        stack.enter_context(RunLock(lock_path(settings), new_run_id, command))
        # Before the project is parsed: this tells in plain words that it is not there, or held.
        connect(settings, read_only=True).close()
        history = stack.enter_context(closing(History(path))) if path.is_file() else None
        dbt = Dbt(settings)
        node = find_model(dbt.manifest, model)
        return explain(settings, dbt, node, key, column, history=history, rows=rows, depth=depth)


def parse_key(text: str, single: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The columns and values that a key on the command line names.

    Args:
        text: `value`, or `column=value,column=value`; a comma within a value is kept.
        single: The key's columns, of which a value alone needs exactly one.
        columns: The relation's columns and their types.

    Raises:
        BadInput: A column is not known, or a value alone does not tell which column is meant.
    """
    found: dict[str, str] = {}
    parts = _PAIR.split(text)
    if all(re.match(r"[A-Za-z_]\w*=", part.strip()) for part in parts):
        for part in parts:
            name, _, value = part.strip().partition("=")
            found[name.lower()] = value
        unknown = [name for name in found if name not in columns]
        if not unknown:
            return found
        if len(single) != 1 or columns[single[0]] != "VARCHAR":
            raise BadInput(
                f"there is no column {unknown[0]}", hint=f"Columns: {', '.join(columns)}."
            )
    if len(single) != 1:
        names = ", ".join(f"{name}=..." for name in single or list(columns)[:2])
        raise BadInput(
            f"`{text}` does not say which column it is a value of",
            hint=f"Write the key as column=value: {names.replace(', ', ',')}",
        )
    return {single[0]: text}


@dataclass
class Walk:
    """The way from one row up to the raw rows, over one connection.

    Args:
        connection: The warehouse.
        manifest: The project, the models on the way compiled.
        rows: How many contributing rows are shown per relation.
        depth: How many relations deep to go; None for all the way.
    """

    connection: duckdb.DuckDBPyConnection
    manifest: Manifest
    rows: int
    depth: int | None
    levels: dict[str, Level] = field(default_factory=dict)
    _tables: dict[str, str] = field(default_factory=dict)
    _wanted: dict[str, set[str]] = field(default_factory=dict)
    _steps: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._columns = _columns(self.connection)
        self._aggregates = {row[0] for row in self._ask(_AGGREGATES)}
        self._views = {full_name(*row): "" for row in self._ask(_VIEWS)}
        self._nodes = _by_relation(self.manifest)

    def row_ids(self, relation: str) -> list[int]:
        """Rowids of the contributing rows of a relation, once the row is explained."""
        table = self._tables.get(relation)
        return [row[0] for row in self._ask(f"select row_id from {table}")] if table else []

    def key_of(self, relation: str) -> tuple[str, ...]:
        """The declared key of a relation: its shortest, or nothing."""
        return _level_of(self.manifest, relation, self._nodes.get(relation), self._columns).key

    def explain(self, node: Any, key: str, column: str | None) -> Explanation:
        """Goes the way for one row; see the function `explain`."""
        relation = full_name(node.schema, node.alias)
        if relation not in self._columns:
            raise BadInput(
                f"{relation} is not in the warehouse",
                hint=f"`wellspring build --select +{node.name}` makes it.",
            )
        if column is not None and column.lower() not in self._columns[relation]:
            raise BadInput(
                f"{relation} has no column {column}",
                hint=f"Columns: {', '.join(self._columns[relation])}.",
            )
        level = self._level(relation)
        row_id = self._find_row(level, key)
        self._add_rows(relation, f"select {row_id}")
        if column is not None:
            self._wanted[relation] = {column.lower()}
        self._steps[relation] = 0
        for unique_id in self._order(node):
            self._expand(full_name(*_place(self.manifest, unique_id)))
        # What staging keeps beside its tables (history, say) is no node of dbt's graph.
        for beside in [level.relation for level in self.levels.values() if level.is_beside]:
            self._expand(beside)
        for found in self.levels.values():
            self._take_sample(found)
            self._take_facts(found)
        return Explanation(level.sample[0], column.lower() if column else None, self.levels)

    # -- the row that is asked for -------------------------------------------------------------

    def _find_row(self, level: Level, key: str) -> int:
        import duckdb

        columns = self._columns[level.relation]
        wanted = parse_key(key, level.key, columns)
        table = self._scan(level.relation)
        conditions = [_equals(name, columns[name], value) for name, value in wanted.items()]
        try:
            found = self._ask(f"select rowid from {table} where {' and '.join(conditions)} limit 6")
        except duckdb.Error as error:
            raise BadInput(
                f"the key {key} cannot be compared with {level.relation}: {first_line(error)}",
                hint=", ".join(f"{name} is of type {columns[name]}" for name in wanted) + ".",
            ) from error
        if len(found) == 1:
            return int(found[0][0])
        if found:
            raise BadInput(
                f"several rows of {level.relation} have {key}",
                hint=f"Say which: {self._listed(level, [row[0] for row in found])}",
            )
        raise BadInput(f"no row of {level.relation} has {key}", hint=self._near_rows(level, wanted))

    def _listed(self, level: Level, row_ids: Sequence[int]) -> str:
        shown = level.key or tuple(self._columns[level.relation])[:4]
        names = ", ".join(_quoted(name) for name in shown)
        rows = self._ask(
            f"select {names} from {self._scan(level.relation)} "
            f"where rowid in ({', '.join(map(str, row_ids))}) order by all limit 5"
        )
        return " or ".join(key_text(dict(zip(shown, row, strict=True))) for row in rows)

    def _near_rows(self, level: Level, wanted: Mapping[str, str]) -> str:
        """Rows whose key is like the one that was asked for."""
        distance = " + ".join(
            f"levenshtein(coalesce(cast({_quoted(name)} as varchar), ''), {_text(value[:200])})"
            for name, value in wanted.items()
        )
        shown = sorted({*level.key, *wanted}, key=list(self._columns[level.relation]).index)
        names = ", ".join(_quoted(name) for name in shown)
        rows = self._ask(
            f"select {names} from (select {names}, {distance} as distance from "
            f"{self._scan(level.relation)} using sample reservoir(20000 rows) repeatable (1)) "
            f"order by distance, {names} limit 3"
        )
        if not rows:
            return "The relation has no rows."
        near = " or ".join(key_text(dict(zip(shown, row, strict=True))) for row in rows)
        return f"Near: {near}."

    # -- one level after another ---------------------------------------------------------------

    def _order(self, node: Any) -> list[str]:
        """The model and what lies above it, each before its parents."""
        above, ahead = set(), [node.unique_id]
        while ahead:
            unique_id = ahead.pop()
            if unique_id in above or unique_id not in self.manifest.nodes:
                continue
            above.add(unique_id)
            ahead += parents(self.manifest, unique_id)
        return [found.unique_id for found in reversed(in_order(self.manifest, above))]

    def _expand(self, relation: str) -> None:
        if relation not in self._tables:
            return
        level = self._level(relation)
        step = self._steps[relation]
        node = self._node_of(level)
        if level.kind not in ("model", "staging", "snapshot"):
            return
        if self.depth is not None and step >= self.depth:
            level.notes.append("not followed further: --depth")
            return
        level.sql = getattr(node, "compiled_code", None) or ""
        self._follow_columns(level)
        if level.kind == "staging":
            self._expand_staging(level, node)
        else:
            self._expand_model(level, node)
        for edge in level.edges:
            self._steps[edge.relation] = min(self._steps.get(edge.relation, step + 1), step + 1)

    def _expand_model(self, level: Level, node: Any) -> None:
        import duckdb

        try:
            if not level.sql:
                raise NotTraceable("no SQL makes it")
            for view in self._views:
                if view.split(".")[-1] in level.sql.lower():
                    self._scan(view)
            scanned = {name: table for name, table in self._views.items() if table}
            traced = trace(level.sql, self._aggregates, scanned)
            self._by_row(level, traced)
        except (NotTraceable, duckdb.Error) as error:
            self._by_column(level, node, first_line(error))

    def _by_row(self, level: Level, traced: Traced) -> None:
        """Asks the rewritten query for the level's rows and takes the base rows they name."""
        condition, columns = self._only(level)
        names = ", ".join(f"made.{_quoted(name)}" for name in columns)
        made = self._temporary(
            f"select {names}, made.{WHY} from ({traced.sql}) as made where {condition}"
        )
        self._check_remade(level, made, columns)
        base = self._temporary(f"select distinct unnest({WHY}) as packed from {made}")
        for number, relation in traced.relations.items():
            low, high = number * ROW_LIMIT, (number + 1) * ROW_LIMIT
            query = (
                f"select packed - {low} as row_id from {base} "
                f"where packed >= {low} and packed < {high}"
            )
            count = self._add_rows(relation, query)
            level.edges.append(Edge(relation, count, "by row", self._columns_from(level, relation)))
        level.unfollowed = traced.unfollowed

    def _check_remade(self, level: Level, made: str, columns: Sequence[str]) -> None:
        """Whether the SQL as it is now makes the rows that are stored."""
        names = ", ".join(_quoted(name) for name in columns)
        [(remade,)] = self._ask(f"select count(*) from (select distinct {names} from {made})")
        [(stored,)] = self._ask(
            f"select count(*) from (select distinct {names} from {self._scan(level.relation)} "
            f"where rowid in (select row_id from {self._tables[level.relation]}))"
        )
        if remade < stored:
            level.notes.append(
                f"the code as it is now makes {remade} of these {stored} rows: it or what lies "
                "above was changed since the table was built"
            )

    def _only(self, level: Level) -> tuple[str, tuple[str, ...]]:
        """A condition on `made` that leaves the level's rows, and the columns it is made of."""
        types = self._columns[level.relation]
        columns = level.key or tuple(types)
        names = ", ".join(_quoted(name) for name in columns)
        rows = f"rowid in (select row_id from {self._tables[level.relation]})"
        stored = f"from {self._scan(level.relation)} where {rows}"
        if level.key:
            texts = ", ".join(f"cast({_quoted(name)} as varchar)" for name in columns)
            values = self._ask(f"select distinct {texts} {stored} limit {_LITERAL_KEYS + 1}")
            if len(values) <= _LITERAL_KEYS:
                return _one_of(columns, types, values), columns
        else:
            level.notes.append("no key is declared: rows are told apart by all their columns")
        wanted = self._temporary(f"select distinct {names} {stored}")
        same = " and ".join(
            f"wanted.{_quoted(name)} is not distinct from made.{_quoted(name)}" for name in columns
        )
        return f"exists (select 1 from {wanted} as wanted where {same})", columns

    def _by_column(self, level: Level, node: Any, reason: str) -> None:
        """Takes rows of each parent that agree in what is passed on to the level unchanged."""
        lineage = self._lineage(level)
        passed: dict[str, dict[str, str]] = {}
        for name in self._columns[level.relation]:
            origin = _origin_or_none(lineage, name) if lineage else None
            if origin is not None and origin.unchanged:
                for relation, theirs in origin.columns.items():
                    passed.setdefault(relation, {})[name] = next(iter(theirs))
        level.edges.clear()
        for unique_id in parents(self.manifest, node.unique_id):
            relation = full_name(*_place(self.manifest, unique_id))
            feeding = self._columns_from(level, relation)
            pairs = passed.get(relation)
            if not pairs or relation not in self._columns:
                note = f"{reason}; and no column of it is passed on unchanged"
                level.edges.append(Edge(relation, None, "not followed", feeding, note))
                continue
            query = self._agreeing(level, relation, pairs)
            count = self._add_rows(relation, query)
            note = f"{reason}; matched by {', '.join(sorted(set(pairs.values())))}"
            level.edges.append(Edge(relation, count, "by column", feeding, note))

    def _agreeing(self, level: Level, relation: str, pairs: Mapping[str, str]) -> str:
        same = " and ".join(
            f"own.{_quoted(own)} is not distinct from theirs.{_quoted(theirs)}"
            for own, theirs in pairs.items()
        )
        own = (
            f"select * from {self._scan(level.relation)} "
            f"where rowid in (select row_id from {self._tables[level.relation]})"
        )
        return (
            f"select theirs.rowid as row_id from {self._scan(relation)} as theirs "
            f"where exists (select 1 from ({own}) as own where {same})"
        )

    def _expand_staging(self, level: Level, node: Any) -> None:
        for unique_id in parents(self.manifest, node.unique_id):
            if unique_id not in self.manifest.sources:
                continue
            relation = full_name(*_place(self.manifest, unique_id))
            query = (
                f"select raw.rowid as row_id from {self._scan(relation)} as raw "
                f"where exists (select 1 from {self._scan(level.relation)} as staged "
                f"where staged.rowid in (select row_id from {self._tables[level.relation]}) "
                "and staged._file = raw._file and staged._row = raw._row)"
            )
            count = self._add_rows(relation, query)
            feeding = self._columns_from(level, relation)
            level.edges.append(Edge(relation, count, "by file", feeding))

    # -- columns -------------------------------------------------------------------------------

    def _follow_columns(self, level: Level) -> None:
        wanted = self._wanted.get(level.relation)
        lineage = self._lineage(level) if wanted else None
        if not wanted or lineage is None:
            return
        for name in sorted(wanted):
            origin = _origin_or_none(lineage, name)
            if origin is None:
                level.notes.append(f"the making of {name} cannot be read off the SQL")
                continue
            level.origins[name] = origin
            if origin.has_window:
                level.notes.append(f"other rows of its window take part in {name}")
            for relation, columns in origin.columns.items():
                self._wanted.setdefault(relation, set()).update(columns)

    def _columns_from(self, level: Level, relation: str) -> tuple[str, ...]:
        found: set[str] = set()
        for origin in level.origins.values():
            found |= origin.columns.get(relation, frozenset())
        return tuple(sorted(found))

    def _lineage(self, level: Level) -> ColumnLineage | None:
        tables: dict[str, dict[str, list[str]]] = {}
        for relation, columns in self._columns.items():
            schema, _, name = relation.partition(".")
            if name.lower() in level.sql.lower():
                tables.setdefault(schema, {})[name] = list(columns)
        try:
            return ColumnLineage(level.sql, tables)
        except ValueError:
            return None

    # -- rows ----------------------------------------------------------------------------------

    def _level(self, relation: str) -> Level:
        if relation not in self.levels:
            node = self._nodes.get(relation)
            self.levels[relation] = _level_of(self.manifest, relation, node, self._columns)
        return self.levels[relation]

    def _node_of(self, level: Level) -> Any:
        return self.manifest.nodes.get(level.unique_id)

    def _add_rows(self, relation: str, query: str) -> int:
        """Adds the rows whose rowids a query gives to a relation's contributing ones.

        Returns:
            How many rows the query gives; where there are none, the relation becomes no level.
        """
        found = self._temporary(f"select distinct row_id from ({query}) as t (row_id)")
        [(count,)] = self._ask(f"select count(*) from {found}")
        former = self._tables.get(relation)
        if count and former is None:
            self._tables[relation] = found
            self._level(relation).row_count = count
        elif count:
            both = f"select row_id from {former} union select row_id from {found}"
            self._tables[relation] = self._temporary(both)
            [(total,)] = self._ask(f"select count(*) from {self._tables[relation]}")
            self._level(relation).row_count = total
        return int(count)

    def _take_sample(self, level: Level) -> None:
        order = ", ".join(_quoted(name) for name in level.key) or "rowid"
        found = self.connection.execute(
            f"select * from {self._scan(level.relation)} "
            f"where rowid in (select row_id from {self._tables[level.relation]}) "
            f"order by {order} limit {max(self.rows, 1)}"
        )
        names = [column[0] for column in found.description]
        level.sample = [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _take_facts(self, level: Level) -> None:
        """What the warehouse and the project say of the contributing rows."""
        node = self._node_of(level)
        contributing = (
            f"from {self._scan(level.relation)} "
            f"where rowid in (select row_id from {self._tables[level.relation]})"
        )
        known = self._columns[level.relation]
        if level.kind == "staging":
            level.rules = declared_rules(node)
            self._take_versions(level)
            findings = findings_place(self._columns)
            if findings is not None:
                rows = f"select _file, _row {contributing}"
                level.findings = kept_findings(self.connection, findings, level.name, rows)
        elif level.kind == "source" and {"_file", "_load_id", "_extracted_at"} <= set(known):
            rows = f"select _file, _load_id, _extracted_at {contributing}"
            if "ledger.files" in self._columns:
                source, _, table = level.name.partition(".")
                level.files = ledger_files(self.connection, source, table, rows)

    def _take_versions(self, level: Level) -> None:
        types = self._columns[level.relation]
        if not level.key or not level.sql or level.is_beside:
            return
        keys = [tuple(_or_none(row[name]) for name in level.key) for row in level.sample]
        own = level.relation.partition(".")[2]
        quarantine, findings = full_name("quarantine", own), full_name("findings", own)
        level.versions = other_versions(
            self.connection,
            level.sql,
            self._scan(level.relation),
            quarantine if quarantine in self._columns else None,
            findings if findings in self._columns else None,
            _one_of(level.key, types, keys),
        )

    def _scan(self, relation: str) -> str:
        """The table to read for a relation: itself, or a copy with rowids where it is a view."""
        schema, _, name = relation.partition(".")
        place = f"{_quoted(schema)}.{_quoted(name)}"
        if relation not in self._views:
            return place
        if not self._views[relation]:
            self._views[relation] = self._temporary(f"select * from {place}")
        return self._views[relation]

    def _temporary(self, query: str) -> str:
        name = f"explained_{next(_NUMBERS)}"
        self.connection.execute(f"create temporary table {name} as {query}")
        return name

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.connection.execute(query).fetchall()
        return found


_AGGREGATES = (
    "select distinct function_name from duckdb_functions() where function_type = 'aggregate'"
)
_VIEWS = "select schema_name, view_name from duckdb_views() where not internal"


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """Columns and their types by relation."""
    found: dict[str, dict[str, str]] = {}
    for schema, name, column, kind in connection.execute(
        "select schema_name, table_name, column_name, data_type from duckdb_columns() "
        "where not internal and database_name = current_database() "
        "order by schema_name, table_name, column_index"
    ).fetchall():
        found.setdefault(full_name(schema, name), {})[column.lower()] = kind
    return found


def _place(manifest: Manifest, unique_id: str) -> tuple[str, str]:
    """Schema and name of a node's or source's relation."""
    if unique_id in manifest.sources:
        source = manifest.sources[unique_id]
        return source.schema, source.identifier
    node = manifest.nodes[unique_id]
    return node.schema, node.alias


def _by_relation(manifest: Manifest) -> dict[str, Any]:
    nodes: list[Any] = [n for n in manifest.nodes.values() if str(n.resource_type) in _RELATIONAL]
    everything = [*nodes, *manifest.sources.values()]
    return {full_name(*_place(manifest, node.unique_id)): node for node in everything}


_RELATIONAL = ("model", "seed", "snapshot")


def _level_of(
    manifest: Manifest, relation: str, node: Any, columns: Mapping[str, Mapping[str, str]]
) -> Level:
    known = columns[relation]
    loaded = tuple(name for name in ("_file", "_row") if name in known)
    if node is None:
        beside = _staging_beside(manifest, relation) if len(loaded) == 2 else None
        if beside is None:
            return Level(relation, "", relation, "table", key=loaded if len(loaded) == 2 else ())
        file = beside.original_file_path
        return Level(relation, beside.unique_id, relation, "staging", True, file, key=loaded)
    kind = str(node.resource_type)
    name = node.name
    if kind == "source":
        name = f"{node.source_name}.{node.name}"
        keys: list[tuple[str, ...]] = [loaded] if len(loaded) == 2 else []
    else:
        keys = [key for key in unique_keys(manifest, node.unique_id) if set(key) <= set(known)]
    if kind == "model" and node.config.materialized == "staging" and len(loaded) == 2:
        kind = "staging"
    key = min(keys, key=len, default=())
    file = node.original_file_path
    return Level(relation, node.unique_id, name, kind, file=file, key=tuple(key))


def _staging_beside(manifest: Manifest, relation: str) -> Any:
    """The staging model that keeps a table of its own name in another schema; None if none does."""
    staging = (
        node
        for node in manifest.nodes.values()
        if str(node.resource_type) == "model" and node.config.materialized == "staging"
    )
    own = relation.partition(".")[2]
    return next((node for node in staging if node.alias.lower() == own), None)


def _origin_or_none(lineage: ColumnLineage, column: str) -> ColumnOrigin | None:
    try:
        return lineage.origin(column)
    except ValueError:
        return None


def _equals(column: str, kind: str, text: str | None) -> str:
    """A condition for one value; none at all (`column=`) asks for the missing value."""
    if not text:
        return f"{_quoted(column)} is null"
    return f"{_quoted(column)} = cast({_text(text)} as {kind})"


def _one_of(
    columns: Sequence[str], types: Mapping[str, str], values: Sequence[tuple[str | None, ...]]
) -> str:
    if len(columns) == 1 and all(value[0] is not None for value in values):
        kind = types[columns[0]]
        listed = ", ".join(f"cast({_text(str(value[0]))} as {kind})" for value in values)
        return f"{_quoted(columns[0])} in ({listed or 'null'})"
    rows = [
        " and ".join(
            f"{_quoted(name)} is null"
            if value is None
            else f"{_quoted(name)} = cast({_text(value)} as {types[name]})"
            for name, value in zip(columns, row, strict=True)
        )
        for row in values
    ]
    return " or ".join(f"({row})" for row in rows) or "false"


def _or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def key_text(values: Mapping[str, Any]) -> str:
    """A key as it is written on the command line: `sale_date=2026-05-01,category=Games`."""
    return ",".join(f"{name}={'' if v is None else v}" for name, v in values.items())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
