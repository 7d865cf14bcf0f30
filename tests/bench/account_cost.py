"""What quarantine and books cost of a build: the whole build against one that keeps no account.

example company -> extract and load, once -> build as it is | build of a copy of the project whose
staging judges and stages the same rows, but writes no quarantine, no outcomes and no findings, and
which has neither the books nor the comparisons that only the books read

    .venv/bin/python tests/bench/account_cost.py [--scale 1] [--repeat 3] [--data FOLDER]

The two alternate; figures are medians, and the ratio is of the same rounds. `--data` takes a data
folder that is loaded already; it is copied.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ACCOUNT = ("quarantine", "rejected", "outcomes", "findings")
LEFT_OUT = [
    "path:models/ledger",
    "int_order_totals_compared",
    "int_product_claims_compared",
    "int_customer_claims_compared",
]


def copy_project(folder: Path) -> None:
    """Copies what git tracks."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, listed):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)


def leave_the_account_out(folder: Path) -> None:
    """Takes from the staging materialization what only quarantine and books need."""
    path = folder / "macros" / "staging" / "staging.sql"
    text = path.read_text(encoding="utf-8")
    for part in ACCOUNT:
        text, count = re.subn(
            rf"create or replace table \{{\{{ plan\.{part} \}}\}} as\s+\{{\{{.*?\}}\}};", "", text
        )
        if count != 1:
            raise SystemExit(f"staging.sql no longer writes {part} in one place")
    path.write_text(text, encoding="utf-8")
    path = folder / "macros" / "staging" / "judge_rows.sql"
    text = path.read_text(encoding="utf-8")
    if "cast(to_json(_record) as string)" not in text:
        raise SystemExit("judge_rows.sql no longer keeps the raw record in one place")
    path.write_text(text.replace("cast(to_json(_record) as string)", "''"), encoding="utf-8")


def build(folder: Path, data: Path, exclude: list[str]) -> tuple[float, float]:
    """Builds all models; returns seconds by the clock and of the processor."""
    environment = os.environ | {"WELLSPRING_DATA": str(data)}
    command = [BIN / "dbt", "--quiet", "run", "--full-refresh"]
    command += ["--exclude", *exclude] if exclude else []
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used


def staged_rows(data: Path) -> dict[str, int]:
    """Rows of each staging table."""
    with duckdb.connect(str(data / "warehouse" / "wellspring.duckdb"), read_only=True) as warehouse:
        names = warehouse.execute(
            "select table_name from information_schema.tables where table_schema = 'staging'"
        ).fetchall()
        counts = {}
        for (name,) in names:
            [(count,)] = warehouse.execute(f"select count(*) from staging.{name}").fetchall()
            counts[name] = count
    return counts


def main() -> None:
    """Prints medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", default="1")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wellspring-bench-") as scratch:
        data = Path(scratch) / "data"
        if arguments.data:
            shutil.copytree(arguments.data / "warehouse", data / "warehouse")
        else:
            environment = os.environ | {
                "WELLSPRING_DATA": str(data),
                "DBT_TARGET_PATH": str(Path(scratch) / "target"),
                "WELLSPRING__COMPANION__COMMAND": f"anycompany serve --scale {arguments.scale}",
            }
            command = [BIN / "wellspring", "extract", "load", "--quiet"]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
        whole, plain = Path(scratch) / "whole", Path(scratch) / "plain"
        copy_project(whole)
        copy_project(plain)
        leave_the_account_out(plain)
        variants = {"with": (whole, []), "without": (plain, LEFT_OUT)}
        for folder in (whole, plain):
            subprocess.run(
                [BIN / "dbt", "--quiet", "seed"], cwd=folder, check=True,
                env=os.environ | {"WELLSPRING_DATA": str(data)}, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        rows = {}
        for _ in range(arguments.repeat):
            for name, (folder, exclude) in variants.items():
                times[name].append(build(folder, data, exclude))
                rows[name] = staged_rows(data)
        if rows["with"] != rows["without"]:
            raise SystemExit("the two builds staged different rows")
    print(f"{'build':<24}{'seconds':>9}{'CPU':>9}")
    for name, found in times.items():
        wall, used = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name + ' the account':<24}{wall:>9.1f}{used:>9.1f}")
    for place, title in enumerate(("by the clock", "of the processor")):
        shares = [
            1 - without[place] / whole_time[place]
            for whole_time, without in zip(times["with"], times["without"], strict=True)
        ]
        print(f"share of the build {title}: {statistics.median(shares):.1%}")


if __name__ == "__main__":
    main()
