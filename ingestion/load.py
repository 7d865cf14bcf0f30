"""Landing into raw: rows and their ledger entries in one transaction for each dlt load (D3).

landing (completed loads) - ledger (what it has) -> due files -> all arrived? (`Arrivals`) ->
`Stager` -> begin, evolve the table, insert, check the counts, write the ledger, commit

Killed at any instruction, the warehouse holds all of a load or nothing of it; the next load goes on
with what the ledger lacks. A file that cannot be read is entered as refused and does not hinder the
others; it is read again once its declaration has changed. A load of which landing does not hold
what was extracted is refused whole. Raw is append-only, but for files that `replay` has read again.
Left out: which version of a key holds, which staging decides.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.arrivals import Arrivals
from ingestion.budget import require_free
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import BadInput, IngestionError, disk_full, disk_full_error, first_line
from ingestion.evolution import METADATA, TEXT, Change, Evolution, converted, literal, quoted
from ingestion.expired import ExpiredFile, expired_files
from ingestion.failpoints import failpoint
from ingestion.files import prepared_folder
from ingestion.formats.parquetfile import read_footer
from ingestion.formats.preparing import Unit, is_text_lines, prepare, reading_of
from ingestion.landing import (
    LandedCount,
    LandedFile,
    RegisterRow,
    landed_counts,
    landed_files,
    register_rows,
)
from ingestion.ledger import (
    Cause,
    ChangeEntry,
    ExpiredEntry,
    FileEntry,
    KnownFile,
    LoadEntry,
    LoadStatus,
    RejectedEntry,
    ReplayEntry,
    ensure_ledger,
    forget_files,
    known_files,
    noted_expired,
    noted_loads,
    write_expired_entries,
    write_ledger,
    write_loads,
)
from ingestion.messages import ENVELOPE, batches_of, due_messages
from ingestion.progress import OnProgress, Reporter, counted
from ingestion.raw_files import Landed, RawFiles, as_table, views_of
from ingestion.schema.fitting import CONTRACT, Fitting, kept_by, undeclared
from ingestion.schema.journal import Noted
from ingestion.schema.loading import LoadWatch, refusal
from ingestion.schema.renames import Side
from ingestion.settings import Settings
from ingestion.stage import Counted, DueFile, Own, Relation, Staged, Stager, extracted_at
from ingestion.warehouse import connect, damaged, damaged_error

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

# One transaction takes so much of a stream, however much there is to catch up on.
_STREAM_FILES = 4_096
_STREAM_BYTES = 256 * 2**20
# Of what so much is loaded at once stays as Parquet, unless its declaration says otherwise.
_LARGE = 128 * 2**20
_PACKED = ("compacted", "packed_messages")
# One transaction takes so many loads of a change log.
_CHANGE_LOADS = 200
_RESTORE = (
    "Restore landing from a backup and load again. Without one, remove the load's mark from "
    "landing/<source>/_dlt_loads: then nothing of it counts, and the next extraction lands what "
    "the source still has."
)


@dataclass(frozen=True)
class TableLoad:
    """What was loaded into one raw table.

    Attributes:
        source: Name of the source.
        table: Name of the table.
        files: Files loaded.
        rows: Rows added to raw.
        rejected: Records kept in `ledger.rejected_records` instead.
        bytes: Size of the files; an archive counts once, whatever it holds.
    """

    source: str
    table: str
    files: int
    rows: int
    rejected: int
    bytes: int = 0


@dataclass(frozen=True)
class RefusedFile:
    """A file that was not loaded.

    Attributes:
        source: Name of the source.
        table: Name of the table.
        file: Its path below landing.
        origin_name: Its name at the origin; None where the origin is no file.
        reason: Why, for people.
        fatal: Whether the declaration says that this fails the run (`on_refused: fail`).
        damaged: Whether landing is at fault, not the source.
    """

    source: str
    table: str
    file: str
    origin_name: str | None
    reason: str
    fatal: bool
    damaged: bool = False

    def __str__(self) -> str:
        name = self.origin_name or self.file
        return f"{self.source}.{self.table}: {name} is refused: {self.reason}"


@dataclass
class LoadResult:
    """What one load did.

    Attributes:
        tables: What was loaded, by table, also where it is nothing.
        refused: Files that were newly refused.
        changes: How raw tables changed, for people.
        outdated: Loaded files that today's declaration reads otherwise, by `source.table`.
        replays: Files that had been entered before and were read again.
        schema: How sources have changed, as far as that shows when files are loaded.
        seconds: Time taken.
    """

    tables: list[TableLoad] = field(default_factory=list)
    refused: list[RefusedFile] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    outdated: dict[str, int] = field(default_factory=dict)
    replays: list[ReplayEntry] = field(default_factory=list)
    schema: list[Noted] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows added to raw."""
        return sum(table.rows for table in self.tables)

    @property
    def told_outdated(self) -> list[str]:
        """What is in raw as a former declaration read it, for people."""
        return [
            f"{table}: {counted(files, 'file')} of an earlier declaration in raw; `wellspring "
            f"quarantine replay --select source:{table}` reads them again"
            for table, files in self.outdated.items()
        ]

    @property
    def error(self) -> BadInput | None:
        """The error to end with if a refused file is to fail the run, else None."""
        fatal = [refused for refused in self.refused if refused.fatal]
        if not fatal:
            return None
        listed = "\n".join(f"  {refused}" for refused in fatal)
        count = "1 file was" if len(fatal) == 1 else f"{len(fatal)} files were"
        if any(refused.damaged for refused in fatal):
            return BadInput(
                f"landing is damaged, everything else is loaded:\n{listed}", hint=_RESTORE
            )
        return BadInput(
            f"{count} refused, everything else is loaded:\n{listed}",
            hint=(
                "Have the files mended and sent again, or declare `on_refused: warn` for the table."
            ),
        )


@dataclass(frozen=True)
class Again:
    """Why a file that the ledger has is read again.

    Attributes:
        known: What the ledger has of it.
        cause: Why; None if it is read again only because all of its table is.
    """

    known: KnownFile
    cause: Cause | None


