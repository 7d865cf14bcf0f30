"""Reads the tables of a database: PostgreSQL, MySQL or MariaDB, SQLite, from one declaration.

declaration -> one consistent view -> rows in their types, read by DuckDB ─┬─> spool -> delta
                                   -> rows as the database's own text ────┘

All tables of a source are read as of one moment where the system offers that. With a `cursor`, only
rows at or after the highest landed value minus `window` are read, and rows whose cursor is NULL;
with `deletes: sweep` all keys as well, so that rows which went, came back or came late are found.
Types are proved, not assumed: a column whose values do not all fit its type stays text. What is
read for the first time lands as it was written, without being compared or copied.

Left out: other systems (`kind: python` with dlt's own `sql_database`), change streams.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.connections import Connection, resolve
from ingestion.databases.base import (
    Column,
    Condition,
    Database,
    Fault,
    KeyIn,
    MissingRelation,
    Relation,
    Session,
    Since,
    Target,
)
from ingestion.databases.texts import typed
from ingestion.declarations import DatabaseTable, SourceDeclaration, TableDeclaration
from ingestion.delta import DELETED, Delta, Spool
from ingestion.errors import (
    DeclarationError,
    DeclarationFault,
    IngestionError,
    SourceFailed,
    SourceUnreachable,
)
from ingestion.landing import column_mapping
from ingestion.periods import Period, midnight
from ingestion.progress import counted, span

if TYPE_CHECKING:
    import duckdb

    from ingestion.schema.watching import SchemaWatch

logger = logging.getLogger(__name__)

# More rows than this are cheaper to read with the whole table than by their keys.
_KEYS_AT_ONCE = 500
_MOST_KEYS = 20_000
_TIMES = ("date", "timestamp", "timestamp with time zone", "varchar")


@dataclass(frozen=True)
class Reading:
    """What reading a table brought.

    Attributes:
        spool: The rows, ready to be compared with landing.
        statement: What was read, in words.
        note: Where a period was asked for, what could not be kept to it; empty if all was.
        is_skipped: Whether nothing was read, because it came with an earlier period.
        is_whole: Whether all rows of the table were read.
    """

    spool: Spool
    statement: str
    note: str = ""
    is_skipped: bool = False
    is_whole: bool = False


def skipped(note: str) -> Reading:
    """The reading of a table that came whole with the first period."""
    return Reading(Spool([]), "read with the first period", note, is_skipped=True)


@dataclass(frozen=True)
class Keys:
    """All keys that a table of the source has now.

    Attributes:
        file: Parquet file with one column per key column, and the cursor.
        key: Normalised columns that identify a row; empty if there is no key.
        cursor: Normalised column that orders the versions of a key, if declared.
        rows: Number of rows.
    """

    file: Path
    key: tuple[str, ...]
    cursor: str | None
    rows: int


# Returns the files that are about to land; None if the table failed.
OnTable = Callable[[TableDeclaration, Callable[[Delta, Path], Reading]], Sequence[Path] | None]
OnKeys = Callable[[TableDeclaration, Callable[["duckdb.DuckDBPyConnection", Path], Keys]], None]


def open_database(connection: Connection, declaration: SourceDeclaration) -> Database:
    """The database system that the connection's URL names.

    Raises:
        DeclarationError: The URL names a system that this kind does not read.
    """
    scheme = connection.url.partition("://")[0].partition("+")[0].lower()
    if scheme in ("postgresql", "postgres"):
        from ingestion.databases.postgres import Postgres

        return Postgres(connection)
    if scheme in ("mysql", "mariadb"):
        from ingestion.databases.mysql import MySQL

        return MySQL(connection)
    if scheme == "sqlite":
        from ingestion.databases.sqlite import SQLite

        return SQLite(connection)
    raise DeclarationError(
        [
            DeclarationFault(
                declaration.file,
                declaration.name,
                None,
                "ingest.connection",
                f"connections.{connection.name}.url of the scheme {scheme!r}",
                "postgresql://, mysql://, mariadb:// or sqlite:///",
            )
        ],
        hint="Any other database: kind: python, with a function that returns dlt's sql_database.",
    )


def probe_database(declaration: SourceDeclaration) -> None:
    """Logs in to a source's database, and out again.

    Raises:
        ConnectionMissing: The connection is not configured.
        SourceUnreachable: It does not answer or refuses the login.
    """
    database = open_database(resolve(declaration.connection or ""), declaration)
    with explained(database, declaration, None), database.consistent_view(), database.session():
        pass


def read_tables(
    declaration: SourceDeclaration,
    full_refresh: bool,
    on_table: OnTable,
    period: Period | None = None,
    watch: SchemaWatch | None = None,
) -> None:
    """Reads every table of a source inside one consistent view.

    Args:
        declaration: The source.
        full_refresh: Whether cursors are ignored and every row is read.
        on_table: Called once a table, from several threads, with a function that reads it; it must
            call that function and deals with its errors itself.
        period: Read the rows whose cursor lies in it, whatever has landed.
        watch: Is told what the catalog says of each table.

    Raises:
        ConnectionMissing: The connection is not configured.
        SourceUnreachable: The database does not answer or refuses the login.
        DeclarationError: The connection names no supported system.
    """

    def read(session: Session, table: TableDeclaration, delta: Delta, folder: Path) -> Reading:
        relation = _relation(session, table, watch)
        where = (session, declaration, table, relation, delta, folder)
        if period is not None:
            return _read_period(*where, period)
        return _read_table(*where, full_refresh)

    _each_table(declaration, read, on_table)


def _relation(session: Session, table: TableDeclaration, watch: SchemaWatch | None) -> Relation:
    """A table as the database describes it, whatever is declared of it."""
    ingest = table.database
    try:
        relation = session.describe(ingest.schema_name, ingest.origin or table.name)
    except MissingRelation as missing:
        if watch is not None:
            watch.missed(session, table, missing)
        raise
    if watch is not None:
        watch.saw(session, table, relation)
    return relation


def read_keys(declaration: SourceDeclaration, on_keys: OnKeys) -> None:
    """Reads key and cursor of every row of every table, inside one consistent view.

    Args:
        declaration: The source.
        on_keys: As `on_table` of `read_tables`; the function that it gets takes a DuckDB
            connection in UTC and a folder for the file.

    Raises:
        ConnectionMissing: The connection is not configured.
        SourceUnreachable: The database does not answer or refuses the login.
        DeclarationError: The connection names no supported system.
    """

    def read(
        session: Session,
        table: TableDeclaration,
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
    ) -> Keys:
        return _read_keys(session, declaration, table, connection, folder)

    _each_table(declaration, read, on_keys)


def _each_table(
    declaration: SourceDeclaration,
    read: Callable[..., Any],
    on_table: Callable[[TableDeclaration, Callable[..., Any]], object],
) -> None:
    """Hands on a function for each table that reads it within the source's one view."""
    assert declaration.connection is not None
    connection = resolve(declaration.connection)
    database = open_database(connection, declaration)

    def work(table: TableDeclaration) -> None:
        def bound(*arguments: Any) -> Any:
            with explained(database, declaration, table), database.session() as session:
                return read(session, table, *arguments)

        on_table(table, bound)

    with (
        explained(database, declaration, None),
        database.consistent_view(),
        # The view tells how many sessions it allows, so it is opened first.
        ThreadPoolExecutor(database.sessions, f"read-{declaration.name}") as pool,
    ):
        for _ in pool.map(work, declaration.tables):
            pass


