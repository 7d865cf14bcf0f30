"""Raw rows that are kept as Parquet beside the warehouse, for large tables and `raw: parquet`.

rows of a load -> Parquet files below `data/raw` -> listed in `ledger.raw_pieces` -> a view in place
of the raw table, over exactly the files that are listed

Three forms lie there: lines of text with all that raw has beside them (`ndjsonfile`); rows with
types, with the same; and Parquet as it landed, under a second name, whose place in landing and load
the list tells. Each keeps the types that it came with; the view makes of them what the raw table
has by now, as `evolution` says.

The list, the view and the ledger change in the transaction of the load. A file is never changed: it
is complete and durable before it is listed, and what is not listed any more goes with the next
load. Files that are missing are taken out of the ledger, so that they are loaded from landing
again. Left out: what the rows are, which `stage` and `load` know.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.durable import sync
from ingestion.evolution import METADATA, TEXT, converted, literal, quoted
from ingestion.failpoints import failpoint
from ingestion.formats.ndjsonfile import LINE, select_rows
from ingestion.ledger import forget_files
from ingestion.settings import Settings
from ingestion.stage import extracted_at

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

# So many small files become one: a view that opens hundreds of them is slow.
_SMALL_BYTES, _SMALL_FILES = 4 * 2**20, 64
# Begins no normalised column name.
_FILENAME = "wellspring_filename"
_LIST = """
create table if not exists ledger.raw_pieces (
    source varchar not null,
    table_name varchar not null,
    piece varchar not null,
    file varchar not null
)
"""
# The load of what lies there as it landed; the columns of all that is not lines of text.
_ADDED = {"load_id": "varchar", "columns": "varchar"}


@dataclass(frozen=True)
class Landed:
    """A Parquet file in landing of which raw takes all rows, as they stand.

    Attributes:
        path: The file.
        file: What raw rows state in `_file`.
    """

    path: Path
    file: str


@dataclass
class _Piece:
    """A file that is listed.

    Attributes:
        path: The file.
        load_id: The load of which it landed so; None if it has our columns itself.
        columns: Name in raw -> its name in the file and its type there; None for lines of text.
        files: The landed files whose rows it holds.
    """

    path: Path
    load_id: str | None
    columns: dict[str, tuple[str, str]] | None
    files: set[str] = field(default_factory=set)


class RawFiles:
    """The raw rows of one table as files.

    Args:
        connection: The warehouse, with a ledger.
        settings: The project's settings.
        source: Name of the source.
        schema: Schema of the raw table.
        table: Name of the table.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        source: str,
        schema: str,
        table: str,
    ) -> None:
        self._connection = connection
        self._place = (source, table)
        self._schema = schema
        self._relation = f"{quoted(schema)}.{quoted(table)}"
        # A rebuild shares the folder through a link; views state where files really are.
        self._is_shared = settings.raw_dir.is_symlink()
        self._folder = settings.raw_dir.resolve() / source / table

    def prepare(self, columns: Mapping[str, str]) -> None:
        """Makes the view, of a table too; belongs inside a transaction, before anything else.

        Args:
            columns: The declared columns, name -> type.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_list()
        self._forget_missing()
        self._sweep()
        kind = kind_of(self._connection, self._schema, self._place[1])
        present: dict[str, str] = {}
        if kind:
            # `describe` would open files that are missing.
            found = self._connection.execute(
                "select column_name, data_type from duckdb_columns() where schema_name = ? "
                "and table_name = ? and database_name = current_database() order by column_index",
                [self._schema, self._place[1]],
            ).fetchall()
            present = {name: kind for name, kind in found if name not in METADATA}
        if kind == "table":
            self._take_over(present)
        self.show({**present, **{n: kind for n, kind in columns.items() if n not in present}})

    def add(self, pieces: Sequence[Path], files: Sequence[str]) -> int:
        """Takes written files over; returns how many rows they have.

        Args:
            pieces: Parquet files in the shape of `ndjsonfile`, which are moved.
            files: The landed files whose rows they hold.
        """
        placed = self._placed(pieces)
        for path in placed:
            self._list(path, files)
        found = self._connection.execute(f"select count(*) from ({select_rows(placed, [])})")
        return int(found.fetchall()[0][0])

    def link(
        self, landed: Sequence[Landed], load_id: str, columns: Mapping[str, tuple[str, str]]
    ) -> int:
        """Takes files over as they landed, under a second name; returns how many rows they have.

        Every value is read once, so that a damaged file is found out before it is listed.

        Args:
            landed: The files, all of the same columns.
            load_id: Their load.
            columns: Name in raw -> name in the files, and type there; `_deleted` if they have it.

        Raises:
            duckdb.Error: A file cannot be read to its end.
        """
        placed = self._linked([one.path for one in landed])
        for path, one in zip(placed, landed, strict=True):
            self._list(path, [one.file], load_id, columns)
        read = ", ".join(f"max(hash({quoted(origin)}))" for origin, _ in columns.values())
        (found,) = self._connection.execute(
            f"select count(*){', ' if read else ''}{read} from {_reader(placed)}"
        ).fetchall()
        return int(found[0])

    def write(
        self, sql: str, files: Sequence[str], columns: Mapping[str, str] | None = None
    ) -> int:
        """Writes rows as a file of their own; returns how many they are.

        Args:
            sql: A query that yields columns and `METADATA`.
            files: The landed files that they are of.
            columns: Name -> type of the columns; None if all are text and no row is deleted.
        """
        target = self._folder / f".{uuid.uuid4().hex}.part"
        more = f" exclude (_deleted), cast(null as varchar) as {LINE}" if columns is None else ""
        self._connection.execute(
            f"copy (select *{more} from ({sql})) "
            f"to {literal(str(target))} (format parquet, compression zstd)"
        )
        if columns is None:
            return self.add([target], files)
        (placed,) = self._placed([target])
        every = {**columns, "_deleted": METADATA["_deleted"]}
        self._list(placed, files, None, {name: (name, kind) for name, kind in every.items()})
        found = self._connection.execute(f"select count(*) from {_reader([placed])}").fetchall()
        return int(found[0][0])

    def settle(self, names: Collection[str]) -> None:
        """Lets columns be NULL in what there is, whose types say nothing: they never had a value.

        Args:
            names: The columns.
        """
        for piece in self._listed():
            if piece.columns is None or not piece.columns.keys() & set(names):
                continue
            kept = {name: told for name, told in piece.columns.items() if name not in names}
            self._connection.execute(
                "update ledger.raw_pieces set columns = ? "
                "where source = ? and table_name = ? and piece = ?",
                [json.dumps(kept), *self._place, piece.path.name],
            )

    def remove(self, files: Collection[str] | None) -> None:
        """Takes rows out.

        Args:
            files: The landed files; None for all.
        """
        for piece in self._listed():
            if files is not None and not piece.files & set(files):
                continue
            self._unlist([piece])
            kept = set() if files is None else piece.files - set(files)
            if kept:
                self._rewrite([piece], kept)

    def show(self, columns: Mapping[str, str]) -> None:
        """Makes the view over what is listed.

        Args:
            columns: The columns that it is to have, name -> type.
        """
        self._merge_small()
        nothing = [f"cast(null as {kind}) as {quoted(name)}" for name, kind in columns.items()]
        nothing += [f"cast(null as {kind}) as {name}" for name, kind in METADATA.items()]
        sql = self._rows(self._listed(), columns)
        self._replace(sql or f"select {', '.join(nothing)} where false")

    def _rows(self, pieces: Sequence[_Piece], columns: Mapping[str, str]) -> str:
        """A query for the rows of files, in these columns and `METADATA`; empty for no file."""
        texts = [piece.path for piece in pieces if piece.columns is None]
        parts = [self._of_texts(texts, columns)] if texts else []
        alike: dict[tuple[str | None, str], list[_Piece]] = {}
        for piece in pieces:
            if piece.columns is not None:
                shape = json.dumps(piece.columns)
                alike.setdefault((piece.load_id, shape), []).append(piece)
        parts += [_of_types(group, columns) for group in alike.values()]
        return " union all ".join(parts)

    def _of_texts(self, paths: Sequence[Path], columns: Mapping[str, str]) -> str:
        """The same for lines of text, whichever columns they have."""
        known = self._text_columns(paths)
        every = [
            f"{converted(quoted(name), TEXT, kind)} as {quoted(name)}"
            if name in known
            else f"cast(null as {kind}) as {quoted(name)}"
            for name, kind in columns.items()
        ]
        own = select_rows(paths, [name for name in columns if name in known], deleted=True)
        return f"select {', '.join([*every, *METADATA])} from ({own})"

    def _text_columns(self, paths: Sequence[Path]) -> set[str]:
        listed = ", ".join(literal(str(path)) for path in paths)
        described = self._connection.execute(
            f"describe select * from read_parquet([{listed}], union_by_name = true)"
        ).fetchall()
        return {row[0] for row in described} - {LINE, *METADATA}

    def _replace(self, sql: str) -> None:
        """Replaces the view; one that is the same stays, so that nothing seems to have changed."""
        mark = hashlib.sha256(sql.encode()).hexdigest()
        found = self._connection.execute(
            "select comment from duckdb_views() where schema_name = ? and view_name = ? "
            "and database_name = current_database()",
            [self._schema, self._place[1]],
        ).fetchall()
        if found != [(mark,)]:
            self._connection.execute(f"create or replace view {self._relation} as {sql}")
            self._connection.execute(f"comment on view {self._relation} is {literal(mark)}")

    def _take_over(self, columns: Mapping[str, str]) -> None:
        """Makes files of the rows of a raw table, which was too small or declared otherwise."""
        found = self._connection.execute(f"select distinct _file from {self._relation}").fetchall()
        if found:
            listed = ", ".join([*map(quoted, columns), *METADATA])
            files = [file for (file,) in found]
            self.write(f"select {listed} from {self._relation}", files, columns)
        self._connection.execute(f"drop table {self._relation}")

    def _merge_small(self) -> None:
        """Makes one file of many small ones, as far as none of their columns changes its type."""
        bunches: list[tuple[dict[str, str], list[_Piece]]] = []
        texts: list[_Piece] = []
        for piece in self._listed():
            if piece.path.stat().st_size >= _SMALL_BYTES:
                continue
            if piece.columns is None:
                texts.append(piece)
                continue
            types = {name: kind for name, (_, kind) in piece.columns.items()}
            for known, bunch in bunches:
                if all(known.get(name, kind) == kind for name, kind in types.items()):
                    known |= types
                    bunch.append(piece)
                    break
            else:
                bunches.append((types, [piece]))
        for small in (texts, *(bunch for _, bunch in bunches)):
            if len(small) >= _SMALL_FILES:
                self._unlist(small)
                self._rewrite(small, set().union(*(piece.files for piece in small)))

    def _rewrite(self, pieces: Sequence[_Piece], files: Collection[str]) -> None:
        """Writes rows of files as a new one, with the types that they have there.

        Args:
            pieces: The files, which agree in their types.
            files: The landed files whose rows are kept.
        """
        listed = ", ".join(map(literal, sorted(files)))
        columns: dict[str, str] | None = None
        if pieces[0].columns is None:
            known = self._text_columns([piece.path for piece in pieces])
            content = self._rows(pieces, dict.fromkeys(sorted(known), TEXT))
        else:
            columns = {n: kind for p in pieces for n, (_, kind) in (p.columns or {}).items()}
            columns.pop("_deleted", None)
            content = self._rows(pieces, columns)
        kept = f"select * from ({content}) where _file in ({listed})"
        self.write(kept, sorted(files), columns)

    def _placed(self, paths: Sequence[Path]) -> list[Path]:
        """Moves files that are ours to where they stay."""
        placed = []
        for path in paths:
            sync(path)
            placed.append(path.rename(self._folder / f"{uuid.uuid4().hex}.parquet"))
        sync(self._folder)
        failpoint("load.raw_files_placed")
        return placed

    def _linked(self, paths: Sequence[Path]) -> list[Path]:
        """Gives landed files a second name; copies them where a file can have but one."""
        placed = []
        for path in paths:
            target = self._folder / f"{uuid.uuid4().hex}.parquet"
            try:
                target.hardlink_to(path)
            except OSError:
                shutil.copyfile(path, target)
            sync(target)
            placed.append(target)
        sync(self._folder)
        failpoint("load.raw_files_linked")
        return placed

    def _make_list(self) -> None:
        self._connection.execute(_LIST)
        present = self._connection.execute(
            "select column_name from duckdb_columns() where schema_name = 'ledger' "
            "and table_name = 'raw_pieces' and database_name = current_database()"
        ).fetchall()
        for name, kind in _ADDED.items():
            if (name,) not in present:
                self._connection.execute(f"alter table ledger.raw_pieces add column {name} {kind}")

    def _listed(self) -> list[_Piece]:
        """The files with rows, oldest first."""
        found = self._connection.execute(
            "select piece, any_value(load_id), any_value(columns), list(file) "
            "from ledger.raw_pieces where source = ? and table_name = ? "
            "group by piece order by min(rowid)",
            self._place,
        ).fetchall()
        return [
            _Piece(
                self._folder / piece,
                load_id,
                None if columns is None else {n: tuple(t) for n, t in json.loads(columns).items()},
                set(files),
            )
            for piece, load_id, columns, files in found
        ]

    def _list(
        self,
        path: Path,
        files: Sequence[str],
        load_id: str | None = None,
        columns: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        told = None if columns is None else json.dumps(columns)
        self._connection.execute(
            "insert into ledger.raw_pieces (source, table_name, piece, file, load_id, columns) "
            "select ?, ?, ?, unnest(?::varchar[]), ?, ?",
            [*self._place, path.name, list(files), load_id, told],
        )

    def _unlist(self, pieces: Iterable[_Piece]) -> None:
        self._connection.execute(
            "delete from ledger.raw_pieces where source = ? and table_name = ? "
            "and list_contains(?, piece)",
            [*self._place, [piece.path.name for piece in pieces]],
        )

    def _forget_missing(self) -> None:
        listed = self._listed()
        lost = [piece for piece in listed if not piece.path.is_file()]
        if not lost:
            return
        files = set().union(*(piece.files for piece in lost))
        log.warning("%s.%s: raw files are missing and are made again", *self._place)
        self._unlist(lost)
        for piece in listed:
            if piece not in lost and piece.files & files:
                # A landed file is in raw whole or not at all.
                self._unlist([piece])
                files |= piece.files
        forget_files(self._connection, *self._place, sorted(files))

    def _sweep(self) -> None:
        """Removes files that nothing lists; of a shared folder, others know what is listed."""
        if self._is_shared:
            return
        kept = {piece.path.name for piece in self._listed()}
        for path in self._folder.iterdir():
            if path.name not in kept:
                path.unlink()


def _reader(paths: Sequence[Path], more: str = "") -> str:
    """A reader of Parquet files that have the same columns."""
    listed = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false, union_by_name = false{more})"


def _of_types(pieces: Sequence[_Piece], columns: Mapping[str, str]) -> str:
    """The rows of files that are alike, as a raw table has them by now."""
    first = pieces[0]
    present = first.columns or {}
    told = [
        f"{converted(f'data.{quoted(present[name][0])}', present[name][1], kind)} as {quoted(name)}"
        if name in present
        else f"cast(null as {kind}) as {quoted(name)}"
        for name, kind in columns.items()
    ]
    paths = [piece.path for piece in pieces]
    if first.load_id is None:
        told += [f"data.{name}" for name in METADATA]
        return f"select {', '.join(told)} from {_reader(paths)} as data"
    names = {str(piece.path): file for piece in pieces for file in piece.files}
    if len(names) == 1:
        file, reader = literal(*names.values()), _reader(paths, ", file_row_number = true")
    else:
        cases = "".join(f" when {literal(p)} then {literal(f)}" for p, f in names.items())
        file = f"case data.{_FILENAME}{cases} end"
        reader = _reader(paths, f", file_row_number = true, filename = {literal(_FILENAME)}")
    deleted = "coalesce(data._deleted, false)" if "_deleted" in present else "false"
    moment = extracted_at(first.load_id).isoformat(sep=" ")
    told += [
        f"{file} as _file",
        "data.file_row_number + 1 as _row",
        f"{literal(first.load_id)} as _load_id",
        f"timestamp {literal(moment)} as _extracted_at",
        f"{deleted} as _deleted",
    ]
    return f"select {', '.join(told)} from {reader} as data"


def kind_of(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> str:
    """Whether a name is a `table` or a `view`; empty if it is neither."""
    found = connection.execute(
        "select table_type from information_schema.tables "
        "where table_schema = ? and table_name = ? and table_catalog = current_database()",
        [schema, name],
    ).fetchall()
    return {"BASE TABLE": "table", "VIEW": "view"}.get(found[0][0], "") if found else ""


def views_of(connection: duckdb.DuckDBPyConnection, schema: str) -> set[str]:
    """Names of the views of a schema."""
    found = connection.execute(
        "select view_name from duckdb_views() "
        "where schema_name = ? and database_name = current_database() and not internal",
        [schema],
    ).fetchall()
    return {str(row[0]) for row in found}


def as_table(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> None:
    """Makes a raw table of its view, for a table that is not declared `raw: parquet` any more."""
    relation = f"{quoted(schema)}.{quoted(name)}"
    connection.execute(f"create temporary table wellspring_shown as from {relation}")
    connection.execute(f"drop view {relation}")
    connection.execute(f"create table {relation} as from temp.wellspring_shown")
    connection.execute("drop table temp.wellspring_shown")