@dataclass(frozen=True)
class _Arrived:
    """A dlt load, what it was to land, and the tables of which it has files to load."""

    load_id: str
    counts: Sequence[LandedCount]
    tables: Sequence[str]


@dataclass
class _Batch:
    """Loads that are loaded in one transaction: one, or several that are alike.

    Loads whose rows lie in the same compacted files have the same columns, and so have those of a
    change log that are taken together: the raw tables come out the same as if they were loaded one
    by one.
    """

    arrived: list[_Arrived] = field(default_factory=list)
    files: list[DueFile] = field(default_factory=list)
    packs: dict[str, Path] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    compacted: bool = True

    def takes(self, files: Sequence[DueFile]) -> bool:
        """Whether a further load with these files can be added."""
        if not self.arrived:
            return True
        packed = self.compacted and all(
            file.own == "compacted" and self.packs.get(file.table, file.path) == file.path
            for file in files
        )
        return packed or self._takes_changes(files)

    def _takes_changes(self, files: Sequence[DueFile]) -> bool:
        """Whether these are changes of tables that look the same as in the batch."""
        if len(self.arrived) >= _CHANGE_LOADS or any(
            file.own != "changes" for file in (*self.files[-1:], *files)
        ):
            return False
        news = {file.table: _columns_of(file) for file in files}
        for file in self.files:
            if file.table in news and file.table not in self.columns:
                self.columns[file.table] = _columns_of(file)
        return all(columns == self.columns.get(t, columns) for t, columns in news.items())

    def add(self, load_id: str, counts: Sequence[LandedCount], files: Sequence[DueFile]) -> None:
        """Adds a load."""
        tables = list(dict.fromkeys(file.table for file in files))
        self.arrived.append(_Arrived(load_id, counts, tables))
        self.files += files
        for file in files:
            self.packs.setdefault(file.table, file.path)
            self.compacted &= file.own == "compacted"


def _columns_of(file: DueFile) -> str:
    """Names and types of a file's columns; its own name where it cannot be read."""
    try:
        return read_footer(file.path, own_columns=True).signature
    except (BadInput, FileNotFoundError):
        return file.file


@dataclass
class _Tally:
    files: int = 0
    rows: int = 0
    rejected: int = 0
    sizes: dict[str, int] = field(default_factory=dict)


def load(
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    *,
    on_progress: OnProgress | None = None,
) -> LoadResult:
    """Loads everything that has landed and that the ledger does not have yet.

    Args:
        declarations: Sources and tables to load.
        settings: The project's settings.
        on_progress: Told of each table.

    Returns:
        What was loaded and refused. Refused files do not raise: see `LoadResult.error`.

    Raises:
        LockHeld: Another process has the warehouse open.
        BadInput: Landing or the warehouse is damaged.
        DiskFull: There is no room; what was committed stays, the rest is as before.
    """
    started = time.monotonic()
    result = LoadResult()
    with loading(settings) as connection:
        for declaration in declarations:
            SourceLoader(connection, settings, declaration, result, on_progress).run()
    result.seconds = time.monotonic() - started
    return result


