"""Where the values of a column come from, read off a model's SQL.

compiled SQL + columns of the tables it reads -> `ColumnLineage` -> expressions, CTE by CTE, and the
tables' columns that they end in

Left out: rows, which `provenance` follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.explain.provenance import DIALECT, full_name
from runner.lineage.queries import qualified

if TYPE_CHECKING:
    from sqlglot.lineage import Node


@dataclass(frozen=True)
class Expression:
    """One step of a column's making.

    Attributes:
        place: The CTE or `final` for the last select.
        column: The column's name there.
        sql: The expression that makes it.
    """

    place: str
    column: str
    sql: str


@dataclass(frozen=True)
class ColumnOrigin:
    """What a column is made of.

    Attributes:
        expressions: The steps that do more than pass a value on, the outermost first.
        columns: Columns of tables that the value is made from, by the table's full name.
        unchanged: Whether the value is that of one column of one table, passed on as it is; for a
            union, of one column in each branch that is not a constant.
        has_window: Whether a window function takes part, so that rows beside its own decide too.
    """

    expressions: tuple[Expression, ...]
    columns: dict[str, frozenset[str]]
    unchanged: bool
    has_window: bool


class ColumnLineage:
    """The columns of one query.

    Args:
        sql: One DuckDB query.
        tables: Columns of the tables it reads, by schema and name.

    Raises:
        ValueError: The query's columns cannot be resolved.
    """

    def __init__(self, sql: str, tables: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        from sqlglot.errors import SqlglotError
        from sqlglot.optimizer.scope import build_scope

        self._query = qualified(sql, tables)
        try:
            self._scope = build_scope(self._query)
        except (SqlglotError, RecursionError) as error:
            raise ValueError(f"the columns cannot be resolved: {error}") from error

    def origin(self, column: str) -> ColumnOrigin:
        """What a column of the query's result is made of.

        Raises:
            ValueError: The query has no such column, or it cannot be followed.
        """
        from sqlglot.errors import SqlglotError
        from sqlglot.lineage import lineage

        try:
            root = lineage(
                column.lower(), self._query, schema=None, scope=self._scope, dialect=DIALECT
            )
        except (SqlglotError, ValueError, RecursionError) as error:
            raise ValueError(f"the column {column} cannot be followed: {error}") from error
        return _origin(root)


def _origin(root: Node) -> ColumnOrigin:
    from sqlglot import exp

    steps: dict[tuple[str, str], Expression] = {}
    columns: dict[str, set[str]] = {}
    unchanged, has_window = True, False
    for node in root.walk():
        if isinstance(node.source, exp.Table) and not node.downstream:
            name = full_name(node.source.db, node.source.name)
            columns.setdefault(name, set()).add(node.name.split(".")[-1].strip('"').lower())
            continue
        made = node.expression
        inner = made.this if isinstance(made, exp.Alias) else made
        if isinstance(
            inner, exp.Query | exp.Table | exp.Star | exp.Column | exp.Literal | exp.Null
        ):
            continue
        has_window = has_window or inner.find(exp.Window) is not None
        unchanged = unchanged and not node.downstream
        place = node.reference_node_name or node.source_name or "final"
        step = Expression(place, node.name.split(".")[-1], inner.sql(dialect=DIALECT))
        steps.setdefault((step.place, step.sql), step)
    frozen = {name: frozenset(found) for name, found in columns.items()}
    one_each = bool(frozen) and all(len(found) == 1 for found in frozen.values())
    return ColumnOrigin(tuple(steps.values()), frozen, unchanged and one_each, has_window)
