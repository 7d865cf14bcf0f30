"""Gives rows of text their types: a column keeps its type only if every value fits it without loss.

rows of text -> casts, each proved by its pattern -> typed Parquet file
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.databases.base import Column, Raw
from ingestion.delta import ROW_GROUP, literal, quoted

if TYPE_CHECKING:
    import duckdb

logger = logging.getLogger(__name__)


def typed(
    connection: duckdb.DuckDBPyConnection,
    raw: Raw,
    columns: Sequence[Column],
    names: Mapping[str, str],
    out: Path,
    added: Sequence[str] = (),
) -> int:
    """Gives rows of text their types and normalised names, in a Parquet file.

    Args:
        connection: DuckDB, in UTC.
        raw: The rows.
        columns: Their columns; a type is kept only if every value fits it without loss.
        names: Normalised name by the database's.
        out: The file to write.
        added: Expressions of further columns.

    Returns:
        Number of rows written.
    """
    import duckdb

    source = _raw_scan(raw)
    try:
        return copy_typed(connection, source, columns, names, out, added)
    except duckdb.Error as error:
        if not does_not_fit(error):
            raise
        unfit = _unfit(connection, source, columns)
        logger.info("%s: kept as text: %s", out.parent.name, ", ".join(sorted(unfit)))
        fitting = [Column(c.name) if c.name in unfit else c for c in columns]
        return copy_typed(connection, source, fitting, names, out, added)


def does_not_fit(error: duckdb.Error) -> bool:
    """Whether `copy_typed` failed because of a value that does not fit its type."""
    import duckdb

    return isinstance(
        error,
        duckdb.ConversionException | duckdb.InvalidInputException | duckdb.OutOfRangeException,
    )


def _raw_scan(raw: Raw) -> str:
    path = literal(str(raw.path))
    if raw.format == "parquet":
        return f"read_parquet({path})"
    listed = ", ".join(f"{literal(name)}: 'varchar'" for name in [*raw.names, "~end"])
    # DuckDB's default of 2 MB a line is raised only where a line needs it: buffers grow with it.
    longest = max(raw.longest + 2, 2_097_152)
    return (
        f"read_csv({path}, header = false, auto_detect = false, columns = {{{listed}}}, "
        "delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, "
        f"new_line = '\\n', max_line_size = {longest}, buffer_size = {max(longest, 16_777_216)})"
    )


def copy_typed(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    columns: Sequence[Column],
    names: Mapping[str, str],
    out: Path,
    added: Sequence[str],
) -> int:
    """Writes texts as their columns' types to a Parquet file.

    Args:
        connection: DuckDB, in UTC.
        source: What stands behind `from`: the columns by the database's names, as texts; one of
            the type `varchar` is taken as it comes.
        columns: The columns.
        names: Normalised name by the database's.
        out: The file to write.
        added: Expressions of further columns.

    Returns:
        Number of rows written.

    Raises:
        duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException: A
            value does not fit its type.
    """
    expressions = ", ".join(
        [*(f"{_typed(column)} as {quoted(names[column.name])}" for column in columns), *added]
    )
    row = connection.execute(
        f"copy (select {expressions} from {source}) to {literal(str(out))} "
        f"(format parquet, compression zstd, compression_level 1, row_group_size {ROW_GROUP})"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _typed(column: Column) -> str:
    """Expression that gives a text its type, or fails if it does not fit."""
    name = quoted(column.name)
    if column.type == "varchar":
        return name
    cast = (
        f"unhex(substr({name}, 3))" if column.type == "blob" else f"cast({name} as {column.type})"
    )
    if column.pattern is None:
        return cast
    return (
        f"case when {name} is null then null "
        f"when regexp_full_match({name}, {literal(column.pattern)}) then {cast} "
        f"else error('does not fit') end"
    )


def _unfit(
    connection: duckdb.DuckDBPyConnection, source: str, columns: Sequence[Column]
) -> set[str]:
    """Columns with a value that does not fit their type."""
    checked = [column for column in columns if column.type != "varchar"]
    counts = ", ".join(f"count(*) filter (where {_does_not_fit(column)})" for column in checked)
    row = connection.execute(f"select {counts} from {source}").fetchone()
    assert row is not None
    return {column.name for column, count in zip(checked, row, strict=True) if count}


def _does_not_fit(column: Column) -> str:
    name = quoted(column.name)
    fits = "true" if column.type == "blob" else f"try_cast({name} as {column.type}) is not null"
    if column.pattern is not None:
        fits += f" and regexp_full_match({name}, {literal(column.pattern)})"
    return f"{name} is not null and not ({fits})"
