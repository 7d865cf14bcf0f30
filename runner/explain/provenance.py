"""Rewrites a model's SQL so that each row it gives names the rows that it was made from.

compiled SQL -> parsed -> `trace` -> the same query with one more column, a list of base rows
                                  -> what was read but is not followed (`exists`, `in`, scalars)

A base row is named by its relation and its rowid, packed into one number. A scan names its own row,
a join both sides' rows, a group the rows of the group, a union those of its branch, a distinct row
those of its doubles, a window or qualify its own row. Originals of CTEs stay beside their rewritten
twins, so that what is not followed reads what it always read. Left out: recursion, pivots, `except`
and `intersect`, which raise `NotTraceable`; running the query.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.lineage.queries import quoted_columns

if TYPE_CHECKING:
    from sqlglot import exp

DIALECT = "duckdb"
WHY = "__why"
# A base row is `relation number * ROW_LIMIT + rowid`.
ROW_LIMIT = 1 << 40


class NotTraceable(Exception):
    """A construct whose rows cannot be named by rewriting; the text says which."""


@dataclass(frozen=True)
class Traced:
    """A rewritten query.

    Attributes:
        sql: The query; its last column `__why` lists base rows as packed numbers.
        relations: Full names of the relations that are followed, by their number.
        unfollowed: Full names of relations that only decide which rows there are.
    """

    sql: str
    relations: dict[int, str]
    unfollowed: tuple[str, ...]


def full_name(*parts: str | None) -> str:
    """A relation's name as the warehouse's catalog writes it: `schema.table`, in lower case."""
    return ".".join(part.lower() for part in parts if part)


def trace(
    sql: str, aggregates: Collection[str] = (), views: Mapping[str, str] | None = None
) -> Traced:
    """Rewrites a query.

    Args:
        sql: One DuckDB query.
        aggregates: Names of DuckDB's aggregate functions, for those that the parser does not know.
        views: A table with rowids to scan instead, by full name of each relation that has none.

    Returns:
        The rewritten query.

    Raises:
        NotTraceable: It holds a construct that cannot be rewritten, or cannot be parsed.
    """
    from sqlglot import parse_one
    from sqlglot.errors import SqlglotError

    try:
        query = parse_one(quoted_columns(sql), dialect=DIALECT)
    except SqlglotError as error:
        raise NotTraceable(f"the SQL cannot be parsed: {error}") from error
    tracer = _Tracer(frozenset(aggregates), views or {})
    traced = tracer.query(query, WHY, {})
    _prune_twins(traced)
    followed = {tracer.scans[name] for name in _aliases(traced) if name in tracer.scans}
    numbered = {n: name for n, name in enumerate(tracer.relations) if name in followed}
    unfollowed = tuple(sorted(tracer.unfollowed - followed))
    return Traced(traced.sql(dialect=DIALECT), numbered, unfollowed)


@dataclass(frozen=True)
class _Twin:
    """A CTE's rewritten twin: its name, its why column, and the base relations it reads."""

    name: str
    column: str
    reads: frozenset[str]


_Scope = Mapping[str, _Twin]


