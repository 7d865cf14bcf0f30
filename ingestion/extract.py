"""Extracts declared sources into landing: sources side by side, one dlt pipeline each.

declarations -> threads -> pending load finished -> tables read -> difference -> dlt -> landing

A source is one dlt load: its tables land together, or not at all if the process dies. A table that
fails fails its source, but the source's other tables still land, and no source stops another.
Nothing is asked of dlt when there is nothing to land: a run without news costs what reading costs.

Left out: what is new (`delta`, `files`), how it is read (`database`, `rest`, `python_source`).
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion import landing
from ingestion.arrivals import parquet_rows
from ingestion.budget import require_free
from ingestion.database import OnTable, Reading
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.delta import COMPARED_AT_ONCE, Delta, Difference
from ingestion.durable import sync
from ingestion.errors import (
    DiskFull,
    IngestionError,
    LockHeld,
    SourceFailed,
    disk_full,
    disk_full_error,
    first_line,
    network_fault,
    our_error,
)
from ingestion.failpoints import failpoint
from ingestion.periods import Period
from ingestion.progress import Interrupted, OnProgress, Reporter, counted, interruption
from ingestion.schema.journal import Noted
from ingestion.schema.watching import SchemaWatch
from ingestion.settings import Settings

if TYPE_CHECKING:
    from ingestion.files import FilesOutcome, OnlyFiles

logger = logging.getLogger(__name__)

_TURN_SECONDS = 0.1
_STREAMS_AT_ONCE = 4
_COMPARING = threading.BoundedSemaphore(COMPARED_AT_ONCE)
Status = Literal["ok", "failed", "nothing_new"]


@dataclass
class TableResult:
    """What became of a table.

    Attributes:
        table: Its name.
        rows: Rows that landed: new, changed and deleted ones; of files, as far as known.
        files: Files that landed.
        bytes: Size of what landed.
        refused: Files that landed but cannot be read.
        seconds: Time taken.
        deleted: Of the rows, those that mark a key as deleted in the source.
        read: Rows that were read from the source to find them.
        message: What was done, in words.
        note: Where a period was asked for, what could not be kept to it.
        error: Why it failed; None if it did not.
    """

    table: str
    rows: int = 0
    files: int = 0
    bytes: int = 0
    refused: int = 0
    seconds: float = 0.0
    deleted: int = 0
    read: int = 0
    message: str = ""
    note: str = ""
    error: IngestionError | None = None


@dataclass
class SourceResult:
    """What became of a source.

    Attributes:
        source: Its name.
        status: `failed` if any of its tables failed, `nothing_new` if nothing landed, else `ok`.
        tables: Its tables, in the declaration's order.
        seconds: Time taken.
        error: Why it failed; the first error if several tables did.
        changes: How the source has changed, as far as that shows before loading.
    """

    source: str
    status: Status
    tables: list[TableResult]
    seconds: float = 0.0
    error: IngestionError | None = None
    changes: list[Noted] = field(default_factory=list)


@dataclass
class _Parcel:
    """What a table has to land: Parquet files, or Arrow tables of the register.

    Attributes:
        name: Name of the dlt table.
        difference: The rows of a database, API or Python source.
        register: Register rows of files.
    """

    name: str
    difference: Difference | None = None
    register: list[Any] = field(default_factory=list)


def extract(
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    *,
    full_refresh: bool = False,
    on_progress: OnProgress | None = None,
) -> list[SourceResult]:
    """Lands what is new, changed or gone in the sources.

    Args:
        declarations: The sources, each with the tables to extract.
        settings: The project's settings.
        full_refresh: Read everything again, whatever cursors and dates of files say. Still only
            differences land, because landing is never written twice.
        on_progress: Told of every table; called from several threads, never at the same time.

    Returns:
        One result per source, in the order of the declarations. Failures are in the results.
    """
    prepare_extraction(settings)

    def work(declaration: SourceDeclaration) -> SourceResult:
        return extract_source(
            declaration, settings, full_refresh=full_refresh, on_progress=on_progress
        )

    with ThreadPoolExecutor(settings.extract.parallel_sources, "extract") as pool:
        try:
            return list(pool.map(work, declarations))
        except BaseException:
            interruption.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def prepare_extraction(settings: Settings) -> None:
    """Makes ready for extractions; call it before threads begin them."""
    landing.configure(settings)
    # Threads that import the same module for the first time wait for each other; dlt is slow to.
    _import_slow()
    interruption.clear()


def prepare_ahead(settings: Settings) -> None:
    """Begins to import what extractions need, beside whatever has to be done before them."""
    landing.configure(settings)
    threading.Thread(target=_import_slow, name="imports", daemon=True).start()


def _import_slow() -> None:
    import dlt  # noqa: F401  # imported to be there
    import pyarrow.parquet  # noqa: F401  # the same


def extract_source(
    declaration: SourceDeclaration,
    settings: Settings,
    *,
    full_refresh: bool = False,
    on_progress: OnProgress | None = None,
    former: SourceResult | None = None,
    period: Period | None = None,
    only: OnlyFiles | None = None,
) -> SourceResult:
    """Lands what is new, changed or gone in one source.

    Args:
        declaration: The source, with the tables to extract.
        settings: The project's settings.
        full_refresh: Read everything again, whatever cursors and dates of files say.
        on_progress: Told of every table.
        former: Result of an attempt before this one: only the tables that failed are read again,
            and what became of the others is taken over.
        period: Read what the source has of it, whatever has landed; tables that cannot be asked for
            a period are read whole with the first one.
        only: Asked for each file of a source of files whether it is to be read now.

    Returns:
        What became of it; a failure is in the result.
    """
    failed = {t.table for t in former.tables if t.error} if former else set()
    again = tuple(table for table in declaration.tables if table.name in failed)
    chosen = replace(declaration, tables=again) if again else declaration
    result = _SourceRun(chosen, settings, full_refresh, on_progress, period, only).run()
    if former is None or not again:
        return result
    new = {table.table: table for table in result.tables}
    tables = [new.get(table.table, table) for table in former.tables]
    error = result.error
    landed = any(table.rows or table.files for table in tables)
    status: Status = "failed" if error else "ok" if landed else "nothing_new"
    seconds = former.seconds + result.seconds
    changes = [*former.changes, *(n for n in result.changes if n not in former.changes)]
    return SourceResult(result.source, status, tables, seconds, error, changes)


class _SourceRun:
    """One extraction of one source."""

    def __init__(
        self,
        declaration: SourceDeclaration,
        settings: Settings,
        full_refresh: bool,
        on_progress: OnProgress | None,
        period: Period | None = None,
        only: OnlyFiles | None = None,
    ) -> None:
        self._period = period
        self._only = only
        self._declaration = declaration
        self._settings = settings
        self._full_refresh = full_refresh
        self._on_progress = on_progress
        self._report = Reporter("extract", declaration.name, on_progress)
        self._results = {table.name: TableResult(table.name) for table in declaration.tables}
        self._parcels: list[_Parcel] = []
        self._watch: SchemaWatch | None = None

    def run(self) -> SourceResult:
        """Extracts the source; every error ends up in the result."""
        started = time.monotonic()
        name = self._declaration.name
        self._report.tell("started")
        error: IngestionError | None = None
        before: set[str] = set()
        try:
            with self._alone(), self._folder() as folder:
                before = set(landing.completed_loads(self._settings, name))
                self._extract(folder, max(before, default=""))
        except Exception as raised:
            error = self._ours(raised, None)
        try:
            self._count(before)
        except Exception as raised:
            error = error or self._ours(raised, None)
        tables = list(self._results.values())
        error = error or next((table.error for table in tables if table.error), None)
        landed = any(table.rows or table.files for table in tables)
        status: Status = "failed" if error else "ok" if landed else "nothing_new"
        seconds = time.monotonic() - started
        rows, files = sum(t.rows for t in tables), sum(t.files for t in tables)
        self._report.tell(
            "failed" if error else "finished", rows=rows, files=files, message=str(error or "")
        )
        changes = self._watch.noted if self._watch else []
        return SourceResult(name, status, tables, seconds, error, changes)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One extraction of the source at a time: a watched folder is extracted beside runs."""
        path = self._settings.state_dir / "extract" / f"{self._declaration.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    interruption.check()
                    time.sleep(_TURN_SECONDS)
            yield

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """An empty folder for the spool; what an interrupted run left there is removed."""
        folder = landing.spool_dir(self._settings, self._declaration.name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _extract(self, folder: Path, newest: str) -> None:
        self._check_clock(newest)
        require_free(self._settings, f"source {self._declaration.name} is not read")
        if self._declaration.kind == "stream":
            self._catch_up_streams()
            return
        if self._declaration.kind == "cdc":
            self._catch_up_changes()
            return
        if not landing.is_settled(self._settings, self._declaration.name):
            pipeline = landing.source_pipeline(self._settings, self._declaration.name)
            if pipeline.has_pending_data:
                landing.finish_pending(pipeline, self._settings)
        self._watch = watch = SchemaWatch(self._declaration, self._settings)
        try:
            self._read(folder, watch)
        finally:
            # What was seen is noted before it lands: a death in between finds it noted already.
            watch.save()
            # Tables that were read land even if reading others, or the connection, broke later.
            interruption.check()
            if self._parcels:
                order = list(self._results)
                self._parcels.sort(
                    key=lambda parcel: order.index(
                        parcel.name.removesuffix(landing.REGISTER_SUFFIX)
                    )
                )
                resources = [*map(_resource, self._parcels), self._counts()]
                pipeline = landing.source_pipeline(self._settings, self._declaration.name)
                loads = landing.run(pipeline, resources, self._settings)
                self._sync(loads)
                failpoint("extract.synced")

    def _catch_up_streams(self) -> None:
        """Lands each stream up to its end as of now, if no lander is at work on it."""
        from ingestion.lander.landers import Work, stream_lander, works_of

        def catch_up(work: Work) -> None:
            interruption.check()
            with self._table(work.table) as result:
                try:
                    lander = stream_lander(work, self._settings, interruption.event)
                    done = lander.catch_up()
                except LockHeld:
                    result.message = "landed by the lander that is at work"
                    return
                result.rows = result.read = done.rows
                result.files, result.bytes = done.files, done.bytes
                result.message = f"took {counted(done.rows, 'message')}"

        # Where a broker does not tell the end, it is waited for, which streams do side by side.
        with ThreadPoolExecutor(_STREAMS_AT_ONCE, f"read-{self._declaration.name}") as pool:
            for _ in pool.map(catch_up, works_of([self._declaration])):
                pass

    def _catch_up_changes(self) -> None:
        """Lands the changes that a database's log tells up to now, by itself and not by dlt."""
        from ingestion.cdc.lander import ChangeLander

        lander = ChangeLander(self._declaration, self._settings)
        try:
            lander.catch_up()
        except LockHeld:
            for result in self._results.values():
                result.message = "landed by the lander that is at work"
        finally:
            for name, landed in lander.landed.items():
                if name in self._results:
                    result = self._results[name]
                    result.read, result.deleted = landed.read, landed.deleted
                    result.message = result.message or f"took {counted(landed.read, 'row')}"
                    self._report.tell("finished", name, rows=landed.rows, message=result.message)

    def _counts(self) -> Any:
        """What is about to land, so that whoever reads landing can tell what is missing."""
        parcels = {parcel.name: parcel for parcel in self._parcels}
        counts = []
        for result in self._results.values():
            register = parcels.get(result.table + landing.REGISTER_SUFFIX)
            if register is not None:
                lines = sum(table.num_rows for table in register.register)
                counts.append(landing.LandedCount(result.table, files_landed=lines))
            elif result.error is None and self._declaration.kind != "files":
                figures = (result.read, result.rows, result.deleted)
                counts.append(landing.LandedCount(result.table, *figures))
        return _tables_resource(landing.COUNTS_TABLE, [landing.counts_table(counts)], "table")

    def _check_clock(self, newest: str) -> None:
        """Loads are named by the time and sorted by name; one that is in the future is told."""
        now = time.time()
        if newest and float(newest) > now:
            logger.warning(
                "%s: its newest load is %s seconds ahead of this machine's clock. Set the clock "
                "right if it went back. Loads are named after that moment until it has passed, so "
                "that new versions of a row count as new.",
                self._declaration.name,
                f"{float(newest) - now:,.0f}",
            )

    def _read(self, folder: Path, watch: SchemaWatch) -> None:
        declaration, full, period = self._declaration, self._full_refresh, self._period
        match declaration.kind:
            case "files":
                self._read_files()
            case "database":
                from ingestion import database

                on_table = self._on_table(folder, watch)
                database.read_tables(declaration, full, on_table, period, watch)
            case "rest":
                from ingestion.rest.reading import read_tables

                on_table = self._on_table(folder, watch)
                read_tables(declaration, self._settings, full, on_table, period)
            case "python":
                from ingestion import python_source

                settings, on_table = self._settings, self._on_table(folder, watch)
                python_source.read_tables(declaration, settings, full, on_table, period)

    def _on_table(self, folder: Path, watch: SchemaWatch) -> OnTable:
        def on_table(
            table: TableDeclaration, read: Callable[[Delta, Path], Reading]
        ) -> Sequence[Path] | None:
            interruption.check()
            require_free(self._settings, f"table {table.name} is not read")
            place = folder / table.name
            place.mkdir()
            with self._table(table.name) as result:
                landed = landing.landed_files(self._settings, self._declaration.name, table.name)
                with Delta(self._settings, landed) as delta:
                    try:
                        reading = read(delta, place)
                    except IngestionError:
                        watch.broken(table)
                        raise
                    result.message, result.note = reading.statement, reading.note
                    if reading.is_skipped:
                        return ()
                    watch.read(table, delta, reading.spool, reading.is_whole)
                    with _COMPARING:
                        difference = delta.difference(reading.spool, place / "difference.parquet")
                failpoint("extract.spooled")
                for file in {*reading.spool.files} - {*difference.files}:
                    file.unlink(missing_ok=True)
                result.read, result.deleted = difference.read, difference.deleted
                result.rows = difference.rows
                if difference.rows:
                    self._parcels.append(_Parcel(table.name, difference))
                return difference.files if difference.rows else ()
            return None

        return on_table

    def _read_files(self) -> None:
        from ingestion.files import files_resources

        extraction = files_resources(
            self._declaration,
            self._settings,
            full_refresh=self._full_refresh,
            on_progress=self._on_progress,
            period=self._period,
            only=self._only,
        )
        for resource, table in zip(extraction.resources, self._declaration.tables, strict=True):
            with self._table(table.name, tell=False) as result:
                register = list(resource)
                self._files_outcome(result, extraction.outcomes[table.name])
                if register:
                    self._parcels.append(_Parcel(str(resource.name), register=register))

    @staticmethod
    def _files_outcome(result: TableResult, outcome: FilesOutcome) -> None:
        result.refused = len(outcome.refused)
        result.rows = outcome.rows
        result.files = outcome.files
        result.bytes = outcome.bytes
        busy = f", {len(outcome.busy)} still being written" if outcome.busy else ""
        result.message = f"found {counted(outcome.found, 'file')}{busy}"

    @contextmanager
    def _table(self, name: str, *, tell: bool = True) -> Iterator[TableResult]:
        """Times a table and keeps its error, so that the source's other tables go on."""
        result = self._results[name]
        started = time.monotonic()
        if tell:
            self._report.tell("started", name)
        try:
            yield result
        except Exception as raised:
            result.error = self._ours(raised, name)
            result.rows = result.files = result.bytes = 0
            self._report.tell("failed", name, message=str(result.error))
        result.seconds = time.monotonic() - started
        if tell and result.error is None:
            self._report.tell("finished", name, rows=result.rows, message=result.message)

    def _ours(self, error: Exception, table: str | None) -> IngestionError:
        """The error as one of ours, with its place."""
        source = self._declaration.name
        if isinstance(error, Interrupted):
            return SourceFailed("interrupted", source=source, table=table)
        ours = our_error(error)
        if disk_full(error) and not isinstance(ours, DiskFull):
            return disk_full_error(self._settings.data_dir, error, source=source)
        if ours is not None:
            ours.source = ours.source or source
            ours.table = ours.table or table
            return ours
        logger.error("source %s, table %s", source, table, exc_info=error)
        return SourceFailed(
            f"{type(error).__name__}: {first_line(error)}",
            source=source,
            table=table,
            may_pass=network_fault(error),
            hint="Nothing of this table was landed. The log holds the details.",
        )

    def _sync(self, loads: Sequence[str]) -> None:
        """Makes what landed survive a power cut: dlt copies files without waiting for the disk."""
        root = self._settings.landing_dir / self._declaration.name
        folders = {root / "_dlt_loads"}
        for name in (*(parcel.name for parcel in self._parcels), landing.COUNTS_TABLE):
            for file in landing.landed_files(self._settings, self._declaration.name, name):
                if file.load_id in loads:
                    sync(file.path)
                    folders.add(file.path.parent)
        for folder in folders:
            sync(folder)

    def _count(self, before: set[str]) -> None:
        """Takes rows and files from what has landed, also from loads that were pending."""
        if self._declaration.kind == "stream":
            return
        import pyarrow.parquet as pq

        new = set(landing.completed_loads(self._settings, self._declaration.name)) - before
        if self._declaration.kind == "files" and new:
            return
        for result in self._results.values():
            result.rows = result.files = result.bytes = 0
            if not new:
                continue
            for file in landing.landed_files(self._settings, self._declaration.name, result.table):
                if file.load_id in new:
                    result.files += 1
                    result.bytes += file.path.stat().st_size
                    result.rows += pq.read_metadata(file.path).num_rows


def _resource(parcel: _Parcel) -> Any:
    """A dlt resource that lands a parcel: Parquet files go to landing as they are."""
    import dlt

    if parcel.difference is None:
        return _tables_resource(parcel.name, parcel.register, "file")
    files = parcel.difference.files
    return dlt.resource(
        lambda: (dlt.mark.with_file_import(str(f), "parquet", parquet_rows(f) or 0) for f in files),
        name=parcel.name,
        write_disposition="append",
        columns=_hints(files[0]),
        schema_contract="evolve",
        max_table_nesting=0,
    )


def _tables_resource(name: str, tables: list[Any], key: str) -> Any:
    """A dlt resource that lands Arrow tables of our own."""
    import dlt

    return dlt.resource(
        lambda: iter(tables),
        name=name,
        write_disposition="append",
        primary_key=(key,),
        schema_contract="evolve",
        max_table_nesting=0,
    )


def _hints(path: Path) -> Any:
    """Description for dlt of the columns of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from dlt.common.libs.pyarrow import py_arrow_to_table_schema_columns

    schema = pq.read_schema(path)
    hints = py_arrow_to_table_schema_columns(schema)
    for column in schema:
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            # Otherwise dlt would rewrite the file and call local times UTC.
            hints[column.name]["timezone"] = False
    return hints
