"""NDJSON files as Parquet, in one pass by DuckDB, every value as it stands.

file -> lines -> their values as columns, which make the same line again (`ndjsonlayout`)? or else
one object a line? only known keys, none twice? numbers that DuckDB would write as they stand?
-> yes: text columns | no: the line itself, which is then read by itself (`jsonfile`)

A file becomes a `Piece`: Parquet with a row a line, in the order of the file, and, where lines were
read by themselves, a second one of these. What the columns of both mean says `select_rows`. Left
out: files of which many lines are odd; they are refused here and read record by record.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.errors import BadInput
from ingestion.evolution import literal, quoted
from ingestion.formats.jsonfile import record_of
from ingestion.formats.ndjsonlayout import Layout, find_layout
from ingestion.formats.tables import Rejected, storable
from ingestion.landing import column_mapping

if TYPE_CHECKING:
    import duckdb

# Begins no normalised column name: the line, where it is not told in columns.
LINE = "_line"
# Columns with more different values than that are not worth a dictionary: to find out costs more.
# The first level of zstd takes less time than its default, and texts of line items no more room.
WRITTEN = "format parquet, compression zstd, compression_level 1, dictionary_size_limit 1000"
# Small buffers stay in the processor's cache and leave memory to others; a longer line is rare.
_LONGEST_USUAL, _LONGEST_LINE = 4 * 2**20, 32 * 2**20
_LONGEST_TOLD = 10_000
# So many lines are read by themselves without a word, or one in so many of a large file.
_ODD_LINES, _ODD_SHARE = 2_000, 100
# A number that may be written otherwise once it was read: not whole, zero below zero.
_UNSURE = r'(?:"[ \t]*:|[\[,])[ \t]*(?:-0|-?[0-9]+[.eE])'


@dataclass(frozen=True)
class Origin:
    """What all rows of a file have in common.

    Attributes:
        file: What rows will state in `_file`.
        load_id: The load that they belong to.
        extracted_at: Its time.
    """

    file: str
    load_id: str
    extracted_at: datetime


@dataclass(frozen=True)
class Piece:
    """A file as Parquet.

    Attributes:
        paths: The Parquet files.
        columns: Normalised names of its keys.
        rows: Records in it.
        rejected: Lines that are no record.
    """

    paths: tuple[Path, ...]
    columns: tuple[str, ...]
    rows: int
    rejected: tuple[Rejected, ...] = ()


@dataclass
class _Odd:
    """Lines that are read by themselves."""

    numbers: list[int] = field(default_factory=list)
    records: list[Mapping[str, str | None]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def write_piece(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    compression: str,
    folder: Path,
    origin: Origin,
) -> Piece:
    """Writes a file as Parquet.

    Args:
        connection: Any connection; nothing of it is changed.
        path: The file, UTF-8 without byte order mark.
        compression: As DuckDB names it.
        folder: Where the Parquet goes.
        origin: What its rows have in common.

    Raises:
        BadInput: Its lines have to be read one by one.
    """
    layout = find_layout(connection, path, compression)
    if not layout.keys:
        raise BadInput("read record by record")
    names = column_mapping(list(layout.keys))
    target = folder / f"{uuid.uuid4().hex}.parquet"
    _write(connection, path, compression, lambda lines: _told(lines, names, layout, origin), target)
    written = f"read_parquet({literal(str(target))}, file_row_number = true)"
    [(count, odd)] = connection.execute(f"select count(*), count({LINE}) from {written}").fetchall()
    if not odd:
        return Piece((target,), tuple(names.values()), count)
    if odd > max(_ODD_LINES, count // _ODD_SHARE):
        target.unlink()
        raise BadInput("read record by record")
    found = _read(
        connection.execute(
            f"select file_row_number + 1, {LINE} from {written} where {LINE} is not null order by 1"
        ).fetchall()
    )
    beside, columns = _write_odd(connection, found, target, origin)
    every = tuple(dict.fromkeys([*names.values(), *columns]))
    return Piece((target, *beside), every, count - len(found.rejected), tuple(found.rejected))


def select_rows(paths: Iterable[Path], columns: Sequence[str], deleted: bool = False) -> str:
    """The rows of pieces: their columns as texts, and what every row of raw has.

    Args:
        paths: Parquet files of pieces.
        columns: The columns; those that no piece has are NULL.
        deleted: Whether `_deleted` is among them.
    """
    listed = ", ".join(literal(str(path)) for path in paths)
    told = [f"data.{quoted(name)}" for name in columns]
    told += ["data._file", "coalesce(data._row, data.file_row_number + 1) as _row"]
    told += ["data._load_id", "data._extracted_at", *(["false as _deleted"] if deleted else [])]
    return (
        f"select {', '.join(told)} from read_parquet([{listed}], union_by_name = true, "
        f"file_row_number = true, hive_partitioning = false) as data where data.{LINE} is null"
    )


def own_columns(origin: Origin) -> str:
    """What a piece has beside its columns, as SQL expressions with their names."""
    moment = origin.extracted_at.isoformat(sep=" ")
    return (
        f"{literal(origin.file)} as _file, {literal(origin.load_id)} as _load_id, "
        f"timestamp {literal(moment)} as _extracted_at"
    )


def _write(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    compression: str,
    told: Callable[[str], str],
    target: Path,
) -> None:
    """Writes what a query tells of the lines; with larger buffers, if one does not fit."""
    import duckdb

    for longest in (_LONGEST_USUAL, _LONGEST_LINE):
        lines = _lines(path, compression, longest)
        try:
            connection.execute(f"copy ({told(lines)}) to {literal(str(target))} ({WRITTEN})")
            return
        except (duckdb.InvalidInputException, duckdb.NotImplementedException) as error:
            # The second is said of a line that is in more than two buffers.
            is_long = "line size" in str(error) or "full read" in str(error)
            if longest == _LONGEST_LINE or not is_long:
                raise


def _lines(path: Path, compression: str, longest: int) -> str:
    """A reader of lines; a control character stands in no JSON, so that nothing separates."""
    return (
        f"read_csv({literal(str(path))}, auto_detect = false, columns = {{'line': 'VARCHAR'}}, "
        "delim = '\x01', quote = '', escape = '', header = false, strict_mode = true, "
        f"hive_partitioning = false, max_line_size = {longest}, "
        f"buffer_size = {2 * longest}, compression = {literal(compression)})"
    )


def _told(lines: str, names: Mapping[str, str], layout: Layout, origin: Origin) -> str:
    """The query that tells each line in columns, and keeps those that are odd as they stand."""
    shape = "{" + ", ".join(f'"{key}": "VARCHAR"' for key in names) + "}"
    known = "[" + ", ".join(literal(key) for key in names) + "]"
    columns = ", ".join(f"data.{quoted(key)} as {quoted(name)}" for key, name in names.items())
    written = layout.line(lambda key: f"data.{quoted(key)}")
    is_usual = f"coalesce({written} = line, false)" if written else "false"
    return f"""
        select
            {columns},
            case
                when is_usual then null
                when coalesce(
                    json_type(json) <> 'OBJECT'
                    or len(keys) <> len(list_distinct(keys))
                    or not list_has_all({known}, keys), true
                ) then coalesce(line, '')
                when regexp_matches(line, {literal(_UNSURE)})
                    and replace(line, ' ', '') <> replace(json(json)::varchar, ' ', '') then line
            end as {LINE},
            cast(null as bigint) as _row,
            {own_columns(origin)}
        from (
            select *, json_keys(json) as keys
            from (
                select *, case when not is_usual then try_cast(line as json) end as json
                from (
                    select line, data, {is_usual} as is_usual
                    from (
                        select line, try(json_transform(line, {literal(shape)})) as data
                        from {lines}
                    )
                )
            )
        )
    """


def _read(lines: Iterable[tuple[int, str]]) -> _Odd:
    """Reads lines by themselves.

    Raises:
        BadInput: One is blank, so that lines and records are not counted alike.
    """
    found = _Odd()
    for number, line in lines:
        if not line.strip(" \t\r\n"):
            raise BadInput("read record by record")
        try:
            found.records.append(record_of(line))
            found.numbers.append(number)
        except BadInput as fault:
            raw = storable(line.rstrip("\r\n")[:_LONGEST_TOLD])
            found.rejected.append(Rejected(number, fault.message, raw))
    return found


def _write_odd(
    connection: duckdb.DuckDBPyConnection, found: _Odd, beside: Path, origin: Origin
) -> tuple[list[Path], list[str]]:
    """Writes the records of odd lines; returns the file, if there are any, and its columns."""
    import pyarrow as pa

    if not found.records:
        return [], []
    names = column_mapping(list(dict.fromkeys(key for record in found.records for key in record)))
    target = beside.with_suffix(".odd.parquet")
    columns = {
        name: pa.array([record.get(key) for record in found.records], pa.string())
        for key, name in names.items()
    }
    content = pa.table({"_row": pa.array(found.numbers, pa.int64()), **columns})
    connection.register("wellspring_odd", content)
    try:
        connection.execute(
            f"copy (select *, cast(null as varchar) as {LINE}, {own_columns(origin)} "
            f"from wellspring_odd) to {literal(str(target))} ({WRITTEN})"
        )
    finally:
        connection.unregister("wellspring_odd")
    return [target], list(names.values())
