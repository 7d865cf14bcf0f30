"""Compares files at their origin with the register of those that landed.

listing of the origin ─┐
register, ledger ──────┴─> size, SHA-256, lines -> `Comparison`

Every file is read once more, at its origin. What is new there, or was sent again under a newer
date, is not yet extracted. Left out: files that are gone from the origin, since landing keeps them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.declarations import FilesTable, SourceDeclaration, TableDeclaration
from ingestion.errors import BadInput
from ingestion.expired import expired_files
from ingestion.files import OriginFile, by_origin, list_origin
from ingestion.formats import streams
from ingestion.landing import RegisterRow, register_rows
from ingestion.reconcile import SHOWN_KEYS, Comparison, verdict_of
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

_WIDE = ("utf-16", "utf-32", "utf16", "utf32", "u16", "u32")


def compare_files(
    connection: duckdb.DuckDBPyConnection,
    declaration: SourceDeclaration,
    table: TableDeclaration,
    settings: Settings,
) -> Comparison:
    """Compares the files of a table with their origin.

    Args:
        connection: The warehouse.
        declaration: Its source, of kind `files`.
        table: The table.
        settings: The project's settings.

    Raises:
        SourceUnreachable: The origin cannot be listed.
    """
    known = by_origin(register_rows(settings, declaration.name, table.name))
    filesystem, found = list_origin(declaration, table, settings)
    check = _Check(connection, declaration, table, settings)
    new, faults, uncounted = 0, [], 0
    for file in found:
        rows = known.get(file.name)
        if not rows:
            new += 1
            continue
        told = check.compare(filesystem, file, rows)
        new += told.is_new
        uncounted += told.uncounted
        if told.fault:
            faults.append(f"{file.name}: {told.fault}")
    gone = len(set(known) - {file.name for file in found})
    notes = [f"{gone:,} landed files are gone there"] if gone else []
    notes += [f"{uncounted:,} files whose lines cannot tell their records"] if uncounted else []
    made = Comparison(
        declaration.name,
        table.name,
        unit="files",
        here=len(known) - gone,
        there=len(found),
        new=new,
        wrong=len(faults),
        examples=tuple(faults[:SHOWN_KEYS]),
    )
    return verdict_of(made, there="their origin", unchecked="; ".join(notes))


@dataclass(frozen=True)
class _Told:
    is_new: bool = False
    fault: str = ""
    uncounted: int = 0


class _Check:
    """Compares single files of one table."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        declaration: SourceDeclaration,
        table: TableDeclaration,
        settings: Settings,
    ) -> None:
        self._declared: FilesTable = table.files
        self._settings = settings
        rows = connection.execute(
            "select file, rows_read, rows_rejected from ledger.files "
            "where source = ? and table_name = ? and status = 'loaded'",
            [declaration.name, table.name],
        ).fetchall()
        self._ledger = {file: (read, rejected) for file, read, rejected in rows}
        self._expired = expired_files(settings, declaration.name, table.name)

    def compare(self, filesystem: Any, file: OriginFile, rows: list[RegisterRow]) -> _Told:
        """Compares one file with its newest landed version."""
        last = rows[-1]
        digest, size = _digest(filesystem, file.path)
        if digest != last.sha256:
            dated = (file.modified_at, file.etag) != (last.modified_at, last.etag)
            if dated or not (file.etag or file.modified_at):
                return _Told(is_new=True)
            told = f"{size:,} bytes there, {last.size:,} landed" if size != last.size else ""
            return _Told(fault=f"other content under the same date{told and f', {told}'}")
        uncounted = 0
        for row in rows:
            gone = row.file in self._expired
            if row.original != last.original or row.status != "landed" or gone:
                continue
            fault = self._lines_fault(row)
            if fault is None:
                uncounted += 1
            elif fault:
                return _Told(fault=fault)
        return _Told(uncounted=uncounted)

    def _lines_fault(self, row: RegisterRow) -> str | None:
        """What is wrong with its count of records; empty if nothing, None if lines do not tell."""
        if row.file not in self._ledger:
            return "it landed but is not loaded"
        text = row.reader in ("csv", "ndjson") and row.read_path == row.original
        if not text or row.encoding.lower().startswith(_WIDE):
            return ""
        read, rejected = self._ledger[row.file]
        lines = self._records(row)
        if lines == read:
            return ""
        if rejected or self._declared.csv.escape is not None:
            # A faulty quote swallows line ends: then lines are not records.
            return None
        return f"it has {lines:,} records by its lines, {read:,} were loaded"

    def _records(self, row: RegisterRow) -> int:
        """Records of a landed original by its line ends, those within quotes left out."""
        path = self._settings.landing_dir / row.original
        csv = self._declared.csv
        is_csv = row.reader == "csv"
        skipped = csv.skip_lines if is_csv else 0
        quote = csv.quote.encode() if is_csv else b""
        comment = csv.comment.encode() if is_csv and csv.comment else None
        count, position = 0, 0
        name = row.origin_name
        with streams.opened(streams.Content(path, name)) as content:
            for line in _lines(content, quote):
                position += 1
                blank = not line.strip() or (comment is not None and line.startswith(comment))
                count += position > skipped and not blank
        return max(count - (1 if is_csv and csv.header else 0), 0)


def _lines(content: Any, quote: bytes) -> Iterator[bytes]:
    """Lines; those that a quoted line end would part stay together."""
    held: list[bytes] = []
    inside = False
    for line in iter(content.readline, b""):
        held.append(line)
        inside ^= bool(quote) and line.count(quote) % 2 == 1
        if not inside:
            yield b"".join(held)
            held = []
    if held:
        yield b"".join(held)


def _digest(filesystem: Any, path: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    try:
        with filesystem.open(path, "rb") as origin:
            while chunk := origin.read(4 * streams.CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except FileNotFoundError as error:
        raise BadInput(
            "it vanished while it was being compared", file=path, hint="Compare again."
        ) from error
    return digest.hexdigest(), size
