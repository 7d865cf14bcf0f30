"""Records of text as Parquet: what formats are turned into that DuckDB does not read itself.

records (mappings of texts) -> `TextTable` -> Parquet: `_row` and one text column a key

`_row` is the record's 1-based position in its file, counting rejected records too. Rejected records
go to a second file beside it. Every column is text; a key that a record lacks is NULL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestion.formats.streams import placed
from ingestion.landing import normalise_columns

ROW = "_row"
_CHUNK_ROWS = 50_000
_LONGEST_RECORD = 10_000


@dataclass(frozen=True)
class Rejected:
    """A record that cannot be loaded.

    Attributes:
        number: Its line, or its position where the format has no lines; 1-based.
        reason: Why, for people.
        raw: The record as it stands in the file, cut if very long.
    """

    number: int
    reason: str
    raw: str


@dataclass
class TextTable:
    """Collects records of one file in compact form.

    Attributes:
        names: Keys in the order of their first appearance.
        rows: Number of records taken.
        rejected: Records that were refused.
    """

    names: dict[str, None] = field(default_factory=dict)
    rows: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)
    _pending: list[Mapping[str, str | None]] = field(default_factory=list)
    _chunks: list[Any] = field(default_factory=list)

    @property
    def position(self) -> int:
        """1-based position of the next record."""
        return self.rows + len(self.rejected) + 1

    def add(self, record: Mapping[str, str | None]) -> None:
        """Takes a record; its keys may differ from those before."""
        self._numbers.append(self.position)
        self.rows += 1
        self._pending.append(record)
        for name in record:
            if name not in self.names:
                self.names[name] = None
        if len(self._pending) >= _CHUNK_ROWS:
            self._flush()

    def reject(self, number: int, reason: str, raw: str) -> None:
        """Notes a record that cannot be loaded."""
        self.rejected.append(Rejected(number, reason, storable(raw[:_LONGEST_RECORD])))

    def _flush(self) -> None:
        import pyarrow as pa

        columns: dict[str, Any] = {ROW: pa.array(self._numbers, pa.int64())}
        for name in self.names:
            columns[f"c:{name}"] = pa.array([r.get(name) for r in self._pending], pa.string())
        self._chunks.append(pa.table(columns))
        self._numbers, self._pending = [], []

    def table(self, **where: Any) -> Any:
        """Everything taken so far as an Arrow table with normalised column names.

        Args:
            where: `source`, `table`, `file` for the message.

        Raises:
            BadInput: Two keys become the same column.
        """
        import pyarrow as pa

        self._flush()
        whole = pa.concat_tables(self._chunks, promote_options="default")
        self._chunks = [whole]
        names = list(self.names)
        whole = whole.select([ROW, *(f"c:{name}" for name in names)])
        return whole.rename_columns([ROW, *normalise_columns(names, **where)])

    def write(self, target: Path, **where: Any) -> list[str]:
        """Writes the Parquet file and, if there are any, the rejected records beside it.

        Returns:
            The normalised names of the columns, without `_row`.
        """
        import pyarrow.parquet as pq

        table = self.table(**where)
        if self.rejected:
            write_rejected(self.rejected, rejected_path(target))
        with placed(target) as path:
            pq.write_table(table, path, compression="zstd", row_group_size=122_880)
        return list(table.column_names[1:])


def rejected_path(target: Path) -> Path:
    """Where the rejected records of a prepared file lie."""
    return target.with_name(f"{target.name}.rejected")


def write_rejected(rejected: list[Rejected], target: Path) -> None:
    """Writes rejected records as Parquet: record_number, reason, raw_record."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "record_number": pa.array([r.number for r in rejected], pa.int64()),
            "reason": pa.array([r.reason for r in rejected], pa.string()),
            "raw_record": pa.array([r.raw for r in rejected], pa.string()),
        }
    )
    with placed(target) as path:
        pq.write_table(table, path, compression="zstd")


def storable(text: str) -> str:
    """Text that is no UTF-8 cannot be stored; its faulty bytes are shown as hexadecimal escapes."""
    faulty = text.encode("utf-8", "surrogateescape") if _is_bytes(text) else None
    if faulty is not None:
        return faulty.decode("utf-8", "backslashreplace")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_bytes(text: str) -> bool:
    """Whether every lone surrogate of a text stands for a byte."""
    return all(not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff" for c in text)
