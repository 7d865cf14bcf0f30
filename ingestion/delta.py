"""What a source shows now, compared with what has landed: only the difference is landed.

spool, as read ─┐
landed files ───┴─> hash of all columns, latest landed version per key -> new rows, tombstones

Because the comparison is with landing itself, reading a window, a boundary or a whole table again
adds nothing, and no state is kept beside landing: the cursor's high-water mark is read from it too.

- A row is landed if it differs from the latest landed version of its key in any column that the
  source has now. A column that is new and NULL, or gone from the source, makes no difference.
- Where one reading shows a key in several versions, the last one (by the cursor) is compared so; an
  earlier one is landed unless it has landed before.
- Without a key, the n-th copy of a row is landed unless n copies have landed already.
- A key that has gone is landed once more, as its last version with `_deleted = true` (sweep).

Left out: reading the source (`database`, `rest`, `python_source`), writing to landing (`extract`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ingestion.budget import memory_limit
from ingestion.compacted import OWN_COLUMNS, read_pack
from ingestion.databases.base import pattern_of
from ingestion.schema.renames import Side
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ROW_GROUP = 122_880
# Comparing needs memory, reading needs time: many tables are read at once, few are compared.
COMPARED_AT_ONCE = 2
DELETED = "_deleted"
_EXACT = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DECIMAL\(.*\))$")
_FLOATING = frozenset({"FLOAT", "DOUBLE"})
_INTERNAL = "~"  # begins no normalised name, so these never clash with a source's columns


class LandedFile(Protocol):
    """A Parquet file of a completed load."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def load_id(self) -> str:
        """Id of its load: seconds since 1970, with a fraction."""

    @property
    def file(self) -> str:
        """Its path below the landing zone."""

    @property
    def part(self) -> object | None:
        """What it was, if `path` is a compacted file that it was taken into."""


@dataclass(frozen=True)
class Spool:
    """One reading of a table, on disk.

    Attributes:
        files: Parquet files of the rows, in the order read; column names are normalised.
        key: Columns that identify a row; empty if there is no key.
        cursor: Column that orders the versions of a key, if declared.
        sweep: Whether keys that have gone are landed as deleted.
        keys: Parquet file of all keys the source has now; None if `files` hold every row.
        is_ready: Whether the files can be landed as they are, if nothing has landed before.
    """

    files: Sequence[Path]
    key: Sequence[str] = ()
    cursor: str | None = None
    sweep: bool = False
    keys: Path | None = None
    is_ready: bool = False


@dataclass(frozen=True)
class Difference:
    """What has to be landed.

    Attributes:
        files: Parquet files of the rows, of the same columns; none if there are no rows.
        changed: Number of rows that are new or differ.
        deleted: Number of keys that have gone.
        read: Number of rows that were read from the source.
    """

    files: tuple[Path, ...] = ()
    changed: int = 0
    deleted: int = 0
    read: int = 0

    @property
    def rows(self) -> int:
        """Number of rows to land."""
        return self.changed + self.deleted


