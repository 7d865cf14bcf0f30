"""PostgreSQL: binary or text `COPY ... TO STDOUT` in one exported snapshot.

pg_catalog -> columns, primary key; DuckDB's scanner -> typed Parquet (`pgscan`)
or, where that would not be exact, COPY (select ...) -> CSV text as PostgreSQL writes it

All sessions of a source share one snapshot (REPEATABLE READ, `pg_export_snapshot`), so tables that
are read side by side fit together. Arrays and composite values become JSON.
Left out: large objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.connections import Connection
from ingestion.databases.base import (
    BATCH,
    CONNECT_SECONDS,
    DATE_TEXT,
    HEX_TEXT,
    TIME_TEXT,
    TIMESTAMP_TEXT,
    TIMESTAMPTZ_TEXT,
    Column,
    Condition,
    Database,
    Fault,
    KeyIn,
    MissingRelation,
    Parts,
    Raw,
    Relation,
    Session,
    Target,
    decimal_text,
)
from ingestion.databases.pgscan import PostgresScan, Query, has_numbers
from ingestion.errors import BadInput
from ingestion.progress import interruption

if TYPE_CHECKING:
    import psycopg

_SIMPLE = {
    "int2": ("smallint", None),
    "int4": ("integer", None),
    "int8": ("bigint", None),
    "oid": ("bigint", None),
    "float4": ("float", None),
    "float8": ("double", None),
    "bool": ("boolean", None),
    "date": ("date", DATE_TEXT),
    "timestamp": ("timestamp", TIMESTAMP_TEXT),
    "timestamptz": ("timestamp with time zone", TIMESTAMPTZ_TEXT),
    "time": ("time", TIME_TEXT),
    "bytea": ("blob", HEX_TEXT),
}
# Output that does not depend on the server's or the user's settings.
_SETTINGS = (
    "set timezone = 'UTC'",
    "set datestyle = 'ISO, YMD'",
    "set intervalstyle = 'postgres'",
    "set extra_float_digits = 3",
    "set bytea_output = 'hex'",
    "set statement_timeout = 0",
)
_COLUMNS = """
with recursive columns as (
    select attnum, attname, atttypid as type_id, atttypmod as modifier
    from pg_catalog.pg_attribute
    where attrelid = %(table)s and attnum > 0 and not attisdropped
    union all
    select
        columns.attnum, columns.attname, pg_type.typbasetype,
        case when columns.modifier = -1 then pg_type.typtypmod else columns.modifier end
    from columns
    inner join pg_catalog.pg_type on pg_type.oid = columns.type_id
    where pg_type.typtype = 'd'
)
select
    columns.attname, pg_type.typname, pg_type.typtype, pg_type.typcategory, columns.modifier,
    pg_catalog.format_type(columns.type_id, columns.modifier),
    (
        select string_agg(enumlabel, ', ' order by enumsortorder)
        from pg_catalog.pg_enum
        where enumtypid = columns.type_id
    ),
    not told.attnotnull,
    pg_catalog.pg_get_expr(pg_attrdef.adbin, pg_attrdef.adrelid)
from columns
inner join pg_catalog.pg_type on pg_type.oid = columns.type_id
inner join pg_catalog.pg_attribute as told
    on told.attrelid = %(table)s and told.attnum = columns.attnum
left join pg_catalog.pg_attrdef
    on pg_attrdef.adrelid = told.attrelid and pg_attrdef.adnum = told.attnum
where pg_type.typtype <> 'd'
order by columns.attnum
"""
_TYPES = """
with recursive types as (
    select told.place, told.type_id::oid as type_id, told.modifier
    from unnest(%s::bigint[], %s::integer[]) with ordinality as told (type_id, modifier, place)
    union all
    select
        types.place, pg_type.typbasetype,
        case when types.modifier = -1 then pg_type.typtypmod else types.modifier end
    from types
    inner join pg_catalog.pg_type on pg_type.oid = types.type_id
    where pg_type.typtype = 'd'
)
select
    types.place, pg_type.typname, pg_type.typtype, pg_type.typcategory, types.modifier,
    pg_catalog.format_type(types.type_id, types.modifier)