@contextmanager
def explained(
    database: Database, declaration: SourceDeclaration, table: TableDeclaration | None
) -> Iterator[None]:
    """Turns a driver's exceptions into errors for people."""
    name = table.name if table else None
    try:
        yield
    except IngestionError:
        raise
    except MissingRelation as missing:
        raise _missing_relation(declaration, name, missing) from None
    except Exception as error:
        fault = database.explain(error)
        if fault is None:
            raise
        raise _error(fault, declaration.name, name, database.connection) from error


def _error(fault: Fault, source: str, table: str | None, connection: Connection) -> IngestionError:
    where: dict[str, Any] = {"source": source, "table": table, "hint": fault.hint}
    if fault.kind == "unreachable":
        told = f"{connection.safe_url}: {fault.message}"
        return SourceUnreachable(told, may_pass=fault.may_pass, **where)
    if fault.kind == "lost":
        told = f"the connection broke while reading: {fault.message}"
        return SourceFailed(told, may_pass=True, **where)
    return SourceFailed(fault.message, **where)


def _missing_relation(
    declaration: SourceDeclaration, table: str | None, missing: MissingRelation
) -> DeclarationError:
    near = difflib.get_close_matches(missing.label.rpartition(".")[2], missing.known, n=1)
    known = ", ".join(missing.known[:20]) or "no table at all"
    expected = f"{near[0]} (the database has {known})" if near else f"one of: {known}"
    fault = DeclarationFault(
        declaration.file, declaration.name, table, "ingest.from", missing.label, expected
    )
    return DeclarationError(
        [fault],
        hint="Correct the table's name, `from` or `schema`; or grant the user the right to see it.",
    )


