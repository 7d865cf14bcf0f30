"""What a database has to offer, asked of its catalog before anything is declared.

`browse(database, schema)` -> `Listed` tables and views -> `inspect` -> columns as they would be
read, keys by the catalog, comments, and the first rows as texts

Only catalogs and the first rows are read, so a large database costs no more than a small one.
Left out: what the findings are good for, which is `wellspring add`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingestion.databases.base import Column, Database, Relation
from ingestion.databases.mysql import MySQL
from ingestion.databases.sqlite import SQLite

# More rows than this are not counted, only estimated by the catalog.
COUNTED = 1_000_000
# Rows that proposals are made from.
FIRST_ROWS = 10_000
_LONGEST = 300
_PATIENCE_MS = 20_000

_PG_RELATIONS = """
select
    pg_namespace.nspname, pg_class.relname, pg_class.relkind in ('v', 'm'),
    pg_class.reltuples::bigint, pg_catalog.obj_description(pg_class.oid, 'pg_class')
from pg_catalog.pg_class
inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
where pg_class.relkind in ('r', 'p', 'v', 'm', 'f')
    and not pg_class.relispartition
    and pg_namespace.nspname not in ('pg_catalog', 'information_schema')
    and pg_namespace.nspname !~ '^pg_(toast|temp)'
    and (%(schema)s::text is null or pg_namespace.nspname = %(schema)s)
    and pg_catalog.has_schema_privilege(pg_namespace.oid, 'usage')
    and pg_catalog.has_table_privilege(pg_class.oid, 'select')
    and exists (
        select 1 from pg_catalog.pg_attribute
        where pg_attribute.attrelid = pg_class.oid
            and pg_attribute.attnum > 0 and not pg_attribute.attisdropped
    )
    and not exists (
        select 1 from pg_catalog.pg_depend
        where pg_depend.classid = 'pg_catalog.pg_class'::regclass
            and pg_depend.objid = pg_class.oid and pg_depend.deptype = 'e'
    )
order by 1, 2
"""
_PG_UNIQUE = """
select array_agg(pg_attribute.attname order by part.position)
from pg_catalog.pg_index
cross join lateral unnest(pg_index.indkey) with ordinality as part (attnum, position)
inner join pg_catalog.pg_attribute
    on pg_attribute.attrelid = pg_index.indrelid and pg_attribute.attnum = part.attnum
where pg_index.indrelid = pg_catalog.to_regclass(%(name)s)
    and pg_index.indisunique and not pg_index.indisprimary and pg_index.indisvalid
    and pg_index.indpred is null and pg_index.indexprs is null
    and part.position <= pg_index.indnkeyatts
group by pg_index.indexrelid
having bool_and(pg_attribute.attnotnull)
order by count(*), 1
"""
_PG_COMMENTS = """
select attname, pg_catalog.col_description(attrelid, attnum)
from pg_catalog.pg_attribute
where attrelid = pg_catalog.to_regclass(%(name)s) and attnum > 0
    and pg_catalog.col_description(attrelid, attnum) is not null
"""
_MYSQL_RELATIONS = """
select table_schema, table_name, table_type like '%%VIEW%%', table_rows, table_comment
from information_schema.tables
where table_schema = coalesce(%(schema)s, database(), table_schema)
    and table_schema not in ('mysql', 'sys', 'information_schema', 'performance_schema')
order by 1, 2
"""
_MYSQL_UNIQUE = """
select group_concat(column_name order by seq_in_index separator '\\n')
from information_schema.statistics
where table_schema = coalesce(%(schema)s, database()) and table_name = %(name)s
    and non_unique = 0 and index_name <> 'PRIMARY'
group by index_name
having sum(nullable = 'YES') = 0
order by count(*), 1
"""
_MYSQL_COMMENTS = """
select column_name, column_comment from information_schema.columns
where table_schema = coalesce(%(schema)s, database()) and table_name = %(name)s
    and column_comment <> ''
"""


@dataclass(frozen=True)
class Listed:
    """A table or view as the catalog lists it.

    Attributes:
        schema: Its schema, if the system has schemas.
        name: Its name.
        is_view: Whether it is a view.
        rows: How many rows it has; None where nobody knows.
        is_estimate: Whether the number is the catalog's estimate.
        comment: What the catalog says about it.
    """

    schema: str | None
    name: str
    is_view: bool = False
    rows: int | None = None
    is_estimate: bool = False
    comment: str = ""

    @property
    def label(self) -> str:
        """`schema.name`, for messages."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True)
class Inspected:
    """What is known of a table before it is declared.

    Attributes:
        relation: Its columns and its primary key by the catalog.
        unique: Keys by unique indexes whose columns are never empty, shortest first.
        comments: What the catalog says about columns.
        names: The columns of `rows`.
        rows: The first rows, every value as a text, long ones cut.
        why_no_rows: Why there are none; empty if they were read.
    """

    relation: Relation
    unique: tuple[tuple[str, ...], ...] = ()
    comments: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    why_no_rows: str = ""


class _Asked(Protocol):
    def ask(self, statement: str, arguments: Any = ()) -> list[tuple[Any, ...]]: ...

    def describe(self, schema: str | None, name: str) -> Relation: ...


def browse(database: Database, schema: str | None) -> list[Listed]:
    """Tables and views that the connection's user may read, inside a consistent view.

    Args:
        database: Its view must be open.
        schema: Only those of this schema; None for all that are not the system's own.
    """
    with database.session() as session:
        asked: Any = session
        if isinstance(database, SQLite):
            return _sqlite_relations(asked)
        statement = _MYSQL_RELATIONS if isinstance(database, MySQL) else _PG_RELATIONS
        listed = [_listed(*row) for row in asked.ask(statement, {"schema": schema})]
    return [_counted(database, one) for one in listed]


