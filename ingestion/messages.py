"""Landed files of streams into relations: an envelope and the keys of each payload as columns.

listing of landing - ledger (in one anti-join) -> due files
due files -> one temporary table of their messages -> payloads that DuckDB's JSON keeps to the digit
-> relation; any other payload -> read by itself in Python -> relation, or rejected with its reason

Keys become columns of text exactly as those of NDJSON files do. What spoils one message is no
reason to leave out its neighbours: it is rejected alone. Left out: inserting, which `load` does.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.compacted import FOLDER, packs
from ingestion.errors import BadInput
from ingestion.evolution import TEXT, literal, quoted
from ingestion.formats.jsonfile import record_of
from ingestion.formats.tables import storable
from ingestion.landing import DAY_FOLDER, LandedFile, check_whole, column_mapping
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# What raw has of every message, beside what its payload holds.
ENVELOPE = {
    "_sequence": TEXT,
    "_shard": TEXT,
    "_topic": TEXT,
    "_key": TEXT,
    "_headers": TEXT,
    "_published_at": "TIMESTAMP",
}
_SAFE_KEY = re.compile(r"^[\w .:/@$+-]+$")
_FILENAME = "wellspring_filename"
_LONGEST_RECORD = 10_000
# The time of a folder tells of a change only once it lies a while back: clocks tick slowly.
_SETTLED_NS = 2_000_000_000


# -- which files are due -----------------------------------------------------------------------


@dataclass
class _Listing:
    """Names of the files of a folder, as they were when it was last changed."""

    changed_ns: int
    names: Any


_listings: dict[Path, _Listing] = {}


def due_messages(
    connection: duckdb.DuckDBPyConnection, settings: Settings, source: str, table: str
) -> list[LandedFile]:
    """Landed files of a stream that the ledger does not have, in load order.

    Names are compared in DuckDB, and folders of past days are listed once a process: ten thousand
    files of which none is new cost some milliseconds.

    Args:
        connection: The warehouse.
        settings: The project's settings.
        source: Name of the source.
        table: Name of the table.

    Raises:
        BadInput: Landing is being restored, or a compacted file is damaged.
    """
    import pyarrow as pa

    check_whole(settings)
    folder = settings.landing_dir / source / table
    if not folder.is_dir():
        return []
    parts = {part.file: (pack.path, part) for pack in packs(folder) for part in pack.parts}
    chunks = [_names(folder / day, f"{source}/{table}/{day}/") for day in _days(folder)]
    chunks.append(pa.array(list(parts), pa.string()))
    connection.register("wellspring_landed", pa.table({"file": pa.chunked_array(chunks)}))
    try:
        found = connection.execute(
            "select distinct landed.file from wellspring_landed as landed "
            "anti join ("
            "select file from ledger.files where source = ? and table_name = ?"
            ") as known on landed.file = known.file",
            [source, table],
        ).fetchall()
    finally:
        connection.unregister("wellspring_landed")
    due = []
    for (file,) in found:
        path, part = parts.get(file, (settings.landing_dir / file, None))
        due.append(LandedFile(table, _load_id(file), path, file, part))
    return sorted(due, key=lambda landed: (landed.load_id, landed.file))


def _days(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if DAY_FOLDER.match(name))  # noqa: PTH208 - only names are needed, of many files


def _names(folder: Path, prefix: str) -> pa.Array:
    """Landed files of a day, below landing."""
    import pyarrow as pa

    changed = folder.stat().st_mtime_ns
    known = _listings.get(folder)
    if known is not None and known.changed_ns == changed:
        return known.names
    listed = os.listdir(folder)  # noqa: PTH208 - only names are needed, of many files
    names = pa.array([prefix + name for name in listed if name.endswith(".parquet")], pa.string())
    if time.time_ns() - changed > _SETTLED_NS:
        _listings[folder] = _Listing(changed, names)
    return names


def _load_id(file: str) -> str:
    seconds, _, rest = file.rpartition("/")[2].partition(".")
    return f"{seconds}.{rest.partition('.')[0]}"


# -- reading -----------------------------------------------------------------------------------


@dataclass
class Messages:
    """Messages of some files, ready to be inserted.

    Attributes:
        columns: Name -> DuckDB type of the columns of their payloads, and of the envelope.
        sql: A query that yields these and `_file`, `_row`, `_load_id`, `_extracted_at`.
        loaded: How many messages of a file it yields.
        rejected: What it does not yield: position, reason and content, by file.
    """

    columns: dict[str, str]
    sql: str
    loaded: Mapping[str, int]
    rejected: Mapping[str, list[tuple[int, str, str]]]


@dataclass
class _ByHand:
    """Messages whose payloads were read one by one."""

    rows: list[tuple[int, dict[str, str | None]]] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)
    rejected: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)

    def reject(self, file: str, row: int, reason: str, raw: str) -> None:
        self.rejected.setdefault(file, []).append((row, reason, storable(raw[:_LONGEST_RECORD])))


def read_messages(
    connection: duckdb.DuckDBPyConnection,
    reader: Sequence[Path],
    paths: str,
    temporary: Callable[[], str],
) -> Messages:
    """Reads the messages of files, or of the parts of one compacted file.

    Args:
        connection: The warehouse.
        reader: The files to read.
        paths: Temporary table with the `path`, `file`, `load_id` and `extracted_at` of what is due.
        temporary: Names a temporary table that is dropped later.
    """
    table = temporary()
    _take(connection, table, reader, paths)
    keys, by_hand = _sorted_out(connection, table)
    columns: dict[str, list[str]] = {}
    for key, name in keys.items():
        columns.setdefault(name, []).append(key)
    names = dict.fromkeys([*columns, *by_hand.names], TEXT)
    selects = [_quick_query(connection, table, temporary(), columns, names)]
    if by_hand.rows:
        selects.append(_by_hand_query(connection, table, temporary(), by_hand, names))
    counts = connection.execute(
        f"select _file, count(*) filter (where way <> 'rejected') from temp.{table} group by _file"
    ).fetchall()
    return Messages(
        {**names, **ENVELOPE}, " union all ".join(selects), dict(counts), by_hand.rejected
    )


def _take(
    connection: duckdb.DuckDBPyConnection, table: str, reader: Sequence[Path], paths: str
) -> None:
    """Makes a temporary table of all messages, which says of each how its payload is read."""
    listed = ", ".join(literal(str(path)) for path in reader)
    if reader[0].parent.name == FOLDER:
        data = f"read_parquet([{listed}], hive_partitioning = false)"
        joined, row = "data._file = paths.file", "data._row"
    else:
        data = (
            f"read_parquet([{listed}], filename = {literal(_FILENAME)}, file_row_number = true, "
            "hive_partitioning = false, union_by_name = false)"
        )
        joined, row = f"data.{_FILENAME} = paths.path", "data.file_row_number + 1"
    envelope = ", ".join(
        "data._published_at::timestamp as _published_at"
        if name == "_published_at"
        else f"data.{name}"
        for name in ENVELOPE
    )
    blank = "' ' || chr(9) || chr(10) || chr(13)"
    connection.execute(
        f"create temporary table {table} as "
        "with messages as ("
        f"select {envelope}, paths.file as _file, {row} as _row, paths.load_id as _load_id, "
        "paths.extracted_at as _extracted_at, data.payload, data.original, data.fault, "
        "try_cast(data.payload as json) as json "
        f"from {data} as data inner join temp.{paths} as paths on {joined}"
        "), keyed as ("
        "select *, case when json_type(json) = 'OBJECT' then json_keys(json) end as keys "
        "from messages) "
        "select *, row_number() over () as number, case when keys is not null "
        f"and translate(payload, {blank}, '') = translate(json(json)::varchar, {blank}, '') "
        "and len(keys) = len(list_distinct(keys)) then 'quick' else 'by hand' end as way "
        "from keyed"
    )


def _sorted_out(
    connection: duckdb.DuckDBPyConnection, table: str
) -> tuple[dict[str, str], _ByHand]:
    """Columns of the keys that DuckDB reads itself; everything else is read here."""
    keys: dict[str, str] = {}
    spoiled = []
    for (listed,) in connection.execute(
        f"select keys from temp.{table} where way = 'quick' group by keys "
        "order by min(_load_id), min(_row), keys"
    ).fetchall():
        try:
            mapping = _columns(listed)
        except BadInput:
            spoiled.append(listed)
            continue
        if all(_SAFE_KEY.match(key) for key in listed):
            keys.update(mapping)
        else:
            spoiled.append(listed)
    if spoiled:
        connection.execute(
            f"update temp.{table} set way = 'by hand' where list_contains(?, keys)", [spoiled]
        )
    by_hand = _ByHand()
    left = connection.execute(
        f"select number, _file, _row, payload, original, fault from temp.{table} "
        "where way = 'by hand' order by _load_id, _file, _row"
    ).fetchall()
    refused = []
    for number, file, row, payload, original, fault in left:
        reason, raw = fault, payload or ""
        if payload is None:
            reason = fault or "it has no payload"
            raw = (original or b"").decode("utf-8", "surrogateescape")
        else:
            record, reason = _record(payload)
            if record is not None:
                by_hand.rows.append((number, record))
                by_hand.names.update(dict.fromkeys(record))
                continue
        by_hand.reject(file, row, reason, raw)
        refused.append(number)
    if refused:
        connection.execute(
            f"update temp.{table} set way = 'rejected' where list_contains(?, number)", [refused]
        )
    return keys, by_hand


def _columns(keys: Sequence[str]) -> Mapping[str, str]:
    """Names in raw of the keys of one message, which must stay different.

    Raises:
        BadInput: They do not, or one takes the place of a column of ours.
    """
    mapping = column_mapping(keys)
    ours = next((key for key, name in mapping.items() if name in ENVELOPE), None)
    if ours is not None:
        raise BadInput(f"the key {ours!r} has a name that Wellspring uses itself")
    return mapping


def _record(payload: str) -> tuple[dict[str, str | None] | None, str]:
    """The columns of a payload, or why it has none."""
    try:
        record = record_of(payload)
        mapping = _columns(list(record))
    except BadInput as fault:
        return None, fault.message
    return {mapping[key]: value for key, value in record.items()}, ""


def _quick_query(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    fields: str,
    columns: Mapping[str, Sequence[str]],
    names: Mapping[str, str],
) -> str:
    """A query of the messages whose payloads DuckDB reads."""
    keys = [key for listed in columns.values() for key in listed]
    places = ", ".join(literal(f'$."{key}"') for key in keys)
    extracted = f"json_extract_string(json, [{places}])" if keys else "null::varchar[]"
    connection.execute(
        f"create temporary table {fields} as select {_KEPT}, {extracted} as fields "
        f"from temp.{table} where way = 'quick'"
    )
    position = {key: number for number, key in enumerate(keys, start=1)}
    expressions = []
    for name in names:
        listed = [f"fields[{position[key]}]" for key in columns.get(name, ())]
        value = f"coalesce({', '.join(listed)})" if len(listed) > 1 else "".join(listed)
        expressions.append(f"{value or 'null::varchar'} as {quoted(name)}")
    return f"select {', '.join([*expressions, _KEPT])} from temp.{fields}"


def _by_hand_query(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    fields: str,
    by_hand: _ByHand,
    names: Mapping[str, str],
) -> str:
    """A query of the messages whose payloads were read here."""
    import pyarrow as pa

    content: dict[str, Any] = {"number": pa.array([n for n, _ in by_hand.rows], pa.int64())}
    for place, name in enumerate(by_hand.names):
        values = [record.get(name) for _, record in by_hand.rows]
        content[f"field_{place}"] = pa.array(values, pa.string())
    connection.register("wellspring_by_hand", pa.table(content))
    try:
        connection.execute(f"create temporary table {fields} as from wellspring_by_hand")
    finally:
        connection.unregister("wellspring_by_hand")
    places = {name: f"fields.field_{place}" for place, name in enumerate(by_hand.names)}
    expressions = [f"{places.get(name, 'null::varchar')} as {quoted(name)}" for name in names]
    kept = ", ".join(f"data.{name}" for name in _KEPT.split(", "))
    return (
        f"select {', '.join([*expressions, kept])} from temp.{table} as data "
        f"inner join temp.{fields} as fields on data.number = fields.number"
    )


_KEPT = ", ".join([*ENVELOPE, "_file", "_row", "_load_id", "_extracted_at"])


def batches_of(due: Sequence[Any], files: int, size: int) -> Iterator[list[Any]]:
    """Due files, so many together as are loaded in one transaction.

    Args:
        due: Due files with their `size`, in load order.
        files: At most so many.
        size: At most about so many bytes.
    """
    batch: list[Any] = []
    total = 0
    for file in due:
        if batch and (len(batch) >= files or total + file.size > size):
            yield batch
            batch, total = [], 0
        batch.append(file)
        total += file.size
    if batch:
        yield batch
