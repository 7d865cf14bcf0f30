"""Parquet: what a file's footer says, before DuckDB reads it.

footer -> columns, normalised names, number of rows
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.errors import BadInput
from ingestion.landing import column_mapping


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself.

    Attributes:
        names: Name in the file -> name in raw, in order.
        signature: Text that is equal for files with the same columns and types.
        rows: Number of rows.
    """

    names: dict[str, str]
    signature: str
    rows: int


def read_footer(path: Path, *, own_columns: bool = False, **where: Any) -> Footer:
    """Reads the footer of a Parquet file.

    Args:
        path: The file.
        own_columns: Whether `_row`, `_deleted` and columns of compacted files are ingestion's own.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: It is no Parquet file, a truncated one, or two of its columns become the same.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        size = path.stat().st_size
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"it is no whole Parquet file ({size} bytes): {said}",
            hint="It was probably cut off: have it sent again.",
        ) from error
    ours = {"_row", "_deleted", "_file", "_load_id"} if own_columns else set()
    theirs = [name for name in schema.names if name not in ours]
    names = dict(column_mapping(theirs, **where))
    signature = str([(field.name, str(field.type)) for field in schema])
    return Footer(names, signature, rows)