def inspect(database: Database, listed: Listed) -> Inspected:
    """Columns, keys, comments and first rows of a table or view."""
    with database.session() as session:
        asked: Any = session
        relation = asked.describe(listed.schema, listed.name)
        if isinstance(database, SQLite):
            unique, comments = _sqlite_unique(asked, listed.name), {}
        elif isinstance(database, MySQL):
            given = {"schema": listed.schema, "name": listed.name}
            unique = [tuple(row[0].split("\n")) for row in asked.ask(_MYSQL_UNIQUE, given)]
            comments = dict(asked.ask(_MYSQL_COMMENTS, given))
        else:
            given = {"name": _quoted(database, listed)}
            unique = [tuple(row[0]) for row in asked.ask(_PG_UNIQUE, given)]
            comments = dict(asked.ask(_PG_COMMENTS, given))
    found = Inspected(relation, tuple(unique), {k: str(v) for k, v in comments.items()})
    return _with_rows(database, listed, found)


def _listed(schema: str, name: str, is_view: Any, rows: Any, comment: str | None) -> Listed:
    known = None if rows is None or int(rows) < 0 else int(rows)
    # Views of MySQL have the word VIEW for a comment, and no rows.
    view = bool(int(is_view))
    told = "" if comment in (None, "VIEW") else str(comment).strip()
    return Listed(schema, name, view, None if view else known, True, told)


def _counted(database: Database, listed: Listed) -> Listed:
    """With its rows counted, where an estimate is missing or the table is small."""
    if listed.is_view or (listed.rows or 0) > COUNTED:
        return listed
    from dataclasses import replace

    try:
        with database.session() as session:
            asked: Any = session
            _be_patient(database, asked)
            rows = _count(asked, _quoted(database, listed))
    except Exception as error:
        # An answer that does not come is no reason not to offer the table.
        if database.explain(error) is None:
            raise
        return listed
    return replace(listed, rows=rows, is_estimate=rows > COUNTED)


def _count(asked: _Asked, table: str) -> int:
    inner = f"select 1 from {table} limit {COUNTED + 1}"
    return int(asked.ask(f"select count(*) from ({inner}) as part")[0][0])


def _be_patient(database: Database, asked: _Asked) -> None:
    """Bounds how long a statement may take; SQLite and MySQL have no limit that both know."""
    if not isinstance(database, (SQLite, MySQL)):
        asked.ask(f"set local statement_timeout = {_PATIENCE_MS}")


def _with_rows(database: Database, listed: Listed, found: Inspected) -> Inspected:
    from dataclasses import replace

    columns = [column for column in found.relation.columns if column.type != "blob"]
    if not columns:
        return replace(found, why_no_rows="all its columns hold bytes")
    texts = ", ".join(_text(database, column) for column in columns)
    statement = f"select {texts} from {_quoted(database, listed)} limit {FIRST_ROWS}"
    try:
        with database.session() as session:
            asked: Any = session
            _be_patient(database, asked)
            rows = asked.ask(statement)
    except Exception as error:
        fault = database.explain(error)
        if fault is None:
            raise
        return replace(found, why_no_rows=fault.message)
    names = tuple(column.name for column in columns)
    return replace(found, names=names, rows=[_as_texts(row) for row in rows])


def _as_texts(row: Sequence[Any]) -> tuple[str | None, ...]:
    return tuple(
        None if value is None else value.hex() if isinstance(value, bytes) else str(value)
        for value in row
    )


def _text(database: Database, column: Column) -> str:
    if isinstance(database, MySQL):
        inner = (column.select or "{}").format(_name(database, column.name))
        return f"left(cast({inner} as char), {_LONGEST})"
    name = _name(database, column.name)
    if isinstance(database, SQLite):
        return f"substr(cast({name} as text), 1, {_LONGEST})"
    return f"left({name}::text, {_LONGEST})"


def _name(database: Database, name: str) -> str:
    if isinstance(database, MySQL):
        return "`" + name.replace("`", "``") + "`"
    return '"' + name.replace('"', '""') + '"'


def _quoted(database: Database, listed: Listed) -> str:
    parts = (listed.schema, listed.name)
    return ".".join(_name(database, part) for part in parts if part)


def _sqlite_relations(asked: _Asked) -> list[Listed]:
    rows = asked.ask(
        "select name, type = 'view' from sqlite_master where type in ('table', 'view') "
        "and name not like 'sqlite\\_%' escape '\\' order by name"
    )
    found = []
    for name, is_view in rows:
        quoted = '"' + str(name).replace('"', '""') + '"'
        try:
            count = None if is_view else _count(asked, quoted)
        except sqlite3.Error:
            # A virtual table whose module is not here cannot be read, and is not offered.
            continue
        found.append(Listed(None, str(name), bool(is_view), count, (count or 0) > COUNTED))
    return found


def _sqlite_unique(asked: _Asked, name: str) -> list[tuple[str, ...]]:
    quoted = '"' + name.replace('"', '""') + '"'
    filled = {row[1] for row in asked.ask(f"pragma table_info({quoted})") if row[3]}
    found = []
    for _, index, is_unique, origin, is_partial, *_ in asked.ask(f"pragma index_list({quoted})"):
        if not is_unique or origin == "pk" or is_partial:
            continue
        inner = '"' + str(index).replace('"', '""') + '"'
        columns = tuple(row[2] for row in asked.ask(f"pragma index_info({inner})"))
        if columns and all(column in filled for column in columns):
            found.append(columns)
    return sorted(found, key=lambda columns: (len(columns), columns))
