"""Raw rows that are kept as Parquet beside the warehouse, for tables declared `raw: parquet`.

rows of a load -> Parquet files below `data/raw` -> listed in `ledger.raw_pieces` -> a view in place
of the raw table, over exactly the files that are listed

The list, the view and the ledger change in the transaction of the load. A file is never changed: it
is complete and durable before it is listed, and what is not listed any more goes with the next
load. Files that are missing are taken out of the ledger, so that they are loaded from landing
again. Left out: what the rows are, which `stage` and `load` know; types, for all of it is text.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.durable import sync
from ingestion.evolution import METADATA, literal, quoted
from ingestion.failpoints import failpoint
from ingestion.formats.ndjsonfile import LINE, select_rows
from ingestion.ledger import forget_files
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

# So many small files become one: a view that opens hundreds of them is slow.
_SMALL_BYTES, _SMALL_FILES = 4 * 2**20, 64
_LIST = """
create table if not exists ledger.raw_pieces (
    source varchar not null,
    table_name varchar not null,
    piece varchar not null,
    file varchar not null
)
"""


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
            columns: The declared columns.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._connection.execute(_LIST)
        self._forget_missing()
        self._sweep()
        kind = kind_of(self._connection, self._schema, self._place[1])
        present: list[str] = []
        if kind:
            # `describe` would open files that are missing.
            found = self._connection.execute(
                "select column_name from duckdb_columns() where schema_name = ? and table_name = ? "
                "and database_name = current_database() order by column_index",
                [self._schema, self._place[1]],
            ).fetchall()
            present = [name for (name,) in found if name not in METADATA]
        if kind == "table":
            self._take_over(present)
        self.show([*present, *(name for name in columns if name not in present)])

    def add(self, pieces: Sequence[Path], files: Sequence[str]) -> int:
        """Takes written files over; returns how many rows they have.

        Args:
            pieces: Parquet files in the shape of `ndjsonfile`, which are moved.
            files: The landed files whose rows they hold.
        """
        placed = [self._placed(path) for path in pieces]
        sync(self._folder)
        failpoint("load.raw_files_placed")
        for path in placed:
            self._list(path, files)
        found = self._connection.execute(f"select count(*) from ({select_rows(placed, [])})")
        return int(found.fetchall()[0][0])

    def write(self, sql: str, files: Sequence[str]) -> int:
        """Writes rows as a file of their own; returns how many they are.

        Args:
            sql: A query that yields columns of text and `METADATA`.
            files: The landed files that they are of.
        """
        target = self._folder / f".{uuid.uuid4().hex}.part"
        self._connection.execute(
            f"copy (select * exclude (_deleted), cast(null as varchar) as {LINE} from ({sql})) "
            f"to {literal(str(target))} (format parquet, compression zstd)"
        )
        return self.add([target], files)

    def remove(self, files: Collection[str] | None) -> None:
        """Takes rows out.

        Args:
            files: The landed files; None for all.
        """
        for path, held in self._listed().items():
            if files is not None and not held & set(files):
                continue
            self._unlist([path])
            kept = set() if files is None else held - set(files)
            if kept:
                listed = ", ".join(literal(file) for file in kept)
                content = (
                    f"select * from read_parquet({literal(str(path))}, file_row_number = true)"
                )
                self._rewrite(f"select * from ({content}) where _file in ({listed})", kept)

    def show(self, columns: Iterable[str]) -> None:
        """Makes the view over what is listed.

        Args:
            columns: The columns that it is to have.
        """
        names = list(columns)
        self._merge_small(names)
        paths = list(self._listed())
        nothing = [f"cast(null as varchar) as {quoted(name)}" for name in names]
        nothing += [f"cast(null as {kind}) as {name}" for name, kind in METADATA.items()]
        sql = f"select {', '.join(nothing)} where false"
        if paths:
            listed = ", ".join(literal(str(path)) for path in paths)
            described = self._connection.execute(
                f"describe select * from read_parquet([{listed}], union_by_name = true)"
            ).fetchall()
            known = {row[0] for row in described}
            every = ", ".join(
                quoted(name) if name in known else f"cast(null as varchar) as {quoted(name)}"
                for name in names
            )
            own = select_rows(paths, [name for name in names if name in known], deleted=True)
            sql = f"select {every}{', ' if every else ''}{', '.join(METADATA)} from ({own})"
        self._replace(sql)

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

    def _take_over(self, columns: Sequence[str]) -> None:
        """Makes files of the rows of a raw table, whose declaration was another one."""
        told = ", ".join(f"cast({quoted(name)} as varchar) as {quoted(name)}" for name in columns)
        found = self._connection.execute(f"select distinct _file from {self._relation}").fetchall()
        if found:
            listed = f"select {told}{', ' if told else ''}{', '.join(METADATA)}"
            self.write(f"{listed} from {self._relation}", [file for (file,) in found])
        self._connection.execute(f"drop table {self._relation}")

    def _merge_small(self, columns: Sequence[str]) -> None:
        small = {
            path: files
            for path, files in self._listed().items()
            if path.stat().st_size < _SMALL_BYTES
        }
        if len(small) < _SMALL_FILES:
            return
        listed = ", ".join(literal(str(path)) for path in small)
        content = (
            f"select * from read_parquet([{listed}], union_by_name = true, file_row_number = true)"
        )
        self._unlist(small)
        self._rewrite(content, set().union(*small.values()))

    def _rewrite(self, content: str, files: Iterable[str]) -> None:
        """Writes rows of pieces as a new one, which states their places by itself."""
        target = self._folder / f".{uuid.uuid4().hex}.part"
        self._connection.execute(
            "copy (select * exclude (file_row_number) "
            "replace (coalesce(_row, file_row_number + 1) as _row) "
            f"from ({content}) where {LINE} is null) to {literal(str(target))} "
            "(format parquet, compression zstd)"
        )
        self.add([target], list(files))

    def _placed(self, path: Path) -> Path:
        sync(path)
        target = self._folder / f"{uuid.uuid4().hex}.parquet"
        return path.rename(target)

    def _listed(self) -> dict[Path, set[str]]:
        """The files with rows, and of which landed files these are, oldest first."""
        found = self._connection.execute(
            "select piece, list(file) from ledger.raw_pieces where source = ? and table_name = ? "
            "group by piece order by min(rowid)",
            self._place,
        ).fetchall()
        return {self._folder / piece: set(files) for piece, files in found}

    def _list(self, path: Path, files: Sequence[str]) -> None:
        self._connection.execute(
            "insert into ledger.raw_pieces select ?, ?, ?, unnest(?::varchar[])",
            [*self._place, path.name, list(files)],
        )

    def _unlist(self, paths: Iterable[Path]) -> None:
        self._connection.execute(
            "delete from ledger.raw_pieces where source = ? and table_name = ? "
            "and list_contains(?, piece)",
            [*self._place, [path.name for path in paths]],
        )

    def _forget_missing(self) -> None:
        lost = {path: files for path, files in self._listed().items() if not path.is_file()}
        if not lost:
            return
        files = set().union(*lost.values())
        log.warning("%s.%s: raw files are missing and are made again", *self._place)
        present = {path: held for path, held in self._listed().items() if path not in lost}
        self._unlist(lost)
        for path, held in present.items():
            if held & files:
                # A landed file is in raw whole or not at all.
                self._unlist([path])
                files |= held
        forget_files(self._connection, *self._place, sorted(files))

    def _sweep(self) -> None:
        """Removes files that nothing lists; of a shared folder, others know what is listed."""
        if self._is_shared:
            return
        kept = {path.name for path in self._listed()}
        for path in self._folder.iterdir():
            if path.name not in kept:
                path.unlink()


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
