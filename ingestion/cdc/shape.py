"""What a row of the log becomes in landing: which of its values, of which types and names.

log's table + declaration + catalog -> `Shape` -> values of a row, its key, what it does not tell

Left out: where rows go, which `writing` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingestion.cdc.pgoutput import UNCHANGED, Row, Unchanged
from ingestion.databases.base import Column
from ingestion.declarations import TableDeclaration
from ingestion.errors import SourceFailed
from ingestion.landing import column_mapping

# Beside the columns of the source; raw has them of every table of a change log.
OWN_COLUMNS = {
    "_operation": "VARCHAR",
    "_lsn": "VARCHAR",
    "_committed_at": "TIMESTAMP",
    "_transaction": "BIGINT",
    "_unchanged": "VARCHAR",
}
# Reading such a column casts it to text, which writes what the log writes.
_SAME_TEXT = ("text", "character varying", "json", "jsonb", "uuid", "interval", "citext")
_PADDED = "character("


@dataclass(frozen=True)
class Shape:
    """How rows of a table in the log are landed, until the table changes.

    Attributes:
        columns: The columns to land.
        places: The place of each in a row of the log.
        names: Name in raw by the database's.
        key: Places of the key's columns in a row of the log.
        as_read: Columns whose texts the server has to write as reading the table would.
        padded: Columns whose texts end in blanks that do not count.
    """

    columns: tuple[Column, ...]
    places: tuple[int, ...]
    names: dict[str, str]
    key: tuple[int, ...]
    as_read: tuple[str, ...]
    padded: tuple[str, ...]

    def values(self, new: Row, old: Row | None) -> tuple[list[str | None], list[str]]:
        """The values to land, and the names in raw of those that the log does not tell.

        Args:
            new: The row.
            old: The row before or its identity, where the log tells it.
        """
        values: list[str | None] = []
        untold: list[str] = []
        for place, column in zip(self.places, self.columns, strict=True):
            value = new[place]
            if isinstance(value, Unchanged):
                before = old[place] if old is not None else None
                value = before if isinstance(before, str) else None
                if value is None:
                    untold.append(self.names[column.name])
            values.append(value)
        return values, untold

    def plain(self, new: Row) -> list[str | None] | None:
        """The values to land of a row of which the log tells everything, else None."""
        if UNCHANGED in new:
            return None
        return [new[place] for place in self.places]  # type: ignore[misc]  # checked above

    def key_changed(self, old: Row, new: Row) -> bool:
        """Whether a row goes by another key now."""
        return any(new[place] is not UNCHANGED and old[place] != new[place] for place in self.key)


def shape_of(
    source: str,
    table: TableDeclaration,
    logged: Sequence[str],
    columns: Sequence[Column],
) -> Shape:
    """How rows of the log become rows of landing.

    Args:
        source: Name of the source.
        table: The table's declaration.
        logged: Names of the columns in a row of the log.
        columns: The same with their types.

    Raises:
        SourceFailed: A column of the declared key is not there.
    """
    ingest = table.database
    chosen = [
        (place, column)
        for place, column in enumerate(columns)
        if (not ingest.columns or column.name in ingest.columns)
        and column.name not in ingest.exclude_columns
    ]
    lost = [name for name in ingest.primary_key if name not in [c.name for _, c in chosen]]
    if lost:
        raise SourceFailed(
            f"the declared primary_key has {', '.join(lost)}, the table has it no more",
            source=source,
            table=table.name,
            hint="Declare the key that it has now.",
        )
    kept = tuple(column for _, column in chosen)
    return Shape(
        columns=kept,
        places=tuple(place for place, _ in chosen),
        names=dict(column_mapping([c.name for c in kept], source=source, table=table.name)),
        key=tuple(logged.index(name) for name in ingest.primary_key),
        as_read=tuple(c.name for c in kept if _is_converted(c)),
        padded=tuple(c.name for c in kept if c.native.startswith(_PADDED)),
    )


def _is_converted(column: Column) -> bool:
    if column.select is None or column.native.startswith(_PADDED):
        return False
    return not column.native.startswith(_SAME_TEXT) or column.select != "{}::text"
