"""What a run costs when little is new, by steps: first run, nothing new, one row in a hundred new.

SQLite of customers, orders, lines -> a project of keyed staging and facts by key -> three runs in
one data folder -> seconds of each step as the run tells them

The project and the changes are those of the study `rerun.py`, which also compares grown tables with
a full refresh. Speeds of steps refer to the first run of the same round.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.kit import Benchmark, Case, Contender, Limit, Made, Target, folder_bytes

# Of the first run, and what a run with nothing new may take in all.
_SHARES, _FLOOR_SECONDS = {"extract": 0.05, "load": 0.05, "build": 0.10}, 5.0


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Makes the source."""
    import rerun

    rerun.fill(folder / "store.sqlite", int(sizes["rows"]))


def wellspring(case: Case) -> Made:
    """Three runs, a command each."""
    import shutil

    import rerun

    root = case.scratch / "project"
    root.mkdir()
    rerun.make_project(root)
    database = root / "store.sqlite"
    shutil.copy(case.data / "store.sqlite", database)
    environment = os.environ | {
        "WELLSPRING_DATA": str(root / "data"),
        "CONNECTIONS__STORE__URL": f"sqlite:///{database}",
    }
    found: dict[str, dict[str, float]] = {}
    for number, name in enumerate(rerun.RUNS):
        if name == "1 % new":
            rerun.renew(database, number)
        with case.timed(name):
            taken = rerun.run(root, environment)
        for step in rerun.STEPS[:-1]:
            case.told(f"{name}: {step}", taken.get(step, 0.0))
        found[name] = taken
    first, floor, now = (found[name] for name in rerun.RUNS)
    for step in _SHARES:
        case.told(f"1 % new, beyond nothing new: {step}", max(now[step] - floor[step], 0.001))
    case.told("1 % new: extract, load and build", sum(now[step] for step in _SHARES))
    allowed = sum(share * first[step] for step, share in _SHARES.items())
    case.told("1 % new: allowed", _FLOOR_SECONDS + allowed)
    return Made(int(case.options["rows"]), "", folder_bytes(root / "data"))


def _at_most(step: str, against: str, share: float, text: str) -> Target:
    return Target(
        "wellspring",
        "wellspring",
        speed=1 / share,
        step=f"1 % new{step}",
        against_step=against,
        text=f"acceptance 4: {text}",
    )


_WITHIN = _at_most(
    ": extract, load and build", "1 % new: allowed", 1, "5 s, and its share of the first run"
)
_BEYOND = tuple(
    _at_most(
        f", beyond nothing new: {step}", f"first run: {step}", share, f"{share:.0%} without the 5 s"
    )
    for step, share in _SHARES.items()
)
BENCHMARKS = (
    Benchmark(
        name="little-new",
        title="runs of a source in which nothing, or one row in a hundred, is new",
        baseline="wellspring",
        contenders=(Contender("wellspring", "suite/cases/little_new.py:wellspring"),),
        prepare=prepare,
        sizes={"rows": 2_000_000},
        quick={"rows": 20_000},
        targets=(_WITHIN, *_BEYOND),
        limits=(Limit("wellspring", step="nothing new", seconds=5, text="acceptance 4"),),
        about=(
            "Three runs in one data folder, each a command. Half of what is new is rows, the other "
            "half corrections all over the tables, which touch some 3 % of the facts."
        ),
    ),
)