@dataclass
class _Tracer:
    aggregates: frozenset[str]
    views: Mapping[str, str]
    relations: list[str] = field(default_factory=list)
    unfollowed: set[str] = field(default_factory=set)
    scans: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    def query(self, query: exp.Expression, column: str, scope: _Scope) -> exp.Expression:
        """Rewrites a query in place (where it can) so that its last column is `column`."""
        from sqlglot import exp

        scope = self._with(query, scope)
        if isinstance(query, exp.Select):
            return self._select(query, column, scope)
        if isinstance(query, exp.Union):
            return self._union(query, column, scope)
        if isinstance(query, exp.Subquery) and isinstance(query.this, exp.Query):
            query.set("this", self.query(query.this, column, scope))
            return query
        raise NotTraceable(f"`{_kind(query)}` is not followed row by row")

    # -- parts of a query ----------------------------------------------------------------------

    def _with(self, query: exp.Expression, scope: _Scope) -> _Scope:
        """Puts a rewritten twin beside each CTE; returns what names mean inside the query."""
        from sqlglot import exp

        clause = query.args.get("with_")
        if clause is None:
            return scope
        inner, ctes = dict(scope), []
        for cte in clause.expressions:
            name = cte.alias.lower()
            if clause.args.get("recursive") and name in _table_names(cte.this):
                raise NotTraceable(f"`{name}` is a recursive CTE")
            twin = cte.copy()
            column = self._name()
            known = frozenset(self._reads(cte.this, inner))
            simple = _is_simple(twin.this)
            twin.set("this", self.query(twin.this, column, inner))
            alias = twin.args["alias"]
            alias.set("this", exp.to_identifier(f"{column}_of"))
            if alias.args.get("columns"):
                alias.append("columns", exp.to_identifier(column))
            if simple:
                # Filters of the outermost query reach the table only through an inlined CTE.
                twin.set("materialized", False)
            ctes += [cte, twin]
            inner[name] = _Twin(f"{column}_of", column, known)
        clause.set("expressions", ctes)
        return inner

    def _select(self, select: exp.Select, column: str, scope: _Scope) -> exp.Expression:
        from sqlglot import exp

        distinct = select.args.get("distinct")
        plain_distinct = distinct is not None and distinct.args.get("on") is None
        if plain_distinct:
            self._refuse_limit(select, "distinct")
            select.set("distinct", None)
        self._note_unfollowed(select, scope)
        grouped = bool(select.args.get("group")) or self._is_aggregated(select)
        visible = self._sources(select, scope)
        _hide(select, visible)
        why = _joined([name for names in visible.values() for name in names])
        if grouped:
            why = _gathered(why)
        inner = self._name() if plain_distinct else column
        select.append("expressions", exp.alias_(why, inner))
        if not plain_distinct:
            return select
        return _collapsed(select, inner, column)

    def _union(self, union: exp.Union, column: str, scope: _Scope) -> exp.Expression:
        distinct = bool(union.args.get("distinct"))
        inner = self._name() if distinct else column
        if distinct:
            self._refuse_limit(union, "union")
        for side in ("this", "expression"):
            union.set(side, self.query(union.args[side], inner, scope))
        return _collapsed(union, inner, column) if distinct else union

    def _sources(self, select: exp.Select, scope: _Scope) -> dict[str, list[str]]:
        """Rewrites what a select reads; returns the why columns by the alias that shows them."""
        visible: dict[str, list[str]] = {}
        first = select.args.get("from_")
        places = [first] if first is not None else []
        places += select.args.get("joins") or []
        for place in places:
            if str(place.args.get("kind") or "").upper() in ("SEMI", "ANTI"):
                self.unfollowed |= self._reads(place.this, scope)
                continue
            source, names = self._source(place.this, scope)
            place.set("this", source)
            visible.setdefault(source.alias_or_name.lower(), []).extend(names)
        for lateral in select.args.get("laterals") or []:
            _, names = self._source(lateral, scope)
            visible.setdefault(lateral.alias_or_name.lower(), []).extend(names)
        return visible

    def _source(self, source: exp.Expression, scope: _Scope) -> tuple[exp.Expression, list[str]]:
        from sqlglot import exp

        if source.args.get("pivots"):
            raise NotTraceable("a pivot mixes rows")
        if source.args.get("sample"):
            raise NotTraceable("a sample is drawn anew each time")
        if isinstance(source, exp.Table):
            return self._table(source, scope)
        if isinstance(source, exp.Lateral) and isinstance(source.this, exp.Subquery):
            column = self._name()
            source.this.set("this", self.query(source.this.this, column, scope))
            return source, [column]
        if isinstance(source, exp.Subquery) and isinstance(source.this, exp.Query):
            column = self._name()
            source.set("this", self.query(source.this, column, scope))
            return source, [column]
        if isinstance(source, exp.Subquery):
            return self._joined_tables(source, scope)
        # Rows of these are made by the query itself.
        if isinstance(source, exp.Unnest | exp.Values | exp.Lateral):
            return source, []
        raise NotTraceable(f"`{_kind(source)}` is not followed row by row")

    def _joined_tables(
        self, source: exp.Subquery, scope: _Scope
    ) -> tuple[exp.Expression, list[str]]:
        """Joins in brackets."""
        inner, names = self._source(source.this, scope)
        joins = source.this.args.get("joins") or []
        if inner is not source.this:
            inner.set("joins", joins)
        for join in joins:
            joined, more = self._source(join.this, scope)
            join.set("this", joined)
            names += more
        source.set("this", inner)
        return source, names

    def _table(self, table: exp.Table, scope: _Scope) -> tuple[exp.Expression, list[str]]:
        from sqlglot import exp

        if not isinstance(table.this, exp.Identifier):
            return table, []
        twin = scope.get(table.name.lower()) if not table.db else None
        alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name))
        if twin is not None:
            # The twin's why column would clash with itself where a CTE is joined twice.
            own = self._name()
            inner = exp.select(
                exp.Star(except_=[exp.to_identifier(twin.column)]),
                exp.alias_(exp.column(twin.column), own),
            ).from_(exp.to_table(twin.name))
            return exp.Subquery(this=inner, alias=alias), [own]
        name = full_name(table.db, table.name)
        number = self._number(name)
        column = self._name()
        self.scans[column] = name
        base = (
            exp.to_table(self.views[name])
            if name in self.views
            else exp.Table(
                this=table.this, db=table.args.get("db"), catalog=table.args.get("catalog")
            )
        )
        own_row = exp.maybe_parse(
            f"[cast({number * ROW_LIMIT} + rowid as bigint)]", dialect=DIALECT
        )
        inner = exp.select(exp.Star(), exp.alias_(own_row, column)).from_(base)
        return exp.Subquery(this=inner, alias=alias), [column]

    # -- what is asked of the SQL --------------------------------------------------------------

    def _name(self) -> str:
        self._count += 1
        return f"{WHY}_{self._count}"

    def _number(self, relation: str) -> int:
        if relation not in self.relations:
            self.relations.append(relation)
        return self.relations.index(relation)

    def _is_aggregated(self, select: exp.Select) -> bool:
        from sqlglot import exp

        parts = [*select.expressions, select.args.get("having")]
        for part in parts:
            for call in part.find_all(exp.Func) if part is not None else ():
                name = call.name if isinstance(call, exp.Anonymous) else ""
                known = isinstance(call, exp.AggFunc) or name.lower() in self.aggregates
                if known and call.parent_select is select and not _is_windowed(call):
                    return True
        return False

    def _note_unfollowed(self, select: exp.Select, scope: _Scope) -> None:
        """Notes what is read in conditions and scalar subqueries, none of which are followed."""
        places = [select.args.get(key) for key in ("where", "having", "qualify", "order")]
        places += [*select.expressions]
        places += [join.args.get("on") for join in select.args.get("joins") or []]
        for place in places:
            if place is not None:
                self.unfollowed |= self._reads(place, scope)

    def _reads(self, part: exp.Expression, scope: _Scope) -> set[str]:
        """Full names of the base relations that a part of the query reads, through CTEs."""
        from sqlglot import exp

        own = {cte.alias.lower() for cte in part.find_all(exp.CTE)}
        found: set[str] = set()
        for table in part.find_all(exp.Table):
            name = table.name.lower()
            if not isinstance(table.this, exp.Identifier) or (not table.db and name in own):
                continue
            twin = scope.get(name) if not table.db else None
            found |= twin.reads if twin is not None else {full_name(table.db, table.name)}
        return found

    def _refuse_limit(self, query: exp.Expression, what: str) -> None:
        if query.args.get("limit") or query.args.get("offset"):
            raise NotTraceable(f"a limit over `{what}` chooses among doubles")


