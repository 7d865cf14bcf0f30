"""Runs the example company day by day, spoilt on purpose, and checks the books each evening.

company made with defects -> for each day: advance, extract, load, build, audit, books -> a rebuild
from landing alone -> the same tables, row by row?

    python tests/bench/simulate_days.py --days 30 --scale 0.02 --defects 0.03

Rows come late, are sent again, are deleted and are corrupted, as the example does it. A day is good
if the difference of the books is 0 and the audit passes. Ends with 1 if a day was not good, or if
the rebuilt tables differ.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STEPS = ("extract", "load", "build", "audit")
# What a warehouse says of itself, not of the data: moments of loading, and how it came about.
OUR_OWN = {"loaded_files": {"loaded_at"}}
COMPARED = (
    *("raw_%", "staging", "quarantine", "intermediate"),
    *("core", "sales", "support", "customers", "books"),
)
TITLES = (
    *("day", "new rows", "files", "refused", "read", "loaded", "rejected", "superseded"),
    *("filtered", "quarantined", "difference", "audit", "seconds"),
)


def say(text: str) -> None:
    """Prints a line at once: a simulation takes minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def evening(day: int) -> bool:
    """One run and what the books say after it; prints a line, tells whether the day was good."""
    from ingestion.settings import load_settings
    from runner.books import read_books
    from runner.pipeline import execute
    from runner.report import Reporter
    from runner.transform import Selection

    began = time.monotonic()
    settings = load_settings()
    result = execute(settings, STEPS, Selection(), False, Reporter(), "simulate_days")
    items = [item for step in result.steps for item in step.result.items]
    loaded = [i for s in result.steps if s.name == "load" for i in s.result.items]
    rows = sum(item.rows or 0 for item in loaded if item.kind == "table")
    files = sum(item.files or 0 for item in loaded if item.kind == "table")
    refused = sum(item.kind == "file" for item in loaded)
    total = read_books(settings).total
    red = [i.name for i in items if i.kind in ("test", "landing") and i.status == "failed"]
    verdict = "passed" if not red and result.stopped_by is None else "failed"
    named = f" ({', '.join(red[:6])})" if red else ""
    if result.stopped_by is not None and not red:
        named = f" ({result.stopped_by.message.splitlines()[0]})"
    say(
        f"| {day} | {rows:,} | {files} | {refused} | {total['read']:,} | {total['loaded']:,} "
        f"| {total['rejected']} | {total['superseded']:,} | {total['filtered']:,} "
        f"| {total['quarantined']:,} | {total['difference']} | {verdict}{named} "
        f"| {time.monotonic() - began:.0f} |"
    )
    return verdict == "passed" and total["difference"] == 0


def rebuild(data: Path) -> Path:
    """A second data folder, made of nothing but a copy of landing."""
    again = data.with_name("again")
    shutil.copytree(data / "landing", again / "landing")
    environment = {**os.environ, "WELLSPRING_DATA": str(again)}
    environment.pop("WELLSPRING__COMPANION__COMMAND")
    command = [str(BIN / "wellspring"), "load", "build", "--quiet"]
    # Refused files end it with 6, as they did the days before.
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 6):
        raise RuntimeError(done.stdout + done.stderr)
    return again


def differing(one: Path, other: Path) -> tuple[list[str], int]:
    """Tables whose rows are not the same in both warehouses, and how many were compared."""
    import duckdb

    with duckdb.connect() as connection:
        for name, folder in (("one", one), ("other", other)):
            path = folder / "warehouse" / "wellspring.duckdb"
            connection.execute(f"attach '{path}' as {name} (read_only)")
        like = " or ".join(f"schema_name like '{schema}'" for schema in COMPARED)
        tables = connection.execute(
            "select schema_name, table_name from duckdb_tables() "
            f"where database_name = 'one' and ({like}) order by all"
        ).fetchall()
        found = [
            f"{schema}.{table}"
            for schema, table in tables
            if _content(connection, "one", schema, table)
            != _content(connection, "other", schema, table)
        ]
    return found, len(tables)


def _content(connection: Any, database: str, schema: str, table: str) -> Any:
    """Number of rows and a sum over the hashes of all of them."""
    columns = connection.execute(
        "select column_name from duckdb_columns() where database_name = ? and schema_name = ? "
        "and table_name = ? order by column_name",
        [database, schema, table],
    ).fetchall()
    names = [f'"{name}"' for (name,) in columns if name not in OUR_OWN.get(table, ())]
    return connection.execute(
        f"select count(*), sum(hash({', '.join(names)})) from {database}.{schema}.{table}"
    ).fetchall()


def main() -> int:
    """Prints a line a day, then whether a rebuild gives the same."""
    parser = argparse.ArgumentParser(description="Simulate days of the example company.")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--scale", default="0.02")
    parser.add_argument("--defects", default="0.03")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    made = ["--scale", options.scale, "--defects", options.defects, "--seed", options.seed]
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        data = Path(folder) / "data"
        os.environ["WELLSPRING_DATA"] = str(data)
        os.environ["DBT_TARGET_PATH"] = str(Path(folder) / "target")
        serve = " ".join([str(BIN / "anycompany"), "serve", *made])
        os.environ["WELLSPRING__COMPANION__COMMAND"] = serve
        os.chdir(ROOT)
        say(f"scale {options.scale}, defects {options.defects}, seed {options.seed}\n")
        say(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}")
        good = evening(0)
        for day in range(1, options.days + 1):
            command = [str(BIN / "anycompany"), "advance", "--days", "1"]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            good = evening(day) and good
        found, count = differing(data, rebuild(data))
        same = f"{count - len(found)} of {count} tables are the same, row by row"
        say(f"\nrebuilt from landing: {same}")
        for name in found:
            say(f"differs: {name}")
    return 0 if good and not found else 1


if __name__ == "__main__":
    sys.exit(main())