def _read_table(
    session: Session,
    declaration: SourceDeclaration,
    table: TableDeclaration,
    relation: Relation,
    delta: Delta,
    folder: Path,
    full_refresh: bool,
) -> Reading:
    ingest = table.database
    check = _Names(declaration, table, relation)
    columns = check.chosen(ingest)
    names = column_mapping(
        [column.name for column in columns], source=declaration.name, table=table.name
    )
    key = check.key(ingest, columns)
    if ingest.deletes == "sweep" and not key:
        raise check.fault(
            "primary_key", "none", "the columns that identify a row: a sweep needs them"
        )
    since = _since(check, ingest, columns, names, delta, full_refresh)
    reader = _Reader(session, relation, names, delta.connection, folder, is_first=delta.is_first)
    spool = Spool(
        files=reader.read_parts(columns, since, "rows", key),
        key=[names[column.name] for column in key],
        cursor=names[ingest.cursor] if ingest.cursor else None,
        sweep=ingest.deletes == "sweep",
        is_ready=delta.is_first,
    )
    statement = f"read {counted(reader.rows, 'row')} of {relation.label}{_span(since, ingest)}"
    if spool.sweep and since is not None:
        spool, more = _swept(reader, spool, columns, key, delta)
        statement += more
    logger.info("%s: %s", declaration.name, statement)
    return Reading(spool, statement, is_whole=since is None)


def read_whole(
    session: Session,
    declaration: SourceDeclaration,
    table: TableDeclaration,
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    left_out: Collection[str] = (),
) -> Spool:
    """Reads every row of a table, ready for a comparison that finds the keys that have gone.

    Args:
        session: A session inside the view to read.
        declaration: The source.
        table: The table.
        connection: DuckDB in memory, in UTC.
        folder: For the file of rows.
        left_out: Columns that are not read although they are declared.
    """
    ingest = table.database
    relation = session.describe(ingest.schema_name, ingest.origin or table.name)
    check = _Names(declaration, table, relation)
    columns = [column for column in check.chosen(ingest) if column.name not in left_out]
    names = column_mapping([c.name for c in columns], source=declaration.name, table=table.name)
    key = check.key(ingest, columns)
    reader = _Reader(session, relation, names, connection, folder)
    files = reader.read_parts(columns, None, "rows", key)
    return Spool(files, [names[column.name] for column in key], sweep=True)


def _read_period(
    session: Session,
    declaration: SourceDeclaration,
    table: TableDeclaration,
    relation: Relation,
    delta: Delta,
    folder: Path,
    period: Period,
) -> Reading:
    """Reads the rows of a period; a table that has no dates whole, with the first period."""
    ingest = table.database
    check = _Names(declaration, table, relation)
    columns = check.chosen(ingest)
    cursor = check.column("cursor", ingest.cursor, columns) if ingest.cursor else None
    names = column_mapping([c.name for c in columns], source=declaration.name, table=table.name)
    bounds = _bounds(cursor, names, table, delta, period)
    if bounds is None or cursor is None:
        why = f"its cursor {cursor.name} is no date" if cursor else "it has no cursor"
        if not period.is_first:
            return skipped(f"read whole: {why}")
        reading = _read_table(session, declaration, table, relation, delta, folder, True)
        return replace(reading, note=f"read whole: {why}")
    since = Since(cursor, *bounds, nulls=period.is_first)
    reader = _Reader(session, relation, names, delta.connection, folder)
    files = [reader.read(columns, since, "rows")]
    key = [names[column.name] for column in check.key(ingest, columns)]
    # A row that landed with a cursor of this period may have moved on, so what is not among these
    # rows need not be gone: only a reading of all keys can tell.
    note = "gone keys are told by the next run's sweep" if ingest.deletes == "sweep" else ""
    read = f"read {counted(reader.rows, 'row')} of {relation.label} of {period}"
    return Reading(Spool(files, key, names[cursor.name]), read, note)