def _hide(select: exp.Select, visible: Mapping[str, list[str]]) -> None:
    """Keeps why columns out of the stars, which stand for the model's own columns."""
    from sqlglot import exp

    if any(part.find(exp.Columns) for part in select.expressions):
        raise NotTraceable("`columns(...)` would take the rewritten columns too")
    everything = [name for names in visible.values() for name in names]
    for part in select.expressions:
        star = part.this if isinstance(part, exp.Column) else part
        if not isinstance(star, exp.Star):
            continue
        hidden = visible.get(part.table.lower(), []) if star is not part else everything
        if hidden:
            listed = list(star.args.get("except_") or [])
            star.set("except_", [*listed, *(exp.to_identifier(name) for name in hidden)])


def _joined(columns: list[str]) -> exp.Expression:
    from sqlglot import exp

    if not columns:
        return exp.maybe_parse("cast([] as bigint[])", dialect=DIALECT)
    text = columns[0]
    for name in columns[1:]:
        text = f"list_concat({text}, {name})"
    return exp.maybe_parse(text, dialect=DIALECT)


def _gathered(why: exp.Expression) -> exp.Expression:
    from sqlglot import exp

    text = why.sql(dialect=DIALECT)
    return exp.maybe_parse(f"list_distinct(flatten(list({text})))", dialect=DIALECT)


def _collapsed(query: exp.Expression, inner: str, column: str) -> exp.Expression:
    """Equal rows as one, with the base rows of all of them."""
    from sqlglot import exp

    clause = query.args.get("with_")
    if clause is not None:
        query.set("with_", None)
    outer = exp.select(
        exp.Star(except_=[exp.to_identifier(inner)]),
        exp.alias_(_gathered(exp.column(inner)), column),
    ).from_(exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(f"{inner}_of"))))
    outer.set("group", exp.Group(all=True))
    if clause is not None:
        outer.set("with_", clause)
    return outer


def _prune_twins(query: exp.Expression) -> None:
    """Drops twins that nothing reads: their CTEs only decide which rows there are."""
    from sqlglot import exp

    while True:
        read = {table.name for table in query.find_all(exp.Table)}
        unread = [
            cte
            for cte in query.find_all(exp.CTE)
            if cte.alias.startswith(f"{WHY}_") and cte.alias not in read
        ]
        if not unread:
            return
        for cte in unread:
            cte.pop()


def _aliases(query: exp.Expression) -> set[str]:
    from sqlglot import exp

    return {alias.alias for alias in query.find_all(exp.Alias)}


def _is_simple(query: exp.Expression) -> bool:
    """Whether it only passes on the rows of one table."""
    from sqlglot import exp

    parts = ("joins", "group", "distinct", "qualify", "limit", "laterals", "with_", "windows")
    return (
        isinstance(query, exp.Select)
        and not any(query.args.get(part) for part in parts)
        and not any(query.find_all(exp.Window, exp.AggFunc, exp.Subquery, exp.Unnest))
    )


def _is_windowed(call: exp.Expression) -> bool:
    from sqlglot import exp

    parent = call.parent
    while isinstance(parent, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        parent = parent.parent
    return isinstance(parent, exp.Window)


def _table_names(query: exp.Expression) -> set[str]:
    from sqlglot import exp

    return {table.name.lower() for table in query.find_all(exp.Table)}


def _kind(node: Any) -> str:
    return type(node).__name__.lower()
