"""The landing zone: immutable files as extracted, one dlt filesystem dataset a source (D2).

dlt resources -> `run` (one dlt pipeline a source) -> landing/<source>/<table>/<load>.<job>.parquet
-> `completed_loads` -> `landed_files`, `register_rows` -> the loader and the delta

A file counts only once its dlt load is complete, so a crash leaves nothing half-landed: files of a
broken load are ignored, and its package is finished or repeated under the same names. dlt keeps its
state in landing too; working folders can be wiped. Left out: what to extract, which the kinds of
sources know, and reading the files, which `load.py` does.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion.compacted import Part, packs
from ingestion.errors import (
    BadInput,
    SourceFailed,
    disk_full,
    disk_full_error,
    first_line,
    our_error,
)
from ingestion.failpoints import failpoint
from ingestion.settings import Settings

if TYPE_CHECKING:
    import dlt
    import pyarrow as pa

log = logging.getLogger(__name__)

# Arrow batches of a DuckDB row group: far fewer calls through dlt than with its thousand rows.
BATCH_ROWS = 122_880
REGISTER_SUFFIX = "__files"
# No source can have a table of this name: theirs have no double underscore.
COUNTS_TABLE = "landed__counts"
_LAYOUT = "{table_name}/{load_id}.{file_id}.{ext}"
_LOADS = "_dlt_loads"
# A lander's files lie in a folder a day: <source>/<table>/<day>/<load>.<first>-<last>.parquet
DAY_FOLDER = re.compile(r"^\d{4}-\d\d-\d\d$")
DAY_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_PARTS_OF_A_DAYS_FILE = 3
# More rounds than dlt ever leaves packages behind; beyond that it is not getting forward.
_PENDING_ROUNDS = 20


@dataclass(frozen=True)
class LandedFile:
    """One Parquet file that dlt wrote in a completed load.

    Attributes:
        table: Name of the table.
        load_id: dlt's load id; as a text it sorts by time.
        path: Where the file lies.
        file: Its path below the landing zone, as raw rows state it in `_file`.
        part: What it was, if it lies in a compacted file now; `path` is that file then.
    """

    table: str
    load_id: str
    path: Path
    file: str
    part: Part | None = None


@dataclass(frozen=True)
class RegisterRow:
    """One readable unit of a table that arrives as files: a file, or a member of a zip archive.

    Attributes:
        origin_url: Where it was found, without secrets.
        origin_name: Path below the table's connection, `archive.zip!member` for members.
        size: Bytes of the original file.
        modified_at: When the origin says it was modified, as an ISO text; empty if it does not.
        etag: The origin's own mark of this version; empty if it has none.
        sha256: Checksum of the original bytes.
        original: Path of the original below landing.
        file: What raw rows state in `_file`: `original`, with `!member` for members.
        read_path: Path below landing of what the loader reads: the original or a prepared file.
        reader: How it is read.
        reader_options: Options of that reader and the reading's fingerprint, as JSON.
        columns: Normalised names of its columns in order, as JSON; `null` if not known yet.
        rows: Its number of rows, if known at landing.
        status: Whether it can be read.
        reason: Why it was refused, for people; empty otherwise.
        encoding: Encoding that decoded it; empty where that does not apply.
        load_id: dlt's load id; empty for a row that is not landed yet.
    """

    origin_url: str
    origin_name: str
    size: int
    modified_at: str
    etag: str
    sha256: str
    original: str
    file: str
    read_path: str
    reader: str
    reader_options: str
    columns: str
    rows: int | None
    status: Literal["landed", "refused"]
    reason: str
    encoding: str
    load_id: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """The reader's options."""
        options: dict[str, Any] = json.loads(self.reader_options)
        return options

    @property
    def column_names(self) -> list[str] | None:
        """Normalised names of the columns; None if not known yet."""
        names: list[str] | None = json.loads(self.columns)
        return names