def _bounds(
    cursor: Column | None,
    names: Mapping[str, str],
    table: TableDeclaration,
    delta: Delta,
    period: Period,
) -> tuple[Any, Any] | None:
    """Both ends of a period as values of the cursor; None if it holds no dates."""
    if cursor is None or cursor.type not in _TIMES:
        return None
    if cursor.type == "date":
        return period.start, period.end
    ends = midnight(period.start), midnight(period.end)
    if cursor.type == "timestamp":
        return ends[0].replace(tzinfo=None), ends[1].replace(tzinfo=None)
    if cursor.type != "varchar":
        return ends
    declared = {column.name: column.data_type or "" for column in table.columns}
    is_time = declared.get(cursor.name, "").lower().startswith(("date", "timestamp"))
    if not is_time and not isinstance(delta.high_water(names[cursor.name]), date):
        return None
    # As texts: "2026-01-31 23:59" and "2026-01-31T23:59" both lie before "2026-02-01".
    return str(period.start), str(period.end)


def _read_keys(
    session: Session,
    declaration: SourceDeclaration,
    table: TableDeclaration,
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
) -> Keys:
    ingest = table.database
    relation = session.describe(ingest.schema_name, ingest.origin or table.name)
    check = _Names(declaration, table, relation)
    columns = check.chosen(ingest)
    names = column_mapping(
        [column.name for column in columns], source=declaration.name, table=table.name
    )
    key = check.key(ingest, columns)
    cursor = check.column("cursor", ingest.cursor, columns) if ingest.cursor else None
    wanted = list(dict.fromkeys([*key, *([cursor] if cursor else [])])) or columns[:1]
    reader = _Reader(session, relation, names, connection, folder)
    file = reader.read(wanted, None, "keys")
    keys = tuple(names[column.name] for column in key)
    return Keys(file, keys, names[cursor.name] if cursor else None, reader.rows)


def _swept(
    reader: _Reader, spool: Spool, columns: Sequence[Column], key: Sequence[Column], delta: Delta
) -> tuple[Spool, str]:
    """Adds all keys of the source, and the rows whose keys landing does not have."""
    before = reader.rows
    swept = replace(spool, keys=reader.read(key, None, "keys"))
    statement = f" and all {counted(reader.rows - before, 'key')}"
    missing = delta.missing_keys(swept)
    if missing.num_rows == 0:
        return swept, statement
    if missing.num_rows > _MOST_KEYS:
        whole = reader.read(columns, None, "whole")
        return replace(spool, files=[whole]), f"{statement}, then all rows"
    keys = list(zip(*(_texts(column.to_pylist()) for column in missing.columns), strict=True))
    files, before = list(spool.files), reader.rows
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        condition = KeyIn(key, keys[start : start + _KEYS_AT_ONCE])
        files.append(reader.read(columns, condition, f"rows_by_key_{start:08d}"))
    if reader.rows - before < len(keys):
        # A key that is not found by its text, such as a time that SQLite stores in another form.
        whole = reader.read(columns, None, "whole")
        return replace(spool, files=[whole]), f"{statement}, then all rows"
    return replace(swept, files=files), f"{statement}, {counted(len(keys), 'row')} by their key"


def _texts(values: Sequence[Any]) -> list[str | None]:
    return [
        None
        if value is None
        else value.isoformat(" ")
        if isinstance(value, datetime)
        else "\\x" + value.hex()
        if isinstance(value, bytes)
        else str(value)
        for value in values
    ]


def _since(
    check: _Names,
    ingest: DatabaseTable,
    columns: Sequence[Column],
    names: Mapping[str, str],
    delta: Delta,
    full_refresh: bool,
) -> Since | None:
    """Where to read on; None to read everything."""
    if ingest.cursor is None:
        return None
    column = check.column("cursor", ingest.cursor, columns)
    if ingest.window and column.type not in _TIMES:
        raise check.fault(
            "window", span(ingest.window), f"no window: {column.name} ({column.native}) is no time"
        )
    value = None if full_refresh else delta.high_water(names[column.name])
    if value is None:
        return None
    if ingest.window and isinstance(value, date):
        value = value - ingest.window
    if isinstance(value, datetime) and column.type == "varchar":
        # As a text it is compared as a text: "T" between date and time is not " ".
        form = "T" if "T" in delta.highest_text(names[column.name]) else " "
        value = value.replace(tzinfo=None).isoformat(form)
    return Since(column, value)


