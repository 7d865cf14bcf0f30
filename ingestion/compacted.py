"""Compacted files of landing: many small Parquet files in one, each still known by its name.

landing/<source>/<table>/compacted/<SHA-256>.parquet -> footer -> `Pack` with its parts

A compacted file holds the rows of its parts as they were, with `_file`, `_row` and `_load_id` in
columns, and lists its parts (name, load, rows, bytes, checksum) in its footer: one rename makes
rows and list count at once. It is named by its own checksum. Left out: making one, which `compact`
does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ingestion.errors import BadInput, first_line

FOLDER = "compacted"
PARTS_KEY = "wellspring_parts"
# What a compacted file has beside the columns of its parts.
OWN_COLUMNS = ("_file", "_row", "_load_id")


@dataclass(frozen=True)
class Part:
    """A file that was taken into a compacted one.

    Attributes:
        file: Its path below the landing zone, as raw rows state it in `_file`.
        load_id: dlt's load id.
        rows: Its rows.
        bytes: The size that it had.
        sha256: The checksum that it had.
    """

    file: str
    load_id: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Pack:
    """A compacted file.

    Attributes:
        path: Where it lies.
        parts: What it holds, in the order of its rows.
    """

    path: Path
    parts: tuple[Part, ...]

    @property
    def sha256(self) -> str:
        """The checksum that it must have."""
        return self.path.stem


def packs(folder: Path) -> list[Pack]:
    """The compacted files of a table's folder that count, in the order of their first parts.

    A file that was itself taken into a larger one, and not removed yet, does not count.

    Raises:
        BadInput: One of them is damaged.
    """
    place = folder / FOLDER
    if not place.is_dir():
        return []
    found = [read_pack(path) for path in place.glob("*.parquet")]
    found.sort(key=lambda pack: (-len(pack.parts), pack.path.name))
    taken: set[str] = set()
    counted = []
    for pack in found:
        names = {part.file for part in pack.parts}
        if not names <= taken:
            counted.append(pack)
        taken |= names
    return sorted(counted, key=lambda pack: pack.parts[0].file)


def pack_files(folder: Path) -> list[Path]:
    """Every compacted file of a table's folder, whether it counts or not."""
    return sorted((folder / FOLDER).glob("*.parquet"))


def read_pack(path: Path) -> Pack:
    """A compacted file.

    Raises:
        BadInput: It is damaged.
    """
    found = path.stat()
    return _read_footer(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_footer(path: Path, size: int, modified_ns: int) -> Pack:
    """A compacted file by its footer, which is read again only if the file is another one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
        listed = json.loads(footer.metadata[PARTS_KEY.encode()])
        parts = tuple(Part(**part) for part in listed)
        if footer.num_rows != sum(part.rows for part in parts):
            raise ValueError("it does not have the rows of its parts")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"a compacted file of landing is damaged: {first_line(error)}",
            file=path,
            hint="Restore landing from a backup: `wellspring restore`.",
        ) from error
    return Pack(path, parts)
