"""Many small Parquet files of landing into few, with the same rows.

landed files of completed loads -> runs of small ones with the same columns -> one file each, with
`_file`, `_row` and `_load_id` -> compared with its parts, row by row -> durable -> renamed -> parts
removed

A file counts from the moment it bears its name, and from then on its parts do not: killed at any
point, each row counts once. What was left to remove the next compaction removes. Only neighbours in
the order of loads are put together, and only with the same columns and types, so that raw tables
come out the same. Left out: originals of files, which are the evidence, and dlt's own tables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.arrivals import parquet_rows
from ingestion.compacted import FOLDER, OWN_COLUMNS, PARTS_KEY, Part, pack_files, packs
from ingestion.declarations import SourceDeclaration
from ingestion.durable import sync
from ingestion.errors import BadInput, IngestionError, disk_full, disk_full_error
from ingestion.evolution import literal, quoted
from ingestion.failpoints import failpoint
from ingestion.landing import (
    COUNTS_TABLE,
    DAY_GLOB,
    REGISTER_SUFFIX,
    LandedFile,
    is_whole_by_itself,
    landed_files,
)
from ingestion.settings import Settings
from ingestion.warehouse import connect, in_memory

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

ROW_GROUP = 122_880
# Compacted files grow to so many times the size below which a file is small.
_GROWTH = 8
_TEMPORARY = ".tmp"
_LARGE = 2**62
OnTable = Callable[[str], None]
Columns = tuple[tuple[str, str], ...]


@dataclass
class Compacted:
    """What became of one folder of landing.

    Attributes:
        source: Name of the source.
        table: Name of the folder: a table, a register of files, or the counts of loads.
        files_before: Parquet files before.
        files_after: Parquet files now.
        bytes_before: Their size before.
        bytes_after: Their size now.
        parts: Files that were taken into others just now.
    """

    source: str
    table: str
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    parts: int = 0


@dataclass
class _Unit:
    """A file that can be taken into another: a small one as landed, or a compacted one."""

    path: Path
    size: int
    parts: list[LandedFile]
    columns: Columns = ()

    @property
    def is_pack(self) -> bool:
        return self.parts[0].part is not None


@dataclass
class _Run:
    """Neighbours that become one file."""

    units: list[_Unit] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(unit.size for unit in self.units)


def compact(
    declarations: Sequence[SourceDeclaration],
    settings: Settings,
    *,
    smaller_than: int,
    on_table: OnTable | None = None,
) -> list[Compacted]:
    """Compacts landed tables, registers and counts; call it under the run's lock.

    Args:
        declarations: The sources and tables.
        settings: The project's settings.
        smaller_than: A file of fewer bytes is small.
        on_table: Told of each folder.

    Returns:
        What became of each folder that has small files or had leftovers.

    Raises:
        BadInput: Landing is damaged, or is being restored.
        DiskFull: There is no room; all is as before, or as after for the tables that were done.
    """
    checksums = _loaded_checksums(settings)
    done = []
    with closing(in_memory(settings)) as connection:
        for declaration in declarations:
            for table in _folders(declaration):
                if on_table is not None:
                    on_table(f"{declaration.name}.{table}")
                work = _Folder(connection, settings, declaration.name, table, checksums)
                try:
                    done.append(work.compact(smaller_than))
                except Exception as error:
                    if disk_full(error):
                        raise disk_full_error(settings.landing_dir, error) from error
                    raise
    return done


def _folders(declaration: SourceDeclaration) -> Iterator[str]:
    suffix = REGISTER_SUFFIX if declaration.kind == "files" else ""
    for table in declaration.tables:
        yield table.name + suffix
    yield COUNTS_TABLE


def _loaded_checksums(settings: Settings) -> Mapping[str, str]:
    """Checksums of files when they were loaded, so that damage is not made to look whole."""
    import duckdb

    if not settings.warehouse_path.is_file():
        return {}
    with closing(connect(settings, read_only=True)) as connection:
        try:
            found = connection.execute("select file, sha256 from ledger.files").fetchall()
        except duckdb.CatalogException:
            # A warehouse into which nothing was loaded yet.
            return {}
    return {file: sha256 for file, sha256 in found if sha256}


class _Folder:
    """Compacts one folder of one source."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        source: str,
        table: str,
        checksums: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._source = source
        self._table = table
        self._checksums = checksums
        self._place = settings.landing_dir / source / table
        # Registers and counts are read by name, whatever columns dlt left out for want of values.
        self._by_name = table.endswith(REGISTER_SUFFIX) or table == COUNTS_TABLE

    def compact(self, smaller_than: int) -> Compacted:
        """Does the work; nothing where there are no two small neighbours."""
        result = Compacted(self._source, self._table)
        result.files_before, result.bytes_before = self._figures()
        self._tidy()
        landed = landed_files(self._settings, self._source, self._table)
        for run in self._runs(landed, smaller_than):
            result.parts += sum(len(unit.parts) for unit in run.units)
            self._write(run)
        result.files_after, result.bytes_after = self._figures()
        return result

    def _figures(self) -> tuple[int, int]:
        days = self._place.glob(f"{DAY_GLOB}/*.parquet")
        files = [*self._place.glob("*.parquet"), *days, *pack_files(self._place)]
        return len(files), sum(path.stat().st_size for path in files)

    # What an earlier compaction left

    def _tidy(self) -> None:
        """Removes what lies in a compacted file by now, and what was never finished."""
        for path in (self._place / FOLDER).glob(f"*{_TEMPORARY}"):
            path.unlink()
        counted = packs(self._place)
        for pack in counted:
            self._require_whole(pack.path)
            for part in pack.parts:
                path = self._settings.landing_dir / part.file
                if path.is_file():
                    self._require_same(path, part)
                    path.unlink()
                    failpoint("compact.leftover_removed")
        for path in set(pack_files(self._place)) - {pack.path for pack in counted}:
            path.unlink()

    def _require_whole(self, path: Path) -> None:
        if _sha256(path) != path.stem:
            raise BadInput(
                "a compacted file has other bytes than it was given",
                source=self._source,
                file=path,
                hint="Restore landing from a backup: `wellspring restore`.",
            )

    def _require_same(self, path: Path, part: Part) -> None:
        if _sha256(path) != part.sha256:
            raise BadInput(
                "it lies in a compacted file with other bytes; neither is removed",
                source=self._source,
                file=path,
                hint="Move it away if the books are right without it: `wellspring books`.",
            )

    # What belongs together

    def _runs(self, landed: Sequence[LandedFile], smaller_than: int) -> Iterator[_Run]:
        """Runs of at least two neighbours that are small and have the same columns."""
        run = _Run()
        for unit in _units(_without_newest(landed)):
            is_small = unit.size < smaller_than
            if is_small:
                unit.columns = self._columns(unit.path)
            fits = is_small and run.size + unit.size <= _GROWTH * smaller_than
            alike = not run.units or self._are_alike(run, unit)
            if not (fits and alike):
                yield from [run] if len(run.units) > 1 else []
                run = _Run()
            if is_small:
                run.units.append(unit)
        yield from [run] if len(run.units) > 1 else []

    def _are_alike(self, run: _Run, unit: _Unit) -> bool:
        if not self._by_name:
            return run.units[0].columns == unit.columns
        known = dict(column for other in run.units for column in other.columns)
        return all(known.get(name, kind) == kind for name, kind in unit.columns)

    def _columns(self, path: Path) -> Columns:
        described = self._connection.execute(
            f"describe select * from read_parquet({literal(str(path))})"
        ).fetchall()
        return tuple((row[0], row[1]) for row in described if row[0] not in OWN_COLUMNS)

    # One file

    def _write(self, run: _Run) -> None:
        """Makes the file of a run, and then removes what it was made of."""
        columns = dict(column for unit in run.units for column in unit.columns)
        parts = [part for unit in run.units for part in self._described(unit)]
        folder = self._place / FOLDER
        folder.mkdir(exist_ok=True)
        temporary = folder / f".{os.getpid()}{_TEMPORARY}"
        try:
            self._copy(run, columns, parts, temporary)
            self._compare(run, columns, parts, temporary)
            sync(temporary)
            target = folder / f"{_sha256(temporary)}.parquet"
            failpoint("compact.before_rename")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync(folder)
        sync(self._place)
        failpoint("compact.renamed")
        for unit in run.units:
            unit.path.unlink()
            failpoint("compact.file_removed")
        sync(self._place)

    def _described(self, unit: _Unit) -> Iterator[Part]:
        """What the new file will list of an old one."""
        for landed in unit.parts:
            part = landed.part
            if part is None:
                sha256 = _sha256(landed.path)
                rows = parquet_rows(landed.path) or 0
                part = Part(landed.file, landed.load_id, rows, unit.size, sha256)
            if self._checksums.get(part.file, part.sha256) != part.sha256:
                raise BadInput(
                    "its bytes are other than those that were loaded, so it is not compacted",
                    source=self._source,
                    file=landed.path,
                    hint="Restore landing from a backup: `wellspring restore`.",
                )
            yield part

    def _copy(
        self, run: _Run, columns: Mapping[str, str], parts: Sequence[Part], target: Path
    ) -> None:
        self._register(parts)
        listed = literal(json.dumps([asdict(part) for part in parts]))
        self._connection.execute(
            f"copy ({self._rows(run, columns)}) to {literal(str(target))} "
            f"(format parquet, compression zstd, row_group_size {ROW_GROUP}, "
            f"kv_metadata {{{PARTS_KEY}: {listed}}})"
        )

    def _register(self, parts: Sequence[Part]) -> None:
        """A table from the place of a file to what the rows of it shall say."""
        import pyarrow as pa

        landing = self._settings.landing_dir
        content = pa.table(
            {
                "path": pa.array([str(landing / part.file) for part in parts], pa.string()),
                "file": pa.array([part.file for part in parts], pa.string()),
                "load_id": pa.array([part.load_id for part in parts], pa.string()),
                "place": pa.array(range(len(parts)), pa.int64()),
            }
        )
        self._connection.register("wellspring_content", content)
        self._connection.execute(
            "create or replace temporary table wellspring_parts as select * from wellspring_content"
        )
        self._connection.unregister("wellspring_content")

    def _rows(self, run: _Run, columns: Mapping[str, str]) -> str:
        """Query of all rows of a run, in order."""
        names = [f"data.{quoted(name)}" for name in columns]
        selects = []
        for is_pack, paths in _alternating(run.units):
            if is_pack:
                own = [f"data.{name}" for name in OWN_COLUMNS]
                source = f"{_reader(paths)} as data"
                joined = "data._file = parts.file"
            else:
                own = ["parts.file as _file", "data.file_row_number + 1 as _row"]
                own.append("parts.load_id as _load_id")
                source = f"(select *, filename, file_row_number from {_reader(paths)}) as data"
                joined = "data.filename = parts.path"
            present = self._present(paths) if self._by_name else set(columns)
            chosen = [
                name if column in present else f"null::{columns[column]} as {quoted(column)}"
                for name, column in zip(names, columns, strict=True)
            ]
            selects.append(
                f"select {', '.join([*chosen, *own])}, parts.place as wellspring_place "
                f"from {source} inner join wellspring_parts as parts on {joined}"
            )
        every = " union all ".join(selects)
        return f"select * exclude (wellspring_place) from ({every}) order by wellspring_place, _row"

    def _present(self, paths: Sequence[Path]) -> set[str]:
        described = self._connection.execute(f"describe select * from {_reader(paths)}").fetchall()
        return {row[0] for row in described}

    def _compare(
        self, run: _Run, columns: Mapping[str, str], parts: Sequence[Part], made: Path
    ) -> None:
        """Makes sure that the new file has every row of its parts as it was.

        Raises:
            IngestionError: It does not; nothing has been changed.
        """
        values = ", ".join([*(quoted(name) for name in columns), *OWN_COLUMNS])
        summed = f"select _file, count(*), sum(hash({values})) from {{}} group by _file"
        before = self._connection.execute(summed.format(f"({self._rows(run, columns)})")).fetchall()
        after = self._connection.execute(summed.format(_reader([made]))).fetchall()
        counted = {file: rows for file, rows, _ in after}
        same_types = self._columns(made) == tuple(columns.items())
        listed = {part.file: part.rows for part in parts if part.rows}
        if sorted(before) != sorted(after) or counted != listed or not same_types:
            raise IngestionError(
                "the compacted file would not hold the same rows, so nothing was compacted",
                source=self._source,
                table=self._table,
                hint="Landing is as before. This is a fault of Wellspring: please report it.",
            )


