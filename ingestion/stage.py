"""From landed files to relations that DuckDB can insert into raw, many files in one statement.

Parquet -> read in place
messages of a stream -> temporary table of all of them (`messages`)
CSV, NDJSON -> temporary table by DuckDB's own reader; a faulty file alone -> salvaged to Parquet
large CSV and NDJSON -> Parquet, in one pass (`ndjsonfile` tells its shape)

A relation yields the source's columns, `_file`, `_row` and, where landing has it, `_deleted`.
`_row` is the record's 1-based position in its file. Whatever can fail because of the data fails
here, before the transaction begins. Left out: which files are due, and writing, which `load.py`
does.
"""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion.declarations import CsvOptions, FilesTable
from ingestion.durable import begin_sync
from ingestion.errors import BadInput, disk_full, first_line
from ingestion.evolution import literal, quoted
from ingestion.formats import csvfile, jsonfile, ndjsonfile, parquetfile
from ingestion.formats.streams import Content, Encoding
from ingestion.formats.tables import ROW, rejected_path
from ingestion.landing import column_mapping
from ingestion.messages import read_messages
from ingestion.progress import counted

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

_SAFE_KEY = re.compile(r"^[\w .:/@$+-]+$")
_LONGEST_OBJECT = 32 * 2**20
# Lines whose keys give raw the order of its columns.
_FIRST_LINES = 2_048
# What DuckDB's JSON would write otherwise or take for well-formed. A line without any of this keeps
# every digit and letter; one that has it may do so, too, which is then looked at more closely.
_NUMBER = r"[:\[,]\s*-?"
_ODD = "|".join(
    (
        r"^\s*[^{\s]",  # no object
        _NUMBER + r"[0-9.]+[eE]",
        _NUMBER + r"[0-9]+\.[0-9]+0[\s,}\]]",  # 1.10
        # more digits than a floating point number holds
        _NUMBER + r"(?:[0-9]*\.[0-9]{13}|[0-9]{3,}\.[0-9]{11}|[0-9]{5,}\.[0-9]{8})",
        _NUMBER + r"(?:[0-9]{8,}\.[0-9]{5}|[0-9]{11,}\.[0-9])",
        _NUMBER + r"0\.000",  # would be written with an exponent
        r"[:\[,]\s*-0[\s,}\]]",
        r"[:\[,]\s*[-+]?[iInN][nNaA][nNfF]",  # NaN and Infinity
        r",\s*[}\]]",  # a comma too many
        r"\\u(?:00[01]|007[fF]|202[89])",  # letters that are always written as escapes
    )
)
# So many files a statement: enough to spread its cost, few enough to find a faulty one soon.
_FILES_A_STATEMENT = 256
# A file of lines is worth a statement of its own.
_PIECE_BYTES = 2**20
# So many such files at a time: each takes memory.
_MOST_BESIDE = 4


Own = Literal["dlt", "compacted", "prepared", "original", "messages", "packed_messages", "changes"]


@dataclass(frozen=True)
class DueFile:
    """A landed file that the ledger does not have yet.

    Attributes:
        table: Name of its table.
        file: What raw rows will state in `_file`.
        path: What is read.
        load_id: dlt's load id.
        reader: How it is read.
        own: `dlt` for what dlt wrote, `compacted` if `path` is a compacted file that holds it,
            `prepared` for Parquet of texts, `original` for the bytes, `messages` for what a
            lander wrote, `packed_messages` if that lies in a compacted file, `changes` for a load
            of a change log.
        origin_name: Name at the origin; None where the origin is no file.
        size: Bytes of what landed.
        sha256: Checksum of what landed.
        options: The reader's options.
        columns: Normalised columns, if the register knows them.
        rows: Records in it, if known.
        refused: Why landing refused it; empty if it did not.
    """

    table: str
    file: str
    path: Path
    load_id: str
    reader: Literal["parquet", "csv", "ndjson", ""]
    own: Own
    origin_name: str | None
    size: int
    sha256: str
    options: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None
    rows: int | None = None
    refused: str = ""


