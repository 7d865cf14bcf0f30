"""How clicks are best stored as Parquet: compression, size of row groups, order of rows.

a file of clicks (clicks_made) -> text columns -> Parquet in each way -> size, seconds to write,
seconds to read three ways, each as a ratio to snappy, row groups of 122,880, in order of arrival

    .venv/bin/python tests/bench/storage_choices.py [--megabytes 100] [--rounds 5]

Rounds go through all ways in turns; medians of processor time are told.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from datetime import date
from pathlib import Path
from statistics import median

import duckdb
from clicks_made import make_day

NAMES = (
    "event_id event client visit consent customer at sent received path product order country "
    "device connection ip agent load_ms"
)
COLUMNS = dict.fromkeys(NAMES.split(), "VARCHAR")
USUAL = ("snappy", 122_880, "arrival")
WAYS = [
    USUAL,
    ("uncompressed", 122_880, "arrival"),
    ("lz4_raw", 122_880, "arrival"),
    ("zstd", 122_880, "arrival"),
    ("gzip", 122_880, "arrival"),
    ("snappy", 30_720, "arrival"),
    ("snappy", 491_520, "arrival"),
    ("snappy", 122_880, "client"),
    ("zstd", 122_880, "client"),
]
ORDERS = {"arrival": "", "client": "order by client, received"}
READS = {
    "two columns": "select path, count(load_ms) from '{}' group by path",
    "a visitor": "select count(*) from '{}' where client = 'c-0000000000000000'",
    "all": "select max(hash(clicks)) from '{}' as clicks",
}


def measure(connection: duckdb.DuckDBPyConnection, sql: str) -> float:
    """Seconds of processor time that a statement takes."""
    began = time.process_time()
    connection.execute(sql).fetchall()
    return time.process_time() - began


def main() -> None:
    """Writes and reads in turns, prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    taken: dict[tuple[str, tuple[str, int, str]], list[float]] = defaultdict(list)
    sizes: dict[tuple[str, int, str], int] = {}
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        made = make_day(Path(folder), date(2026, 6, 1), 0, arguments.megabytes)
        files = [str(path) for path in made.files]
        connection.execute(f"create table clicks as from read_ndjson({files}, columns = {COLUMNS})")
        target = Path(folder) / "clicks.parquet"
        for _ in range(arguments.rounds):
            for way in WAYS:
                codec, rows, order = way
                write = (
                    f"copy (from clicks {ORDERS[order]}) to '{target}' "
                    f"(format parquet, compression {codec}, row_group_size {rows})"
                )
                taken["write", way].append(measure(connection, write))
                sizes[way] = target.stat().st_size
                for name, sql in READS.items():
                    taken[name, way].append(measure(connection, sql.format(target)))
    print(f"{made.raw_bytes / 1e6:,.0f} MB of JSON, {made.gz_bytes / 1e6:,.0f} MB as gzip")
    told = ["write", *READS]
    print(f"{'':<34}{'MB':>8}" + "".join(f"{name:>14}" for name in told))
    for way in WAYS:
        ratios = [median(taken[name, way]) / median(taken[name, USUAL]) for name in told]
        label = f"{way[0]}, {way[1]:,} rows, by {way[2]}"
        print(f"{label:<34}{sizes[way] / 1e6:8.1f}" + "".join(f"{r:14.2f}" for r in ratios))


if __name__ == "__main__":
    main()
