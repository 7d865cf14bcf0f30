"""Which rows are spoilt, and the list of them.

table + row id ─> Spoiler ─> kind of defect or none; system applies it ─> DefectLog ─>
truth/defects.parquet

A row has at most one defect of its own. Whether a defect makes the row invalid is said by the
kind: README, "Defects".
"""

from __future__ import annotations

from collections.abc import Mapping
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

        def same(value: str | None) -> pa.Array:
            return pa.array([value], type=pa.string()).take(
                pa.array(np.zeros(count, dtype=np.int64))
            )

        moment = pa.nulls(count, pa.timestamp("us"))
        if version_at is not None:
            moment = pa.array(version_at).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
        columns = [
            same(source),
            same(name),
            key,
            moment,
            same(defect),
            same(column),
            pa.array(np.full(count, defect in INVALID)),
            same(None) if good is None else good,
            same(None) if origin is None else origin,
        ]
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