def _span(since: Since | None, ingest: DatabaseTable) -> str:
    if since is None:
        return ""
    window = f" (window {span(ingest.window)})" if ingest.window else ""
    return f" with {since.column.name} from {since.value}{window} on"


class _Names:
    """Looks declared columns up in the database's own, and says what is wrong with them."""

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, relation: Relation
    ) -> None:
        self._declaration = declaration
        self._table = table
        self._relation = relation

    def fault(self, key: str, found: str, expected: str) -> DeclarationError:
        """The error for one wrong key of the table."""
        place = (self._declaration.file, self._declaration.name, self._table.name)
        return DeclarationError([DeclarationFault(*place, f"ingest.{key}", found, expected)])

    def column(self, key: str, name: str, among: Sequence[Column] | None = None) -> Column:
        """A column by its name in the database."""
        columns = self._relation.columns if among is None else among
        for column in columns:
            if column.name == name:
                return column
        known = [column.name for column in columns]
        near = difflib.get_close_matches(name, known, n=1)
        listed = f"a column of {self._relation.label}: {', '.join(known)}"
        raise self.fault(key, name, f"{near[0]} ({listed})" if near else listed)

    def key(self, ingest: DatabaseTable, columns: Sequence[Column]) -> list[Column]:
        """The columns that identify a row: declared ones, else those of the catalog's key."""
        if ingest.primary_key:
            return [self.column("primary_key", name, columns) for name in ingest.primary_key]
        found = [column for column in columns if column.name in self._relation.primary_key]
        return found if len(found) == len(self._relation.primary_key) else []

    def chosen(self, ingest: DatabaseTable) -> list[Column]:
        """The columns to read, in the database's order."""
        wanted = {self.column("columns", name).name for name in ingest.columns}
        unwanted = {self.column("exclude_columns", name).name for name in ingest.exclude_columns}
        chosen = [
            column
            for column in self._relation.columns
            if (not wanted or column.name in wanted) and column.name not in unwanted
        ]
        if not chosen:
            raise self.fault("exclude_columns", "every column", "at least one column to read")
        return chosen


class _Reader:
    """Reads parts of one table into typed Parquet files.

    Args:
        session: A session inside the view to read.
        relation: The table.
        names: Normalised name of a column by the database's.
        connection: DuckDB in memory, in UTC.
        folder: For the files.
        is_first: Whether nothing has landed yet, so that the files are landed as they are.

    Attributes:
        rows: Rows read so far, of all parts.
    """

    def __init__(
        self,
        session: Session,
        relation: Relation,
        names: Mapping[str, str],
        connection: duckdb.DuckDBPyConnection,
        folder: Path,
        *,
        is_first: bool = False,
    ) -> None:
        self._session = session
        self._relation = relation
        self._names = names
        self._connection = connection
        self._folder = folder
        self._added = (f"false as {DELETED}",) if is_first else ()
        self.rows = 0

    def read_parts(
        self, columns: Sequence[Column], condition: Condition, part: str, key: Sequence[Column]
    ) -> list[Path]:
        """Reads rows into one or more files, read side by side."""
        # Where a key may show several versions, the order of the rows tells the last one.
        unique = {*self._relation.primary_key} <= {column.name for column in key}
        may_split = not key or (unique and bool(self._relation.primary_key))
        return self._read(columns, condition, part, may_split)

    def read(self, columns: Sequence[Column], condition: Condition, part: str) -> Path:
        """Reads rows into one file."""
        (file,) = self._read(columns, condition, part, may_split=False)
        return file

    def _read(
        self, columns: Sequence[Column], condition: Condition, part: str, may_split: bool
    ) -> list[Path]:
        label = self._relation.label
        target = Target(
            self._connection, self._names, self._folder / part, label, self._added, may_split
        )
        parts = self._session.read_columns(self._relation, columns, condition, target)
        if parts is not None:
            self.rows += parts.rows
            return parts.files
        raw = self._session.read(self._relation, columns, condition, self._folder / f"{part}-text")
        out = self._folder / f"{part}.parquet"
        count = typed(self._connection, raw, columns, self._names, out, self._added)
        raw.path.unlink()
        if count != raw.rows:
            raise SourceFailed(
                f"{label}: the database sent {raw.rows:,} rows, {count:,} were read",
                hint="Nothing was landed. Please report this with the table's column types.",
            )
        self.rows += raw.rows
        return [out]
