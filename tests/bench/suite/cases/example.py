"""Whole runs of the example company, as a user meets them.

scratch data folder -> first run -> run with nothing new -> a week passes -> run

Each run is a command, from the start of the interpreter to its end; what the company's systems need
to start is part of it. The steps of each run are told in the report. There is nobody to compare
with: speeds are those of the first run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.kit import ROOT, Benchmark, Case, Contender, Limit, Made, folder_bytes

_BIN = Path(sys.executable).parent
_RUNS = ("first run", "nothing new", "after 7 days")


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Nothing: the company makes itself."""


def wellspring(case: Case) -> Made:
    """Three runs in one data folder."""
    environment = {
        **os.environ,
        "WELLSPRING_DATA": str(case.scratch / "data"),
        "DBT_TARGET_PATH": str(case.scratch / "target"),
        "WELLSPRING__COMPANION__COMMAND": f"anycompany serve --scale {case.options['scale']}",
        "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    notes, rows = {}, 0
    for name in _RUNS:
        if name == "after 7 days":
            _call(environment, "anycompany", "advance", "--days", "7")
        with case.timed(name):
            told = _call(environment, "wellspring", "run", "--log-format", "json", "--quiet")
        summary = json.loads(told.splitlines()[-1])
        notes[name] = ", ".join(f"{one['step']} {one['seconds']:.1f}" for one in summary["steps"])
        rows += sum(figures["rows"] for figures in summary["sources"].values())
    return Made(rows, "", folder_bytes(case.scratch / "data"), notes)


def _call(environment: Mapping[str, str], command: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(_BIN / command), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


BENCHMARKS = (
    Benchmark(
        name="example",
        title="runs of the example company",
        baseline="wellspring",
        contenders=(Contender("wellspring", "suite/cases/example.py:wellspring"),),
        prepare=prepare,
        sizes={"scale": 1.0},
        quick={"scale": 0.02},
        limits=(
            Limit("wellspring", step="first run", seconds=90, text="acceptance 8"),
            Limit("wellspring", step="nothing new", seconds=5, text="acceptance 4"),
        ),
        about="Seconds of the steps of the last round stand below the table.",
    ),
)