@dataclass(frozen=True)
class LandedCount:
    """What an extraction was about to land of one table, noted in the same load.

    Attributes:
        table: Name of the table.
        rows_read: Rows that the source gave; None for files, which are counted when loaded.
        rows_landed: Rows to land: new and changed ones, and marks of deletion; None for files.
        rows_deleted: Of these, marks of deletion; None for files.
        files_landed: Lines to land in the register of files; None for anything else.
        load_id: dlt's load id; empty as long as it is not landed.
    """

    table: str
    rows_read: int | None = None
    rows_landed: int | None = None
    rows_deleted: int | None = None
    files_landed: int | None = None
    load_id: str = ""

    @property
    def expected(self) -> int:
        """Rows that the table's Parquet files of this load hold together."""
        return (self.files_landed if self.rows_landed is None else self.rows_landed) or 0

    @property
    def folder(self) -> str:
        """The table's folder below that of its source."""
        return self.table if self.files_landed is None else self.table + REGISTER_SUFFIX


def configure(settings: Settings) -> None:
    """Sets what dlt takes from the environment: places, no telemetry, Parquet with zstd.

    Call it before dlt is imported for the first time.
    """
    os.environ.update(settings.environment())
    os.environ.setdefault("DATA_WRITER__COMPRESSION", "zstd")
    os.environ.setdefault("RUNTIME__LOG_LEVEL", "ERROR")
    # dlt would keep a copy of every landed file in its working folder.
    os.environ.setdefault("LOAD__DELETE_COMPLETED_JOBS", "true")
    # Rows in a Parquet file and in memory before dlt rotates or flushes.
    os.environ.setdefault("DATA_WRITER__BUFFER_MAX_ITEMS", str(BATCH_ROWS))


def source_pipeline(settings: Settings, source: str) -> dlt.Pipeline:
    """The dlt pipeline of a source, with its folder in landing and its working folder in state."""
    configure(settings)
    import dlt
    from dlt.destinations import filesystem

    _prepare_dataset(settings.landing_dir / source)
    return dlt.pipeline(
        pipeline_name=source,
        pipelines_dir=str(settings.dlt_dir / "pipelines"),
        destination=filesystem(bucket_url=settings.landing_dir.as_uri(), layout=_LAYOUT),
        dataset_name=source,
    )


def is_settled(settings: Settings, source: str) -> bool:
    """Whether a source has a pipeline with no load half done, found without the cost of dlt.

    The same as a pipeline of it without pending data, which is a folder a package.
    """
    working = settings.dlt_dir / "pipelines" / source
    pending = (working / "normalize" / "extracted", working / "load" / "normalized")
    return all(folder.is_dir() and not any(folder.iterdir()) for folder in pending)


def _prepare_dataset(folder: Path) -> None:
    """Makes a dataset's folder as dlt does, which stumbles over one that it did not finish."""
    from dlt.destinations.impl.filesystem.filesystem import CURRENT_VERSION, INIT_FILE_NAME

    mark = folder / INIT_FILE_NAME
    if mark.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{INIT_FILE_NAME}.{os.getpid()}"
    versions = {"initial_version": CURRENT_VERSION, "current_version": CURRENT_VERSION}
    temporary.write_text(json.dumps(versions), encoding="utf-8")
    temporary.replace(mark)


def finish_pending(pipeline: dlt.Pipeline, settings: Settings) -> None:
    """Carries loads through that an earlier run left half done.

    Call it before anything compares a source with landing: pending rows will be landed, too.

    Raises:
        SourceFailed: A pending load cannot be finished.
        DiskFull: There is no room for it.
    """
    with _explained(settings, pipeline.pipeline_name):
        pipeline.sync_destination()
        _remove_half_deleted(pipeline)
        for _ in range(_PENDING_ROUNDS):
            if not pipeline.has_pending_data:
                return
            log.info("finishing a pending load of %s", pipeline.pipeline_name)
            pipeline.normalize()
            pipeline.load()
            failpoint("extract.pending_finished")
    raise SourceFailed(
        "an interrupted load cannot be finished",
        source=pipeline.pipeline_name,
        hint=f"Delete {pipeline.working_dir}: dlt restores its state from landing.",
    )


def _remove_half_deleted(pipeline: dlt.Pipeline) -> None:
    """Removes extracted packages whose normalised form is whole.

    dlt deletes them file by file just after that. What a death in the middle left would be taken
    for a package with fewer tables, or for one that is broken.
    """
    for load_id in {*pipeline.list_extracted_load_packages()} & {
        *pipeline.list_normalized_load_packages()
    }:
        shutil.rmtree(Path(pipeline.working_dir) / "normalize" / "extracted" / load_id)


