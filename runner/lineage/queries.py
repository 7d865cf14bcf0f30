"""Which columns of tables each column of a query is made of, and which decide about its rows.

compiled SQL + columns of the tables it reads -> `qualified` -> scope by scope, innermost first ->
`QueryLineage`

A column that is only compared, joined on, grouped by or sorted by makes no value, but decides which
rows there are: it is told apart (`decides`). Left out: rows (`explain.provenance`), and the
expressions on the way (`explain.lineage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.optimizer.scope import Scope

DIALECT = "duckdb"
_CLAUSES = {
    "where": "filter",
    "having": "filter",
    "qualify": "filter",
    "group": "grouping",
    "distinct": "grouping",
}


@dataclass(frozen=True, order=True)
class Column:
    """A column of a table.

    Attributes:
        relation: The table's full name, `schema.table`.
        name: The column's name, in lower case.
    """

    relation: str
    name: str

    def __str__(self) -> str:
        return f"{self.relation}.{self.name}"


@dataclass(frozen=True)
class Made:
    """What a column of a query is made of.

    Attributes:
        columns: Columns of tables.
        unchanged: Whether it is the value of one of them, passed on as it is; in a union, of one in
            each branch that is not a constant.
    """

    columns: frozenset[Column]
    unchanged: bool


@dataclass(frozen=True)
class QueryLineage:
    """What a query's result is made of.

    Attributes:
        columns: By name of a column of the result, in order.
        decides: Columns that decide about rows, by how: filter, join, grouping, limit or
            unnest.
        tables: Full names of the tables that it reads.
    """

    columns: dict[str, Made]
    decides: dict[str, frozenset[Column]]
    tables: frozenset[str]


_WORD_AS_COLUMN = re.compile(r"\.\s*(not|select)\b", re.IGNORECASE)


def quoted_columns(sql: str, quote: str = '"') -> str:
    """The query with quotes around `not` and `select` where they name a column.

    Engines read `source.select`, sqlglot does not.

    Args:
        sql: One query.
        quote: What the dialect quotes names with.

    Raises:
        SqlglotError: It cannot be taken apart.
    """
    from sqlglot.dialects.dialect import Dialect

    if not _WORD_AS_COLUMN.search(sql):
        return sql
    tokens = list(Dialect.get_or_raise(DIALECT).tokenize(sql))
    for dot, word in reversed(list(pairwise(tokens))):
        if dot.text == "." and word.text.lower() in ("not", "select"):
            sql = f"{sql[: word.start]}{quote}{word.text}{quote}{sql[word.end + 1 :]}"
    return sql


def qualified(sql: str, tables: Mapping[str, Mapping[str, Iterable[str]]]) -> exp.Expression:
    """Parses a query, with every column named after its table and every star written out.

    Args:
        sql: One DuckDB query.
        tables: Columns of the tables it reads, by schema and name.

    Raises:
        ValueError: The query cannot be parsed, or its columns cannot be resolved.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.qualify import qualify

    known = {
        place: {name: dict.fromkeys(columns, "unknown") for name, columns in found.items()}
        for place, found in tables.items()
    }
    # The parser takes no table without columns and no schema without tables.
    schema = {
        place: full
        for place, found in known.items()
        if (full := {name: columns for name, columns in found.items() if columns})
    }
    try:
        query = parse_one(quoted_columns(sql), dialect=DIALECT)
        for table in query.find_all(exp.Table):
            # The catalog's name says nothing here, and the schema has none.
            table.set("catalog", None)
            _blank_generated(table)
        return qualify(
            query, dialect=DIALECT, schema=schema, validate_qualify_columns=False, identify=False
        )
    except (SqlglotError, RecursionError) as error:
        raise ValueError(f"the columns cannot be resolved: {error}") from error


def read_query(sql: str, tables: Mapping[str, Mapping[str, Iterable[str]]]) -> QueryLineage:
    """Reads the lineage of a query's columns off its SQL.

    Args:
        sql: One DuckDB query.
        tables: Columns of the tables it reads, by schema and name.

    Raises:
        ValueError: The query cannot be parsed, or its columns cannot be resolved.
    """
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.scope import build_scope

    query = qualified(sql, tables)
    try:
        root = build_scope(query)
    except (SqlglotError, RecursionError) as error:
        raise ValueError(f"the columns cannot be resolved: {error}") from error
    if root is None:
        raise ValueError("it is no query")
    reader = _Reader(root)
    columns = dict(reader.outputs(root))
    for scope in root.traverse():
        reader.note_deciding(scope)
    decides = {kind: frozenset(found) for kind, found in sorted(reader.decides.items())}
    return QueryLineage(columns, decides, frozenset(reader.tables))


