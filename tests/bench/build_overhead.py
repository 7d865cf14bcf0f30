"""What building and testing without dbt costs beside its statements alone.

a data folder that was run twice -> bare: each statement and test, one after the other, on one
connection -> ours: `Dbt.build` and `Dbt.test` -> in turns -> medians of time and processor, ratio

    .venv/bin/python tests/bench/build_overhead.py DATA_FOLDER [--rounds 5] [--dbt]

Works on a copy of the warehouse, so that the folder stays as it is. `--dbt` lets dbt do the same
once more in each round. Left out: extraction, publishing and the start of the interpreter.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ingestion.settings import Settings, load_settings  # noqa: E402  # below the root
from ingestion.warehouse import connect  # noqa: E402  # the same
from runner.batch import can_batch  # noqa: E402  # the same
from runner.compiled.player import _fitting, grounds, places, set_up  # noqa: E402  # the same
from runner.compiled.recording import GIVE_WAY  # noqa: E402  # the same
from runner.project import in_order  # noqa: E402  # the same
from runner.transform import Dbt, Selection  # noqa: E402  # the same


def bare(settings: Settings, dbt: Dbt) -> None:
    """The statements that build everything, then every test, with nothing around them."""
    kept = dbt.kept
    wanted = dbt._wanted(Selection(), None) - _of_the_audit(settings, dbt)
    with closing(connect(settings)) as connection:
        set_up(connection, kept)
        there = places(connection)
        for node in in_order(kept.view, wanted):
            place = there.get((node.schema, node.alias))
            ways = [
                way
                for way in kept.recordings[node.unique_id]
                if node.config.materialized in ("table", "view")
                or way.on_existing == (place == "table" and not node.config.full_refresh)
            ]
            connection.execute("begin")
            way = _fitting(connection, ways)
            assert way is not None, f"{node.name}: run twice with this code before"
            for sql in way.statements:
                if sql != GIVE_WAY:
                    connection.execute(sql)
                elif place:
                    connection.execute(f"drop {place} if exists {node.relation_name} cascade")
            connection.execute("commit")
        for test in dbt.compiled_tests(Selection()):
            if can_batch(test):
                connection.execute(
                    f"select {test.config.fail_calc} from ({test.compiled_code}\n) as found"
                ).fetchall()


def ours(settings: Settings, asks_dbt: bool = False) -> None:
    """The same as a run does it."""
    dbt = Dbt(settings, parsed=Dbt(settings).manifest if asks_dbt else None)
    without = _of_the_audit(settings, dbt)
    failed = [r.name for r in dbt.build(Selection(), without=without) if r.status == "failed"]
    assert not failed, failed
    dbt.test(Selection())
    assert asks_dbt or dbt._manifest is None, "dbt was asked; run twice with this code before"


def _of_the_audit(settings: Settings, dbt: Dbt) -> set[str]:
    """Nodes that are made while an audit is under way: their sources are there only then."""
    wanted = dbt._wanted(Selection(), None)
    with closing(connect(settings)) as connection:
        shapes = grounds(dbt.kept, connection, wanted)
    return {key for key in wanted if dbt.kept.grounds.get(key) != shapes[key]}


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds and processor seconds."""
    began, used = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - began, time.process_time() - used


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dbt", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="build-overhead-") as scratch:
        os.environ["WELLSPRING_DATA"] = scratch
        settings = replace(load_settings(ROOT), data_dir=Path(scratch))
        for name in ("warehouse", "state/compiled"):
            shutil.copytree(given.data / name, Path(scratch, name))
        works: dict[str, Callable[[], None]] = {
            "bare": lambda: bare(settings, Dbt(settings)),
            "wellspring": lambda: ours(settings),
        }
        if given.dbt:
            works["dbt"] = lambda: ours(settings, asks_dbt=True)
        for work in works.values():
            work()
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for _ in range(given.rounds):
            for name, work in works.items():
                taken[name].append(timed(work))
    base = [statistics.median(column) for column in zip(*taken["bare"], strict=True)]
    for name, times in taken.items():
        found = [statistics.median(column) for column in zip(*times, strict=True)]
        ratios = " ".join(f"{one / by:.2f}" for one, by in zip(found, base, strict=True))
        print(f"{name:12} {found[0]:7.2f} s {found[1]:7.2f} s of processor; ratio {ratios}")


if __name__ == "__main__":
    main()
