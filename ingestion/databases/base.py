"""What a database system has to offer so that `ingestion.database` can read it.

`Database.session` -> `Session.describe(table)` -> `Session.read_columns` -> typed Parquet files
                                                -> `Session.read` -> text file, typed afterwards

A system may offer a columnar road, where DuckDB reads the values in their own types; it is taken if
it is exact for all columns of a table and all their values. On the other road, which every system
has, a value leaves the database as the text that the database itself writes, and gets its type
only afterwards (`ingestion.databases.texts.typed`). So no driver rounds, shifts or drops anything,
and a value that its declared type cannot hold (NaN in a decimal, 0000-00-00, text in an SQLite
INTEGER) is seen and keeps the column as text instead of being lost. Both roads land the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion.connections import Connection
from ingestion.progress import interruption

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH = 20_480
CONNECT_SECONDS = 10

# What a text must look like so that casting it loses nothing.
DATE_TEXT = r"\d{4}-\d\d-\d\d"
TIMESTAMP_TEXT = DATE_TEXT + r"[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?"
TIMESTAMPTZ_TEXT = TIMESTAMP_TEXT + r"(Z|[+-]\d\d(:?\d\d)?)?"
TIME_TEXT = r"([01]\d|2[0-3]):\d\d(:\d\d(\.\d{1,6})?)?"
INTEGER_TEXT = r"-?\d{1,19}"
HEX_TEXT = r"\\x([0-9a-fA-F]{2})*"


def decimal_text(scale: int) -> str:
    """Pattern of a plain number with no more than `scale` significant decimals."""
    return rf"-?\d+(\.\d{{0,{scale}}}0*)?"


def pattern_of(kind: str) -> str:
    """Pattern of the texts that fit a DuckDB type as `describe` names it, without loss."""
    if kind.startswith("DECIMAL"):
        return decimal_text(int(kind.rstrip(")").rpartition(",")[2]))
    if kind.endswith(("INT", "INTEGER")):
        return INTEGER_TEXT
    return {
        "DATE": DATE_TEXT,
        "TIMESTAMP": TIMESTAMP_TEXT,
        "TIMESTAMP WITH TIME ZONE": TIMESTAMPTZ_TEXT,
        "TIME": TIME_TEXT,
    }.get(kind, ".*")


@dataclass(frozen=True)
class Column:
    """A column of a table in the database.

    Attributes:
        name: Its name in the database.
        type: The DuckDB type that it gets if every value fits.
        pattern: What a text has to match to fit, if casting alone does not tell.
        select: Expression that reads it as text; the bare column if None.
        native: The database's own name of the type, for comparisons and messages.
        values: The values that its type allows, in words; empty if it does not list them.
        nullable: Whether the database allows NULL; None if it does not say.
        default: What the database fills in; None if it does not say or there is nothing.
    """

    name: str
    type: str = "varchar"
    pattern: str | None = None
    select: str | None = None
    native: str = ""
    values: str = ""
    nullable: bool | None = None
    default: str | None = None


@dataclass(frozen=True)
class Relation:
    """A table or view of the database.

    Attributes:
        schema: Its schema, if the system has schemas.
        name: Its name.
        columns: Its columns in their order.
        primary_key: Columns of its primary key by the catalog; empty if it has none.
    """

    schema: str | None
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`schema.name`, for messages."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True)
class Since:
    """Condition: the cursor is at or after a value, or NULL.

    Attributes:
        column: The cursor's column.
        value: A datetime, date, Decimal or text.
        until: A value before which it is as well; None for no end.
        nulls: Whether rows without a cursor are read.
    """

    column: Column
    value: Any
    until: Any = None
    nulls: bool = True


@dataclass(frozen=True)
class KeyIn:
    """Condition: the row's key is one of these.

    Attributes:
        columns: The key's columns.
        keys: Tuples of texts, one value per column.
    """

    columns: Sequence[Column]
    keys: Sequence[tuple[str | None, ...]]


Condition = Since | KeyIn | None


@dataclass
class Raw:
    """Rows as text, on disk, before they get their types.

    Attributes:
        path: The file.
        format: `csv` without header and with one constant column at the end, or `parquet`.
        names: The columns in their order.
        rows: Number of rows.
        longest: Length of the longest line in bytes (csv).
    """

    path: Path
    format: Literal["csv", "parquet"]
    names: list[str]
    rows: int
    longest: int = 0


@dataclass(frozen=True)
class Target:
    """Where typed rows go.

    Attributes:
        connection: DuckDB in memory, in UTC.
        names: Normalised name of a column by the database's.
        out: Path of the file without its suffix; a reading of several files adds a number.
        label: The table, for messages.
        added: Expressions of further columns.
        may_split: Whether the rows may go to several files, read side by side.
    """

    connection: duckdb.DuckDBPyConnection
    names: Mapping[str, str]
    out: Path
    label: str
    added: Sequence[str] = ()
    may_split: bool = False


@dataclass(frozen=True)
class Parts:
    """Typed rows on disk.

    Attributes:
        files: Parquet files with normalised names, in order; at least one.
        rows: Number of rows.
    """

    files: list[Path]
    rows: int


@dataclass(frozen=True)
class Fault:
    """What a driver's exception means.

    Attributes:
        kind: `unreachable` (no answer, login or database refused), `missing` (no such table),
            `lost` (the connection broke), `failed` (anything else).
        message: What was wrong, for people.
        hint: What to do next.
        may_pass: Whether it may be well a little later: a server that does not answer, not a login
            that is refused.
    """

    kind: Literal["unreachable", "missing", "lost", "failed"]
    message: str
    hint: str = ""
    may_pass: bool = False


class MissingRelation(Exception):
    """The database has no such table or view.

    Args:
        label: The name looked for.
        known: Names that the database has there.
    """

    def __init__(self, label: str, known: Sequence[str]) -> None:
        self.label = label
        self.known = list(known)
        super().__init__(label)


class Session(ABC):
    """A connection inside the source's one consistent view of the database."""

    @abstractmethod
    def describe(self, schema: str | None, name: str) -> Relation:
        """Columns and primary key of a table or view.

        Raises:
            MissingRelation: There is no such table.
        """

    @abstractmethod
    def relations(self, schema: str | None) -> list[str]:
        """Names of the tables and views that can be read there."""

    @abstractmethod
    def read(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, out: Path
    ) -> Raw:
        """Streams rows into a file below `out`'s folder; memory does not grow with the table.

        Args:
            relation: What to read.
            columns: Which columns.
            condition: Which rows; None for all.
            out: Path of the file without its suffix.
        """

    def read_columns(
        self, relation: Relation, columns: Sequence[Column], condition: Condition, target: Target
    ) -> Parts | None:
        """Reads rows straight into typed Parquet files, exactly.

        Args:
            relation: What to read.
            columns: Which columns.
            condition: Which rows; None for all.
            target: Where the rows go.

        Returns:
            The files; None if the system has no such road, or it is not exact for these rows.
        """
        return None


