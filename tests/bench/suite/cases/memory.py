"""Memory within the budget: what is read is twenty times as large as what DuckDB may use.

a CSV file of 5 GB | one of 50 MB -> extract and load with `[limits] memory` of 256 MB and of 1 GB
-> peak of the whole process

DuckDB's limit is not the process's: Python with its libraries and what DuckDB holds beside its
buffers come on top. A file a hundred times as large tells whether memory follows the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite import lineitems
from suite.kit import Benchmark, Case, Contender, Limit, Made, Target, folder_bytes


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Writes both files, in pieces, so that making them needs little memory."""
    rows = int(sizes["rows"])
    for name, count in (("small", rows // 100), ("large", rows)):
        (folder / name).mkdir()
        with (folder / name / "items.csv").open("wb") as whole:
            for first in range(0, count, 1_000_000):
                piece = folder / "piece.csv"
                lineitems.write(piece, min(1_000_000, count - first), first)
                text = piece.read_bytes()
                whole.write(text if first == 0 else text.partition(b"\n")[2])
                piece.unlink()


def wellspring(case: Case) -> Made:
    """Extract and load within a limit."""
    from ingestion.extract import extract, prepare_extraction
    from ingestion.load import load
    from suite.project import declared, make_project, settings_of

    root = make_project(
        case.scratch / "project", str(case.data / str(case.options["file"])), "{}", "{}"
    )
    settings = settings_of(root, memory=str(case.options["memory"]))
    source = declared("files", {"path": "*.csv", "format": "csv"})
    prepare_extraction(settings)
    with case.timed("extract"):
        (result,) = extract([source], settings)
    assert result.error is None, result.error
    with case.timed("load"):
        loaded = load([source], settings)
    assert loaded.error is None, loaded.error
    rows, checksum = lineitems.checksum(settings.warehouse_path, "raw_src.items")
    return Made(rows, checksum, folder_bytes(settings.data_dir))


def _contender(limit: str, size: str) -> Contender:
    return Contender(
        f"{size} file, {limit}",
        "suite/cases/memory.py:wellspring",
        options={"memory": limit, "file": size},
        group=size,
        rounds=3,
    )


BENCHMARKS = (
    Benchmark(
        name="memory",
        title="peak memory of extract and load within a limit",
        baseline="small file, 1GB",
        contenders=(
            _contender("1GB", "small"),
            _contender("1GB", "large"),
            _contender("256MB", "large"),
        ),
        prepare=prepare,
        sizes={"rows": 40_000_000},
        quick={"rows": 2_000_000},
        targets=(Target("large file, 1GB", "small file, 1GB", speed=1 / 1.1, text="acceptance 7"),),
        limits=(
            Limit("large file, 1GB", peak_mb=1_000, text="acceptance 3: the budget"),
            Limit("large file, 256MB", peak_mb=1_000, text="acceptance 3: 20 times the budget"),
        ),
        about=(
            "The large file is 20 times 256 MB and 5 times 1 GB; the limit is DuckDB's, the "
            "peak is the whole process with Python and its libraries."
        ),
    ),
)
