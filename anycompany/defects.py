"""Which rows are spoilt, and the list of them.

table + row id ─> Spoiler ─> kind of defect or none; system applies it ─> DefectLog ─>
truth/defects.parquet

A row has at most one defect of its own. Whether a defect makes the row invalid is said by the
kind: README, "Defects".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from anycompany.draws import Bools, Draws, Ints
from anycompany.text import Column

INVALID = {"missing", "outlying", "mistyped", "orphaned", "skewed_clock", "unresolvable"}
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("table_name", pa.string()),
        ("key", pa.string()),
        ("version_at", pa.timestamp("us")),
        ("defect", pa.string()),
        ("column_name", pa.string()),
        ("is_invalid", pa.bool_()),
        ("good_value", pa.string()),
        ("origin", pa.string()),
    ]
)


class Spoiler:
    """Decides which rows are spoilt.

    Args:
        draws: The company's draws.
        rate: Share of rows that are spoilt, 0..1.
    """

    def __init__(self, draws: Draws, rate: float) -> None:
        self._draws = draws
        self.rate = rate

    def kinds(self, table: str, ids: Ints, weights: Mapping[str, float]) -> dict[str, Bools]:
        """Returns for each kind of defect the rows that have it.

        Args:
            table: `source.table`, names the draws.
            ids: A stable number for each row.
            weights: Kind -> share among the spoilt rows of the table.
        """
        spoilt = self._draws.chance(f"defect.{table}", ids, self.rate)
        kind = np.full(len(ids), -1)
        kind[spoilt] = self._draws.weighted(
            f"defect.kind.{table}", ids[spoilt], list(weights.values())
        )
        return {name: kind == position for position, name in enumerate(weights)}

    def extra(self, table: str, count: int, share: float) -> Ints:
        """Returns the positions (of `count`) after which an extra, orphaned row stands."""
        return np.flatnonzero(
            self._draws.chance(f"defect.extra.{table}", np.arange(count), self.rate * share)
        )


@dataclass
class DefectLog:
    """Collects what was spoilt; one entry per raw row and kind."""

    _parts: list[pa.Table] = field(default_factory=list)

    def add(
        self,
        table: str,
        key: Column,
        defect: str,
        column: str | None,
        *,
        good: Column | None = None,
        version_at: Ints | None = None,
        origin: Column | None = None,
    ) -> None:
        """Notes spoilt rows of one kind.

        Args:
            table: `source.table`.
            key: Key of each row as text.
            defect: Kind.
            column: Column that is spoilt, None for the whole row.
            good: What should have been there.
            version_at: Epoch second of the version that is spoilt.
            origin: File it came in.
        """
        count = len(key)
        if not count:
            return
        source, name = table.split(".")
        moment = pa.nulls(count, pa.timestamp("us"))
        if version_at is not None:
            moment = pa.array(version_at).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
        nothing = pa.nulls(count, pa.string())
        columns = {
            "source": pa.repeat(pa.scalar(source), count),
            "table_name": pa.repeat(pa.scalar(name), count),
            "key": key,
            "version_at": moment,
            "defect": pa.repeat(pa.scalar(defect), count),
            "column_name": pa.repeat(pa.scalar(column, pa.string()), count),
            "is_invalid": pa.array(np.full(count, defect in INVALID)),
            "good_value": nothing if good is None else good,
            "origin": nothing if origin is None else origin,
        }
        self._parts.append(pa.table(columns, schema=SCHEMA))

    def table(self) -> pa.Table:
        """Returns all entries, ordered by source, table, key and kind."""
        if not self._parts:
            return SCHEMA.empty_table()
        whole = pa.concat_tables(self._parts).combine_chunks()
        order = [
            ("source", "ascending"),
            ("table_name", "ascending"),
            ("key", "ascending"),
            ("defect", "ascending"),
        ]
        return whole.sort_by(order)


@dataclass(frozen=True)
class Spoilt:
    """The defects of one table's rows: notes them, and says which rows are valid.

    Attributes:
        log: Where they are noted.
        table: `source.table`.
        key: Key of each row as text.
        kinds: Kind -> rows that have it, as `Spoiler.kinds` returns them.
        shown: Rows that have been delivered.
        version_at: Epoch second of the version that each row is.
        origin: Returns the files that rows, given by position, came in.
        copies: Rows that are delivered twice.
    """

    log: DefectLog
    table: str
    key: Column
    kinds: Mapping[str, Bools]
    shown: Bools
    version_at: Ints | None = None
    origin: Callable[[Ints], Column] | None = None
    copies: Bools | None = None

    def note(
        self,
        kind: str,
        column: str | None = None,
        good: Column | None = None,
        mask: Bools | None = None,
    ) -> None:
        """Notes the delivered rows of one kind.

        Args:
            kind: Kind of defect.
            column: Column that is spoilt, None for the whole row.
            good: What should have been there, for every row.
            mask: The rows, if not those of `kinds`.
        """
        self._add(
            np.flatnonzero((self.kinds[kind] if mask is None else mask) & self.shown),
            kind,
            column,
            good,
        )

    def chain(self, parent_valid: Bools, column: str) -> Bools:
        """Notes sound rows that refer to an invalid row; returns which rows are valid after all."""
        sound = self.shown.copy()
        for kind, mask in self.kinds.items():
            if kind in INVALID:
                sound &= ~mask
        rows = np.flatnonzero(sound & ~parent_valid)
        if self.copies is not None:
            rows = np.repeat(rows, 1 + self.copies[rows])
        self._add(rows, "unresolvable", column, None)
        return sound & parent_valid

    def _add(self, rows: Ints, kind: str, column: str | None, good: Column | None) -> None:
        at = pa.array(rows)
        self.log.add(
            self.table,
            self.key.take(at),
            kind,
            column,
            good=None if good is None else good.take(at),
            version_at=None if self.version_at is None else self.version_at[rows],
            origin=None if self.origin is None else self.origin(rows),
        )
