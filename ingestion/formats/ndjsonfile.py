"""NDJSON files as Parquet, in one pass by DuckDB, every value as it stands.

file -> lines -> one object a line? only known keys, none twice? numbers that DuckDB would write as
they stand? -> yes: text columns | no: the line itself, which is then read by itself (`jsonfile`)

A file becomes a `Piece`: Parquet with a row a line, in the order of the file, and, where lines were
read by themselves, a second one of these. What the columns of both mean says `select_rows`. Left
out: files of which many lines are odd; they are refused here and read record by record.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.errors import BadInput
from ingestion.evolution import literal, quoted
from ingestion.formats.jsonfile import record_of
from ingestion.formats.tables import Rejected, storable
from ingestion.landing import column_mapping

if TYPE_CHECKING:
    import duckdb

# Begins no normalised column name: the line, where it is not told in columns.
LINE = "_line"
_SAFE_KEY = re.compile(r"^[\w .:/@$+-]+$")
_LONGEST_LINE = 32 * 2**20
_LONGEST_TOLD = 10_000
_SAMPLED_LINES = 2_000
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
    lines = _lines(path, compression)
    keys, usual = _sampled(connection, lines)
    names = column_mapping(keys)
    target = folder / f"{uuid.uuid4().hex}.parquet"
    connection.execute(
        f"copy ({_told(lines, names, usual, origin)}) to {literal(str(target))} "
        "(format parquet, compression zstd)"
    )
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


def _lines(path: Path, compression: str) -> str:
    """A reader of lines; a control character stands in no JSON, so that nothing separates."""
    return (
        f"read_csv({literal(str(path))}, auto_detect = false, columns = {{'line': 'VARCHAR'}}, "
        "delim = '\x01', quote = '', escape = '', header = false, strict_mode = true, "
        f"hive_partitioning = false, max_line_size = {_LONGEST_LINE}, "
        f"buffer_size = {2 * _LONGEST_LINE}, compression = {literal(compression)})"
    )


def _sampled(connection: duckdb.DuckDBPyConnection, lines: str) -> tuple[list[str], list[str]]:
    """The keys of the first lines that can be columns, and those of the very first, in order."""
    found = connection.execute(
        f"select json_keys(json) from (select try_cast(line as json) as json from {lines} "
        f"limit {_SAMPLED_LINES}) where json is not null and json_type(json) = 'OBJECT'"
    ).fetchall()
    listed = [keys for (keys,) in found]
    every = dict.fromkeys(key for one in listed for key in one)
    keys = [key for key in every if _SAFE_KEY.match(key)]
    if not keys:
        raise BadInput("read record by record")
    first = listed[0]
    is_usual = len(set(first)) == len(first) and all(key in keys for key in first)
    return keys, first if is_usual else []


def _told(lines: str, names: Mapping[str, str], usual: Sequence[str], origin: Origin) -> str:
    """The query that tells each line in columns, or keeps the line."""
    shape = "{" + ", ".join(f'"{key}": "VARCHAR"' for key in names) + "}"
    known = "[" + ", ".join(literal(key) for key in names) + "]"
    columns = ", ".join(f"data.{quoted(key)} as {quoted(name)}" for key, name in names.items())
    return f"""
        select {columns}, {LINE}, cast(null as bigint) as _row, {own_columns(origin)}
        from (
            select
                case when is_odd then coalesce(line, '') end as {LINE},
                json_transform(case when not is_odd then json end, {literal(shape)}) as data
            from (
                select
                    line,
                    json,
                    coalesce(case
                        when len(keys) = {len(usual)}
                            and array_to_string(keys, ',') = {literal(",".join(usual))} then false
                        else json_type(json) <> 'OBJECT'
                            or len(keys) <> len(list_distinct(keys))
                            or not list_has_all({known}, keys)
                    end, true) or case
                        when regexp_matches(line, {literal(_UNSURE)}) then
                            replace(line, ' ', '') <> replace(json(json)::varchar, ' ', '')
                        else false
                    end as is_odd
                from (
                    select line, json, json_keys(json) as keys
                    from (select line, try_cast(line as json) as json from {lines})
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
            f"from wellspring_odd) to {literal(str(target))} (format parquet, compression zstd)"
        )
    finally:
        connection.unregister("wellspring_odd")
    return [target], list(names.values())
