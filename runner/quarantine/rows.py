"""What is not in the marts and why, one by one: shown to a person, or written to a file.

books -> `bad_rows` (reasons, file, row, record) -> `print_rows`, or `export` to a file

A reason names columns as staging calls them; which raw fields they are made of is found in the
model's SQL text, which needs no parse of the project. Left out: counts, which `quarantine` makes.
"""

from __future__ import annotations

import csv
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, disk_full, disk_full_error
from ingestion.settings import Settings
from runner.quarantine.counts import KINDS, Books

if TYPE_CHECKING:
    from rich.console import Console

_METADATA = {"_file", "_row", "_load_id", "_extracted_at", "_deleted"}
_WORD = re.compile(r"[A-Za-z_]\w*")
_ABOUT = (
    "kind",
    "table",
    "file",
    "place",
    "load_id",
    "loaded_at",
    "model",
    "record_key",
    "reasons",
)
_TEXT = "raw_text"
_BATCH = 10_000


@dataclass(frozen=True)
class Wanted:
    """Which of the bad rows are asked for.

    Attributes:
        tables: Of these tables (`erp.orders`); None for all.
        rule: With this text in a reason, upper or lower case.
        key: With this key.
        file: Of a file of this name, at its origin or in landing.
        load: Of this load.
        since: Of loads since then, UTC.
        limit: So many at most; None for all.
    """

    tables: Collection[str] | None = None
    rule: str | None = None
    key: str | None = None
    file: str | None = None
    load: str | None = None
    since: datetime | None = None
    limit: int | None = None


