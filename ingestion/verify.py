"""Whether landing is still what the ledger says was loaded from it.

ledger (files, loads) ─┐
landing (names, sizes, ─┴─> findings: missing, cut, changed, lost rows, never loaded -> the audit
footers, checksums)

Landing and git are all that a warehouse can be rebuilt from, so damage to landing matters though
the warehouse still has the rows. The cheap form looks at names, sizes and Parquet footers; with
checksums every byte is read again. A finding is about one source that is declared and was loaded;
what has landed since its last load is no finding. Left out: copies in `prepared`, which can be made
again from the originals, and the rows in raw, which the audit's tests compare with the ledger.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.arrivals import parquet_rows, rows_of
from ingestion.compacted import Part, pack_files, packs
from ingestion.declarations import SourceDeclaration
from ingestion.errors import BadInput
from ingestion.expired import expired_files
from ingestion.landing import (
    COUNTS_TABLE,
    REGISTER_SUFFIX,
    completed_loads,
    is_whole_by_itself,
    landed_files,
    register_rows,
)
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

_THREADS = 4


@dataclass(frozen=True)
class LandingFault:
    """Something in landing that is not as the ledger says.

    Attributes:
        source: Name of the source.
        table: Name of the table; empty if it concerns a whole load.
        file: What it is about, below the landing zone.
        problem: What was expected and what is there, for people.
    """

    source: str
    table: str
    file: str
    problem: str

    def __str__(self) -> str:
        table = f".{self.table}" if self.table else ""
        return f"{self.source}{table}: {self.file}: {self.problem}"


@dataclass(frozen=True)
class _Entry:
    """A file of the ledger: what is to be compared."""

    source: str
    table: str
    file: str
    load_id: str
    reader: str | None
    bytes: int
    sha256: str
    rows: int
    status: str


def verify_landing(
    connection: duckdb.DuckDBPyConnection,
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    *,
    checksums: bool = False,
) -> list[LandingFault]:
    """Compares landing with the ledger.

    Args:
        connection: The warehouse; it is only read.
        declarations: The sources and tables to look at.
        settings: The project's settings.
        checksums: Read every file and compare its checksum, too.

    Returns:
        What differs, by source, table and file; empty if nothing does.
    """
    names = {r[0] for r in connection.execute(_LEDGER_TABLES).fetchall()}
    if "files" not in names:
        return []
    faults: list[LandingFault] = []
    for declaration in declarations:
        check = _SourceCheck(connection, declaration, settings, "loads" in names)
        faults += check.faults(checksums)
    return sorted(faults, key=lambda f: (f.source, f.table, f.file))


_LEDGER_TABLES = "select table_name from duckdb_tables() where schema_name = 'ledger'"
_FILES = """
    select
        source, table_name, file, load_id, reader, bytes, sha256, rows_read, status
    from ledger.files
    where source = ?
"""
_LOADS = """
    select table_name, load_id, coalesce(rows_landed, 0), files_landed, status, reason
    from ledger.loads
    where source = ?