@dataclass(frozen=True)
class Counted:
    """A file of a relation, with its counts.

    Attributes:
        due: The file.
        loaded: Records that the relation yields of it.
        rejected: Records that it does not.
        aside: Records that it does not yield because of the contract; they are noted already.
    """

    due: DueFile
    loaded: int
    rejected: tuple[tuple[int, str, str], ...] = ()
    aside: int = 0


@dataclass(frozen=True)
class Relation:
    """Rows of one or more files, ready to be inserted.

    Attributes:
        files: The files, with their counts.
        columns: Name -> DuckDB type of the source's columns.
        sql: A query that yields these, `_file`, `_row` and perhaps `_deleted`.
        has_deleted: Whether it yields `_deleted`.
        has_load: Whether it yields `_load_id` and `_extracted_at`, being of several loads.
        pieces: Parquet files that hold all of it, as raw keeps them.
        origins: Name -> name in its files, if these are Parquet and hold nothing else as it stands.
    """

    files: tuple[Counted, ...]
    columns: dict[str, str]
    sql: str
    has_deleted: bool = False
    has_load: bool = False
    pieces: tuple[Path, ...] = ()
    origins: Mapping[str, str] | None = None


@dataclass
class Staged:
    """What came of the due files of one table.

    Attributes:
        relations: What can be inserted.
        refused: Files that cannot be read, with the reason.
    """

    relations: list[Relation] = field(default_factory=list)
    refused: list[tuple[DueFile, str]] = field(default_factory=list)