class Database(ABC):
    """A database system behind a connection.

    Args:
        connection: Where it is.
    """

    # How many tables can be read at the same time within one consistent view.
    sessions = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @abstractmethod
    def consistent_view(self) -> AbstractContextManager[None]:
        """Connects and fixes the moment that all sessions show, where the system can."""

    @abstractmethod
    def session(self) -> AbstractContextManager[Session]:
        """A session inside the view; at most `sessions` at the same time."""

    @abstractmethod
    def explain(self, error: BaseException) -> Fault | None:
        """What one of the driver's exceptions means; None if it is not the driver's."""


@dataclass
class TextWriter:
    """Writes rows to Parquet, every value as text.

    Attributes:
        path: The file to write.
        names: The columns.
    """

    path: Path
    names: list[str]
    rows: int = field(default=0, init=False)

    def write(self, batches: Iterable[Sequence[pa.Array]]) -> Raw:
        """Writes batches of rows, which are arrays of texts, one a column.

        Returns:
            The file; it exists even if there were no rows.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        # No value is too long for these, a row of a gigabyte included.
        schema = pa.schema([(name, pa.large_string()) for name in self.names])
        with pq.ParquetWriter(self.path, schema, compression="lz4") as writer:
            for arrays in batches:
                arrays = [array.cast(pa.large_string()) for array in arrays]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                self.rows += len(arrays[0])
        return Raw(self.path, "parquet", self.names, self.rows)


def batches(fetch: Callable[[int], Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """Batches of rows from a cursor's `fetchmany`, until there are no more."""
    while rows := fetch(BATCH):
        interruption.check()
        yield rows