"""


class _SourceCheck:
    """Compares one source."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        declaration: SourceDeclaration,
        settings: Settings,
        has_loads: bool,
    ) -> None:
        self._source = declaration
        self._settings = settings
        self._tables = {table.name for table in declaration.tables}
        self._completed = set(completed_loads(settings, declaration.name))
        files = connection.execute(_FILES, [declaration.name]).fetchall()
        self._entries = [_Entry(*row) for row in files if row[1] in self._tables]
        loads = connection.execute(_LOADS, [declaration.name]).fetchall() if has_loads else []
        self._loads = [row for row in loads if row[0] in self._tables]
        # Sizes of a folder come with one listing; asking file by file would cost a call each.
        self._listings: dict[Path, dict[str, int]] = {}
        self._counted: dict[str, dict[str, int]] = {}
        self._compacted: dict[str, dict[str, Part]] = {}

    def faults(self, checksums: bool) -> Iterator[LandingFault]:
        """Everything that differs."""
        damaged = list(self._damaged_packs(checksums))
        yield from damaged
        if damaged:
            # Which files they held cannot be told, so neither what else is amiss.
            return
        yield from self._lost_marks()
        yield from self._load_faults()
        yield from self._file_faults(checksums)
        yield from self._never_loaded()

    def _fault(self, table: str, file: str, problem: str) -> LandingFault:
        return LandingFault(self._source.name, table, file, problem)

    def _damaged_packs(self, checksums: bool) -> Iterator[LandingFault]:
        """Compacted files that cannot be read or, if that is asked, have other bytes."""
        for table in sorted(self._tables):
            suffix = REGISTER_SUFFIX if self._source.kind == "files" else ""
            yield from self._pack_faults(table, table + suffix, checksums)
        yield from self._pack_faults("", COUNTS_TABLE, checksums)

    def _pack_faults(self, table: str, folder: str, checksums: bool) -> Iterator[LandingFault]:
        place = self._settings.landing_dir / self._source.name / folder
        try:
            packs(place)
        except BadInput as error:
            yield self._fault(table, f"{self._source.name}/{folder}", error.message)
            return
        for path in pack_files(place) if checksums else ():
            if _sha256(path) != path.stem:
                file = path.relative_to(self._settings.landing_dir).as_posix()
                told = "its bytes are other than those that were compacted (SHA-256)"
                yield self._fault(table, file, told)

    def _lost_marks(self) -> Iterator[LandingFault]:
        entered = (e for e in self._entries if not is_whole_by_itself(e.file))
        loads = {entry.load_id for entry in entered} | {row[1] for row in self._loads}
        refused = {row[1] for row in self._loads if row[4] in ("refused", "pending")}
        for load_id in sorted(loads - self._completed - refused):
            place = f"{self._source.name}/_dlt_loads"
            told = f"the mark of load {load_id} is missing: a rebuild would leave the load out"
            yield self._fault("", place, told)

    def _load_faults(self) -> Iterator[LandingFault]:
        """Loads that were refused, lost their counts, or have lost lines of their register."""
        counted = self._rows_by_load(COUNTS_TABLE)
        for table, load_id, _, files_landed, status, reason in self._loads:
            if load_id not in self._completed:
                continue
            if status == "refused":
                yield self._fault(table, f"load {load_id}", f"it was refused: {reason}")
            if status == "loaded" and files_landed:
                register = self._rows_by_load(table + REGISTER_SUFFIX)
                if register.get(load_id, 0) != files_landed:
                    place = f"{self._source.name}/{table}{REGISTER_SUFFIX}"
                    told = f"{register.get(load_id, 0):,} lines of load {load_id}"
                    yield self._fault(table, place, f"{told}, {files_landed:,} were landed")
        yield from self._ledger_faults(counted)
        noted = {row[1] for row in self._loads if row[2] or row[3]} & self._completed
        for load_id in sorted(noted - set(counted)):
            place = f"{self._source.name}/{COUNTS_TABLE}"
            yield self._fault("", place, f"the counts of load {load_id} are missing")

    def _ledger_faults(self, counted: Collection[str]) -> Iterator[LandingFault]:
        """Entries of the ledger that are there twice, or not at all."""
        loads = Counter((row[0], row[1]) for row in self._loads)
        files = Counter((e.table, e.file, e.load_id) for e in self._entries)
        for table, load_id in sorted(pair for pair, count in loads.items() if count > 1):
            yield self._fault(table, f"load {load_id}", "ledger.loads has it twice")
        for table, file, _ in sorted(key for key, count in files.items() if count > 1):
            yield self._fault(table, file, "ledger.files has it twice")
        loaded = {(table, load_id) for table, _, load_id in files if load_id in counted}
        for table, load_id in sorted(loaded - set(loads)):
            yield self._fault(table, f"load {load_id}", "ledger.loads does not have it")

    def _rows_by_load(self, folder: str) -> dict[str, int]:
        """Rows of a table's Parquet files by load; a damaged file has none."""
        if folder not in self._counted:
            found: dict[str, int] = {}
            for file in landed_files(self._settings, self._source.name, folder):
                rows = rows_of(file) or 0
                found[file.load_id] = found.get(file.load_id, 0) + rows
            self._counted[folder] = found
        return self._counted[folder]

    def _file_faults(self, checksums: bool) -> Iterator[LandingFault]:
        """Files that are missing, or not what they were."""
        footers: list[tuple[_Entry, Path]] = []
        seen: dict[Path, _Entry] = {}
        for entry in self._entries:
            part = self._parts(entry.table).get(entry.file)
            if part is not None:
                yield from self._part_faults(entry, part)
                continue
            path = self._path(entry)
            if path is None:
                yield self._fault(entry.table, entry.file, "it is missing")
                continue
            size = self._sizes(path.parent)[path.name]
            if entry.bytes >= 0 and size != entry.bytes:
                told = f"it has {size:,} bytes, it had {entry.bytes:,} when it was loaded"
                yield self._fault(entry.table, entry.file, told)
                continue
            if entry.status == "loaded":
                seen.setdefault(path, entry)
                if entry.reader == "parquet" and path.suffix == ".parquet":
                    footers.append((entry, path))
            elif self._source.kind != "files":
                yield self._fault(entry.table, entry.file, "it was refused: it cannot be read")
        yield from self._footer_faults(footers)
        if checksums:
            yield from self._checksum_faults(seen)

    def _parts(self, table: str) -> dict[str, Part]:
        """Files of a table that lie in compacted ones now."""
        if table not in self._compacted:
            landed = landed_files(self._settings, self._source.name, table)
            self._compacted[table] = {f.file: f.part for f in landed if f.part is not None}
        return self._compacted[table]

    def _part_faults(self, entry: _Entry, part: Part) -> Iterator[LandingFault]:
        """Where a compacted file lists a part otherwise than it was when it was loaded."""
        if entry.status != "loaded":
            yield self._fault(entry.table, entry.file, "it was refused: it cannot be read")
        elif (entry.bytes, entry.sha256) != (part.bytes, part.sha256):
            told = "it was compacted with other bytes than those that were loaded (SHA-256)"
            yield self._fault(entry.table, entry.file, told)
        elif entry.rows != part.rows:
            told = f"it has {part.rows:,} rows, it had {entry.rows:,} when it was loaded"
            yield self._fault(entry.table, entry.file, told)

    def _footer_faults(self, files: list[tuple[_Entry, Path]]) -> Iterator[LandingFault]:
        with ThreadPoolExecutor(_THREADS, "footers") as pool:
            counts = pool.map(parquet_rows, (path for _, path in files))
        for (entry, _), rows in zip(files, counts, strict=True):
            if rows is None:
                yield self._fault(entry.table, entry.file, "it is no whole Parquet file any more")
            elif rows != entry.rows:
                told = f"it has {rows:,} rows, it had {entry.rows:,} when it was loaded"
                yield self._fault(entry.table, entry.file, told)

    def _checksum_faults(self, files: dict[Path, _Entry]) -> Iterator[LandingFault]:
        with ThreadPoolExecutor(_THREADS, "checksums") as pool:
            for entry, found in zip(files.values(), pool.map(_sha256, files), strict=True):
                if entry.sha256 and found != entry.sha256:
                    told = "its bytes are other than those that were loaded (SHA-256)"
                    yield self._fault(entry.table, entry.file, told)

    def _never_loaded(self) -> Iterator[LandingFault]:
        """Landed files that the ledger does not know, although it has later ones."""
        newest: dict[str, str] = {}
        for table, load_id in self._loaded_pairs():
            newest[table] = max(newest.get(table, ""), load_id)
        held = {(row[0], row[1]) for row in self._loads if row[4] != "loaded"}
        known = {(entry.table, entry.file) for entry in self._entries}
        for table in sorted(newest):
            for file, load_id in self._landed(table):
                late = load_id > newest[table] or (table, load_id) in held
                if not late and (table, file) not in known:
                    told = f"it landed with load {load_id}, but the ledger does not know it"
                    yield self._fault(table, file, told)

    def _loaded_pairs(self) -> Iterator[tuple[str, str]]:
        for entry in self._entries:
            yield entry.table, entry.load_id
        for row in self._loads:
            if row[4] == "loaded":
                yield row[0], row[1]

    def _landed(self, table: str) -> Iterable[tuple[str, str]]:
        """Files of completed loads of a table, each with its load."""
        name = self._source.name
        if self._source.kind != "files":
            return [(f.file, f.load_id) for f in landed_files(self._settings, name, table)]
        entered = Counter(entry.load_id for entry in self._entries if entry.table == table)
        if entered == self._rows_by_load(table + REGISTER_SUFFIX):
            # As many lines as entries, load by load: there is no need to read the register.
            return []
        expired = expired_files(self._settings, name, table)
        rows = register_rows(self._settings, name, table)
        return [(row.file, row.load_id) for row in rows if row.file not in expired]

    def _path(self, entry: _Entry) -> Path | None:
        """Where a ledger's file lies: itself, or the archive that it is a member of."""
        parts = entry.file.split("!")
        for end in range(len(parts), 0, -1):
            path = self._settings.landing_dir / "!".join(parts[:end])
            if path.name in self._sizes(path.parent):
                return path
        return None

    def _sizes(self, folder: Path) -> dict[str, int]:
        if folder not in self._listings:
            found: dict[str, int] = {}
            if folder.is_dir():
                with os.scandir(folder) as listing:
                    found = {e.name: e.stat().st_size for e in listing if e.is_file()}
            self._listings[folder] = found
        return self._listings[folder]


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