class Stager:
    """Makes relations of due files; temporary tables and files last until `close`.

    Args:
        connection: The warehouse.
        spool: Folder for files of salvaged records.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, spool: Path) -> None:
        self._connection = connection
        self._spool = spool
        self._made: list[str] = []
        self._files: list[Path] = []

    def close(self) -> None:
        """Drops what was made on the way."""
        for name in self._made:
            self._connection.execute(f"drop table if exists temp.{name}")
        for path in self._files:
            path.unlink(missing_ok=True)
            rejected_path(path).unlink(missing_ok=True)
        self._made, self._files = [], []

    def stage(self, files: Sequence[DueFile], declared: FilesTable | None, **where: Any) -> Staged:
        """Makes relations of the due files of one table.

        Args:
            files: The files, in load order.
            declared: The declaration of a files table; None for what dlt wrote.
            where: `source` and `table`, for messages.
        """
        staged = Staged()
        groups: dict[tuple[Any, ...], list[DueFile]] = {}
        for due in files:
            try:
                key = self._key(due, staged)
            except BadInput as error:
                staged.refused.append((due, _told(error)))
                continue
            if key is not None:
                groups.setdefault(key, []).append(due)
        for key, group in groups.items():
            if key[0] == "pieces":
                self._stage_pieces(group, declared, staged)
                continue
            size = len(group) if key[0] == "messages" else _FILES_A_STATEMENT
            for start in range(0, len(group), size):
                part = group[start : start + size]
                self._stage_group(key[0], part, declared, staged)
        return staged

    def _key(self, due: DueFile, staged: Staged) -> tuple[Any, ...] | None:
        """Files with the same key can be read by one statement; None for nothing to read."""
        if due.refused:
            staged.refused.append((due, due.refused))
            return None
        if not due.path.is_file():
            raise BadInput("it is missing from landing", hint="Restore it from a backup.")
        if due.rows == 0 and not due.columns:
            staged.relations.append(_nothing(due))
            return None
        if due.own == "messages":
            return ("messages", due.own)
        if due.own in ("compacted", "packed_messages"):
            return ("messages" if due.own == "packed_messages" else "parquet", due.own, due.path)
        if due.reader == "parquet":
            own = due.own != "original"
            footer = parquetfile.read_footer(due.path, own_columns=own)
            return ("parquet", due.own, footer.signature)
        options = due.options
        if due.reader == "csv":
            by_record = not options["plain"] or options["faulty"] is not None
            is_large = not by_record and due.path.stat().st_size >= _PIECE_BYTES
            kind = "pieces" if is_large else "csv"
            return (kind, due.columns, options["compression"], by_record)
        is_odd = options["bom"] or options["faulty"] is not None
        is_large = not is_odd and due.path.stat().st_size >= _PIECE_BYTES
        return ("pieces" if is_large else "ndjson", options["compression"], is_odd)

    def _stage_pieces(
        self, files: list[DueFile], declared: FilesTable | None, staged: Staged
    ) -> None:
        """Stages large files, some beside each other: what unpacks one of them is one core."""
        import duckdb

        def made(due: DueFile) -> Relation | Exception:
            try:
                with self._connection.cursor() as cursor:
                    return self._piece(cursor, due, declared)
            except (BadInput, duckdb.Error) as error:
                return error

        workers = min(len(os.sched_getaffinity(0)), _MOST_BESIDE)
        with ThreadPoolExecutor(workers, "piece") as pool:
            for due, found in zip(files, pool.map(made, files), strict=True):
                if isinstance(found, Relation):
                    staged.relations.append(found)
                elif disk_full(found):
                    raise found
                elif isinstance(found, duckdb.OutOfMemoryException):
                    # A temporary table takes longer, and its rows may wait on disk.
                    self._stage_group(due.reader, [due], declared, staged)
                else:
                    self._stage_faulty(due.reader, due, declared, found, staged)

    def _stage_group(
        self, reader: str, files: list[DueFile], declared: FilesTable | None, staged: Staged
    ) -> None:
        """Stages files by one statement; on a fault, halves them to find the faulty one."""
        import duckdb

        try:
            relation = self._read(reader, files, declared)
        except (BadInput, duckdb.Error) as error:
            if disk_full(error) or isinstance(error, duckdb.OutOfMemoryException):
                raise
            if len(files) > 1:
                middle = len(files) // 2
                self._stage_group(reader, files[:middle], declared, staged)
                self._stage_group(reader, files[middle:], declared, staged)
                return
            self._stage_faulty(reader, files[0], declared, error, staged)
            return
        staged.relations.append(relation)

    def _read(self, reader: str, files: list[DueFile], declared: FilesTable | None) -> Relation:
        if reader == "parquet":
            return self._parquet(files)
        if reader == "messages":
            return self._messages(files)
        assert declared is not None
        return self._csv(files, declared) if reader == "csv" else self._ndjson(files)

    def _stage_faulty(
        self,
        reader: str,
        due: DueFile,
        declared: FilesTable | None,
        error: Exception,
        staged: Staged,
    ) -> None:
        """Salvages the good records of a faulty text file, or refuses the file."""
        if reader in ("parquet", "messages") or declared is None:
            staged.refused.append((due, _told(error)))
            return
        try:
            staged.relations.append(self._salvaged(due, declared))
        except BadInput as fault:
            staged.refused.append((due, _told(fault)))

    # Parquet

    def _parquet(self, files: list[DueFile]) -> Relation:
        own = files[0].own
        if own == "compacted":
            return self._compacted(files)
        footers = [parquetfile.read_footer(f.path, own_columns=own != "original") for f in files]
        names = footers[0].names
        listed = ", ".join(literal(str(f.path)) for f in files)
        reader = (
            f"read_parquet([{listed}], filename = {literal(_FILENAME)}, file_row_number = true, "
            "hive_partitioning = false, union_by_name = false)"
        )
        described = self._types(f"select * from {reader}")
        columns = {name: described[origin] for origin, name in names.items()}
        has_deleted = own in ("dlt", "changes") and "_deleted" in described
        row = ROW if own == "prepared" else "file_row_number + 1"
        selected = [f"data.{quoted(o)} as {quoted(n)}" for o, n in names.items()]
        # One file alone needs no comparison of every row's file name.
        is_alone = len(files) == 1 and own != "changes"
        file = literal(files[0].file) if is_alone else "paths.file"
        selected += [f"{file} as _file", f"{row} as _row"]
        if has_deleted:
            selected.append("data._deleted as _deleted")
        if own == "changes":
            selected += ["paths.load_id as _load_id", "paths.extracted_at as _extracted_at"]
        sql = f"select {', '.join(selected)} from {reader} as data"
        if not is_alone:
            paths = self._paths(files)
            sql += f" inner join temp.{paths} as paths on data.{_FILENAME} = paths.path"
        found = tuple(
            Counted(due, footer.rows, self._rejected_beside(due))
            for due, footer in zip(files, footers, strict=True)
        )
        origins = {name: origin for origin, name in names.items()}
        return Relation(
            *(found, columns, sql, has_deleted),
            has_load=own == "changes",
            origins=origins if own in ("dlt", "original") else None,
        )

    def _compacted(self, files: list[DueFile]) -> Relation:
        """Parts of one compacted file, in one reading of it."""
        names = parquetfile.read_footer(files[0].path, own_columns=True).names
        reader = f"read_parquet({literal(str(files[0].path))}, hive_partitioning = false)"
        described = self._types(f"select * from {reader}")
        columns = {name: described[origin] for origin, name in names.items()}
        selected = [f"data.{quoted(o)} as {quoted(n)}" for o, n in names.items()]
        selected += ["paths.file as _file", "data._row as _row", "paths.load_id as _load_id"]
        selected.append("paths.extracted_at as _extracted_at")
        if "_deleted" in described:
            selected.append("data._deleted as _deleted")
        sql = (
            f"select {', '.join(selected)} from {reader} as data "
            f"inner join temp.{self._paths(files)} as paths on data._file = paths.file"
        )
        found = tuple(Counted(due, due.rows or 0) for due in files)
        return Relation(found, columns, sql, "_deleted" in described, has_load=True)

    def _rejected_beside(self, due: DueFile) -> tuple[tuple[int, str, str], ...]:
        """Records that were rejected when a file was prepared."""
        if due.own != "prepared" or not due.options.get("rejected"):
            return ()
        found = self._connection.execute(
            "select record_number, reason, raw_record from read_parquet(?) order by record_number",
            [str(rejected_path(due.path))],
        ).fetchall()
        return tuple(found)

    def check_readable(self, due: DueFile) -> str:
        """Reads a Parquet file to its end; returns why that fails, or an empty text."""
        import duckdb

        try:
            self._connection.execute(
                "select max(hash(data)) from read_parquet(?, hive_partitioning = false) as data",
                [str(due.path)],
            ).fetchall()
        except duckdb.Error as error:
            return first_line(error)
        return ""

    # Messages

    def _messages(self, files: list[DueFile]) -> Relation:
        """Messages of a stream, whatever the number of files and loads."""
        reader = list(dict.fromkeys(file.path for file in files))
        found = read_messages(self._connection, reader, self._paths(files), self._temporary)
        rejected = {file: tuple(rows) for file, rows in found.rejected.items()}
        counts = tuple(
            Counted(due, found.loaded.get(due.file, 0), rejected.get(due.file, ())) for due in files
        )
        return Relation(counts, found.columns, found.sql, has_load=True)

    # CSV

    def _csv(self, files: list[DueFile], declared: FilesTable) -> Relation:
        columns, reader = _csv_reader(files, declared.csv)
        table = self._temporary()
        self._connection.execute(f"create temporary table {table} as select * from {reader}")
        return self._of_temporary(table, files, columns)

    def _of_temporary(
        self,
        table: str,
        files: list[DueFile],
        columns: dict[str, str],
        expressions: Iterable[str] | None = None,
    ) -> Relation:
        """A relation over a temporary table whose rows stand in the order of the files."""
        selected = list(expressions or (f"data.{quoted(name)}" for name in columns))
        named = [f"{e} as {quoted(n)}" for e, n in zip(selected, columns, strict=True)]
        if len(files) == 1:
            (rows,) = self._connection.execute(f"select count(*) from temp.{table}").fetchall()[0]
            named += [f"{literal(files[0].file)} as _file", "data.rowid + 1 as _row"]
            sql = f"select {', '.join(named)} from temp.{table} as data"
            return Relation((Counted(files[0], rows),), columns, sql)
        found = self._connection.execute(
            f"select {_FILENAME}, min(rowid), max(rowid), count(*) from temp.{table} group by all"
        ).fetchall()
        places = {path: (first, last, count) for path, first, last, count in found}
        for path, (first, last, count) in places.items():
            # The position within a file rests on this order; one file alone always has it.
            if last - first + 1 != count:
                raise BadInput(f"rows of {path} are not in one piece")
        firsts = {str(f.path): places.get(str(f.path), (0, 0, 0))[0] for f in files}
        paths = self._paths(files, firsts)
        named += ["paths.file as _file", "data.rowid - paths.first_row + 1 as _row"]
        sql = (
            f"select {', '.join(named)} from temp.{table} as data "
            f"inner join temp.{paths} as paths on data.{_FILENAME} = paths.path"
        )
        counts = tuple(Counted(f, places.get(str(f.path), (0, 0, 0))[2]) for f in files)
        return Relation(counts, columns, sql)

    # NDJSON

    def _ndjson(self, files: list[DueFile]) -> Relation:
        if files[0].options["bom"] or files[0].options["faulty"]:
            raise BadInput("read record by record")
        listed = ", ".join(literal(str(f.path)) for f in files)
        # Its reader of JSON has another word for it than that of CSV.
        compression = files[0].options["compression"].replace("none", "uncompressed")
        options = (
            f"filename = {_filename(files)}, maximum_object_size = {_LONGEST_OBJECT}, "
            f"compression = {literal(compression)}"
        )
        lines = f"read_ndjson_objects([{listed}], {options})"
        keys, is_odd = self._keys(lines)
        mapping = column_mapping(keys)
        columns = dict.fromkeys(mapping.values(), "VARCHAR")
        if is_odd or not keys:
            return self._objects(lines, keys, files, columns)
        shape = ", ".join(f"{literal(key)}: 'VARCHAR'" for key in keys)
        table = self._temporary()
        self._connection.execute(
            f"create temporary table {table} as select {_named(files)}"
            + ", ".join(f"{quoted(key)} as {quoted(name)}" for key, name in mapping.items())
            + f" from read_json([{listed}], columns = {{{shape}}}, "
            f"format = 'newline_delimited', {options})"
        )
        return self._of_temporary(table, files, columns)

    def _keys(self, lines: str) -> tuple[list[str], bool]:
        """All keys of the objects, and whether any line is odd, in one parallel reading.

        Keys stand in the order of the first lines; those that come later only follow sorted.
        """
        first = self._connection.execute(
            "select key from (select unnest(keys) as key, "
            "generate_subscripts(keys, 1) as place, line from ("
            "select json_keys(json) as keys, row_number() over () as line "
            f"from (select json from {lines} limit {_FIRST_LINES}))) "
            "group by key order by min(line), min(place)"
        ).fetchall()
        is_odd, every = self._connection.execute(
            "select coalesce(bool_or(is_odd), false), "
            "list_sort(list_distinct(flatten(list(keys)))) "
            "from (select json_keys(json) as keys, "
            f"bool_or(regexp_matches(json::varchar, {literal(_ODD)})) as is_odd "
            f"from {lines} group by 1)"
        ).fetchall()[0]
        keys = [key for (key,) in first]
        known = set(keys)
        return [*keys, *(key for key in every or () if key not in known)], is_odd

    def _objects(
        self, lines: str, keys: list[str], files: list[DueFile], columns: dict[str, str]
    ) -> Relation:
        """Objects of which a number or text may be written otherwise than DuckDB would write it."""
        if not all(_SAFE_KEY.match(key) for key in keys):
            raise BadInput("read record by record")
        table = self._temporary()
        self._connection.execute(
            f"create temporary table {table} as select {_named(files)}json from {lines}"
        )
        self._check_exact(table)
        places = ", ".join(literal(f'$."{key}"') for key in keys)
        expressions = [f"fields[{i}]" for i in range(1, len(keys) + 1)]
        fields = self._temporary()
        self._connection.execute(
            f"create temporary table {fields} as select {_named(files)}"
            + (f"json_extract_string(json, [{places}])" if keys else "null")
            + f" as fields from temp.{table}"
        )
        return self._of_temporary(fields, files, columns, expressions)

    # Large files of lines

    def _piece(
        self, connection: duckdb.DuckDBPyConnection, due: DueFile, declared: FilesTable | None
    ) -> Relation:
        """A large file by itself: Parquet holds its rows in their order."""
        self._spool.mkdir(parents=True, exist_ok=True)
        origin = ndjsonfile.Origin(due.file, due.load_id, extracted_at(due.load_id))
        if due.reader == "csv":
            assert declared is not None
            return self._csv_piece(connection, due, declared, origin)
        compression = due.options["compression"]
        piece = ndjsonfile.write_piece(connection, due.path, compression, self._spool, origin)
        self._files += piece.paths
        for path in piece.paths:
            begin_sync(path)
        if piece.rejected:
            told = counted(len(piece.rejected), "record")
            log.warning("%s: %s rejected", due.origin_name or due.file, told)
        rejected = tuple((one.number, one.reason, one.raw) for one in piece.rejected)
        return Relation(
            (Counted(due, piece.rows, rejected),),
            dict.fromkeys(piece.columns, "VARCHAR"),
            ndjsonfile.select_rows(piece.paths, piece.columns),
            pieces=piece.paths,
        )

    def _csv_piece(
        self,
        connection: duckdb.DuckDBPyConnection,
        due: DueFile,
        declared: FilesTable,
        origin: ndjsonfile.Origin,
    ) -> Relation:
        columns, reader = _csv_reader([due], declared.csv)
        target = self._spool / f"{uuid.uuid4().hex}.parquet"
        self._files.append(target)
        [(rows,)] = connection.execute(
            f"copy (select *, cast(null as varchar) as {ndjsonfile.LINE}, "
            f"cast(null as bigint) as _row, {ndjsonfile.own_columns(origin)} from {reader}) "
            f"to {literal(str(target))} ({ndjsonfile.WRITTEN})"
        ).fetchall()
        begin_sync(target)
        sql = ndjsonfile.select_rows([target], list(columns))
        return Relation((Counted(due, rows),), columns, sql, pieces=(target,))

    def _check_exact(self, table: str) -> None:
        """Whether DuckDB's JSON keeps every digit, and every line is one object without doubles."""
        (faulty,) = self._connection.execute(
            f"select count(*) from temp.{table} where json_type(json) <> 'OBJECT' "
            "or (json::varchar <> json(json)::varchar "
            "and replace(json::varchar, ' ', '') <> replace(json(json)::varchar, ' ', '')) "
            "or len(json_keys(json)) <> len(list_distinct(json_keys(json)))"
        ).fetchall()[0]
        if faulty:
            raise BadInput("read record by record")

    # Faulty text

    def _salvaged(self, due: DueFile, declared: FilesTable) -> Relation:
        """The good records of a faulty file as Parquet, the others as rejected."""
        self._spool.mkdir(parents=True, exist_ok=True)
        target = self._spool / f"{uuid.uuid4().hex}.parquet"
        self._files.append(target)
        content = Content(due.path, due.path.name)
        faulty = due.options["faulty"]
        encoding = Encoding(faulty or "utf-8", due.options["bom"], strict=faulty is None)
        if due.reader == "csv":
            names = due.options["names"]
            taken = csvfile.salvage(content, encoding, declared.csv, names, target)
        else:
            taken = jsonfile.salvage(content, encoding, target)
        if taken.rejected:
            told = counted(len(taken.rejected), "record")
            log.warning("%s: %s rejected", due.origin_name or due.file, told)
        relation = self._parquet([replace(due, path=target, own="prepared", options={})])
        rejected = tuple((r.number, r.reason, r.raw) for r in taken.rejected)
        return replace(relation, files=(Counted(due, taken.rows, rejected),))

    # Parts

    def _temporary(self) -> str:
        name = f"wellspring_{uuid.uuid4().hex}"
        self._made.append(name)
        return name

    def _paths(self, files: list[DueFile], firsts: dict[str, int] | None = None) -> str:
        """A temporary table from the path read to what `_file` shall say."""
        import pyarrow as pa

        name = self._temporary()
        content = pa.table(
            {
                "path": pa.array([str(f.path) for f in files], pa.string()),
                "file": pa.array([f.file for f in files], pa.string()),
                "load_id": pa.array([f.load_id for f in files], pa.string()),
                "extracted_at": pa.array(
                    [extracted_at(f.load_id) for f in files], pa.timestamp("us")
                ),
                "first_row": pa.array(
                    [(firsts or {}).get(str(f.path), 0) for f in files], pa.int64()
                ),
            }
        )
        self._connection.register("wellspring_paths", content)
        try:
            self._connection.execute(
                f"create temporary table {name} as select * from wellspring_paths"
            )
        finally:
            self._connection.unregister("wellspring_paths")
        return name

    def _types(self, query: str) -> dict[str, str]:
        described = self._connection.execute(f"describe {query}").fetchall()
        return {row[0]: row[1] for row in described}