from types
inner join pg_catalog.pg_type on pg_type.oid = types.type_id
where pg_type.typtype <> 'd'
"""
_PRIMARY_KEY = """
select pg_attribute.attname
from pg_catalog.pg_index
cross join lateral unnest(pg_index.indkey) with ordinality as part (attnum, position)
inner join pg_catalog.pg_attribute
    on pg_attribute.attrelid = pg_index.indrelid and pg_attribute.attnum = part.attnum
where pg_index.indrelid = %s and pg_index.indisprimary
order by part.position
"""
_RELATION = """
select pg_class.oid, pg_namespace.nspname
from pg_catalog.pg_class
inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
where pg_class.relname = %(name)s and pg_class.relkind in ('r', 'p', 'v', 'm', 'f')
    and case when %(schema)s::text is null then pg_catalog.pg_table_is_visible(pg_class.oid)
        else pg_namespace.nspname = %(schema)s end
"""
# Pages of the largest part of a table; NULL where rows have no place to be divided by.
_PAGES = """
with tables as (
    select pg_catalog.to_regclass(%(name)s)::oid as table_id
    union
    select relid from pg_catalog.pg_partition_tree(pg_catalog.to_regclass(%(name)s))
)
select
    max(pg_catalog.pg_relation_size(pg_class.oid))
    / pg_catalog.current_setting('block_size')::bigint
from tables
inner join pg_catalog.pg_class on pg_class.oid = tables.table_id
left join pg_catalog.pg_am on pg_am.oid = pg_class.relam
where pg_class.relkind <> 'p'
having bool_and(pg_class.relkind = 'r' and pg_am.amname = 'heap')
"""
_RELATIONS = """
select pg_class.relname
from pg_catalog.pg_class
inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
where pg_class.relkind in ('r', 'p', 'v', 'm', 'f')
    and pg_namespace.nspname = coalesce(%s, pg_catalog.current_schema())
