"""Compares what was loaded with the sources themselves, as they are now.

database -> count and checksum over key and cursor ─┐
files -> size, checksum, lines                      ├─ warehouse, landing -> `Comparison` a table
API, Python source -> the total that it states      ┘

A source goes on changing: what is newer than the last extraction is told as not yet extracted, and
is no fault. Nothing is written. Left out: comparing values beside key and cursor, which the next
extraction does by reading them.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.delta import comparable, literal, quoted
from ingestion.errors import IngestionError, SourceFailed, first_line, our_error
from ingestion.landing import configure, spool_dir
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from ingestion.database import Keys

log = logging.getLogger(__name__)

Verdict = Literal["equal", "not yet extracted", "different", "not compared", "failed"]
SHOWN_KEYS = 10


@dataclass(frozen=True)
class Comparison:
    """What became of comparing one table with its source.

    Attributes:
        source: Name of the source.
        table: Name of the table.
        unit: What is counted: `rows` or `files`.
        here: How many the warehouse has of the source's present ones; None if it is not known.
        there: How many the source has; None if it does not say.
        new: Of the differing ones, those that the last extraction could not yet see.
        wrong: Of the differing ones, the others.
        verdict: What it comes to.
        message: The same in words, and what to do.
        checksums: Checksum over key and cursor, here and there; empty where none is made.
        examples: Some of those that differ: key and how.
        seconds: Time taken.
        error: Why the source could not be asked.
    """

    source: str
    table: str
    unit: str = "rows"
    here: int | None = None
    there: int | None = None
    new: int = 0
    wrong: int = 0
    verdict: Verdict = "not compared"
    message: str = ""
    checksums: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    seconds: float = 0.0
    error: IngestionError | None = None


OnComparison = Callable[[Comparison], None]


def reconcile(
    connection: duckdb.DuckDBPyConnection,
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    on_comparison: OnComparison | None = None,
) -> list[Comparison]:
    """Compares tables with their sources, one source after the other.

    Args:
        connection: The warehouse, in UTC; it is only read.
        declarations: The sources and tables to compare.
        settings: The project's settings.
        on_comparison: Told of each table as soon as it is compared.

    Returns:
        One comparison a table, in the order of the declarations. A source that does not answer is
        told as `failed`, with its error.
    """
    configure(settings)
    compared: list[Comparison] = []
    for declaration in declarations:
        found: dict[str, Comparison] = {}
        try:
            _compare_source(connection, declaration, settings, found)
        except Exception as raised:
            failed = _failed(declaration, raised)
            for table in declaration.tables:
                found.setdefault(table.name, replace(failed, table=table.name))
        for table in declaration.tables:
            compared.append(found[table.name])
            if on_comparison is not None:
                on_comparison(found[table.name])
    return compared


def _compare_source(
    connection: duckdb.DuckDBPyConnection,
    declaration: SourceDeclaration,
    settings: Settings,
    found: dict[str, Comparison],
) -> None:
    """Fills in a comparison for each table."""
    if declaration.kind in ("database", "cdc"):
        _Databases(connection, declaration, settings, found).compare()
        return
    if declaration.kind == "stream":
        told = "a stream has no end to count to; `wellspring status` shows how far its lander is"
        for table in declaration.tables:
            found[table.name] = Comparison(declaration.name, table.name, message=told)
        return
    from ingestion.reconcile_files import compare_files
    from ingestion.reconcile_totals import compare_totals

    compare = compare_files if declaration.kind == "files" else compare_totals
    for table in declaration.tables:
        started = time.monotonic()
        try:
            made = compare(connection, declaration, table, settings)
        except Exception as raised:
            made = replace(_failed(declaration, raised), table=table.name)
        found[table.name] = replace(made, seconds=time.monotonic() - started)


def _failed(declaration: SourceDeclaration, raised: Exception) -> Comparison:
    error = our_error(raised)
    if error is None:
        log.error("source %s", declaration.name, exc_info=raised)
        text = f"{type(raised).__name__}: {first_line(raised)}"
        error = SourceFailed(text, hint="The log holds the details.")
    error.source = error.source or declaration.name
    return Comparison(declaration.name, "", verdict="failed", message=error.message, error=error)


def current_rows(
    connection: duckdb.DuckDBPyConnection,
    declaration: SourceDeclaration,
    table: str,
    key: Sequence[str],
    cursor: str | None = None,
) -> str:
    """Query of the rows that raw holds for current: the latest version of each key, if not deleted.

    Args:
        connection: The warehouse.
        declaration: The source.
        table: Name of its table.
        key: Columns that identify a row; without any, every row counts.
        cursor: Column that orders the versions within a load.

    Returns:
        The query; it yields nothing where the table was never loaded.
    """
    relation = f"{quoted(declaration.schema)}.{quoted(table)}"
    if not raw_types(connection, declaration, table):
        return "select null as nothing where false"
    if not key:
        return f"select * from {relation} where not _deleted"
    listed = ", ".join(quoted(name) for name in key)
    order = f"{quoted(cursor)} desc nulls last, " if cursor else ""
    return (
        f"select * from (select * from {relation} qualify row_number() over (partition by {listed} "
        f"order by _load_id desc, {order}_file desc, _row desc) = 1) where not _deleted"
    )


def raw_types(
    connection: duckdb.DuckDBPyConnection, declaration: SourceDeclaration, table: str
) -> dict[str, str]:
    """Columns of a raw table and their DuckDB types; empty if it was never loaded."""
    found = connection.execute(
        "select column_name, data_type from duckdb_columns() "
        "where schema_name = ? and table_name = ? and database_name = current_database()",
        [declaration.schema, table],
    ).fetchall()
    return dict(found)


def verdict_of(
    compared: Comparison, *, there: str = "the source", unchecked: str = ""
) -> Comparison:
    """A comparison with its verdict and message, by how many differ.

    Args:
        compared: With its figures.
        there: What to call the source.
        unchecked: What to add to a good verdict, where something was not looked at.
    """
    if compared.wrong:
        examples = "; ".join(compared.examples)
        text = f"{_counted(compared.wrong, compared.unit)} not as in {there}: {examples}"
        return replace(compared, verdict="different", message=text)
    if compared.new:
        text = f"{_counted(compared.new, compared.unit)} newer than the last extraction"
        text += f"; {unchecked}" if unchecked else ""
        return replace(compared, verdict="not yet extracted", message=text)
    return replace(compared, verdict="equal", message=unchecked)


def _counted(number: int, unit: str) -> str:
    """`1 row is`, `1,204 rows are`."""
    return f"1 {unit.removesuffix('s')} is" if number == 1 else f"{number:,} {unit} are"


class _Databases:
    """Compares the tables of one database."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        declaration: SourceDeclaration,
        settings: Settings,
        found: dict[str, Comparison],
    ) -> None:
        self._connection = connection
        self._declaration = declaration
        self._folder = spool_dir(settings, declaration.name) / "reconcile"
        self._found = found
        # Sessions of the source are read side by side; DuckDB compares one table at a time.
        self._lock = threading.Lock()

    def compare(self) -> None:
        """Compares every table."""
        from ingestion.database import read_keys

        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            read_keys(self._declaration, self._on_keys)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _on_keys(self, table: TableDeclaration, read: Callable[[Any, Path], Keys]) -> None:
        started = time.monotonic()
        folder = self._folder / table.name
        folder.mkdir()
        try:
            cursor = self._connection.cursor()
            cursor.execute("set TimeZone = 'UTC'")
            keys = read(cursor, folder)
            with self._lock:
                made = self._compared(cursor, table, keys)
        except Exception as raised:
            made = replace(_failed(self._declaration, raised), table=table.name)
        self._found[table.name] = replace(made, seconds=time.monotonic() - started)

    def _compared(
        self, connection: duckdb.DuckDBPyConnection, table: TableDeclaration, keys: Keys
    ) -> Comparison:
        types = raw_types(connection, self._declaration, table.name)
        current = current_rows(connection, self._declaration, table.name, keys.key, keys.cursor)
        (here,) = connection.execute(f"select count(*) from ({current})").fetchall()[0]
        made = Comparison(self._declaration.name, table.name, here=here, there=keys.rows)
        if not keys.key:
            text = "it has no primary key, so only the counts are told; declare `primary_key`"
            return replace(made, message=text)
        if not types:
            return verdict_of(replace(made, new=keys.rows))
        self._make_sides(connection, keys, types, current)
        sums = "select count(*), coalesce(sum(hash(side)), 0)::varchar from {0} as side"
        checks = [connection.execute(sums.format(s)).fetchall()[0] for s in ("here", "there")]
        made = replace(made, checksums=tuple(f"{int(check[1]):x}" for check in checks))
        if checks[0] == checks[1]:
            return verdict_of(made)
        return self._differences(connection, table, keys, made)

    def _make_sides(
        self,
        connection: duckdb.DuckDBPyConnection,
        keys: Keys,
        types: dict[str, str],
        current: str,
    ) -> None:
        """Temporary tables `here` and `there`: key and cursor of each row, made comparable."""
        source = f"read_parquet({literal(str(keys.file))})"
        described = connection.execute(f"describe select * from {source}").fetchall()
        theirs = {row[0]: row[1] for row in described}
        sides = (("here", f"({current})", types, theirs), ("there", source, theirs, types))
        for name, relation, own, other in sides:
            columns = [f"{comparable(k, own, other)} as key{n}" for n, k in enumerate(keys.key)]
            if keys.cursor:
                columns.append(f"{comparable(keys.cursor, own, other)} as moment")
            else:
                columns.append("null::varchar as moment")
            connection.execute(
                f"create or replace temp table {name} as select {', '.join(columns)} "
                f"from {relation}"
            )

    def _differences(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: TableDeclaration,
        keys: Keys,
        made: Comparison,
    ) -> Comparison:
        """Counts the keys that differ, new ones apart, and names some."""
        same = " and ".join(
            f"here.key{n} is not distinct from there.key{n}" for n in range(len(keys.key))
        )
        shown = ", ".join(
            f"coalesce(here.key{n}::varchar, there.key{n}::varchar)" for n in range(len(keys.key))
        )
        connection.execute(
            f"""
            create or replace temp table differing as
            with highest as (select max(moment) as moment from here)
            select
                concat_ws('|', {shown}) as key,
                case
                    when here.present is null then 'missing here'
                    when there.present is null then 'gone there'
                    else 'other ' || {literal(keys.cursor or "version")}
                end as how,
                coalesce(there.moment > (select moment from highest), false) as is_new
            from (select *, true as present from here) as here
            full outer join (select *, true as present from there) as there on {same}
            where here.present is null or there.present is null
                or here.moment is distinct from there.moment
            """
        )
        swept = table.database.deletes == "sweep" or self._declaration.kind == "cdc"
        wrong = "not is_new" + ("" if swept else " and how <> 'gone there'")
        counts = connection.execute(
            f"select count(*) filter (where is_new), count(*) filter (where {wrong}), "
            f"count(*) filter (where how = 'gone there') from differing"
        ).fetchall()[0]
        examples = connection.execute(
            f"select how || ' ' || key from differing where {wrong} order by how, key "
            f"limit {SHOWN_KEYS}"
        ).fetchall()
        made = replace(
            made, new=counts[0], wrong=counts[1], examples=tuple(text for (text,) in examples)
        )
        gone = f"{_counted(counts[2], 'rows')} gone there, which is not followed (`deletes: none`)"
        told = verdict_of(made, unchecked=gone if counts[2] and not swept else "")
        if told.verdict != "different":
            return told
        hint = "; what changed meanwhile without a newer cursor shows so too: extract, load and "
        return replace(told, message=f"{told.message}{hint}compare again")