class Delta:
    """Compares one table with its landed files.

    Args:
        settings: The project's settings: memory and temporary folder of DuckDB.
        landed: Files of completed loads of this table, in any order.
    """

    def __init__(self, settings: Settings, landed: Iterable[LandedFile]) -> None:
        self._settings = settings
        self._landed = sorted(landed, key=lambda file: (file.load_id, str(file.path)))
        self._open: duckdb.DuckDBPyConnection | None = None
        self._types: dict[str, str] | None = None
        self._incoming: Spool | None = None
        self._landed_keys: _Key | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB in memory, opened when first needed."""
        if self._open is None:
            from ingestion.warehouse import in_memory

            self._open = in_memory(self._settings)
            # Several tables are compared at the same time: each takes a part of the machine.
            self._open.execute("set threads = 2")
            limit = memory_limit(self._settings, COMPARED_AT_ONCE)
            self._open.execute("set memory_limit = ?", [limit])
        return self._open

    @property
    def is_first(self) -> bool:
        """Whether nothing has landed yet."""
        return not self._landed

    @property
    def landed_columns(self) -> dict[str, str]:
        """Landed columns and their DuckDB types, the widest over all files."""
        if self._types is None:
            found = self.describe(self._landed_paths)
            self._types = {name: kind for name, kind in found.items() if name not in OWN_COLUMNS}
        return self._types

    @property
    def _landed_paths(self) -> list[Path]:
        """What is read of landing; a compacted file once for all its parts."""
        return list(dict.fromkeys(file.path for file in self._landed))

    @property
    def rows_with_places(self) -> str:
        """A relation of all landed rows, each with `filename`, `file_row_number`, `load_time`."""
        return self._landed_rows()

    def describe(self, files: Sequence[Path]) -> dict[str, str]:
        """Columns of some Parquet files and their DuckDB types; empty without files."""
        if not files:
            return {}
        rows = self.connection.execute(f"describe select * from {scan(files)}").fetchall()
        return {str(row[0]): str(row[1]) for row in rows}

    def high_water(self, cursor: str) -> Any:
        """The highest landed value of the cursor, from which to read on.

        A time that lay in the future when it was landed does not count: a single row with a wrong
        clock would otherwise hide every later change.

        Args:
            cursor: Name of the cursor's column.

        Returns:
            A datetime, date, Decimal or text by the column's type; None if nothing has landed.
        """
        kind = self.landed_columns.get(cursor)
        if kind is None:
            return None
        name = quoted(cursor)
        moment = name if kind != "VARCHAR" else f"try_cast({name} as timestamptz)"
        in_time = f"{moment}::timestamptz <= load_time + interval 1 day"
        if kind == "VARCHAR":
            sql = f"select max({moment}) filter (where {in_time}), count({moment}) from {{}}"
            instant, instants = self._one(sql.format(self._landed_rows()))
            return instant if instants else self._highest_number(name)
        if kind == "DATE" or kind.startswith("TIMESTAMP"):
            sql = f"select max({name}) filter (where {in_time}) from {self._landed_rows()}"
            return self._one(sql)[0]
        (value,) = self._one(f"select max({name}) from {self._landed_rows()}")
        return Decimal(str(value)) if isinstance(value, int | float) else value

    def side(self) -> Side:
        """What has landed, as one side of a comparison of columns."""
        return Side(self._landed_rows(), self.landed_columns)

    def highest_text(self, column: str) -> str:
        """The highest landed value of a column as a text; empty if there is none."""
        name = quoted(column)
        (text,) = self._one(f"select max({name})::varchar from {self._landed_rows()}")
        return text or ""

    def _highest_number(self, name: str) -> Any:
        """The highest value of a text column as a number; as a text if one is no number."""
        # A failing cast to decimal is slow, so only texts that are numbers are cast.
        number = f"case when regexp_full_match({name}, '-?\\d{{1,18}}') then {name}::bigint end"
        highest, texts, numbers, text = self._one(
            f"select max({number}), count({name}), count({number}), max({name}) "
            f"from {self._landed_rows()}"
        )
        return Decimal(highest) if texts and texts == numbers else text

    def missing_keys(self, spool: Spool) -> pa.Table:
        """Keys that the source has but neither landing (as live) nor the spool: rows to fetch.

        Such rows came back after a deletion, or were written with a cursor older than the window.

        Args:
            spool: A reading with `keys`.

        Returns:
            One column per key column, in the types of the keys' file.
        """
        assert spool.keys is not None
        key = self._prepare(spool)
        names = ", ".join(f"source_rows.{quoted(name)}" for name in spool.key)
        own = ", ".join(quoted(name) for name in spool.key)
        return self.connection.execute(
            f"""
            with source_rows as (
                select {own}, {key.columns(self.describe([spool.keys]))} from {scan([spool.keys])}
            ),
            known as (
                select {key.names} from incoming
                union all
                select {key.names} from landed_keys where not {_i("deleted")}
            )
            select {names} from source_rows
            anti join known on {key.same("source_rows", "known")}
            """
        ).to_arrow_table()

    def difference(self, spool: Spool, out: Path) -> Difference:
        """Writes the rows to land into `out`.

        Args:
            spool: What was read.
            out: The Parquet file to write; it is not made if there is nothing to land, or if the
                spool's files are landed themselves.
        """
        if not self._landed:
            return self._all_rows(spool, out)
        key = self._prepare(spool)
        types = self.describe(spool.files)
        self._make_landed(spool, key, types)
        self._make_changed(key)
        self._make_gone(spool, key)
        (read,) = self._one("select count(*) from incoming")
        (changed,) = self._one("select count(*) from changed")
        (deleted,) = self._one("select count(*) from gone")
        if changed + deleted == 0:
            return Difference(read=read)
        self._write(self._rows_to_land(spool, types, changed, deleted), out)
        return Difference((out,), changed, deleted, read)

    def _all_rows(self, spool: Spool, out: Path) -> Difference:
        """Nothing has landed yet, so everything is new."""
        types = self.describe(spool.files)
        if not types:
            return Difference()
        (read,) = self._one(f"select count(*) from {scan(spool.files)}")
        if not read:
            return Difference()
        if spool.is_ready:
            return Difference(tuple(spool.files), changed=read, read=read)
        columns = ", ".join(quoted(name) for name in types if name != DELETED)
        self._write(f"select {columns}, false as {DELETED} from {scan(spool.files)}", out)
        return Difference((out,), changed=read, read=read)

    def _prepare(self, spool: Spool) -> _Key:
        """Tables `incoming` and, for a sweep, `landed_keys`; made once for the same reading."""
        types = self.describe(spool.files)
        kinds = [types, self.landed_columns]
        if spool.keys is not None:
            kinds.append(self.describe([spool.keys]))
        key = _Key(spool.key, [kind for kind in kinds if kind])
        if self._incoming != spool:
            self._make_incoming(spool, key, types)
            self._incoming = spool
        if spool.sweep and self._landed_keys != key:
            self._make_landed_keys(key)
            self._landed_keys = key
        return key

    def _make_incoming(self, spool: Spool, key: _Key, types: Mapping[str, str]) -> None:
        """Table `incoming`: place, key, cursor and hash of every row read."""
        nothing = "(select '' as filename, 0 as file_row_number where false)"
        source = scan(spool.files) if spool.files else nothing
        self.connection.execute(
            f"""
            create or replace temp table incoming as
            select
                filename as {_i("part")}, file_row_number as {_i("row")},
                {_identity(spool.cursor, types, self.landed_columns, types, key.columns(types))}
            from {source}
            """
        )

    def _make_landed(self, spool: Spool, key: _Key, types: Mapping[str, str]) -> None:
        """Table `landed`: every landed version of the keys that were read, as in `incoming`."""
        keys, read = "", ""
        if key:
            # Only the keys that were read matter: the others are left out before any hashing.
            keys = f", {key.columns(self.landed_columns)}"
            read = f"semi join incoming on {key.same('landed_rows', 'incoming')}"
        identity = _identity(spool.cursor, self.landed_columns, types, types, key.names)
        self.connection.execute(
            f"""
            create or replace temp table landed as
            with landed_rows as (select *, {self._places}{keys} from {self._landed_rows()})
            select {_i("part")}, {_i("row")}, {_i("load")}, {_i("deleted")}, {identity}
            from landed_rows {read}
            """
        )

    def _make_landed_keys(self, key: _Key) -> None:
        """Table `landed_keys`: the place of the last row of every key that has landed."""
        self.connection.execute(
            f"""
            create or replace temp table landed_keys as
            select {self._places}, {key.columns(self.landed_columns)}
            from {self._landed_rows()}
            qualify row_number() over (
                partition by {key.names}
                order by {_i("load")} desc, {_i("part")} desc, {_i("row")} desc
            ) = 1
            """
        )

    def _make_changed(self, key: _Key) -> None:
        """Table `changed`: places of the rows to land."""
        select = _changed_keys(key) if key else _CHANGED_COPIES
        self.connection.execute(f"create or replace temp table changed as {select}")

    def _make_gone(self, spool: Spool, key: _Key) -> None:
        """Table `gone`: places of the last versions of keys that the source has no more."""
        gone = "select * from changed limit 0"
        if spool.sweep:
            source_keys = f"select {key.names} from incoming"
            if spool.keys is not None:
                columns = key.columns(self.describe([spool.keys]))
                source_keys += f" union all select {columns} from {scan([spool.keys])}"
            gone = f"""
                with source_keys as ({source_keys})
                select landed_keys.{_i("part")}, landed_keys.{_i("row")} from landed_keys
                anti join source_keys on {key.same("landed_keys", "source_keys")}
                where not landed_keys.{_i("deleted")} and {key.is_told("landed_keys")}
                """
        self.connection.execute(f"create or replace temp table gone as {gone}")

    def _rows_to_land(
        self, spool: Spool, types: Mapping[str, str], changed: int, deleted: int
    ) -> str:
        """Query of the changed rows in their order, then of the tombstones."""
        parts = []
        if changed:
            gone = [name for name in self.landed_columns if name not in (*types, DELETED)]
            # Columns that the source has lost stay, as NULL: dlt would add them with other types.
            columns = ", ".join(
                [f"rows.{quoted(name)}" for name in types]
                + [f"null::{self.landed_columns[name]} as {quoted(name)}" for name in gone]
            )
            parts.append(
                f"""
                select {columns}, false as {DELETED} from {scan(spool.files)} as rows
                semi join changed on rows.filename = changed.{_i("part")}
                    and rows.file_row_number = changed.{_i("row")}
                order by rows.filename, rows.file_row_number
                """
            )
        if deleted:
            kept = {**self.landed_columns, **types}
            columns = ", ".join(
                f"try_cast(rows.{quoted(name)} as {kept[name]}) as {quoted(name)}"
                for name in self.landed_columns
                if name != DELETED
            )
            parts.append(
                f"""
                select {columns}, true as {DELETED}
                from {self._landed_rows()} as rows
                semi join gone on rows.filename = gone.{_i("part")}
                    and rows.file_row_number = gone.{_i("row")}
                """
            )
        return " union all by name ".join(f"(from ({part}))" for part in parts)

    @property
    def _places(self) -> str:
        """Where a landed row lies, its load, and whether it marks a deletion."""
        deleted = f"coalesce({DELETED}, false)" if DELETED in self.landed_columns else "false"
        return (
            f"filename as {_i('part')}, file_row_number as {_i('row')}, "
            f"load_time as {_i('load')}, {deleted} as {_i('deleted')}"
        )

    def _landed_rows(self) -> str:
        """All landed rows, each with its place and the time of its load.

        The load stands at the beginning of a file's name; rows of compacted files bring all that
        with them.
        """
        load = "regexp_extract(parse_filename(filename), '^[0-9]+[.][0-9]+')"
        files = scan(self._landed_paths)
        packed = [file for file in self._landed if file.part is not None]
        if not packed:
            return (
                f"(select *, filename, file_row_number, to_timestamp({load}::double) as load_time "
                f"from {files})"
            )
        root = literal(f"{self._settings.landing_dir}/")
        places = Counter(file.path for file in packed)
        whole = all(len(read_pack(path).parts) == found for path, found in places.items())
        # Otherwise some of their loads do not count.
        counted = ", ".join(literal(file.file) for file in packed)
        chosen = "" if whole else f" where _file is null or _file in ({counted})"
        return (
            f"(select * exclude ({', '.join(OWN_COLUMNS)}), "
            f"coalesce({root} || _file, filename) as filename, "
            "coalesce(_row - 1, file_row_number) as file_row_number, "
            f"to_timestamp(coalesce(_load_id, {load})::double) as load_time "
            f"from {files}{chosen})"
        )

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.connection.execute(sql).fetchone()
        assert row is not None
        return row

    def _write(self, query: str, out: Path) -> None:
        self.connection.execute(
            f"copy ({query}) to {literal(str(out))} "
            f"(format parquet, compression zstd, row_group_size {ROW_GROUP})"
        )


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def scan(files: Sequence[Path]) -> str:
    """A table function that reads some Parquet files whose columns may differ."""
    listed = ", ".join(literal(str(file)) for file in files)
    return f"read_parquet([{listed}], union_by_name = true)"


def _i(name: str) -> str:
    """An internal column."""
    return quoted(_INTERNAL + name)


class _Key:
    """The columns that identify a row, as expressions that can be compared on all sides.

    Args:
        names: Columns of the key.
        types: Types of the columns on each side. Where they agree the column is compared as it is,
            otherwise as a text that does not depend on the width of a number's type.
    """

    def __init__(self, names: Sequence[str], types: Sequence[Mapping[str, str]]) -> None:
        self._names = tuple(names)
        self._as_is = {name for name in names if len({side.get(name) for side in types}) == 1}

    def __bool__(self) -> bool:
        return bool(self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and (self._names, self._as_is) == (
            other._names,
            other._as_is,
        )

    def __hash__(self) -> int:
        return hash(self._names)

    @property
    def names(self) -> str:
        """Names of the internal columns."""
        return ", ".join(_i(f"key{n}") for n in range(len(self._names)))

    def columns(self, types: Mapping[str, str]) -> str:
        """Expressions of the internal columns, for a side with these types."""
        return ", ".join(
            f"{quoted(name) if name in self._as_is and name in types else _text(name, types)}"
            f" as {_i(f'key{n}')}"
            for n, name in enumerate(self._names)
        )

    def is_told(self, relation: str) -> str:
        """Condition that a row has a key: it landed since the source has these columns."""
        internal = [_i(f"key{n}") for n in range(len(self._names))]
        return " and ".join(f"{relation}.{n} is not null" for n in internal)

    def same(self, left: str, right: str) -> str:
        """Condition that two relations show the same key."""
        internal = [_i(f"key{n}") for n in range(len(self._names))]
        return " and ".join(f"{left}.{n} is not distinct from {right}.{n}" for n in internal)


def _identity(
    cursor: str | None,
    own: Mapping[str, str],
    other: Mapping[str, str],
    compared: Mapping[str, str],
    keys: str,
) -> str:
    """Key, cursor and hash of a row; the same for both sides if the row is the same.

    Args:
        cursor: Column that orders the versions of a key.
        own: Types of the side whose rows are described.
        other: Types of the other side.
        compared: The columns that count, those the source has now.
        keys: Expressions of the key's columns; empty without a key.
    """
    values = ", ".join(comparable(name, own, other) for name in compared)
    order = _text(cursor, own) if cursor else "null::varchar"
    if cursor and own.get(cursor, "").startswith("TIMESTAMP"):
        order = f"strftime({quoted(cursor)}, '%Y-%m-%d %H:%M:%S.%f')"
    columns = [f"{order} as {_i('cursor')}", f"hash({values or 'null'}) as {_i('hash')}"]
    return ", ".join([keys, *columns] if keys else columns)


def _text(name: str, types: Mapping[str, str]) -> str:
    """A column as text; NULL if this side does not have it."""
    kind = types.get(name)
    return "null::varchar" if kind is None else _text_of(quoted(name), kind)


def comparable(name: str, own: Mapping[str, str], other: Mapping[str, str]) -> str:
    """A column so that equal values are equal on both sides, whatever type each side has.

    Args:
        name: Name of the column.
        own: DuckDB types by column, of the side that the expression is for.
        other: Those of the other side.
    """
    mine, theirs = own.get(name), other.get(name)
    column = quoted(name)
    if mine is None:
        return f"null::{theirs or 'varchar'}"
    if theirs is None or mine == theirs:
        return column
    if mine == "VARCHAR":
        # The same value, written as the typed side would write it; 1.4 is not the INTEGER 1.
        fits = f"regexp_full_match({column}, {literal(pattern_of(theirs))})"
        typed = _text_of(f"case when {fits} then try_cast({column} as {theirs}) end", theirs)
        return f"coalesce({typed}, {column})"
    if theirs == "VARCHAR":
        return _text_of(column, mine)
    common = _common(mine, theirs)
    return _text_of(column, mine) if common == "VARCHAR" else f"{column}::{common}"


def _text_of(expression: str, kind: str) -> str:
    if kind.startswith("DECIMAL") and not kind.endswith(",0)"):
        # 1.50 and 1.5 are the same number, whatever the scale of its type.
        return f"rtrim(rtrim(({expression})::varchar, '0'), '.')"
    return f"({expression})::varchar"


def _common(mine: str, theirs: str) -> str:
    """A type in which values of two types can be compared."""
    if mine == theirs:
        return mine
    exact = [bool(_EXACT.match(kind)) for kind in (mine, theirs)]
    floating = [kind in _FLOATING for kind in (mine, theirs)]
    if all(e or f for e, f in zip(exact, floating, strict=True)) and any(floating):
        return "DOUBLE"
    if {mine, theirs} == {"DATE", "TIMESTAMP"}:
        return "TIMESTAMP"
    return "VARCHAR"


def _changed_keys(key: _Key) -> str:
    """Query of the rows that are new: a version never landed, or not the one that landed last.

    A key that shows one version now, and the same one as it has landed once, is settled by a join;
    only the others are put in order.
    """
    order = f"{_i('cursor')} desc nulls last, {_i('part')} desc, {_i('row')} desc"
    back = f"row_number() over (partition by {key.names} order by"
    return f"""
        with open_keys as (
            select {key.names} from incoming
            anti join (select * from landed where not {_i("deleted")}) as alive
                on {key.same("incoming", "alive")}
                and incoming.{_i("hash")} = alive.{_i("hash")}
            union
            select {key.names} from incoming group by all having count(*) > 1
            union
            select {key.names} from landed group by all having count(*) > 1
        ),
        open_incoming as materialized (
            select * from incoming semi join open_keys on {key.same("incoming", "open_keys")}
        ),
        open_landed as materialized (
            select * from landed semi join open_keys on {key.same("landed", "open_keys")}
        ),
        ranked as (
            select *, {back} {order}) as {_i("back")} from open_incoming
        ),
        latest as (
            select * from open_landed qualify {back} {_i("load")} desc, {order}) = 1
        ),
        newer as (
            select ranked.* from ranked
            left join latest on {key.same("ranked", "latest")}
            where ranked.{_i("back")} = 1 and (
                latest.{_i("hash")} is null or latest.{_i("deleted")}
                or ranked.{_i("hash")} <> latest.{_i("hash")}
            )
        ),
        earlier as (select * from ranked where {_i("back")} > 1),
        unknown as (
            select earlier.* from earlier
            anti join open_landed on {key.same("earlier", "open_landed")}
                and earlier.{_i("hash")} = open_landed.{_i("hash")}
        )
        select {_i("part")}, {_i("row")} from newer
        union all
        select {_i("part")}, {_i("row")} from unknown
        """


# Query of the rows of which fewer copies have landed than were read; there is no key.
_CHANGED_COPIES = f"""
    with landed_copies as (
        select {_i("hash")}, count(*) as copies from landed group by all
    ),
    numbered as (
        select *, row_number() over (
            partition by {_i("hash")} order by {_i("part")}, {_i("row")}
        ) as copy
        from incoming
    )
    select numbered.{_i("part")}, numbered.{_i("row")} from numbered
    left join landed_copies using ({_i("hash")})
    where copy > coalesce(copies, 0)
    """