_floor = threading.local()
_CLOCK_STEP = 0.00001


def _named_after(newest: str) -> None:
    """Makes the next load of this thread sort after the newest one, whatever the clock says.

    Load ids order the versions of a row. dlt takes them from the clock, which may have gone back.
    """
    from dlt.extract import storage

    _floor.newest = newest
    if getattr(storage.create_load_id, "follows", False):
        return
    original = storage.create_load_id

    def create_load_id() -> str:
        load_id, floor = str(original()), getattr(_floor, "newest", "")
        if load_id <= floor:
            load_id = str(round(float(floor) + _CLOCK_STEP, 6))
        _floor.newest = load_id
        return load_id

    create_load_id.follows = True  # type: ignore[attr-defined]  # a mark that it is ours
    storage.create_load_id = create_load_id


def run(pipeline: dlt.Pipeline, data: Any, settings: Settings) -> list[str]:
    """Extracts and lands dlt sources or resources; returns the ids of the loads it completed.

    Args:
        pipeline: From `source_pipeline`; `finish_pending` has been called.
        data: A dlt source, a resource or a list of these.
        settings: The project's settings.

    Raises:
        IngestionError: As the resource raised it; `SourceFailed` for what dlt itself reports.
        DiskFull: There is no room in landing or in dlt's working folder.
    """
    with _explained(settings, pipeline.pipeline_name):
        earlier = completed_loads(settings, pipeline.pipeline_name)
        before = set(earlier)
        _named_after(earlier[-1] if earlier else "")
        # What dlt's own `run` does, in its parts: between them a death must do no harm.
        pipeline.sync_destination()
        pipeline.extract(data, loader_file_format="parquet")
        failpoint("extract.package_extracted")
        pipeline.normalize()
        failpoint("extract.package_normalised")
        pipeline.load()
        failpoint("extract.load_completed")
        after = completed_loads(settings, pipeline.pipeline_name)
        return [load_id for load_id in after if load_id not in before]


class _explained:
    """Turns what dlt raises into one of our errors."""

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings = settings
        self._source = source

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception):
            return
        ours = our_error(error)
        if ours is not None:
            if ours is not error:
                raise ours from error
            return
        if disk_full(error):
            raise disk_full_error(self._settings.data_dir, error, source=self._source) from error
        cause = error.__cause__ or error
        raise SourceFailed(
            f"extraction failed: {first_line(cause)}",
            source=self._source,
            hint="Nothing of this load counts; run again once the cause is mended.",
        ) from error


def check_whole(settings: Settings) -> None:
    """Refuses a landing zone that is being restored, or of which a restore broke off.

    Raises:
        BadInput: It is not whole.
    """
    if settings.restore_mark.exists():
        raise BadInput(
            "landing is being restored from a backup, or a restore of it broke off",
            file=settings.restore_mark,
            hint="`wellspring restore` goes on with it. Where no backup is whole, "
            "`wellspring clean --landing` begins anew with what the sources still have.",
        )


def completed_loads(settings: Settings, source: str) -> list[str]:
    """Ids of the completed loads of a source, oldest first.

    Raises:
        BadInput: Landing is being restored.
    """
    check_whole(settings)
    folder = settings.landing_dir / source / _LOADS
    if not folder.is_dir():
        return []
    # dlt names them <schema>__<load id>.jsonl; a Python source may have several schemas.
    names = (entry.name for entry in os.scandir(folder) if entry.name.endswith(".jsonl"))
    return sorted({name.removesuffix(".jsonl").rpartition("__")[2] for name in names})


def landed_files(settings: Settings, source: str, table: str) -> list[LandedFile]:
    """Parquet files of completed loads of a table, in load order.

    For tables of databases, APIs and Python sources; files tables have `register_rows`. Files that
    were compacted are listed as before, each with the place where its rows lie now.

    Raises:
        BadInput: Landing is being restored, or a compacted file is damaged.
    """
    completed = set(completed_loads(settings, source))
    return [
        file
        for file in _table_files(settings, source, table)
        if file.load_id in completed or is_whole_by_itself(file.file)
    ]