def extracted_at(load_id: str) -> datetime:
    """The time in a load id, in UTC without zone; microseconds, exactly."""
    microseconds = int(Decimal(load_id) * 1_000_000)
    seconds, rest = divmod(microseconds, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.replace(microsecond=rest)


# Begins no normalised column name.
_FILENAME = "wellspring_filename"


def _filename(files: Sequence[DueFile]) -> str:
    """Whether DuckDB is to say with each row which file it is of: not of one file alone."""
    return "false" if len(files) == 1 else literal(_FILENAME)


def _named(files: Sequence[DueFile]) -> str:
    """The beginning of a list of columns: the file's name, if rows are of several."""
    return "" if len(files) == 1 else f"{_FILENAME}, "


def _csv_reader(files: Sequence[DueFile], options: CsvOptions) -> tuple[dict[str, str], str]:
    """The columns of CSV files, and how DuckDB reads them.

    Raises:
        BadInput: DuckDB means something else by these: blank lines before a header, comments.
    """
    told = files[0].options
    if not told["plain"] or told["faulty"] or options.comment:
        raise BadInput("read record by record")
    columns = dict.fromkeys(files[0].columns or (), "VARCHAR")
    listed = ", ".join(literal(str(f.path)) for f in files)
    shape = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in columns)
    escape = options.escape if options.escape is not None else options.quote
    nulls = ", ".join(literal(text) for text in options.null_values)
    return columns, (
        f"read_csv([{listed}], auto_detect = false, columns = {{{shape}}}, "
        f"delim = {literal(options.delimiter)}, "
        f"quote = {literal(options.quote)}, escape = {literal(escape)}, "
        f"header = {str(options.header).lower()}, skip = {options.skip_lines}, "
        f"nullstr = [{nulls}], compression = {literal(told['compression'])}, "
        f"max_line_size = {csvfile.LONGEST_RECORD}, buffer_size = {csvfile.BUFFER_BYTES}, "
        "null_padding = false, strict_mode = true, ignore_errors = false, "
        f"hive_partitioning = false, filename = {_filename(files)})"
    )


def _nothing(due: DueFile) -> Relation:
    """An empty file: it counts as read, and yields no rows."""
    return Relation((Counted(due, 0),), {}, "")


def _told(error: Exception) -> str:
    return error.sentence if isinstance(error, BadInput) else first_line(error)
