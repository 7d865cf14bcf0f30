"""From an original to what the loader can read: one unit a file, or one a member of an archive.

original -> format and compression by name -> check (encoding, footer, syntax) -> `Unit`

DuckDB reads plain, gzip and zstd CSV and NDJSON in UTF-8, and Parquet, by itself; all else is
prepared once as Parquet or UTF-8 text. A prepared file can always be made again from its original:
its name holds the fingerprint of the declaration that it was read by. A unit that cannot be read is
refused, with its reason, and does not hinder the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ingestion.declarations import FilesTable
from ingestion.errors import BadInput
from ingestion.formats import (
    avrofile,
    csvfile,
    excelfile,
    jsonfile,
    mailfile,
    parquetfile,
    streams,
    textfile,
    xmlfile,
)
from ingestion.formats.streams import Content
from ingestion.formats.tables import TextTable
from ingestion.landing import normalise_columns

# Raised when a reader changes what it makes of the same bytes, so that files are prepared again.
READING_VERSION = 1
SUFFIXES = {
    ".csv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".xml": "xml",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xlsx": "excel",
    ".xlsm": "excel",
    ".xlsb": "excel",
    ".xls": "excel",
    ".ods": "excel",
    ".eml": "mail",
    ".avro": "avro",
}
Reader = Literal["parquet", "csv", "ndjson"]
# Texts whose bytes are read as they are.
_LOOKED_AT = ("csv", "ndjson", "json", "text")


@dataclass(frozen=True)
class Unit:
    """Something that the loader reads as one file.

    Attributes:
        member: Name of the archive's member; empty for a whole file.
        reader: How it is read; None if it is refused.
        path: What is read: the original or a prepared file.
        options: What the reader needs to know, fit for JSON; `bytes` is the size of what it reads.
        columns: Normalised names of its columns; None if only reading it tells.
        rows: Its number of records, rejected ones included; None if only reading it tells.
        encoding: What decoded it; empty where that does not apply.
        refused: Why it cannot be read; empty if it can.
    """

    member: str
    reader: Reader | None
    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    columns: list[str] | None = None
    rows: int | None = None
    encoding: str = ""
    refused: str = ""


def reading_of(table: FilesTable) -> str:
    """Fingerprint of everything in a declaration that decides how bytes become rows."""
    keys = {"format", "csv", "encodings", "encoding_errors", "records", "xml", "excel"}
    said = table.model_dump(mode="json", include=keys)
    text = json.dumps([READING_VERSION, said], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_text_lines(table: FilesTable) -> bool:
    """Whether all files of a table are CSV or NDJSON, by its format or the suffix of its path."""
    try:
        return _format(Content(Path(table.path), table.path), table) in {"csv", "ndjson"}
    except BadInput:
        return False


def look_for(name: str, table: FilesTable) -> streams.TextLook | None:
    """What is to look at the bytes of a file while they are copied; None if that saves nothing.

    Args:
        name: The name under which it arrived.
        table: The declaration.
    """
    content = Content(Path(name), name)
    try:
        is_text = _format(content, table) in _LOOKED_AT and content.compression == "none"
    except BadInput:
        return None
    is_plain = is_text and streams.Encoding(table.encodings[0], bom=False).is_utf8
    return streams.TextLook(table.encodings[0]) if is_plain else None


def prepare(
    original: Path,
    name: str,
    table: FilesTable,
    prepared_dir: Path,
    encoding: streams.Encoding | None = None,
) -> list[Unit]:
    """Checks an original and makes it readable.

    Args:
        original: The landed bytes.
        name: The name under which they arrived, for format and compression.
        table: The declaration.
        prepared_dir: Where prepared files of this original go.
        encoding: What `look_for` found while the bytes were copied.

    Returns:
        One unit; for a zip archive, one for each of its members. Doing it again gives the same.

    Raises:
        OSError: The disk is full, or landing cannot be read or written.
    """
    if not name.lower().endswith(".zip"):
        return [_unit(Content(original, name, encoding=encoding), table, prepared_dir)]
    try:
        members = streams.archive_members(original)
    except BadInput as error:
        return [Unit("", None, original, refused=error.sentence)]
    if not members:
        size = original.stat().st_size
        return [Unit("", "parquet", original, {"prepared": False, "bytes": size}, [], 0)]
    return [_unit(Content(original, name, member), table, prepared_dir) for member in members]


def _unit(content: Content, table: FilesTable, prepared_dir: Path) -> Unit:
    try:
        unit = _READERS[_format(content, table)](content, table, prepared_dir)
        return replace(unit, options={**unit.options, "bytes": unit.path.stat().st_size})
    except BadInput as error:
        return Unit(content.member, None, content.path, refused=error.sentence)


def _format(content: Content, table: FilesTable) -> str:
    if table.format is not None:
        return table.format
    suffix = Path(content.stem).suffix.lower()
    if suffix not in SUFFIXES:
        raise BadInput(
            f"the suffix {suffix!r} tells no format",
            hint="Declare `format`, or a `path` that leaves such files out.",
        )
    return SUFFIXES[suffix]


def _prepared(content: Content, table: FilesTable, folder: Path, suffix: str) -> Path:
    """Path of a prepared file: as short as a file name has to be, and different for each member."""
    member = re.sub(r"[^A-Za-z0-9._-]+", "_", content.member)[-80:]
    if content.member:
        member = f"{hashlib.sha256(content.member.encode()).hexdigest()[:8]}-{member}"
    return folder / f"{member or 'whole'}.{reading_of(table)}{suffix}"


def _text_in_place(
    content: Content, encoding: streams.Encoding, table: FilesTable, folder: Path, suffix: str
) -> tuple[Content, streams.Encoding]:
    """The unit as text that DuckDB can read: where it is, or transcoded.

    Text with faulty bytes stays as it is, under its own encoding, to be read record by record.
    """
    if not content.member and (encoding.is_utf8 or not encoding.strict):
        return content, encoding
    target = _prepared(content, table, folder, suffix)
    if not encoding.strict:
        if not target.exists():
            _copy(content, target)
        return Content(target, target.name), encoding
    if not target.exists():
        streams.transcode(content, encoding, target)
    return Content(target, target.name), streams.Encoding("utf-8", bom=False)


def _csv(content: Content, table: FilesTable, folder: Path) -> Unit:
    lenient = table.encoding_errors == "reject"
    found = streams.find_encoding(content, table.encodings, lenient=lenient)
    text, encoding = _text_in_place(content, found, table, folder, ".csv")
    options = table.csv
    if not options.header and not options.columns:
        raise BadInput("there is no header", hint="Declare the columns under `csv: columns`.")
    header = csvfile.read_header(text, encoding, options)
    columns = normalise_columns(header.names)
    return Unit(
        member=content.member,
        reader="csv",
        path=text.path,
        options={
            "compression": text.compression,
            "names": list(header.names),
            # Where line ends are mixed, DuckDB's reader and ours may split records differently.
            "plain": header.plain and not found.mixed_line_ends,
            "bom": encoding.bom,
            "faulty": None if found.strict else encoding.name,
        },
        columns=columns,
        rows=None if columns else 0,
        encoding=found.name,
    )


def _ndjson(content: Content, table: FilesTable, folder: Path) -> Unit:
    lenient = table.encoding_errors == "reject"
    found = streams.find_encoding(content, table.encodings, lenient=lenient)
    text, encoding = _text_in_place(content, found, table, folder, ".ndjson")
    return Unit(
        member=content.member,
        reader="ndjson",
        path=text.path,
        options={
            "compression": text.compression,
            "bom": encoding.bom,
            "faulty": None if found.strict else encoding.name,
        },
        encoding=found.name,
    )


def _json(content: Content, table: FilesTable, folder: Path) -> Unit:
    encoding = streams.find_encoding(content, table.encodings)

    def read(target: Path) -> TextTable:
        return jsonfile.read_document(content, encoding, table.records, target)

    return _converted(content, table, folder, read, encoding.name)


def _xml(content: Content, table: FilesTable, folder: Path) -> Unit:
    if table.xml is None:
        raise BadInput("`xml: {record: ...}` is not declared", hint="Name the element of a row.")
    record = table.xml.record

    def read(target: Path) -> TextTable:
        return xmlfile.read_document(content, record, target)

    return _converted(content, table, folder, read)


def _excel(content: Content, table: FilesTable, folder: Path) -> Unit:
    def read(target: Path) -> TextTable:
        return excelfile.read_sheet(content, table.excel, target)

    return _converted(content, table, folder, read)


def _text(content: Content, table: FilesTable, folder: Path) -> Unit:
    lenient = table.encoding_errors == "reject"
    encoding = streams.find_encoding(content, table.encodings, lenient=lenient)

    def read(target: Path) -> TextTable:
        return textfile.read_text(content, encoding, target)

    return _converted(content, table, folder, read, encoding.name)


def _mail(content: Content, table: FilesTable, folder: Path) -> Unit:
    def read(target: Path) -> TextTable:
        return mailfile.read_mail(content, target)

    return _converted(content, table, folder, read)


def _avro(content: Content, table: FilesTable, folder: Path) -> Unit:
    def read(target: Path) -> TextTable:
        return avrofile.read_file(content, target)

    return _converted(content, table, folder, read)


def _converted(
    content: Content,
    table: FilesTable,
    folder: Path,
    read: Callable[[Path], TextTable],
    encoding: str = "",
) -> Unit:
    """A unit whose records were turned into Parquet of texts."""
    target = _prepared(content, table, folder, ".parquet")
    taken = read(target)
    return Unit(
        member=content.member,
        reader="parquet",
        path=target,
        options={"prepared": True, "rejected": len(taken.rejected)},
        columns=normalise_columns(list(taken.names)),
        rows=taken.rows + len(taken.rejected),
        encoding=encoding,
    )


def _parquet(content: Content, table: FilesTable, folder: Path) -> Unit:
    path = content.path
    if content.member or content.compression != "none":
        path = _prepared(content, table, folder, ".original.parquet")
        if not path.exists():
            _copy(content, path)
    if path.stat().st_size == 0:
        return Unit(content.member, "parquet", path, {"prepared": False}, [], 0)
    footer = parquetfile.read_footer(path)
    return Unit(
        member=content.member,
        reader="parquet",
        path=path,
        options={"prepared": False},
        columns=list(footer.names.values()),
        rows=footer.rows,
    )


def _copy(content: Content, target: Path) -> None:
    with streams.opened(content) as stream, streams.written(target) as out:
        while chunk := stream.read(streams.CHUNK):
            out.write(chunk)


_READERS: dict[str, Callable[[Content, FilesTable, Path], Unit]] = {
    "csv": _csv,
    "ndjson": _ndjson,
    "json": _json,
    "xml": _xml,
    "excel": _excel,
    "avro": _avro,
    "parquet": _parquet,
    "text": _text,
    "mail": _mail,
}
