"""Whether landing holds what an extraction was about to land.

counts noted in the load ─┐
Parquet footers in landing┴─> what is missing or in excess, by table -> the loader refuses the load

Counts are noted before dlt writes, in the load that they speak of: a file that was lost, cut or
written twice on its way is seen before any of its rows are loaded. Left out: whether landing stays
as it is after it was loaded, which `verify` asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ingestion.landing import LandedCount, LandedFile, landed_files
from ingestion.settings import Settings


class Arrivals:
    """Compares counted loads of one source with landing.

    Args:
        settings: The project's settings.
        source: Name of the source.
    """

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings = settings
        self._source = source
        self._listed: dict[str, dict[str, list[LandedFile]]] = {}

    def faults(self, counts: Iterable[LandedCount]) -> dict[str, str]:
        """What is wrong with a load, by table; empty if everything has arrived.

        Args:
            counts: What the load was to land.
        """
        found = {count.table: self._fault(count) for count in counts}
        return {table: fault for table, fault in found.items() if fault}

    def _fault(self, count: LandedCount) -> str:
        files = self._files(count.folder).get(count.load_id, [])
        if not files and count.expected:
            return f"{count.expected:,} rows were extracted, no file of them is in landing"
        total = 0
        for file in files:
            rows = rows_of(file)
            if rows is None:
                return f"{file.file} is no whole Parquet file"
            total += rows
        if total == count.expected:
            return ""
        names = ", ".join(file.file for file in files)
        return f"{count.expected:,} rows were extracted, landing holds {total:,} ({names})"

    def _files(self, folder: str) -> dict[str, list[LandedFile]]:
        """Files of a table by load."""
        if folder not in self._listed:
            found: dict[str, list[LandedFile]] = {}
            for file in landed_files(self._settings, self._source, folder):
                found.setdefault(file.load_id, []).append(file)
            self._listed[folder] = found
        return self._listed[folder]


def rows_of(file: LandedFile) -> int | None:
    """Number of rows of a landed file; None if it is no whole Parquet file."""
    return parquet_rows(file.path) if file.part is None else file.part.rows


def parquet_rows(path: Path) -> int | None:
    """Number of rows by a Parquet file's footer; None if it is no whole Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError, ValueError):
        return None
