"""MySQL and MariaDB: one connection in one consistent snapshot, its rows taken by columns.

information_schema -> columns, primary key
select ... -> texts as the server writes them, by columns (`mysqlrows`) ─┬─> cast to their types
                                                 if one does not fit, again └─> text file

A snapshot cannot be shared between connections here, so one session reads all tables, one after the
other. Unsigned integers keep their range, FLOAT its full precision, a date of zeros stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ingestion.connections import Connection
from ingestion.databases.base import (
    CONNECT_SECONDS,
    DATE_TEXT,
    HEX_TEXT,
    TIME_TEXT,
    TIMESTAMP_TEXT,
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
    TextWriter,
    decimal_text,
)
from ingestion.databases.mysqlrows import Rows, asked
from ingestion.databases.texts import copy_typed, does_not_fit
from ingestion.delta import quoted
from ingestion.errors import SourceFailed
from ingestion.progress import interruption

if TYPE_CHECKING:
    import pyarrow as pa
    import pymysql

logger = logging.getLogger(__name__)

_INTEGERS = {
    "tinyint": ("tinyint", "smallint"),
    "smallint": ("smallint", "integer"),
    "mediumint": ("integer", "integer"),
    "int": ("integer", "bigint"),
    "integer": ("integer", "bigint"),
    "bigint": ("bigint", "decimal(20, 0)"),
}
_SIMPLE = {
    "double": ("double", None),
    "date": ("date", DATE_TEXT),
    "datetime": ("timestamp", TIMESTAMP_TEXT),
    "timestamp": ("timestamp with time zone", TIMESTAMP_TEXT),
    "time": ("time", TIME_TEXT),
    "year": ("smallint", None),
}
_BINARY = ("binary", "blob", "geometry", "point", "linestring", "polygon", "geomcollection")
_READ_SECONDS = 3600
# What the rows are called while DuckDB reads them.
_BATCHES = "rows_of_the_server"
_LOST = {2006, 2013, 2055, 1927, 1053, 1317}
_COLUMNS = """
select
    column_name, data_type, column_type, numeric_precision, numeric_scale, is_nullable,
    column_default
from information_schema.columns
where table_schema = coalesce(%s, database()) and table_name = %s
order by ordinal_position
"""
_PRIMARY_KEY = """
select column_name
from information_schema.statistics
where table_schema = coalesce(%s, database()) and table_name = %s and index_name = 'PRIMARY'
order by seq_in_index
"""
_RELATIONS = """
select table_name from information_schema.tables
where table_schema = coalesce(%s, database()) order by 1
"""


class MySQL(Database):
    """A MySQL or MariaDB server."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._only: pymysql.Connection[Any] | None = None

    @contextmanager
    def consistent_view(self) -> Iterator[None]:
        """Opens the one connection and its snapshot."""
        self._only = self.connect()
        try:
            with self._only.cursor() as cursor:
                # A sql_mode such as ANSI_QUOTES would change what is read.
                cursor.execute("set session sql_mode = ''")
                cursor.execute("set session time_zone = '+00:00'")
                cursor.execute("set session transaction isolation level repeatable read")
                cursor.execute("start transaction with consistent snapshot, read only")
            yield
        finally:
            _close(self._only)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows that a statement gives inside the view."""
        assert self._only is not None
        with self._only.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The one connection."""
        assert self._only is not None
        # A reading that was interrupted has closed it.
        interruption.check()
        yield MySQLSession(self._only)

    def explain(self, error: BaseException) -> Fault | None:
        """See `Database.explain`."""
        import pymysql

        if not isinstance(error, pymysql.Error):
            return None
        code = error.args[0] if error.args else 0
        message = str(error.args[1]) if len(error.args) > 1 else str(error)
        name = self.connection.name
        place = f"in the connection {name!r} (.dlt/secrets.toml, key connections.{name}.url)."
        if code in (1044, 1045, 1698, 1251, 1820, 4151):
            return Fault(
                "unreachable",
                f"the login is refused: {message}",
                f"Check user and password {place}",
            )
        if code == 1049:
            return Fault("unreachable", message, f"Check the database's name {place}")
        if code in (1142, 1143):
            return Fault("failed", message, "Grant the user of the connection `select` on it.")
        if self._only is None or (code == 2003):
            hint = f"Check host and port {place} Check that the server runs."
            return Fault("unreachable", message, hint, may_pass=True)
        if code in _LOST or (isinstance(error, pymysql.InterfaceError) and code == 0):
            return Fault(
                "lost",
                message or "the server has gone away",
                "Nothing of this table was landed; run again.",
            )
        return Fault("failed", message)

    @property
    def address(self) -> dict[str, Any]:
        """Where the server is, as its driver takes it."""
        parts = urlsplit(self.connection.url)
        query = dict(parse_qsl(parts.query))
        return {
            "host": unquote(parts.hostname or "localhost"),
            "port": parts.port or 3306,
            "user": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
            "database": unquote(parts.path.lstrip("/")) or None,
            "unix_socket": query.get("unix_socket"),
            "ssl_ca": query.get("ssl_ca"),
            # Who names an authority wants the server to be known to it.
            "ssl_verify_cert": True if query.get("ssl_ca") else None,
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_SECONDS,
        }

    def connect(self) -> pymysql.Connection[Any]:
        """Opens a connection whose values stay the server's texts."""
        import pymysql
        from pymysql.converters import conversions

        return pymysql.connect(
            **self.address,
            read_timeout=_READ_SECONDS,
            # Only the encoders of parameters: without decoders every value stays the server's text.
            conv={kind: encode for kind, encode in conversions.items() if isinstance(kind, type)},
        )