order by 1
"""


# Tables with fewer pages are not worth further connections; servers before 14 would read all of a
# table for each range of pages.
_LEAST_PAGES = 2_048
_RANGES_SINCE = 140_000
_MOST_CONNECTIONS = 8


class Postgres(Database):
    """A PostgreSQL server, or one that speaks its protocol and has its catalog.

    The option `max_connections` of a connection says how many may be open at the same time.
    """

    sessions = 3

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._first: psycopg.Connection[Any] | None = None
        self._snapshot: str | None = None
        self._scan: PostgresScan | None = None

    @contextmanager
    def consistent_view(self) -> Iterator[None]:
        """Opens the connection that holds the snapshot."""
        self._first = self.connect()
        try:
            _begin(self._first)
            most = _most_connections(self.connection)
            self._snapshot = self._export(self._first) if most > 1 else None
            if self._snapshot is None:
                self.sessions = 1
            else:
                # One connection holds the snapshot; each table has one, the rest are lanes.
                self.sessions = min(self.sessions, max((most - 1) // 2, 1))
                self._scan = self.scan(self._snapshot, self._first, most - 1 - self.sessions)
            yield
        finally:
            if self._scan is not None:
                self._scan.close()
            self._first.close()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A further connection in the same snapshot; the first one where none can be exported."""
        if self._snapshot is None:
            assert self._first is not None
            # The transaction, and with it the view, survives a table that fails.
            with self._first.transaction():
                yield PostgresSession(self._first)
            return
        connection = self.connect()
        try:
            _begin(connection)
            connection.execute(f"set transaction snapshot '{self._snapshot}'")
            yield PostgresSession(connection, self._scan)
        finally:
            connection.close()

    def scan(
        self, snapshot: str, connection: psycopg.Connection[Any], lanes: int
    ) -> PostgresScan | None:
        """The columnar road into a snapshot; None where it is not exact or there is no lane."""
        row = connection.execute("show server_encoding").fetchone()
        # Such a server does not know what its texts are, so nobody can make UTF-8 of them.
        if lanes < 1 or row is None or row[0] == "SQL_ASCII":
            return None
        return PostgresScan(self.libpq_url, snapshot, _SETTINGS, lanes)

    def explain(self, error: BaseException) -> Fault | None:
        """See `Database.explain`."""
        import psycopg

        if not isinstance(error, psycopg.Error):
            return None
        message = _message(error)
        state = error.sqlstate or ""
        name = self.connection.name
        if state.startswith("28") or "authentication failed" in message:
            return Fault(
                "unreachable", f"the login is refused: {message}", _check(name, "user and password")
            )
        if state == "3D000" or ('database "' in message and "does not exist" in message):
            return Fault("unreachable", message, _check(name, "the database's name"))
        if state == "42501":
            return Fault("failed", message, "Grant the user of the connection `select` on it.")
        lost = state.startswith(("57P", "08")) or isinstance(error, psycopg.OperationalError)
        if lost and self._first is None:
            hint = _check(name, "host and port") + " Check that the server runs."
            return Fault("unreachable", message, hint, may_pass=True)
        if lost:
            return Fault("lost", message, "Nothing of this table was landed; run again.")
        return Fault("failed", message)

    @property
    def libpq_url(self) -> str:
        """The connection's address as libpq takes it."""
        scheme, _, rest = self.connection.url.partition("://")
        url = f"{scheme.partition('+')[0]}://{rest}"
        if "connect_timeout=" not in url:
            url += f"{'&' if '?' in url else '?'}connect_timeout={CONNECT_SECONDS}"
        return url

    def connect(self) -> psycopg.Connection[Any]:
        """A connection whose texts depend on no setting of the server or the user."""
        import psycopg

        connection = psycopg.connect(
            self.libpq_url, autocommit=True, client_encoding="utf-8", application_name="wellspring"
        )
        for statement in _SETTINGS:
            connection.execute(statement)
        return connection

    @staticmethod
    def _export(connection: psycopg.Connection[Any]) -> str | None:
        """Id of a snapshot that other connections can join; None where the server has none."""
        import psycopg

        try:
            row = connection.execute("select pg_catalog.pg_export_snapshot()").fetchone()
        except psycopg.Error:
            # A standby, or a system that only speaks the protocol: one connection then reads all.
            connection.execute("rollback")
            _begin(connection)
            return None
        return str(row[0]) if row else None


