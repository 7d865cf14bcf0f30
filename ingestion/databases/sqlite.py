"""SQLite: one read transaction on a file.

pragma table_xinfo -> columns, primary key; select ... -> text made from the stored values

SQLite stores any value in any column, whatever its declared type, so a declared type is a wish: a
column keeps it only if every value fits. The file is opened read-only and never made.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from ingestion.connections import Connection
from ingestion.databases.base import (
    DATE_TEXT,
    HEX_TEXT,
    INTEGER_TEXT,
    TIME_TEXT,
    TIMESTAMP_TEXT,
    Column,
    Condition,
    Database,
    Fault,
    KeyIn,
    MissingRelation,
    Raw,
    Relation,
    Session,
    TextWriter,
    batches,
    decimal_text,
)

if TYPE_CHECKING:
    import pyarrow as pa

_PRECISION = re.compile(r"\((\d+)\s*(?:,\s*(\d+)\s*)?\)")
# 17 digits always tell one double from another; whole numbers over 2^53 are none.
_DOUBLE_TEXT = r"-?\d{1,15}|-?\d+\.\d+|-?\d(\.\d+)?e[+-]?\d+|-?inf|nan"


class _NoFile(Exception):
    """The connection names a file that is not there."""


class SQLite(Database):
    """An SQLite file."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._only: sqlite3.Connection | None = None

    @property
    def path(self) -> Path:
        """The file: `sqlite:///relative.db`, `sqlite:////absolute.db`."""
        rest = self.connection.url.partition("://")[2].partition("?")[0]
        return Path(unquote(rest.removeprefix("/"))).expanduser()

    @contextmanager
    def consistent_view(self) -> Iterator[None]:
        """Opens the file and one read transaction."""
        if not self.path.is_file():
            raise _NoFile(f"there is no file {self.path.absolute()}")
        address = f"file:{quote(str(self.path.absolute()))}?mode=ro"
        self._only = sqlite3.connect(
            address, uri=True, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            self._only.text_factory = _decoded
            self._only.execute("begin")
            # The transaction begins with the first read, not with `begin`.
            self._only.execute("select count(*) from sqlite_master").fetchone()
            yield
        finally:
            self._only.close()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The one connection."""
        assert self._only is not None
        yield SQLiteSession(self._only)

    def explain(self, error: BaseException) -> Fault | None:
        """See `Database.explain`."""
        name = self.connection.name
        if isinstance(error, _NoFile):
            hint = f"Check the path in connections.{name}.url (sqlite:///relative or sqlite:////absolute)."
            return Fault("unreachable", str(error), hint)
        if not isinstance(error, sqlite3.Error):
            return None
        text = str(error)
        if "not a database" in text or "unable to open" in text:
            return Fault(
                "unreachable",
                f"{self.path}: {text}",
                f"Check that connections.{name}.url names an SQLite file that can be read.",
            )
        if "locked" in text or "busy" in text:
            return Fault(
                "lost", f"{self.path}: {text}", "Another program is writing it; run again."
            )
        return Fault("failed", f"{self.path}: {text}")


class SQLiteSession(Session):
    """One connection.

    Args:
        connection: In a transaction already.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def ask(self, statement: str, arguments: Any = ()) -> list[tuple[Any, ...]]:
        """Rows that a statement gives inside the view."""
        return self._connection.execute(statement, arguments).fetchall()

    def describe(self, schema: str | None, name: str) -> Relation:
        """See `Session.describe`; the schema is an attached database's name, `main` by default."""
        place = _quoted(schema or "main")
        rows = self._connection.execute(f"pragma {place}.table_xinfo({_quoted(name)})").fetchall()
        if not rows:
            raise MissingRelation(name, self.relations(schema))
        # Hidden columns of a virtual table (1) are no part of the table; generated ones (2, 3) are.
        visible = [row for row in rows if row[6] != 1]
        key = sorted((row for row in visible if row[5]), key=lambda row: row[5])
        return Relation(
            schema,
            name,
            tuple(
                replace(
                    _column(str(row[1]), str(row[2] or "")), nullable=not row[3], default=row[4]
                )
                for row in visible
            ),
            tuple(str(row[1]) for row in key),
        )

    def relations(self, schema: str | None) -> list[str]:
        """See `Session.relations`."""
        found = self._connection.execute(
            f"select name from {_quoted(schema or 'main')}.sqlite_master "
            "where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\' order by 1"
        ).fetchall()
        return [str(row[0]) for row in found]

    def read(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, out: Path
    ) -> Raw:
        """See `Session.read`."""
        names = ", ".join(_quoted(column.name) for column in columns)
        table = f"{_quoted(relation.schema or 'main')}.{_quoted(relation.name)}"
        where, arguments = _where(condition)
        statement = f"select {names} from {table}{where}"

        def written() -> Raw:
            writer = TextWriter(out.with_suffix(".parquet"), [column.name for column in columns])
            cursor = self._connection.execute(statement, arguments)
            return writer.write(_arrays(rows) for rows in batches(cursor.fetchmany))

        # A function of ours for each text takes half as long again, and few files have use for it.
        self._connection.text_factory = str
        try:
            return written()
        except sqlite3.OperationalError as error:
            if "Could not decode" not in str(error):
                raise
        finally:
            self._connection.text_factory = _decoded
        return written()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _decoded(value: bytes) -> str:
    """Text as stored; bytes that are no UTF-8 are shown as a blob would be."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return "\\x" + value.hex()


def _arrays(rows: Sequence[Sequence[Any]]) -> list[pa.Array]:
    """Columns of text from rows, at least one; a column of one kind of values is taken whole."""
    import pyarrow as pa

    kind, arrays = pa.large_string(), []
    for values in zip(*rows, strict=True):
        kinds = {*map(type, values)} - {type(None)}
        if kinds == {str}:
            arrays.append(pa.array(values, kind))
        elif kinds == {int}:
            arrays.append(pa.array(values, pa.int64()).cast(kind))
        else:
            text = repr if kinds <= {int, float} else _text
            texts = [None if value is None else text(value) for value in values]
            arrays.append(pa.array(texts, kind))
    return arrays


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return repr(value) if isinstance(value, float) else str(value)


def _column(name: str, declared: str) -> Column:
    kind = declared.upper()
    precision = _PRECISION.search(kind)
    if "BOOL" in kind:
        return Column(name, "boolean", "[01]|true|false|TRUE|FALSE", native=declared)
    if "INT" in kind and "POINT" not in kind:
        return Column(name, "bigint", INTEGER_TEXT, native=declared)
    if kind.startswith(("DATETIME", "TIMESTAMP")):
        return Column(name, "timestamp", TIMESTAMP_TEXT, native=declared)
    if kind == "DATE":
        return Column(name, "date", DATE_TEXT, native=declared)
    if kind.startswith("TIME"):
        return Column(name, "time", TIME_TEXT, native=declared)
    if kind.startswith(("DEC", "NUM")) and precision:
        digits, scale = int(precision.group(1)), int(precision.group(2) or 0)
        if scale <= digits <= 38:
            return Column(name, f"decimal({digits}, {scale})", decimal_text(scale), native=declared)
    if kind.startswith(("DEC", "NUM")) or any(word in kind for word in ("REAL", "FLOA", "DOUB")):
        return Column(name, "double", _DOUBLE_TEXT, native=declared)
    if "BLOB" in kind:
        return Column(name, "blob", HEX_TEXT, native=declared)
    return Column(name, native=declared)


def _where(condition: Condition) -> tuple[str, list[Any]]:
    if condition is None:
        return "", []
    if isinstance(condition, KeyIn):
        names = ", ".join(_quoted(column.name) for column in condition.columns)
        places = ", ".join(
            ["(" + ", ".join("?" * len(condition.columns)) + ")"] * len(condition.keys)
        )
        values = [
            int(value) if column.type == "bigint" and value is not None else value
            for key in condition.keys
            for column, value in zip(condition.columns, key, strict=True)
        ]
        return f" where ({names}) in (values {places})", values
    name = _quoted(condition.column.name)
    given, until = [_parameter(condition.value)], condition.until
    if until is not None:
        given.append(_parameter(until))
    if isinstance(condition.value, datetime | date):
        # Times are stored in many forms; what SQLite does not take for a time is read every time.
        other = f"julianday({name}) is null or typeof({name}) <> 'text' or "
        bound = f"julianday({name}) >= julianday(?) - 0.00002"
        end = f" and julianday({name}) < julianday(?) + 0.00002" if until is not None else ""
    else:
        other, bound = f"{name} is null or ", f"{name} >= ?"
        end = f" and {name} < ?" if until is not None else ""
    return f" where ({other if condition.nulls else ''}({bound}{end}))", given


def _parameter(value: Any) -> Any:
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC) if value.tzinfo else value
        return in_utc.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