class MySQLSession(Session):
    """One connection.

    Args:
        connection: In a transaction already.
    """

    def __init__(self, connection: pymysql.Connection[Any]) -> None:
        self._connection = connection

    def ask(self, statement: str, arguments: Any = ()) -> list[tuple[Any, ...]]:
        """Rows that a statement gives inside the view."""
        with self._connection.cursor() as cursor:
            # Without arguments a per cent sign in the statement is none of PyMySQL's.
            cursor.execute(statement, arguments or None)
            return list(cursor.fetchall())

    def describe(self, schema: str | None, name: str) -> Relation:
        """See `Session.describe`."""
        with self._connection.cursor() as cursor:
            cursor.execute(_COLUMNS, (schema, name))
            columns = tuple(
                replace(typed_column(*row[:5]), nullable=row[5] == "YES", default=row[6])
                for row in cursor.fetchall()
            )
            if not columns:
                label = f"{schema}.{name}" if schema else name
                raise MissingRelation(label, self.relations(schema))
            cursor.execute(_PRIMARY_KEY, (schema, name))
            key = tuple(str(row[0]) for row in cursor.fetchall())
        return Relation(schema, name, columns, key)

    def relations(self, schema: str | None) -> list[str]:
        """See `Session.relations`."""
        with self._connection.cursor() as cursor:
            cursor.execute(_RELATIONS, (schema,))
            return [str(row[0]) for row in cursor.fetchall()]

    def read(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, out: Path
    ) -> Raw:
        """See `Session.read`."""
        writer = TextWriter(out.with_suffix(".parquet"), [column.name for column in columns])
        with self._rows(relation, columns, condition) as rows:
            return writer.write(map(_as_texts, rows.batches(writer.names)))

    def read_columns(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, target: Target
    ) -> Parts | None:
        """See `Session.read_columns`."""
        out = target.out.with_suffix(".parquet")
        with self._rows(relation, columns, condition) as rows:
            count = _copied(rows, columns, target, out)
        if count is None:
            logger.info("%s is read as text: a value does not fit its type", target.label)
            return None
        if count != rows.count:
            raise SourceFailed(
                f"{target.label}: the database sent {rows.count:,} rows, {count:,} were written",
                hint="Nothing was landed. Please report this with the table's column types.",
            )
        return Parts([out], count)

    def _rows(
        self, relation: Relation, columns: Sequence[Column], condition: Condition
    ) -> AbstractContextManager[Rows]:
        """Asks for rows."""
        expressions = ", ".join((c.select or "{}").format(_quoted(c.name)) for c in columns)
        table = ".".join(_quoted(part) for part in (relation.schema, relation.name) if part)
        where, arguments = _where(condition)
        return asked(self._connection, f"select {expressions} from {table}{where}", arguments)


def _close(connection: pymysql.Connection[Any]) -> None:
    import pymysql

    try:
        connection.close()
    except pymysql.Error:
        # Already closed by the server: that was reported where it was met.
        return


def _quoted(name: str) -> str:
    # A per cent sign would be taken for a parameter.
    return "`" + name.replace("`", "``").replace("%", "%%") + "`"


