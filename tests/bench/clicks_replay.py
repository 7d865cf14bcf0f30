"""Ten days of clicks that came day by day, against the same landing replayed at once.

run -> for each day: the company's clock moves, clicks are read, loaded and built -> checksums of
staging and marts -> warehouse removed, loaded and built from landing -> the same checksums?

    .venv/bin/python tests/bench/clicks_replay.py [--scale 0.02] [--days 10]

Sessions grow by `sessions` increments; late events, repeats and files of former hours are among
what comes. Compared are all tables that are made of clicks, their quarantine and account included.
Left out: the number of the loads, which is the same, and positions, which nobody promises. Exits 1
if a table differs.
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

import duckdb

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CLICKS = ("--select", "source:web+", "--exclude", "ledger", "ops")
# The sources of what clicks are joined with stand still: only clicks are read.
READ = ("extract", "--select", "source:web", "--quiet")
TABLES = """
select schema_name || '.' || table_name
from duckdb_tables()
where
    -- marks count how often a table was made anew
    schema_name <> 'marks'
    and (
        schema_name = 'web'
        or table_name like 'int\\_web\\_%' escape '\\'
        or table_name = 'stg_web__events'
    )
order by 1
"""
Sums = dict[str, tuple[int, int]]


class Trial:
    """The project over a data folder of its own.

    Args:
        folder: An empty folder.
        scale: Size of the example.
    """

    def __init__(self, folder: Path, scale: str) -> None:
        self._data = folder / "data"
        serve = f"{BIN / 'anycompany'} serve --scale {scale} --defects 0.02"
        self._environment = os.environ | {
            "WELLSPRING_DATA": str(self._data),
            "DBT_TARGET_PATH": str(folder / "target"),
            "WELLSPRING__COMPANION__COMMAND": serve,
        }

    def call(self, command: str, *arguments: str) -> float:
        """Calls a command of the project; returns its seconds.

        Raises:
            SystemExit: It failed.
        """
        began = time.monotonic()
        done = subprocess.run(
            [BIN / command, *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            said = done.stderr + done.stdout
            raise SystemExit(f"{command} {arguments} ended with {done.returncode}:\n{said}")
        return time.monotonic() - began

    def checksums(self) -> Sums:
        """Rows and checksum of each table that is made of clicks."""
        path = self._data / "warehouse" / "wellspring.duckdb"
        with duckdb.connect(str(path), read_only=True) as connection:
            names = [name for (name,) in connection.execute(TABLES).fetchall()]
            found = {}
            for name in names:
                query = f"select count(*), sum(hash(content)) from {name} as content"
                found[name] = connection.execute(query).fetchall()[0]
        return found

    def replay(self) -> float:
        """Makes the warehouse anew from landing; returns its seconds."""
        shutil.rmtree(self._data / "warehouse")
        return self.call("wellspring", "load", "build", "--quiet")


def main() -> int:
    """Grows one warehouse, makes another, compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scale", default="0.02", help="size of the example company")
    parser.add_argument("--days", type=int, default=10, help="days to arrive one by one")
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="wellspring-clicks-"))
    try:
        trial = Trial(scratch, arguments.scale)
        print(f"first {trial.call('wellspring', 'extract', 'load', 'build', '--quiet'):8.1f} s")
        for day in range(1, arguments.days + 1):
            trial.call("anycompany", "advance", "--days", "1")
            seconds = trial.call("wellspring", *READ)
            seconds += trial.call("wellspring", "load", "build", "--quiet", *CLICKS)
            print(f"day {day:2} {seconds:7.1f} s", flush=True)
        grown = trial.checksums()
        print(f"replay{trial.replay():8.1f} s\n")
        made = trial.checksums()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"{'table':<52}{'grown':>9}{'replayed':>10}  ")
    for name in sorted(grown | made):
        left, right = grown.get(name, (0, 0)), made.get(name, (0, 0))
        print(f"{name:<52}{left[0]:>9,}{right[0]:>10,}  {'' if left == right else 'DIFFERS'}")
    return 0 if grown == made and grown else 1


if __name__ == "__main__":
    sys.exit(main())