def is_whole_by_itself(file: str) -> bool:
    """Whether a file lies in the folder of a day: a lander names it so once it is durable.

    Args:
        file: Its path below the landing zone.
    """
    return file.count("/") == _PARTS_OF_A_DAYS_FILE


def newest_of_streams(settings: Settings) -> dict[Path, str]:
    """Name of the newest file of each table that landers land, by the table's folder.

    Every file of it with a smaller name was there before, whatever is landed meanwhile.
    """
    newest: dict[Path, str] = {}
    for day in sorted(settings.landing_dir.glob(f"*/*/{DAY_GLOB}")):
        names = [entry.name for entry in os.scandir(day) if entry.name.endswith(".parquet")]
        if names:
            newest[day.parent] = max([newest.get(day.parent, ""), *names])
    return newest


def _table_files(settings: Settings, source: str, table: str) -> Iterator[LandedFile]:
    folder = settings.landing_dir / source / table
    if not folder.is_dir():
        return
    found = {}
    days = [entry.name for entry in os.scandir(folder) if DAY_FOLDER.match(entry.name)]
    for day in ["", *sorted(days)]:
        for entry in os.scandir(folder / day):
            if entry.name.endswith(".parquet"):
                seconds, _, rest = entry.name.partition(".")
                load_id = f"{seconds}.{rest.partition('.')[0]}"
                file = "/".join(part for part in (source, table, day, entry.name) if part)
                found[file] = LandedFile(table, load_id, folder / day / entry.name, file)
    for pack in packs(folder):
        # Beside a compacted file its parts count no more, if they were not removed yet.
        for part in pack.parts:
            found[part.file] = LandedFile(table, part.load_id, pack.path, part.file, part)
    yield from sorted(found.values(), key=lambda file: (file.load_id, file.file))


def _records(files: Iterable[LandedFile], what: str, **where: Any) -> Iterator[tuple[str, Any]]:
    """Load id and values of each row of small landed files; dlt leaves out columns of no value.

    Raises:
        BadInput: One cannot be read.
    """
    import pyarrow.parquet as pq

    wanted: dict[Path, dict[str, str]] = {}
    for landed in files:
        wanted.setdefault(landed.path, {})[landed.file] = landed.load_id
    for path, loads in wanted.items():
        try:
            content = pq.read_table(path).to_pylist()
        except Exception as error:
            raise BadInput(
                f"{what} cannot be read: {first_line(error)}",
                file=path,
                hint="Restore this file from a backup of landing.",
                **where,
            ) from error
        for row in content:
            load_id = row["_load_id"] if "_load_id" in row else next(iter(loads.values()))
            if "_file" not in row or row["_file"] in loads:
                yield load_id, row


def register_rows(settings: Settings, source: str, table: str) -> list[RegisterRow]:
    """Rows of the register of a files table, of completed loads only, in load order.

    Raises:
        BadInput: A register file cannot be read.
    """
    names = [f.name for f in fields(RegisterRow) if f.name != "load_id"]
    landed = landed_files(settings, source, table + REGISTER_SUFFIX)
    told = "the register of landed files"
    rows = []
    for load_id, row in _records(landed, told, source=source, table=table):
        values = {name: row.get(name) for name in names}
        texts = {name: "" for name in names if name != "rows" and values[name] is None}
        rows.append(RegisterRow(**{**values, **texts}, load_id=load_id))
    return rows


def landed_counts(settings: Settings, source: str, known: Collection[str]) -> list[LandedCount]:
    """What completed loads of a source were to land, in load order.

    Args:
        settings: The project's settings.
        source: Name of the source.
        known: Ids of loads to pass over. Loads from before counts were noted have none.

    Raises:
        BadInput: A file of counts cannot be read.
    """
    names = [f.name for f in fields(LandedCount) if f.name != "load_id"]
    landed = landed_files(settings, source, COUNTS_TABLE)
    unknown = [file for file in landed if file.load_id not in known]
    return [
        LandedCount(**{name: row.get(name) for name in names}, load_id=load_id)
        for load_id, row in _records(unknown, "the counts of a landed load", source=source)
    ]


