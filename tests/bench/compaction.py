"""What many small loads cost, and what is left of it after `wellspring compact`.

500 loads of 200 rows are written to a landing zone as an extraction writes them; then listing,
comparing (what an extraction without news does) and loading into an empty warehouse are timed,
before and after compaction. The rows of both warehouses are compared.

    python tests/bench/compaction.py [loads] [rows]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion import landing
from ingestion.compact import compact
from ingestion.declarations import DatabaseTable, SourceDeclaration, TableDeclaration
from ingestion.delta import Delta, Spool
from ingestion.load import load
from ingestion.settings import Settings

DECLARATION = SourceDeclaration(
    name="shop",
    schema="raw_shop",
    kind="database",
    connection="shop",
    file="bench",
    tables=(
        TableDeclaration(
            "orders",
            "source.bench.shop.orders",
            DatabaseTable.model_validate({"primary_key": "order_id"}),
        ),
    ),
)
FIRST_LOAD = 1_790_000_000


def make_landing(settings: Settings, loads: int, rows: int) -> None:
    """Writes loads as dlt leaves them: rows, counts, and the mark of a complete load."""
    root = settings.landing_dir / "shop"
    for name in ("orders", landing.COUNTS_TABLE, "_dlt_loads"):
        (root / name).mkdir(parents=True)
    for number in range(loads):
        load_id = f"{FIRST_LOAD + 3600 * number}.125"
        keys = range(number * rows, (number + 1) * rows)
        table = pa.table(
            {
                "order_id": pa.array(keys, pa.int64()),
                "customer": [f"customer {key % 977}" for key in keys],
                "amount": pa.array([key % 10_007 / 100 for key in keys], pa.float64()),
                "_deleted": pa.array([False] * rows),
            }
        )
        pq.write_table(table, root / "orders" / f"{load_id}.0.parquet", compression="zstd")
        counted = landing.counts_table([landing.LandedCount("orders", rows, rows, 0)])
        pq.write_table(counted, root / landing.COUNTS_TABLE / f"{load_id}.0.parquet")
        (root / "_dlt_loads" / f"shop__{load_id}.jsonl").write_text("{}\n")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a piece of work takes, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def listed(settings: Settings) -> int:
    """Lists what has landed, as every step does."""
    files = landing.landed_files(settings, "shop", "orders")
    return len(files) + len(landing.landed_counts(settings, "shop", ()))


def compared(settings: Settings, folder: Path) -> int:
    """Compares a reading of the newest rows with landing, as an extraction without news does."""
    newest = landing.landed_files(settings, "shop", "orders")
    spool = folder / "spool.parquet"
    if not spool.is_file():
        pq.write_table(pq.read_table(newest[-1].path).drop(["_deleted"]), spool)
    with Delta(settings, newest) as delta:
        return delta.difference(Spool([spool], key=["order_id"]), folder / "out.parquet").rows


def loaded(settings: Settings, data: Path) -> tuple[int, str]:
    """Loads all of landing into an empty warehouse."""
    data.mkdir()
    (data / "landing").symlink_to(settings.landing_dir)
    place = replace(settings, data_dir=data)
    load([DECLARATION], place)
    with duckdb.connect(str(place.warehouse_path), read_only=True) as connection:
        return connection.execute(
            "select count(*), sum(hash(data))::varchar from raw_shop.orders as data"
        ).fetchall()[0]


def main() -> None:
    """Measures and prints."""
    given = [int(text) for text in sys.argv[1:3]]
    loads, rows = given + [500, 200][len(given) :]
    folder = Path(tempfile.mkdtemp(prefix="compaction-"))
    try:
        settings = Settings(project_dir=folder, data_dir=folder / "data")
        make_landing(settings, loads, rows)
        found = []
        for name in ("before", "after"):
            listing, _ = timed(lambda: listed(settings))
            comparing, _ = timed(lambda: compared(settings, folder))
            loading, content = timed(lambda: loaded(settings, folder / name))  # noqa: B023 - now
            files = sum(1 for _ in settings.landing_dir.rglob("*.parquet"))
            size = sum(path.stat().st_size for path in settings.landing_dir.rglob("*.parquet"))
            print(
                f"{name:<7} {files:>5,} files {size / 2**20:>6.1f} MiB   list {listing:6.3f} s   "
                f"compare {comparing:6.3f} s   load all {loading:6.2f} s"
            )
            found.append(content)
            if name == "before":
                took, _ = timed(lambda: compact([DECLARATION], settings, smaller_than=16_000_000))
                print(f"compact {took:.2f} s")
        print("the same rows" if found[0] == found[1] else f"DIFFERENT ROWS: {found}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