def bad_rows(books: Books, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """Bad rows one by one, newest load first.

    Yields:
        For each: kind (row, record, file), table, file (as the origin names it), place (row or
        line in it), load_id, loaded_at, model, record_key, reasons (a list), record (raw fields by
        name; None for what could not be read as a row) and raw_text (that, as it stands).
    """
    sql = f"""
        select kind, table_name as "table", file, place, load_id,
            strftime(loaded, '%Y-%m-%dT%H:%M:%SZ') as loaded_at, model, record_key, reasons,
            raw_record
        from bad where {_WANTED}
        order by loaded desc, kind, "table", file, place
        limit $limit
    """
    limit = wanted.limit if wanted.limit is not None else 2**62
    for row in books.stream(sql, limit=limit, **_values(wanted)):
        yield _told_apart(row)


def count_rows(books: Books, wanted: Wanted) -> int:
    """How many bad rows there are of those, whatever the limit."""
    (found,) = books.ask(f"select count(*) as number from bad where {_WANTED}", **_values(wanted))
    return int(found["number"])


_WANTED = """
    ($rule is null or contains(lower(reasons), lower($rule)))
    and ($key is null or record_key = $key)
    and ($load is null or load_id = $load)
    and ($file is null or $file in (file, _file)
        or ends_with(file, '/' || $file) or ends_with(_file, '/' || $file))
"""


def _values(wanted: Wanted) -> dict[str, Any]:
    return {
        "tables": None if wanted.tables is None else list(wanted.tables),
        "since": wanted.since,
        "rule": wanted.rule,
        "key": wanted.key,
        "file": wanted.file,
        "load": wanted.load,
    }


def _told_apart(row: dict[str, Any]) -> dict[str, Any]:
    raw = row.pop("raw_record")
    is_row = row["kind"] == "row"
    row["reasons"] = row["reasons"].split("; ") if is_row else [row["reasons"]]
    row["record"] = None
    if is_row:
        fields = json.loads(raw, parse_float=str)
        row["record"] = {name: v for name, v in fields.items() if name not in _METADATA}
    row[_TEXT] = None if is_row else raw
    return row


# -- which field is at fault -------------------------------------------------------------------


class Culprits:
    """Finds the raw fields that a reason speaks of.

    Args:
        settings: The project's settings: its staging models are looked up there.
    """

    def __init__(self, settings: Settings) -> None:
        self._models = settings.project_dir / "models"
        self._sql: dict[str, str] = {}

    def of(self, row: dict[str, Any]) -> set[str]:
        """Names of the fields of the row's record that its reasons speak of."""
        fields = set(row["record"] or ())
        words = {word for reason in row["reasons"] for word in _WORD.findall(reason)}
        found = words & fields
        for column in words - fields:
            found |= fields & self._made_of(row["model"], column)
        return found

    def _made_of(self, model: str, column: str) -> set[str]:
        """Words of the expressions that a model's SQL calls by a column's name."""
        sql = self._text(model)
        words: set[str] = set()
        for match in re.finditer(rf"\bas\s+{re.escape(column)}\b", sql, re.IGNORECASE):
            words |= set(_WORD.findall(_expression(sql[: match.start()])))
        return words

    def _text(self, model: str) -> str:
        if model not in self._sql:
            files = sorted(self._models.rglob(f"{model}.sql"))
            text = files[0].read_text(encoding="utf-8") if files else ""
            self._sql[model] = re.sub(r"--[^\n]*", "", text)
        return self._sql[model]


def _expression(before: str) -> str:
    """The expression at the end of a text: back to the comma or bracket that it stands behind."""
    depth = 0
    for position in range(len(before) - 1, -1, -1):
        sign = before[position]
        if sign in ")}]":
            depth += 1
        elif sign in "({[":
            depth -= 1
        if depth < 0 or (sign == "," and depth == 0):
            return before[position + 1 :]
    return before


# -- for people --------------------------------------------------------------------------------


def print_rows(
    rows: list[dict[str, Any]], total: int, origin: str, culprits: Culprits, console: Console
) -> None:
    """Shows bad rows to a person: where each stands, why it is set aside, what it says.

    Args:
        rows: Those to show, from `bad_rows`.
        total: How many there are.
        origin: Which data it is.
        culprits: Finds the fields at fault.
        console: Where to.
    """
    told = f"{len(rows):,} of {total:,} shown" if total else "nothing of that kind is set aside"
    more = "; --limit 0 shows all" if total > len(rows) else ""
    console.print(f"[bold]quarantine[/bold] of {origin}: {told}{more}", highlight=False)
    for row in rows:
        console.print()
        key = f" · key {row['record_key']}" if row["record_key"] else ""
        name = KINDS[row["kind"]]
        loaded = row["loaded_at"][:16].replace("T", " ")
        _line(console, f"{row['table']} · {name}{key}", "bold")
        place = "" if row["place"] is None else f", {_place(row)} {row['place']}"
        _line(console, f"  {row['file']}{place}, loaded {loaded} UTC by {row['load_id']}", "dim")
        for reason in row["reasons"]:
            _line(console, f"  ✗ {reason}", "red")
        if row["record"] is not None:
            _print_record(console, row["record"], culprits.of(row))
        elif row[_TEXT] is not None:
            _line(console, f"    {row[_TEXT]}", "")


def _place(row: dict[str, Any]) -> str:
    return "row" if row["kind"] == "row" else "line"


def _print_record(console: Console, record: dict[str, Any], culprits: set[str]) -> None:
    width = max((len(name) for name in record), default=0)
    for name, value in record.items():
        sign, style = ("▸", "bold yellow") if name in culprits else (" ", "")
        shown = "(missing)" if value is None else _text(value)
        _line(console, f"  {sign} {name:<{width}}  {shown}", style)


def _line(console: Console, text: str, style: str) -> None:
    # What stands in a record may move the cursor or clear the screen of whoever reads it.
    safe = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    console.print(safe, style=style or None, markup=False, soft_wrap=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# -- to a file ---------------------------------------------------------------------------------


def export(books: Books, wanted: Wanted, path: Path) -> int:
    """Writes bad rows to a file, whole or not at all; only its owner may read it.

    CSV and Parquet have a column for each raw field where all rows are of one table, and else one
    column `record` of JSON; NDJSON has the record as an object.

    Args:
        books: The books.
        wanted: Which rows.
        path: The file; its suffix (`.csv`, `.ndjson`, `.jsonl`, `.parquet`) tells the format.

    Returns:
        How many rows were written.

    Raises:
        BadInput: The suffix is another one, or the folder cannot be written to.
        DiskFull: There is no room.
    """
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise BadInput(
            f"the suffix {path.suffix!r} tells no format",
            file=path,
            hint=f"Name the file with one of {', '.join(_WRITERS)}.",
        )
    shape = _shape(books, wanted)
    try:
        with _replacing(path) as temporary:
            return write(bad_rows(books, wanted), shape, temporary)
    except OSError as error:
        if disk_full(error):
            raise disk_full_error(path.parent, error) from error
        raise BadInput(f"it cannot be written: {error.strerror}", file=path) from error


@dataclass(frozen=True)
class _Shape:
    """Columns of a flat file.

    Attributes:
        fields: Raw fields, in the order of the raw table; `record` where several tables are told.
        several: Whether they are.
    """

    fields: tuple[str, ...]
    several: bool

    @property
    def names(self) -> list[str]:
        """Names of all columns; one of ours gives way where a raw field bears its name."""
        ours = {name: f"{name}_" if name in self.fields else name for name in (*_ABOUT, _TEXT)}
        return [*(ours[name] for name in _ABOUT), *self.fields, ours[_TEXT]]

    def texts(self, row: dict[str, Any]) -> list[str | None]:
        """A bad row's values in these columns, as texts."""
        record = {"record": row["record"]} if self.several else row["record"] or {}
        about = [_cell("; ".join(row[n]) if n == "reasons" else row[n]) for n in _ABOUT]
        return [*about, *(_cell(record.get(n)) for n in self.fields), _cell(row[_TEXT])]


def _shape(books: Books, wanted: Wanted) -> _Shape:
    found = books.ask(
        "select distinct table_name, "
        "case when kind = 'row' then json_keys(raw_record) end as names "
        f"from bad where {_WANTED}",
        **_values(wanted),
    )
    if len({row["table_name"] for row in found}) > 1:
        return _Shape(("record",), True)
    names = dict.fromkeys(name for row in found for name in row["names"] or ())
    return _Shape(tuple(name for name in names if name not in _METADATA), False)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of another once it is complete."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _cell(value: Any) -> str | None:
    return None if value is None else _text(value)


def _write_csv(rows: Iterable[dict[str, Any]], shape: _Shape, path: Path) -> int:
    written = 0
    # With its mark, spreadsheets read UTF-8 as such.
    with path.open("w", encoding="utf-8-sig", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(shape.names)
        for row in rows:
            writer.writerow(shape.texts(row))
            written += 1
    return written


def _write_ndjson(rows: Iterable[dict[str, Any]], shape: _Shape, path: Path) -> int:
    written = 0
    with path.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    return written


def _write_parquet(rows: Iterable[dict[str, Any]], shape: _Shape, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in shape.names])
    written = 0
    left = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [shape.texts(row) for row in islice(left, _BATCH)]:
            columns = [pa.array(column, pa.string()) for column in zip(*batch, strict=True)]
            writer.write_table(pa.table(columns, schema=schema))
            written += len(batch)
    return written


_WRITERS: dict[str, Callable[[Iterable[dict[str, Any]], _Shape, Path], int]] = {
    ".csv": _write_csv,
    ".ndjson": _write_ndjson,
    ".jsonl": _write_ndjson,
    ".parquet": _write_parquet,
}