class _Reader:
    """Reads scopes, each once."""

    def __init__(self, root: Scope) -> None:
        self.decides: dict[str, set[Column]] = {}
        self.tables: set[str] = set()
        self._known: dict[int, list[tuple[str, Made]]] = {}
        # Where a query calls itself, what it began with stands for it.
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}

    def outputs(self, scope: Scope) -> list[tuple[str, Made]]:
        """The columns of a scope's result, in order."""
        from sqlglot import exp

        scope = self._scopes.get(id(scope.expression), scope)
        place = id(scope)
        if place in self._known:
            return self._known[place]
        made = scope.expression
        if isinstance(made, exp.SetOperation):
            found = self._union(scope, by_name=bool(made.args.get("by_name")))
        elif isinstance(made, exp.Select):
            found = [(part.alias_or_name.lower(), self._made(part, scope)) for part in made.selects]
        elif isinstance(made, exp.Query):
            found = self.outputs(scope.subquery_scopes[0]) if scope.subquery_scopes else []
        else:
            found = []
        self._known[place] = found
        return found

    def _union(self, scope: Scope, by_name: bool) -> list[tuple[str, Made]]:
        first, *others = [self.outputs(part) for part in scope.set_operation_scopes]
        parts: list[list[Made]] = [[made] for _, made in first]
        names = [name for name, _ in first]
        for other in others:
            for number, (name, made) in enumerate(other):
                if by_name and name not in names:
                    names.append(name)
                    parts.append([])
                place = names.index(name) if by_name else number
                if place < len(parts):
                    parts[place].append(made)
        return [(name, _joined(made)) for name, made in zip(names, parts, strict=True)]

    def _made(self, part: exp.Expression, scope: Scope) -> Made:
        from sqlglot import exp

        inner = part.unalias()
        while isinstance(inner, exp.Paren):
            inner = inner.this
        if isinstance(inner, exp.Column):
            return self._column(inner, scope)
        if isinstance(inner, exp.Literal | exp.Null | exp.Boolean):
            return Made(frozenset(), unchanged=True)
        return Made(frozenset(self._columns_in(inner, scope)), unchanged=False)

    def _columns_in(self, expression: exp.Expression, scope: Scope) -> Iterator[Column]:
        """Columns of tables that an expression is made of, those of its subqueries too."""
        from sqlglot import exp

        inside = {id(part.expression): part for part in _subqueries(scope)}
        for node in expression.walk(prune=lambda found: isinstance(found, exp.Query)):
            if isinstance(node, exp.Column):
                yield from self._column(node, scope).columns
            elif isinstance(node, exp.Query):
                below = inside.get(id(node)) or inside.get(id(node.unnest()))
                if below is not None:
                    for _, made in self.outputs(below):
                        yield from made.columns

    def _column(self, column: exp.Column, scope: Scope) -> Made:
        source = _source(column, scope)
        name = column.name.lower()
        if source is None:
            return self._by_alias(column, scope)
        from sqlglot import exp

        if isinstance(source, exp.Table):
            relation = self._relation(source)
            columns = [Column(relation, name)] if relation else []
            return Made(frozenset(columns), unchanged=True)
        if source.is_udtf:
            return Made(frozenset(self._columns_in(source.expression, scope)), unchanged=False)
        found = self.outputs(source)
        # `from (...) as t (a, b)` calls them otherwise.
        named = [given.lower() for given in source.outer_columns] or [own for own, _ in found]
        known: dict[str, Made] = dict(zip(named, (made for _, made in found), strict=False))
        return known.get(name, Made(frozenset(), unchanged=False))

    def _relation(self, table: exp.Table) -> str:
        """The full name of a table; nothing for a table function."""
        name = ".".join(part for part in (table.db, table.name) if part).lower()
        if name:
            self.tables.add(name)
        return name

    def _by_alias(self, column: exp.Column, scope: Scope) -> Made:
        """A column that the select itself makes, called by its name further on."""
        from sqlglot import exp

        made = scope.expression
        if not column.table and isinstance(made, exp.Select):
            for part in made.selects:
                if part.alias == column.name and column not in part.find_all(exp.Column):
                    return self._made(part, scope)
        return Made(frozenset(), unchanged=False)

    def note_deciding(self, scope: Scope) -> None:
        """Notes what decides about the rows of one scope."""
        from sqlglot import exp

        made = scope.expression
        if isinstance(scope.expression, exp.Table):
            return
        for source in scope.sources.values():
            if isinstance(source, exp.Table):
                self._relation(source)
            elif source.is_udtf:
                self._note("unnest", source.expression, scope)
        if isinstance(made, exp.Select):
            for clause, kind in _CLAUSES.items():
                self._note(kind, made.args.get(clause), scope)
            for part in made.selects:
                for call in part.find_all(exp.Explode, exp.Unnest):
                    self._note("unnest", call, scope)
            for join in made.args.get("joins") or ():
                self._note("join", join.args.get("on"), scope)
                for name in join.args.get("using") or ():
                    self._note_using(name.name, scope)
        if isinstance(made, exp.Query) and (made.args.get("limit") or made.args.get("offset")):
            self._note("limit", made.args.get("order"), scope)

    def _note(self, kind: str, clause: exp.Expression | None, scope: Scope) -> None:
        if clause is not None:
            self.decides.setdefault(kind, set()).update(self._columns_in(clause, scope))

    def _note_using(self, name: str, scope: Scope) -> None:
        from sqlglot import exp

        for alias in scope.sources:
            column = exp.column(name, table=alias)
            self.decides.setdefault("join", set()).update(self._column(column, scope).columns)


def _source(column: exp.Column, scope: Scope) -> Any:
    """What a column's table stands for: here, or further out for a correlated subquery."""
    around: Scope | None = scope
    while around is not None:
        for places in (around.sources, around.lateral_sources):
            if column.table in places:
                return places[column.table]
        around = around.parent
    return None


def _subqueries(scope: Scope) -> Sequence[Scope]:
    return [*scope.subquery_scopes, *scope.derived_table_scopes]


def _joined(parts: Sequence[Made]) -> Made:
    columns = frozenset(column for made in parts for column in made.columns)
    return Made(columns, all(made.unchanged for made in parts))


def _blank_generated(table: Any) -> None:
    """Takes values of a table function as given: what columns it has is not known here."""
    from sqlglot import exp

    select = table.parent_select
    alias = table.args.get("alias")
    named = alias is not None and alias.args.get("columns")
    if isinstance(table.this, exp.Identifier) or named or select is None:
        return
    if select.args.get("joins") or select.args.get("laterals"):
        return
    for part in select.expressions:
        if isinstance(part, exp.Column) and not isinstance(part.this, exp.Star):
            part.replace(exp.alias_(exp.Null(), part.name))