def _units(landed: Sequence[LandedFile]) -> list[_Unit]:
    """Landed files in their order, those of one compacted file as one if they are neighbours."""
    units: list[_Unit] = []
    for file in landed:
        if units and units[-1].path == file.path:
            units[-1].parts.append(file)
        else:
            units.append(_Unit(file.path, file.path.stat().st_size, [file]))
    whole = {pack.path: len(pack.parts) for place in _places(landed) for pack in packs(place)}
    for unit in units:
        # Other files lie between its parts, or some of its loads do not count: it is left alone.
        if unit.is_pack and whole.get(unit.path) != len(unit.parts):
            unit.size = _LARGE
    return units


def _without_newest(landed: Sequence[LandedFile]) -> Sequence[LandedFile]:
    """A stream's newest file stays as it is: in it the lander finds how far it is."""
    streamed = landed and is_whole_by_itself(landed[-1].file)
    return landed[:-1] if streamed else landed


def _places(landed: Sequence[LandedFile]) -> set[Path]:
    return {file.path.parent.parent for file in landed if file.part is not None}


def _alternating(units: Sequence[_Unit]) -> Iterator[tuple[bool, list[Path]]]:
    """Neighbours of the same sort: landed files, or compacted ones."""
    sort, paths = False, list[Path]()
    for unit in units:
        if paths and unit.is_pack != sort:
            yield sort, paths
            paths = []
        sort = unit.is_pack
        paths.append(unit.path)
    yield sort, paths


def _reader(paths: Sequence[Path]) -> str:
    listed = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