def counts_table(counts: Sequence[LandedCount]) -> pa.Table:
    """Counts as an Arrow table, ready to be yielded to dlt."""
    import pyarrow as pa

    names = [f.name for f in fields(LandedCount) if f.name != "load_id"]
    schema = pa.schema(
        [pa.field(name, pa.string() if name == "table" else pa.int64()) for name in names]
    )
    return pa.Table.from_pylist([{n: getattr(c, n) for n in names} for c in counts], schema)


def register_table(rows: Sequence[RegisterRow]) -> pa.Table:
    """Register rows as an Arrow table with stable types, ready to be yielded to dlt."""
    import pyarrow as pa

    whole = {"size", "rows"}
    schema = pa.schema(
        [
            # dlt holds a primary key to be never null, and complains of a column that may be.
            pa.field(f.name, pa.int64() if f.name in whole else pa.string(), f.name != "file")
            for f in fields(RegisterRow)
            if f.name != "load_id"
        ]
    )
    return pa.Table.from_pylist([{n: getattr(r, n) for n in schema.names} for r in rows], schema)


def batches(paths: Path | Iterable[Path]) -> Iterator[pa.Table]:
    """Rows of Parquet files as Arrow tables of `BATCH_ROWS` rows, ready to be yielded to dlt."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in [paths] if isinstance(paths, Path) else paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield pa.Table.from_batches([batch])


def spool_dir(settings: Settings, source: str) -> Path:
    """A folder for short-lived files of a source; the caller deletes what it made there."""
    folder = settings.spool_dir / source
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@lru_cache(maxsize=1)
def _naming() -> Any:
    from dlt.common.normalizers.naming.snake_case import NamingConvention

    return NamingConvention()


# What a symbol says that tells two columns from each other: `Share` and `Share %`.
_SYMBOLS = {"%": "pct", "#": "no", "$": "dollar", "&": "and", "+": "plus"}
_TRAILING = re.compile(r"[^\w]+$")


@lru_cache(maxsize=65536)
def normalise(name: str) -> str:
    """A column's name in raw: dlt's snake_case of its Latin letters.

    `InvoiceId` -> `invoice_id`, `Größe` -> `grosse`, `Beleg-Nr.` -> `beleg_nr`, `Anteil %` ->
    `anteil_pct`. A character that has no Latin form becomes its number, so that names stay apart.
    """
    return str(_naming().normalize_path(_latin(name.strip()) or "column"))


def _latin(name: str) -> str:
    if not name.isascii():
        from text_unidecode import unidecode

        name = unicodedata.normalize("NFKC", name)
        name = "".join(unidecode(char) or _numbered(char) for char in name)
    for symbol, word in _SYMBOLS.items():
        name = name.replace(symbol, f" {word} ")
    return _TRAILING.sub("", name).strip() or name


def _numbered(char: str) -> str:
    return f" u{ord(char):x} " if char.isprintable() else ""


def normalise_columns(names: Sequence[str], **where: Any) -> list[str]:
    """Names of columns in raw, which must stay different from each other.

    Args:
        names: Names as the source has them; an empty one becomes `column_<position>`.
        where: `source`, `table`, `file` for the message.

    Raises:
        BadInput: Two names become the same, or one takes the place of a column of ours.
    """
    taken: dict[str, str] = {}
    for position, name in enumerate(names, start=1):
        column = normalise(name) if name.strip() else f"column_{position}"
        if column in taken:
            same = taken[column] == name
            raise BadInput(
                f"the column {name!r} stands there twice"
                if same
                else f"the columns {taken[column]!r} and {name!r} both become {column!r}",
                key=column,
                hint="Rename one of them where the data comes from.",
                **where,
            )
        if column in RESERVED_COLUMNS:
            raise BadInput(
                f"the column {name!r} has a name that Wellspring uses itself",
                key=column,
                hint="Rename it where the data comes from.",
                **where,
            )
        taken[column] = name
    return list(taken)


RESERVED_COLUMNS = frozenset({"_file", "_row", "_load_id", "_extracted_at", "_deleted"})


def column_mapping(names: Sequence[str], **where: Any) -> Mapping[str, str]:
    """`normalise_columns` as a mapping from the source's name to the name in raw."""
    return dict(zip(names, normalise_columns(names, **where), strict=True))