@contextmanager
def loading(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, open for loading; what DuckDB and the disk report becomes one of our errors.

    Raises:
        LockHeld: Another process has the warehouse open.
        BadInput: Landing or the warehouse is damaged.
        DiskFull: There is no room; what was committed stays, the rest is as before.
    """
    import duckdb

    connection = connect(settings)
    # What a killed load left; whoever has the warehouse open is the only one who loads.
    shutil.rmtree(_spool(settings), ignore_errors=True)
    try:
        with _transaction(connection):
            ensure_ledger(connection)
        failpoint("load.ledger_made")
        yield connection
    except (duckdb.Error, OSError) as error:
        if disk_full(error):
            raise disk_full_error(settings.data_dir, error) from error
        if damaged(str(error)):
            raise damaged_error(settings, str(error)) from error
        raise BadInput(
            f"loading broke off: {first_line(error)}",
            file=settings.warehouse_path,
            hint="Nothing is half-loaded; run again once the cause is mended.",
        ) from error
    finally:
        connection.close()


def _spool(settings: Settings) -> Path:
    """Folder for the salvaged records of faulty files."""
    return settings.spool_dir / "_load"


class _transaction:
    """Commits at the end of the block, rolls back if it is left by an exception."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("begin")
        failpoint("load.begun")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        import duckdb

        if kind is None:
            failpoint("load.before_commit")
            self._connection.execute("commit")
            failpoint("load.committed")
            return
        try:
            self._connection.execute("rollback")
        except duckdb.Error:
            # A failed commit has rolled back by itself.
            log.debug("nothing to roll back")


class SourceLoader:
    """Loads one source, load by load.

    Args:
        connection: The warehouse, from `loading`.
        settings: The project's settings.
        declaration: The source, with the tables to load.
        result: Is told what was loaded.
        on_progress: Told of each table.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        declaration: SourceDeclaration,
        result: LoadResult,
        on_progress: OnProgress | None,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._source = declaration
        self._result = result
        self._reporter = Reporter("load", declaration.name, on_progress)
        self._tallies = {table.name: _Tally() for table in declaration.tables}
        self._units: tuple[Path | None, list[Unit]] = (None, [])
        self._packs: dict[Path, str] = {}
        self._as_files: dict[str, bool] = {}
        self._types: dict[str | None, str] = {}

    def run(self) -> None:
        """Loads what is due, oldest load first."""
        self._reporter.tell("started")
        if self._source.kind == "stream":
            self._run_stream()
            return
        self.forget_expired()
        known = known_files(self._connection, self._source.name)
        counts = self._counts()
        due: dict[str, list[DueFile]] = {}
        again: dict[tuple[str, str], Again] = {}
        for table in self._source.tables:
            for file in self.landed(table):
                entered = known.get((table.name, file.file))
                if entered is not None and not self.reads_otherwise(table, file, entered):
                    continue
                if entered is not None and entered.status == "loaded":
                    self._note_outdated(table)
                    continue
                if entered is not None:
                    again[(table.name, file.file)] = Again(entered, "declaration")
                due.setdefault(file.load_id, []).append(file)
        self._keep_large_as_files(file for files in due.values() for file in files)
        arrivals = Arrivals(self._settings, self._source.name)
        batch = _Batch()
        for load_id in sorted({*due, *counts}):
            own, files = counts.get(load_id, []), due.get(load_id, [])
            faults = arrivals.faults(count for count in own if count.table in self._tallies)
            if faults or not batch.takes(files):
                self._load_batch(batch, again)
                batch = _Batch()
            if faults:
                self._refuse(load_id, own, faults)
            else:
                room = f"load {load_id} of {self._source.name} is not begun"
                require_free(self._settings, room)
                batch.add(load_id, own, files)
        self._load_batch(batch, again)
        self._finish()

    def _run_stream(self) -> None:
        """Loads what landers have made durable: many small files go in together."""
        self._make_tables()
        due = [
            self._landed_file(table, landed)
            for table in self._source.tables
            for landed in due_messages(
                self._connection, self._settings, self._source.name, table.name
            )
        ]
        due.sort(key=lambda file: (file.load_id, file.file))
        for batch in batches_of(due, _STREAM_FILES, _STREAM_BYTES):
            require_free(self._settings, f"{self._source.name} is not loaded further")
            self._load(batch, {})
        self._finish()

    def forget_expired(self) -> None:
        """Takes out what landing says has expired; a new ledger learns of it, too."""
        self._make_tables()
        if self._source.kind != "files":
            return
        noted = noted_expired(self._connection, self._source.name)
        known = known_files(self._connection, self._source.name)
        for table in self._source.tables:
            listed = expired_files(self._settings, self._source.name, table.name)
            due = [entry for name, entry in listed.items() if (table.name, name) not in noted]
            if not due:
                continue
            names = [entry.file for entry in due]
            with _transaction(self._connection):
                if any((table.name, name) in known for name in names):
                    self._remove_rows(table.name, names)
                forget_files(self._connection, self._source.name, table.name, names)
                entries = [self._expired_entry(table.name, entry) for entry in due]
                write_expired_entries(self._connection, entries)
                failpoint("expire.before_commit")

    def _expired_entry(self, table: str, entry: ExpiredFile) -> ExpiredEntry:
        values = {**vars(entry), "expired_at": datetime.fromisoformat(entry.expired_at)}
        return ExpiredEntry(self._source.name, table, **values)

    def _load_batch(self, batch: _Batch, again: Mapping[tuple[str, str], Again]) -> None:
        """Loads what is together in a batch in one transaction."""
        if batch.arrived:
            keys = {(file.table, file.file) for file in batch.files}
            own_again = {key: again[key] for key in again.keys() & keys}
            self._load(batch.files, own_again, arrived=batch.arrived)

    def _note_outdated(self, table: TableDeclaration) -> None:
        """Rows that are in raw stay there until a replay is asked for."""
        name = f"{self._source.name}.{table.name}"
        self._result.outdated[name] = self._result.outdated.get(name, 0) + 1

    def replay(self, again: Mapping[tuple[str, str], Again], whole: Collection[str]) -> None:
        """Reads files again from landing, in one transaction for all of the source.

        Args:
            again: The files, by table and file.
            whole: Tables of which all files are among them: they are made anew.

        Raises:
            BadInput: A file that is loaded could not be read any more; nothing is changed.
        """
        self._reporter.tell("started")
        self._make_tables()
        due = [
            file
            for table in self._source.tables
            for file in self.landed(table)
            if (table.name, file.file) in again
        ]
        self._load(due, again, whole)
        self._finish()

    def _finish(self) -> None:
        for name, tally in self._tallies.items():
            self._result.tables.append(
                TableLoad(
                    *(self._source.name, name, tally.files, tally.rows, tally.rejected),
                    sum(tally.sizes.values()),
                )
            )
        self._reporter.tell("finished", rows=sum(t.rows for t in self._tallies.values()))

    # What there is

    def _counts(self) -> dict[str, list[LandedCount]]:
        """What loads were to land, by load; those of which nothing is left to do are passed by."""
        self._noted = noted_loads(self._connection, self._source.name)
        open_ = {load for (load, _), (status, _) in self._noted.items() if status != "loaded"}
        settled = {load for load, _ in self._noted} - open_
        counts: dict[str, list[LandedCount]] = {}
        for count in landed_counts(self._settings, self._source.name, settled):
            counts.setdefault(count.load_id, []).append(count)
        return counts

    def landed(self, table: TableDeclaration) -> Iterator[DueFile]:
        """Every landed file of a table, each as its first delivery, in load order.

        Without those that have expired.
        """
        if self._source.kind == "files":
            seen = set(expired_files(self._settings, self._source.name, table.name))
            for row in register_rows(self._settings, self._source.name, table.name):
                # Older landings hold a refused file twice, once for each declaration that met it.
                if row.file not in seen:
                    yield self._registered(table, row)
                seen.add(row.file)
            return
        for landed in landed_files(self._settings, self._source.name, table.name):
            yield self._landed_file(table, landed)

    def _landed_file(self, table: TableDeclaration, landed: LandedFile) -> DueFile:
        """A landed file of any kind of source but files."""
        part = landed.part
        own: Own = "dlt" if part is None else "compacted"
        size = -1 if part is None else part.bytes
        if self._source.kind == "stream":
            own = "messages" if part is None else "packed_messages"
            size = landed.path.stat().st_size if part is None else part.bytes
        if self._source.kind == "cdc" and part is None:
            own = "changes"
        return DueFile(
            table=table.name,
            file=landed.file,
            path=landed.path,
            load_id=landed.load_id,
            reader="parquet",
            own=own,
            origin_name=None,
            size=size,
            sha256="" if part is None else part.sha256,
            rows=None if part is None else part.rows,
        )

    def reads_otherwise(self, table: TableDeclaration, due: DueFile, entered: KnownFile) -> bool:
        """Whether today's declaration reads a file otherwise than when it was entered."""
        now = self._reading(table.name)
        if self._source.kind != "files":
            return entered.reading is not None and entered.reading != now
        # Ledgers of earlier versions do not say; the register knows what landing thought.
        before = entered.reading or due.options["reading"]
        # Where all rows were taken, keeping some aside from now on changes nothing.
        return before != now and (CONTRACT in before or before != reading_of(table.files))

    def _registered(self, table: TableDeclaration, row: RegisterRow) -> DueFile:
        own = "prepared" if row.reader == "parquet" and row.options["prepared"] else "original"
        columns = row.column_names
        return DueFile(
            table=table.name,
            file=row.file,
            path=self._settings.landing_dir / row.read_path,
            load_id=row.load_id,
            reader=row.reader,  # type: ignore[arg-type]
            own=own,  # type: ignore[arg-type]
            origin_name=row.origin_name,
            size=row.size,
            sha256=row.sha256,
            options={**row.options, "original": row.original},
            columns=None if columns is None else tuple(columns),
            rows=row.rows,
            refused=row.reason if row.status == "refused" else "",
        )

    def _current(self, table: TableDeclaration, due: DueFile, again: bool) -> DueFile:
        """The file as today's declaration reads it: prepared again if that has changed."""
        if due.own in _PACKED:
            return replace(due, refused=self._pack_fault(due.path))
        if self._source.kind != "files":
            return replace(due, size=due.path.stat().st_size, sha256=_sha256(due.path))
        same = due.options["reading"] == reading_of(table.files)
        if same and (not again if due.refused else _is_whole(due)):
            return due
        landing = self._settings.landing_dir
        original = landing / due.options["original"]
        if not original.is_file():
            return replace(due, refused="it is missing from landing. Restore it from a backup.")
        if _sha256(original) != due.sha256:
            reason = "there are other bytes in landing than arrived. Restore it from a backup."
            return replace(due, refused=reason)
        if same and due.path != original:
            due.path.unlink(missing_ok=True)
            self._units = (None, [])
        return self._prepared(table, due, original)

    def _pack_fault(self, path: Path) -> str:
        """Why a compacted file cannot be trusted, which its name tells; empty if it can."""
        if path not in self._packs:
            whole = _sha256(path) == path.stem
            self._packs[path] = (
                ""
                if whole
                else "it was compacted, and the compacted file has other bytes now. "
                "Restore it from a backup."
            )
        return self._packs[path]

    def _prepared(self, table: TableDeclaration, due: DueFile, original: Path) -> DueFile:
        """The file, prepared from its original."""
        member = due.file.removeprefix(due.options["original"]).removeprefix("!")
        name = (due.origin_name or "").removesuffix(f"!{member}" if member else "")
        landing = self._settings.landing_dir
        folder = prepared_folder(landing / self._source.name / table.name, original)
        # The members of an archive come one after the other: it is unpacked once.
        if self._units[0] != original or not member:
            self._units = (original, prepare(original, name, table.files, folder))
        for unit in self._units[1]:
            if unit.member == member:
                return replace(
                    due,
                    path=unit.path,
                    reader=unit.reader or "",
                    own="prepared" if unit.options.get("prepared") else "original",
                    options={**unit.options, "original": due.options["original"]},
                    columns=None if unit.columns is None else tuple(unit.columns),
                    rows=unit.rows,
                    refused=unit.refused,
                )
        return replace(due, refused="it is not in the archive any more")

    # Tables

    def _relation(self, table: str) -> str:
        return f"{quoted(self._source.schema)}.{quoted(table)}"

    def _make_tables(self) -> None:
        """Every declared table exists with its declared columns, even before any data."""
        with _transaction(self._connection):
            self._connection.execute(f"create schema if not exists {quoted(self._source.schema)}")
            views = views_of(self._connection, self._source.schema)
            for table in self._source.tables:
                declared = self._declared(table)
                relation = self._relation(table.name)
                raw = self._raw_files(table.name)
                if raw is not None:
                    raw.prepare(declared)
                    continue
                if table.name in views:
                    as_table(self._connection, self._source.schema, table.name)
                self._connection.execute(_create(relation, declared, replace=False))
                for change in self._evolution(table.name).plan(declared):
                    if change.change == "added":
                        self._connection.execute(change.statement)

    def _raw_files(self, table: str) -> RawFiles | None:
        """The files that hold a table's raw rows; None if a table of the warehouse does."""
        if not self._is_as_files(table):
            return None
        schema = self._source.schema
        return RawFiles(self._connection, self._settings, self._source.name, schema, table)

    def _is_as_files(self, table: str) -> bool:
        kept = self._source.table(table).ingest.raw
        if kept != "auto" or self._source.kind in ("stream", "cdc"):
            return kept == "parquet"
        if table not in self._as_files:
            # What once became files stays so.
            is_view = table in views_of(self._connection, self._source.schema)
            self._as_files[table] = is_view and self._may_be_files(table)
        return self._as_files[table]

    def _may_be_files(self, table: str) -> bool:
        """Whether a type in raw is that of the files, be it text: nothing is made of texts."""
        declared = self._source.table(table)
        if self._source.kind != "files" or not is_text_lines(declared.files):
            return True
        return all(kind == TEXT for kind in self._declared(declared).values())

    def _keep_large_as_files(self, due: Iterable[DueFile]) -> None:
        """Lets tables of which much is due be kept as files from now on."""
        sizes: dict[str, int] = {}
        for file in due:
            is_large_kind = file.reader in ("csv", "ndjson") or file.own in ("dlt", "original")
            if is_large_kind and not file.refused and file.path.is_file():
                sizes[file.table] = sizes.get(file.table, 0) + file.path.stat().st_size
        for name, size in sizes.items():
            table = self._source.table(name)
            if size < _LARGE or table.ingest.raw != "auto" or self._is_as_files(name):
                continue
            if not self._may_be_files(name) or not self._is_of_its_files(name):
                continue
            self._as_files[name] = True
            raw = self._raw_files(name)
            assert raw is not None
            with _transaction(self._connection):
                raw.prepare(self._declared(table))

    def _is_of_its_files(self, table: str) -> bool:
        """Whether raw has nothing but text, if the table's files are text."""
        declared = self._source.table(table)
        if self._source.kind != "files" or not is_text_lines(declared.files):
            return True
        return all(kind == TEXT for kind in self._evolution(table).columns.values())

    def _declared(self, table: TableDeclaration) -> dict[str, str]:
        declared = {
            column.name: self._declared_type(column.data_type)
            for column in table.columns
            if column.name not in METADATA
        }
        if self._source.kind == "stream":
            declared |= ENVELOPE
        if self._source.kind == "cdc":
            from ingestion.cdc.shape import OWN_COLUMNS

            declared |= OWN_COLUMNS
        return declared

    def _declared_type(self, data_type: str | None) -> str:
        """A declared type as DuckDB names it; text where it knows no such type."""
        import duckdb

        if self._source.kind in ("files", "stream") and data_type is None:
            return TEXT
        if data_type not in self._types:
            try:
                found = self._connection.execute(
                    f"select typeof(cast(null as {data_type or TEXT}))"
                ).fetchall()
                self._types[data_type] = str(found[0][0])
            except duckdb.Error:
                self._types[data_type] = TEXT
        return self._types[data_type]

    def _evolution(self, table: str) -> Evolution:
        """The table's columns as they are; which of them are empty is found when needed."""
        described = self._connection.execute(f"describe {self._relation(table)}").fetchall()
        columns = {row[0]: row[1] for row in described if row[0] not in METADATA}
        return Evolution(self._relation(table), columns)

    # One load

    def _load(
        self,
        due: Sequence[DueFile],
        again: Mapping[tuple[str, str], Again],
        whole: Collection[str] = (),
        arrived: Sequence[_Arrived] = (),
    ) -> None:
        """Stages files and commits them; one that fails while being read is left out."""
        import duckdb

        stager = Stager(self._connection, _spool(self._settings))
        unreadable: dict[str, str] = {}
        try:
            for _ in range(1 + len(due)):
                staged = self._stage(stager, due, again, unreadable)
                try:
                    changed = self._without_unchanged(staged, again, whole)
                    self._commit(staged, changed, whole, arrived)
                    return
                except duckdb.Error as error:
                    if disk_full(error):
                        raise
                    found = self._unreadable(stager, staged)
                    if not found:
                        raise
                    unreadable.update(found)
        finally:
            stager.close()
        raise AssertionError("every attempt leaves at least one file out")

    def _stage(
        self,
        stager: Stager,
        due: Sequence[DueFile],
        again: Mapping[tuple[str, str], Again],
        unreadable: dict[str, str],
    ) -> dict[tuple[str, str], Staged]:
        """What can be inserted, by load and table: oldest load first, tables as declared."""
        current: dict[tuple[str, str], list[DueFile]] = {}
        firsts: dict[Path, str] = {}
        first_of_all = min((file.load_id for file in due), default="")
        for table in self._source.tables:
            for file in due:
                if file.table != table.name:
                    continue
                now = self._current(table, file, (table.name, file.file) in again)
                if file.file in unreadable:
                    now = replace(now, refused=unreadable[file.file])
                # What lies in one compacted file goes in with the first of its loads.
                first = firsts.setdefault(file.path, file.load_id)
                load_id = first if file.own == "compacted" else file.load_id
                if self._source.kind == "stream" or file.own == "changes":
                    load_id = first_of_all
                current.setdefault((load_id, table.name), []).append(now)
        staged = {}
        for load_id, name in sorted(current, key=lambda key: key[0]):
            table = self._source.table(name)
            declared = table.files if self._source.kind == "files" else None
            staged[(load_id, name)] = stager.stage(current[(load_id, name)], declared)
        return staged

    @staticmethod
    def _unreadable(stager: Stager, staged: dict[tuple[str, str], Staged]) -> dict[str, str]:
        """Parquet files whose data breaks off or is damaged behind a whole footer."""
        found = {}
        reasons: dict[Path, str] = {}
        for table in staged.values():
            for relation in table.relations:
                for file in relation.files:
                    if file.due.reader == "parquet" and relation.sql:
                        if file.due.path not in reasons:
                            reasons[file.due.path] = stager.check_readable(file.due)
                        if reasons[file.due.path]:
                            found[file.due.file] = reasons[file.due.path]
        return found

    def _without_unchanged(
        self,
        staged: dict[tuple[str, str], Staged],
        again: Mapping[tuple[str, str], Again],
        whole: Collection[str],
    ) -> Mapping[tuple[str, str], Again]:
        """Leaves alone what is refused as before: it is told, but nothing is written of it."""
        kept = dict(again)
        for (_, name), table in staged.items():
            if name in whole:
                continue
            changed = []
            for due, reason in table.refused:
                known = again[(name, due.file)].known if (name, due.file) in again else None
                if known is None or (known.status, known.reason, known.reading) != (
                    "refused",
                    reason,
                    self._reading(name),
                ):
                    changed.append((due, reason))
                    continue
                self._result.refused.append(self._refused(name, due, reason))
                del kept[(name, due.file)]
            table.refused = changed
        return kept

    def _commit(
        self,
        staged: dict[tuple[str, str], Staged],
        again: Mapping[tuple[str, str], Again],
        whole: Collection[str],
        arrived: Sequence[_Arrived],
    ) -> None:
        """Rows and ledger of what was staged, in one transaction."""
        files: list[FileEntry] = []
        rejected: list[RejectedEntry] = []
        changes: list[ChangeEntry] = []
        refused: list[RefusedFile] = []
        held: dict[tuple[str, str], str] = {}
        watch = LoadWatch(self._source, self._settings, self._connection)
        with _transaction(self._connection):
            self._take_out(again, whole)
            failpoint("load.taken_out")
            for (load_id, name), table in staged.items():
                evolution = self._evolution(name)
                taken, brought, frozen = self._evolve(
                    name, evolution, table.relations, held, watch, load_id
                )
                changes += brought
                refused += frozen
                for relation in taken:
                    self._insert(name, evolution, relation, load_id)
                    failpoint("load.rows_inserted")
                    files += [self._loaded(name, file) for file in relation.files]
                    rejected += self._rejected(name, relation.files)
                raw = self._raw_files(name)
                if raw is not None and taken:
                    raw.show(evolution.columns)
                for due, reason in table.refused:
                    files.append(self._refused_entry(name, due, reason))
                    refused.append(self._refused(name, due, reason))
            replays = self._replays(files, refused, again)
            write_ledger(self._connection, files, rejected, changes, replays)
            failpoint("load.ledger_written")
            entries = [e for load in arrived for e in self._load_entries(load, held)]
            write_loads(self._connection, entries)
        watch.save()
        self._result.schema += watch.noted
        self._result.replays += replays
        self._tell(files, changes, refused)

    def _take_out(self, again: Mapping[tuple[str, str], Again], whole: Collection[str]) -> None:
        """Removes rows and entries of files that are read again."""
        for table in self._source.tables:
            taken = {file: entry for (name, file), entry in again.items() if name == table.name}
            if not taken:
                continue
            raw = self._raw_files(table.name)
            if raw is not None:
                is_whole = table.name in whole
                raw.remove(None if is_whole else list(taken))
                known = self._evolution(table.name).columns
                raw.show(self._declared(table) if is_whole else known)
            elif table.name in whole:
                # Columns that only a wrong reading brought go with its rows.
                statement = _create(self._relation(table.name), self._declared(table), replace=True)
                self._connection.execute(statement)
            elif any(entry.known.rows_loaded for entry in taken.values()):
                self._remove_rows(table.name, list(taken))
            listed = None if table.name in whole else list(taken)
            forget_files(self._connection, self._source.name, table.name, listed)

    def _remove_rows(self, table: str, files: list[str]) -> None:
        """Removes rows of files; by a copy, for DuckDB alters no table that it deletes from."""
        raw = self._raw_files(table)
        if raw is not None:
            raw.remove(files)
            raw.show(self._evolution(table).columns)
            return
        relation, columns = self._relation(table), self._evolution(table).columns
        execute = self._connection.execute
        execute(
            f"create or replace temporary table wellspring_kept as select * from {relation} "
            "where not list_contains(?, _file)",
            [files],
        )
        execute(_create(relation, columns, replace=True))
        execute(f"insert into {relation} by name select * from temp.wellspring_kept")
        execute("drop table temp.wellspring_kept")

    def _replays(
        self,
        files: Sequence[FileEntry],
        refused: Sequence[RefusedFile],
        again: Mapping[tuple[str, str], Again],
    ) -> list[ReplayEntry]:
        """What reading files again has changed.

        Raises:
            BadInput: A file that was loaded is not any more.
        """
        now = {(entry.table_name, entry.file): entry for entry in files}
        loaded = {key for key, entry in now.items() if entry.status == "loaded"}
        reasons = {(file.table, file.file): file.reason for file in refused}
        lost = [
            f"  {self._source.name}.{table}: {entry.known.origin_name or file}: "
            f"{reasons.get((table, file), 'it is missing from landing')}"
            for (table, file), entry in again.items()
            if entry.known.status == "loaded" and (table, file) not in loaded
        ]
        if lost:
            raise BadInput(
                f"{counted(len(lost), 'loaded file')} could not be read any more, so nothing is "
                "changed:\n" + "\n".join(lost),
                source=self._source.name,
                hint="Mend the declaration so that it reads these too, or restore them.",
            )
        return [
            _replay(entry.known, now[key], entry.cause)
            for key, entry in again.items()
            if entry.cause is not None and key in now
        ]

    def _evolve(
        self,
        table: str,
        evolution: Evolution,
        relations: list[Relation],
        held: dict[tuple[str, str], str],
        watch: LoadWatch,
        load_id: str,
    ) -> tuple[list[Relation], list[ChangeEntry], list[RefusedFile]]:
        """Makes the table fit all relations, before any row goes in.

        Returns:
            The relations to insert, what changed, and the files that a frozen contract refuses;
            why it does stands in `held` then, by load and table.
        """
        from ingestion.cdc.shape import OWN_COLUMNS

        contract = self._source.table(table).ingest.contract
        declared = self._declared(self._source.table(table))
        raw = Side(evolution.relation, dict(evolution.columns))
        taken: list[Relation] = []
        entries: list[ChangeEntry] = []
        refused: list[RefusedFile] = []
        statements: list[str] = []
        empty: list[str] = []
        settled: set[str] = set()
        for relation in relations:
            # Of streams and change logs, raw has our own columns from the beginning.
            fresh = not evolution.columns.keys() - ENVELOPE.keys() - OWN_COLUMNS.keys()
            evolution.empty = self._empty(evolution, relation, settled)
            unwanted = watch.look(table, relation, raw)
            changes = evolution.plan(relation.columns)
            odd = [] if fresh else undeclared(changes, declared)
            if odd and contract == "quarantine":
                fitting = Fitting(self._connection, self._source.name, table, load_id)
                relation = fitting.of(relation, odd)
                changes = [change for change in changes if change not in odd]
            breach = _breach(odd) if contract == "freeze" else ""
            if breach := breach or refusal(unwanted):
                breached = [self._frozen(table, c.due, breach) for c in relation.files]
                held.update(((c.due.load_id, table), breached[0].reason) for c in relation.files)
                refused += breached
                continue
            statements += evolution.take(changes)
            empty += [change.column for change in changes if change.change == "settled"]
            settled.update(relation.columns)
            taken.append(relation)
            if not fresh:
                entries += self._changes(table, relation, changes)
        self._alter(table, evolution, statements, empty)
        return taken, entries, refused

    def _alter(
        self, table: str, evolution: Evolution, statements: list[str], empty: list[str]
    ) -> None:
        """Changes the table; one without rows is made anew, which is quicker than many changes."""
        raw = self._raw_files(table)
        if raw is not None:
            # What the files hold is seen through a view, which is made of the columns at the end.
            if empty:
                raw.settle(empty)
            return
        if not statements:
            return
        (rows,) = self._connection.execute(f"select count(*) from {evolution.relation}").fetchall()
        if rows[0] == 0:
            statements = [_create(evolution.relation, evolution.columns, replace=True)]
        for statement in statements:
            self._connection.execute(statement)

    def _empty(self, evolution: Evolution, relation: Relation, settled: set[str]) -> set[str]:
        """Columns whose type may still be chosen: asked only where the types differ."""
        differing = [
            name
            for name, kind in relation.columns.items()
            if evolution.columns.get(name, kind) != kind and name not in settled
        ]
        if not differing:
            return set()
        counts = ", ".join(f"count({quoted(name)})" for name in differing)
        found = self._connection.execute(f"select {counts} from {evolution.relation}").fetchall()
        return {name for name, count in zip(differing, found[0], strict=True) if not count}

    def _insert(self, table: str, evolution: Evolution, relation: Relation, load_id: str) -> None:
        """Adds a relation's rows to raw and checks that they are as many as were read."""
        if not relation.sql:
            return
        if self._source.kind == "cdc":
            relation = self._filled(table, evolution, relation)
        names = [quoted(name) for name in relation.columns]
        values = [
            converted(f"data.{quoted(name)}", kind, evolution.columns[name])
            for name, kind in relation.columns.items()
        ]
        own = [
            "data._file",
            "data._row",
            "data._load_id" if relation.has_load else literal(load_id),
            "data._extracted_at" if relation.has_load else _moment(load_id),
            "coalesce(data._deleted, false)" if relation.has_deleted else "false",
        ]
        columns = [*names, *METADATA]
        raw = self._raw_files(table)
        if raw is not None:
            added = self._kept_as_file(raw, relation, load_id, own)
        else:
            (added,) = self._connection.execute(
                f"insert into {evolution.relation} ({', '.join(columns)}) "
                f"select {', '.join([*values, *own])} from ({relation.sql}) as data"
            ).fetchall()[0]
        expected = sum(file.loaded for file in relation.files)
        if added != expected:
            raise IngestionError(
                f"{added} rows were added where {expected} were read",
                source=self._source.name,
                table=table,
                file=relation.files[0].due.file,
                hint="The load was rolled back. This is a fault of Wellspring: please report it.",
            )

    def _kept_as_file(
        self, raw: RawFiles, relation: Relation, load_id: str, own: Sequence[str]
    ) -> int:
        """Adds a relation's rows to raw as files, with the types that they came with."""
        files = [counted.due.file for counted in relation.files]
        if relation.pieces:
            return raw.add(relation.pieces, files)
        if relation.origins is not None:
            shape = {n: (origin, relation.columns[n]) for n, origin in relation.origins.items()}
            if relation.has_deleted:
                shape["_deleted"] = ("_deleted", METADATA["_deleted"])
            landed = [Landed(counted.due.path, counted.due.file) for counted in relation.files]
            return raw.link(landed, load_id, shape)
        told = [f"data.{quoted(name)}" for name in relation.columns]
        told += [f"{value} as {name}" for value, name in zip(own, METADATA, strict=True)]
        is_text = all(kind == TEXT for kind in relation.columns.values())
        columns = None if is_text and not relation.has_deleted else relation.columns
        return raw.write(f"select {', '.join(told)} from ({relation.sql}) as data", files, columns)

    def _filled(self, table: str, evolution: Evolution, relation: Relation) -> Relation:
        """The rows with the values that a change log leaves out because they did not change."""
        from ingestion.cdc.filling import filled
        from ingestion.landing import column_mapping

        key = column_mapping(self._source.table(table).database.primary_key).values()
        columns = evolution.columns
        return filled(self._connection, relation, evolution.relation, columns, list(key))

    def _refuse(self, load_id: str, counts: Sequence[LandedCount], faults: dict[str, str]) -> None:
        """Notes that landing does not hold what was extracted; nothing of the load is loaded."""
        entries = []
        for count in counts:
            fault = faults.get(count.table)
            entries.append(self._load_entry(count, "refused" if fault else "pending", fault))
        with _transaction(self._connection):
            write_loads(self._connection, self._news(entries))
        place = f"load {load_id}"
        for table, fault in faults.items():
            file = RefusedFile(self._source.name, table, place, None, fault, True, damaged=True)
            log.warning("%s", file)
            self._result.refused.append(file)

    # Entries

    def _load_entries(
        self,
        arrived: _Arrived,
        held: Mapping[tuple[str, str], str],
    ) -> list[LoadEntry]:
        """What is to be noted of a load's tables."""
        counted = {count.table: count for count in arrived.counts}
        for table in arrived.tables:
            counted.setdefault(table, LandedCount(table, load_id=arrived.load_id))
        entries = []
        for table, count in counted.items():
            selected = table in self._tallies
            reason = held.get((arrived.load_id, table))
            status: LoadStatus = "held" if reason else "loaded" if selected else "pending"
            entries.append(self._load_entry(count, status, reason))
        return self._news(entries)

    def _load_entry(self, count: LandedCount, status: LoadStatus, reason: str | None) -> LoadEntry:
        return LoadEntry(
            source=self._source.name,
            table_name=count.table,
            load_id=count.load_id,
            rows_read=count.rows_read,
            rows_landed=count.rows_landed,
            rows_deleted=count.rows_deleted,
            files_landed=count.files_landed,
            status=status,
            reason=reason,
        )

    def _news(self, entries: list[LoadEntry]) -> list[LoadEntry]:
        """Entries that say something new: a run without news leaves the warehouse as it is."""
        news = []
        for entry in entries:
            before = self._noted.get((entry.load_id, entry.table_name), ("", None))
            told = before == (entry.status, entry.reason)
            # A later run with another selection knows less of a table, not more.
            if not told and not (before[0] and entry.status == "pending"):
                news.append(entry)
        return news

    def _loaded(self, table: str, counted: Counted) -> FileEntry:
        due, rejected = counted.due, len(counted.rejected) + counted.aside
        return FileEntry(
            source=self._source.name,
            table_name=table,
            file=due.file,
            load_id=due.load_id,
            origin_name=due.origin_name,
            reader=due.reader,
            bytes=due.size,
            sha256=due.sha256,
            rows_read=due.rows if due.rows is not None else counted.loaded + rejected,
            rows_loaded=counted.loaded,
            rows_rejected=rejected,
            status="loaded",
            reason=None,
            reading=self._reading(table),
        )

    def _reading(self, table: str) -> str | None:
        """Fingerprint of the declaration, where it decides how bytes become rows."""
        declared = self._source.table(table)
        kept = kept_by(declared)
        if self._source.kind != "files":
            return kept or None
        return reading_of(declared.files) + kept

    def _refused_entry(self, table: str, due: DueFile, reason: str) -> FileEntry:
        return FileEntry(
            source=self._source.name,
            table_name=table,
            file=due.file,
            load_id=due.load_id,
            origin_name=due.origin_name,
            reader=due.reader or None,
            bytes=due.size,
            sha256=due.sha256,
            rows_read=0,
            rows_loaded=0,
            rows_rejected=0,
            status="refused",
            reason=reason,
            reading=self._reading(table),
        )

    def _rejected(self, table: str, files: Sequence[Counted]) -> list[RejectedEntry]:
        return [
            RejectedEntry(
                source=self._source.name,
                table_name=table,
                file=counted.due.file,
                record_number=number,
                reason=reason,
                raw_record=raw,
                load_id=counted.due.load_id,
            )
            for counted in files
            for number, reason, raw in counted.rejected
        ]

    def _refused(self, table: str, due: DueFile, reason: str) -> RefusedFile:
        fatal = self._source.table(table).ingest.on_refused == "fail"
        return RefusedFile(self._source.name, table, due.file, due.origin_name, reason, fatal)

    def _frozen(self, table: str, due: DueFile, breach: str) -> RefusedFile:
        """A file that breaks a frozen contract; not entered, so it loads once that is mended."""
        reason = (
            f"the contract is frozen, but {breach}. Declare `contract: evolve`, "
            "or add the column to the table's `columns`. `wellspring changes "
            f"{self._source.name}.{table}` shows what depends on it."
        )
        return self._refused(table, due, reason)

    def _changes(self, table: str, relation: Relation, changes: list[Change]) -> list[ChangeEntry]:
        """Changes to note; a column that only now gets its type has not changed."""
        due = relation.files[0].due
        return [
            ChangeEntry(
                source=self._source.name,
                table_name=table,
                file=due.file,
                column_name=change.column,
                change=change.change,
                old_type=change.old_type,
                new_type=change.new_type,
                load_id=due.load_id,
            )
            for change in changes
            if change.change != "settled"
        ]

    def _tell(
        self,
        files: list[FileEntry],
        changes: list[ChangeEntry],
        refused: list[RefusedFile],
    ) -> None:
        """Adds what was committed to the result."""
        for entry in files:
            tally = self._tallies[entry.table_name]
            if entry.status == "loaded":
                tally.files += 1
                tally.rows += entry.rows_loaded
                tally.rejected += entry.rows_rejected
                tally.sizes[entry.file.partition("!")[0]] = entry.bytes
        self._result.changes += _told(changes)
        for file in refused:
            log.warning("%s", file)
        self._result.refused += refused
        for name in {entry.table_name for entry in files}:
            tally = self._tallies[name]
            self._reporter.tell("advanced", name, rows=tally.rows, files=tally.files)


def _replay(known: KnownFile, now: FileEntry, cause: Cause) -> ReplayEntry:
    return ReplayEntry(
        source=now.source,
        table_name=now.table_name,
        file=now.file,
        load_id=now.load_id,
        cause=cause,
        status_before=known.status,
        rows_loaded_before=known.rows_loaded,
        rows_rejected_before=known.rows_rejected,
        status_after=now.status,
        rows_loaded_after=now.rows_loaded,
        rows_rejected_after=now.rows_rejected,
        reading_before=known.reading,
        reading_after=now.reading,
    )


def _is_whole(due: DueFile) -> bool:
    """Whether what is read lies there in its full length."""
    try:
        return bool(due.path.stat().st_size == due.options["bytes"])
    except FileNotFoundError:
        return False


def _create(relation: str, columns: dict[str, str], *, replace: bool) -> str:
    """The statement that makes a raw table of these columns and ours."""
    listed = [f"{quoted(name)} {kind}" for name, kind in columns.items()]
    for name, kind in METADATA.items():
        listed.append(f"{name} {kind}" + (" default false" if name == "_deleted" else ""))
    verb = "create or replace table" if replace else "create table if not exists"
    return f"{verb} {relation} ({', '.join(listed)})"


def _breach(changes: list[Change]) -> str:
    """What a frozen contract does not allow; empty if there is nothing."""
    told = []
    for change in changes:
        if change.change == "added":
            told.append(f"a new column {change.column} ({change.new_type})")
        elif change.change != "settled":
            told.append(f"{change.column} as {change.new_type} instead of {change.old_type}")
    return f"it brings {'; '.join(told)}" if told else ""


_NAMED_COLUMNS = 8


def _told(changes: list[ChangeEntry]) -> list[str]:
    """Changes of raw tables for people, one line for each table and kind of change."""
    groups: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        what = change.column_name
        if change.old_type:
            what += f" ({change.old_type} -> {change.new_type})"
        table = f"{change.source}.{change.table_name}"
        groups.setdefault((table, change.change.replace("_", " ")), []).append(what)
    lines = []
    for (table, kind), names in groups.items():
        more = len(names) - _NAMED_COLUMNS
        listed = ", ".join(names[:_NAMED_COLUMNS]) + (f" and {more:,} more" if more > 0 else "")
        lines.append(f"{table}: {kind} {listed}")
    return lines


def _moment(load_id: str) -> str:
    """The time in a load id as an SQL literal."""
    return f"timestamp {literal(extracted_at(load_id).isoformat(sep=' '))}"


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
