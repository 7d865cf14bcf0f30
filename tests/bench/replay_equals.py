"""Breaks the example's project in several ways, mends it, replays, and compares every table.

copy of the project -> run -> for each fault: break, rebuild from landing, mend, `quarantine replay`
-> checksums against those before -> table: set aside with the fault, tables that differ, seconds

    .venv/bin/python tests/bench/replay_equals.py [--scale 0.02]

Equal means columns, count and checksum of every table, raw, staging, quarantine, books and marts;
only ledger and runs, which tell what was done when, are left out. Exits 1 if a table differs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".uv", "data", "target", "tests", "__pycache__")
LATER = {"loaded_at", "replay_count"}


@dataclass(frozen=True)
class Fault:
    """A mistake in the project.

    Attributes:
        name: What is wrong.
        file: Where.
        right: The text as it is.
        wrong: The text as it is broken.
    """

    name: str
    file: str
    right: str
    wrong: str


FAULTS = (
    Fault(
        "declaration: wrong delimiter",
        "models/staging/erp/_erp__sources.yml",
        'delimiter: ";"',
        'delimiter: ","',
    ),
    Fault(
        "declaration: wrong encoding",
        "models/staging/erp/_erp__sources.yml",
        "encodings: [utf-8, cp1252]",
        "encodings: [utf-8]\n          encoding_errors: reject",
    ),
    Fault(
        "staging: wrong cast",
        "models/staging/erp/stg_erp__order_lines.sql",
        "{{ decimal_comma('line_net') }}",
        "try_cast(line_net as decimal(18, 2))",
    ),
    Fault("seed: wrong status", "seeds/order_statuses.csv", "shipped", "shiped"),
)


class Trial:
    """A copy of the project with a data folder of its own.

    Args:
        folder: An empty folder.
        scale: Size of the example.
    """

    def __init__(self, folder: Path, scale: str) -> None:
        self.project = folder / "project"
        shutil.copytree(ROOT, self.project, ignore=LEFT_OUT)
        # dbt_project.yml names folders of tests.
        shutil.copytree(ROOT / "tests" / "dbt", self.project / "tests" / "dbt")
        self._data = folder / "data"
        serve = f"{BIN / 'anycompany'} serve --scale {scale}"
        self._environment = os.environ | {
            "WELLSPRING_DATA": str(self._data),
            "WELLSPRING__COMPANION__COMMAND": serve,
        }

    def wellspring(self, *arguments: str) -> tuple[float, str]:
        """Calls the command; returns its seconds and what it wrote.

        Raises:
            SystemExit: It ended with another fault than a failed audit or refused files.
        """
        began = time.monotonic()
        done = subprocess.run(
            [BIN / "wellspring", *arguments],
            cwd=self.project,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if done.returncode not in (0, 2, 4, 6):
            raise SystemExit(
                f"{arguments} ended with {done.returncode}:\n{done.stderr}{done.stdout}"
            )
        return time.monotonic() - began, done.stdout

    def checksums(self) -> dict[str, Any]:
        """Columns, count and checksum by table."""
        found: dict[str, Any] = {}
        path = self._data / "warehouse" / "wellspring.duckdb"
        with duckdb.connect(str(path), read_only=True) as connection:
            tables = connection.execute(
                "select schema_name, table_name from duckdb_tables() "
                "where schema_name not in ('ledger', 'runs')"
            ).fetchall()
            for schema, table in tables:
                described = connection.execute(f'describe "{schema}"."{table}"').fetchall()
                columns = [row[0] for row in described if row[0] not in LATER]
                listed = ", ".join(f'"{column}"' for column in columns)
                sums = connection.execute(
                    f"select count(*), sum(hash(content)) from "
                    f'(select {listed} from "{schema}"."{table}") as content'
                ).fetchone()
                found[f"{schema}.{table}"] = (columns, sums)
        return found

    def rebuild(self) -> None:
        """Makes the warehouse anew from landing."""
        shutil.rmtree(self._data / "warehouse")
        self.wellspring("load", "build", "--quiet")

    def edit(self, file: str, old: str, new: str) -> None:
        """Changes a file of the copy."""
        path = self.project / file
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise SystemExit(f"{file} does not hold {old!r} any more: mend this benchmark")
        path.write_text(text.replace(old, new), encoding="utf-8")


def try_fault(trial: Trial, fault: Fault, expected: dict[str, Any]) -> list[str]:
    """Breaks, rebuilds, mends and replays; prints a line and returns the tables that differ."""
    trial.edit(fault.file, fault.right, fault.wrong)
    trial.rebuild()
    broken = trial.checksums()
    spoilt = sum(broken.get(name) != expected[name] for name in expected)
    _, listed = trial.wellspring("quarantine", "list", "--warehouse", "--json")
    aside = json.loads(listed)["total"]
    trial.edit(fault.file, fault.wrong, fault.right)
    seconds, _ = trial.wellspring("quarantine", "replay", "--quiet", "--json")
    after = trial.checksums()
    differing = sorted(k for k in {*after, *expected} if after.get(k) != expected.get(k))
    print(
        f"{fault.name:<32} {aside['row']:>9,} {aside['record']:>9,} {aside['file']:>6,} "
        f"{spoilt:>8,} {len(differing):>8,} {seconds:>9.1f}"
    )
    return differing


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="0.02", help="size of the example company")
    scale = parser.parse_args().scale
    scratch = Path(tempfile.mkdtemp(prefix="wellspring-replay-"))
    try:
        trial = Trial(scratch, scale)
        trial.wellspring("run", "--quiet")
        trial.rebuild()
        expected = trial.checksums()
        print(f"{len(expected):,} tables, scale {scale}\n")
        print(
            f"{'fault':<32} {'rows':>9} {'records':>9} {'files':>6} {'spoilt':>8} {'differ':>8} "
            f"{'seconds':>9}"
        )
        found = {fault.name: try_fault(trial, fault, expected) for fault in FAULTS}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for name, differing in found.items():
        if differing:
            raise SystemExit(f"after {name}, these differ: {', '.join(differing)}")


if __name__ == "__main__":
    main()
