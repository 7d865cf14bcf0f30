"""The rows of one table that the requests of another one are made for.

parent's landed rows + what this run is about to land of it -> newest version of each key
-> the columns that path, params, body and `include` take -> one request after the other

The rows come from landing, not from this run's answers: a parent that is read in increments, or
whose children failed last time, is complete there. A row that is new since the children were read
last is asked for from the beginning on, whatever else has landed. Left out: asking (`reading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion import landing
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.delta import DELETED, Delta, literal, quoted, scan
from ingestion.errors import SourceFailed
from ingestion.rest.declared import RestParent
from ingestion.settings import Settings

# As the time of a load: later than that of every load there is.
_NOT_LANDED_YET = 9_999_999_999
_SAME_LOAD_S = 1e-5


@dataclass(frozen=True)
class ParentRow:
    """A row to ask for.

    Attributes:
        values: The values it brings, as texts, by the names that the declaration uses.
        is_new: Whether the children have not been read since it landed first.
    """

    values: Mapping[str, str]
    is_new: bool


class Parents:
    """Reads the rows of a parent.

    Args:
        settings: The project's settings.
        source: The source of both tables.
        child: The table that is asked for.
        new: Files that are about to land of the parent in this run.
    """

    def __init__(
        self,
        settings: Settings,
        source: SourceDeclaration,
        child: TableDeclaration,
        new: Sequence[Path],
    ) -> None:
        declared = child.rest.rest.parent
        assert declared is not None
        self._settings = settings
        self._source = source
        self._child = child
        self._declared: RestParent = declared
        self._new = new
        tables = source.all_tables or source.tables
        self._parent = next(table for table in tables if table.name == declared.table)
        self._names = list(
            dict.fromkeys([*child.rest.rest.placeholders, *declared.include.values()])
        )
        self.without = 0

    def rows(self, everything: bool) -> list[ParentRow]:
        """The rows to ask for.

        Args:
            everything: Whether all of them are, whatever the declaration says.

        Raises:
            SourceFailed: The parent has not been read yet, or lacks a column.
        """
        landed = landing.landed_files(self._settings, self._source.name, self._parent.name)
        if not landed and not self._new:
            if self._was_read():
                return []
            raise self._failed(
                f"its parent {self._parent.name} has not been read yet",
                f"Extract it as well: --select source:{self._source.name}.",
            )
        with Delta(self._settings, landed) as delta:
            found = self._read(delta, bool(landed))
        since, takes_all = self._read_last(), self._declared.rows == "all"
        chosen = [
            ParentRow(
                dict(zip(self._names, values, strict=True)),
                since is None or self._is_later(first, since),
            )
            for first, last, *values in found
            if everything or takes_all or since is None or self._is_later(last, since)
            if None not in values
        ]
        self.without = sum(None in values for _, _, *values in found)
        return chosen

    def _read(self, delta: Delta, has_landed: bool) -> list[tuple[Any, ...]]:
        """First and last load, and the values, of each row as it is now."""
        new = delta.describe(self._new)
        columns = dict.fromkeys([*(delta.landed_columns if has_landed else ()), *new])
        primary_key = self._parent.ingest.primary_key
        mapping = landing.column_mapping(
            list(dict.fromkeys([*primary_key, *(n.partition(".")[0] for n in self._names)])),
            source=self._source.name,
            table=self._parent.name,
        )
        for name in mapping.values():
            if name not in columns:
                known = ", ".join(column for column in columns if column != DELETED)
                raise self._failed(
                    f"its parent {self._parent.name} has no column {name!r}",
                    f"Correct `rest.path` or `rest.parent`. It has: {known}.",
                )
        key = [mapping[name] for name in primary_key]
        whole = ", ".join(quoted(name) for name in key or list(columns) if name != DELETED)
        parts = [delta.rows_with_places] if has_landed else []
        if self._new:
            places = f"filename, file_row_number, to_timestamp({_NOT_LANDED_YET}) as load_time"
            parts.append(f"(select *, {places} from {scan(self._new)})")
        union = " union all by name ".join(f"from {part}" for part in parts)
        live = f"coalesce({DELETED}, false)" if DELETED in columns else "false"
        values = ", ".join(self._value(name, mapping) for name in self._names)
        aliases = ", ".join(quoted(_alias(place)) for place in range(len(self._names)))
        rows: list[tuple[Any, ...]] = delta.connection.execute(
            f"""
            with versions as ({union}),
            latest as (
                select *, epoch(min(load_time) over (partition by {whole})) as "~first"
                from versions
                qualify row_number() over (
                    partition by {whole}
                    order by load_time desc, filename desc, file_row_number desc
                ) = 1
            ),
            named as (
                select "~first", epoch(load_time) as "~last", filename, file_row_number, {values}
                from latest where not {live}
            )
            select max("~first"), max("~last"), {aliases}
            from named
            group by {aliases}
            order by min(filename), min(file_row_number)
            """
        ).fetchall()
        return rows

    def _value(self, name: str, mapping: Mapping[str, str]) -> str:
        """A value of the parent as a text; what follows a point lies within its JSON."""
        first, _, inner = name.partition(".")
        column = f"{quoted(mapping[first])}::varchar"
        alias = quoted(_alias(self._names.index(name)))
        if not inner:
            return f"{column} as {alias}"
        path = "$" + "".join(f'."{key}"' for key in inner.split("."))
        return f"json_extract_string({column}, {literal(path)}) as {alias}"

    def _was_read(self) -> bool:
        """Whether the parent was read, and had no rows."""
        return self._last_count(self._parent.name) is not None or self._parent in (
            self._source.tables
        )

    def _read_last(self) -> float | None:
        """The load with which the child was read last; None if it never was."""
        return self._last_count(self._child.name)

    def _last_count(self, table: str) -> float | None:
        counts = landing.landed_counts(self._settings, self._source.name, ())
        loads = [float(count.load_id) for count in counts if count.table == table]
        return max(loads, default=None)

    @staticmethod
    def _is_later(load: float, other: float) -> bool:
        """Whether a load came after another one; times of DuckDB are rounded to microseconds."""
        return load - other > _SAME_LOAD_S

    def _failed(self, message: str, hint: str) -> SourceFailed:
        return SourceFailed(message, hint=hint, source=self._source.name, table=self._child.name)


def _alias(place: int) -> str:
    return f"~value {place}"