class PostgresSession(Session):
    """One connection.

    Args:
        connection: In a transaction already.
        scan: The columnar road into the same snapshot, if there is one.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], scan: PostgresScan | None = None
    ) -> None:
        self._connection = connection
        self._scan = scan

    def ask(self, statement: str, arguments: Any = None) -> list[tuple[Any, ...]]:
        """Rows that a statement gives inside the view; none if it gives none."""
        cursor = self._connection.execute(statement, arguments)
        return cursor.fetchall() if cursor.description else []

    def describe(self, schema: str | None, name: str) -> Relation:
        """See `Session.describe`."""
        found = self._connection.execute(_RELATION, {"name": name, "schema": schema}).fetchone()
        if found is None:
            label = f"{schema}.{name}" if schema else name
            raise MissingRelation(label, self.relations(schema))
        oid, found_schema = found
        columns = self._connection.execute(_COLUMNS, {"table": oid}).fetchall()
        key = self._connection.execute(_PRIMARY_KEY, [oid]).fetchall()
        return Relation(
            found_schema,
            name,
            tuple(
                replace(_column(*row[:6]), values=row[6] or "", nullable=row[7], default=row[8])
                for row in columns
            ),
            tuple(row[0] for row in key),
        )

    def relations(self, schema: str | None) -> list[str]:
        """See `Session.relations`."""
        return [row[0] for row in self._connection.execute(_RELATIONS, [schema]).fetchall()]

    def read(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, out: Path
    ) -> Raw:
        """See `Session.read`."""
        path = out.with_suffix(".csv")
        longest = 0
        with self._connection.cursor() as cursor, path.open("wb", buffering=1 << 20) as file:
            with cursor.copy(_copy(relation, columns, condition)) as copy:
                for number, block in enumerate(copy):
                    file.write(block)
                    longest = max(longest, len(block))
                    if number % BATCH == 0:
                        interruption.check()
            rows = max(cursor.rowcount, 0)
        return Raw(path, "csv", [column.name for column in columns], rows, longest)

    def read_columns(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, target: Target
    ) -> Parts | None:
        """See `Session.read_columns`."""
        if self._scan is None:
            return None
        ranges: Sequence[str] = ("",)
        if target.may_split and condition is None:
            ranges = self._ranges(relation, self._scan.lanes)
        source = _source(relation, condition).as_string(self._connection)
        select = _scanned(columns).as_string(self._connection)
        return self._scan.read(Query(columns, select, source, ranges), target)

    def _ranges(self, relation: Relation, most: int) -> list[str]:
        """Conditions that divide a table's rows by the place where they lie."""
        if self._connection.info.server_version < _RANGES_SINCE:
            return [""]
        label = _table(relation).as_string(self._connection)
        row = self._connection.execute(_PAGES, {"name": label}).fetchone()
        pages = row[0] if row and row[0] else 0
        number = min(most, int(pages) // _LEAST_PAGES)
        if number < 2:
            return [""]
        ends = [int(pages) * n // number for n in range(1, number)]
        conditions = [f"ctid < '({ends[0]}, 0)'"]
        for start, end in pairwise(ends):
            conditions.append(f"ctid >= '({start}, 0)' and ctid < '({end}, 0)'")
        # The last one is open: the table may have grown.
        conditions.append(f"ctid >= '({ends[-1]}, 0)'")
        return [f" where {condition}" for condition in conditions]


@contextmanager
def at_snapshot(connection: Connection, snapshot: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection in a snapshot that another one has exported.

    Args:
        connection: Where the database is.
        snapshot: The snapshot's name.
    """
    opened = Postgres(connection).connect()
    try:
        _begin(opened)
        opened.execute(f"set transaction snapshot '{snapshot}'")
        yield opened
    finally:
        opened.close()


def typed_columns(
    connection: psycopg.Connection[Any], columns: Sequence[tuple[str, int, int]]
) -> list[Column]:
    """Columns by name, number of their type and modifier, typed as those of a table that is read.

    A type that is not there any more leaves its column a text.
    """
    numbers = [type_id for _, type_id, _ in columns], [modifier for *_, modifier in columns]
    found = {row[0]: row[1:] for row in connection.execute(_TYPES, numbers).fetchall()}
    return [
        _column(name, *found[place]) if place in found else Column(name)
        for place, (name, _, _) in enumerate(columns, start=1)
    ]


def _message(error: psycopg.Error) -> str:
    """The first line that says something; the others are psycopg's advice."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines()
    return lines[0].removeprefix("connection failed: ") if lines else type(error).__name__


def _begin(connection: psycopg.Connection[Any]) -> None:
    connection.execute("begin transaction isolation level repeatable read, read only")


def _most_connections(connection: Connection) -> int:
    """How many connections may be open, by the option of that name.

    Raises:
        BadInput: It is no number from 1 on.
    """
    told = connection.options.get("max_connections", _MOST_CONNECTIONS)
    if str(told).isdigit() and int(told) > 0:
        return int(told)
    raise BadInput(
        f"connections.{connection.name}.max_connections is {told!r}",
        hint=f"Set a number from 1 on, or leave it out: {_MOST_CONNECTIONS} are opened at most.",
    )


def _check(name: str, what: str) -> str:
    return (
        f"Check {what} in the connection {name!r} (.dlt/secrets.toml, key connections.{name}.url)."
    )


def _column(
    name: str, type_name: str, type_kind: str, category: str, modifier: int, native: str
) -> Column:
    if type_name == "numeric":
        precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
        # The scale is an 11-bit signed number; DuckDB has no decimals over 38 digits.
        if modifier < 0 or precision > 38 or not 0 <= scale <= precision:
            return Column(name, native=native)
        return Column(name, f"decimal({precision}, {scale})", decimal_text(scale), native=native)
    if type_name in _SIMPLE:
        kind, pattern = _SIMPLE[type_name]
        return Column(name, kind, pattern, native=native)
    if category == "A" or type_kind == "c":
        return Column(name, select="to_json({})::text", native=native)
    return Column(name, select="{}::text", native=native)


def _copy(relation: Relation, columns: Sequence[Column], condition: Condition) -> Any:
    from psycopg import sql

    expressions = [
        sql.SQL(column.select or "{}").format(sql.Identifier(column.name)) for column in columns
    ]
    # The constant keeps a line of a single NULL from being an empty line.
    return sql.SQL("copy (select {}, 1 from {}) to stdout (format csv)").format(
        sql.SQL(", ").join(expressions), _source(relation, condition)
    )


def _scanned(columns: Sequence[Column]) -> Any:
    """The select list for the scanner: c0, c1 and so on, then `has_nan` if there are decimals."""
    from psycopg import sql

    expressions = []
    for number, column in enumerate(columns):
        plain = "{}::text" if column.type == "varchar" else "{}"
        plain = "{}::bigint" if column.native == "oid" else plain
        name = sql.Identifier(column.name)
        expressions.append(sql.SQL(f"{column.select or plain} as c{number}").format(name))
    if has_numbers(columns):
        checks = [
            sql.SQL("{} = 'NaN'").format(sql.Identifier(column.name))
            for column in columns
            if column.type.startswith("decimal")
        ]
        expressions.append(sql.SQL("({}) as has_nan").format(sql.SQL(" or ").join(checks)))
    return sql.SQL(", ").join(expressions)


def _table(relation: Relation) -> Any:
    from psycopg import sql

    return sql.Identifier(*filter(None, (relation.schema, relation.name)))


def _source(relation: Relation, condition: Condition) -> Any:
    """What stands behind `from`."""
    from psycopg import sql

    return sql.SQL("{}{}").format(_table(relation), _where(condition))


def _where(condition: Condition) -> Any:
    from psycopg import sql

    if condition is None:
        return sql.SQL("")
    if isinstance(condition, KeyIn):
        arrays = sql.SQL(", ").join(
            sql.SQL("{}::text[]").format(sql.Literal([key[n] for key in condition.keys]))
            for n in range(len(condition.columns))
        )
        names = [sql.Identifier(f"key{n}") for n in range(len(condition.columns))]
        matches = sql.SQL(" and ").join(
            sql.SQL("{} = {}::{}").format(
                sql.Identifier(column.name),
                name,
                sql.SQL(column.native),
            )
            for column, name in zip(condition.columns, names, strict=True)
        )
        return sql.SQL(" where exists (select 1 from unnest({}) as keys ({}) where {})").format(
            arrays, sql.SQL(", ").join(names), matches
        )
    cursor = sql.Identifier(condition.column.name)
    native = sql.SQL(condition.column.native)
    bound = sql.SQL("{} >= {}::{}").format(cursor, sql.Literal(_text(condition.value)), native)
    if condition.until is not None:
        until = sql.Literal(_text(condition.until))
        bound = sql.SQL("{} and {} < {}::{}").format(bound, cursor, until, native)
    nulls = sql.SQL(" or {} is null").format(cursor) if condition.nulls else sql.SQL("")
    return sql.SQL(" where ({}{})").format(bound, nulls)


def _text(value: Any) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