def _copied(rows: Rows, columns: Sequence[Column], target: Target, out: Path) -> int | None:
    """Writes rows in their types while they come in.

    Returns:
        Number of rows written; None if a value does not fit, so that only text would be exact.
    """
    import duckdb
    import pyarrow as pa

    names = [column.name for column in columns]
    batches = pa.RecordBatchReader.from_batches(rows.schema(names), rows.batches(names))
    listed, plain = [], []
    for column, is_bytes in zip(columns, rows.is_bytes, strict=True):
        name = quoted(column.name)
        is_blob = is_bytes and column.type == "blob"
        as_text = f"'\\x' || lower(hex({name})) as {name}"
        listed.append(as_text if is_bytes and not is_blob else name)
        plain.append(replace(column, type="varchar") if is_blob else column)
    source = f"(select {', '.join(listed)} from {_BATCHES})"
    target.connection.register(_BATCHES, batches)
    try:
        return copy_typed(target.connection, source, plain, target.names, out, target.added)
    except duckdb.Error as error:
        out.unlink(missing_ok=True)
        # DuckDB tells what went wrong in `batches` in its own words.
        if rows.failure is not None:
            raise rows.failure from None
        if not does_not_fit(error):
            raise
        return None
    finally:
        target.connection.unregister(_BATCHES)


def _as_texts(batch: pa.RecordBatch) -> list[pa.Array]:
    """Columns of text; bytes are spelled out as PostgreSQL does."""
    import pyarrow as pa

    return [
        pa.array([None if v is None else "\\x" + v.hex() for v in column.to_pylist()])
        if pa.types.is_large_binary(column.type)
        else column
        for column in batch.columns
    ]


def typed_column(
    name: str, kind: str, full: str, precision: str | None = None, scale: str | None = None
) -> Column:
    """A column with the type that its values get.

    Args:
        name: Its name.
        kind: Its type as information_schema calls it, such as `int`.
        full: The same in full, such as `int(10) unsigned`.
        precision: A DECIMAL's digits.
        scale: Of these, digits behind the point.
    """
    kind, full = kind.lower(), full.lower()
    if kind in _INTEGERS:
        return Column(name, _INTEGERS[kind]["unsigned" in full], native=full)
    if kind == "decimal":
        digits, decimals = int(precision or 0), int(scale or 0)
        if digits > 38:
            return Column(name, native=full)
        return Column(name, f"decimal({digits}, {decimals})", decimal_text(decimals), native=full)
    if kind == "float":
        # The server shows a FLOAT with six digits only; as a double it shows all of them.
        return Column(name, "float", select="({} * 1e0)", native=full)
    if kind == "bit":
        return Column(name, "decimal(20, 0)", select="({} + 0)", native=full)
    if kind in _SIMPLE:
        kind_, pattern = _SIMPLE[kind]
        return Column(name, kind_, pattern, native=full)
    if kind.startswith("multi") or kind.endswith(_BINARY):
        return Column(name, "blob", HEX_TEXT, native=full)
    return Column(name, native=full)


def _where(condition: Condition) -> tuple[str, list[Any]]:
    if condition is None:
        return "", []
    if isinstance(condition, KeyIn):
        names = ", ".join(_quoted(column.name) for column in condition.columns)
        places = ", ".join(
            ["(" + ", ".join(["%s"] * len(condition.columns)) + ")"] * len(condition.keys)
        )
        values = [
            _key_part(column, value)
            for key in condition.keys
            for column, value in zip(condition.columns, key, strict=True)
        ]
        return f" where ({names}) in ({places})", values
    name = _quoted(condition.column.name)
    given, bound = [_parameter(condition.value)], f"{name} >= %s"
    if condition.until is not None:
        bound += f" and {name} < %s"
        given.append(_parameter(condition.until))
    nulls = f" or {name} is null" if condition.nulls else ""
    return f" where ({bound}{nulls})", given


def _key_part(column: Column, value: str | None) -> Any:
    """A part of a key; a number as such, because compared with a text it would become a double."""
    exact = column.type.endswith("int") or column.type.startswith(("integer", "decimal"))
    return Decimal(value) if exact and value is not None else value


def _parameter(value: Any) -> str:
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC) if value.tzinfo else value
        return in_utc.strftime("%Y-%m-%d %H:%M:%S.%f")
    return value.isoformat() if isinstance(value, date) else str(value)
