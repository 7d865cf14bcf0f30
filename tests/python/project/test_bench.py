"""The benchmark suite itself: what it measures, refuses and compares.

Figures are made up here, or come of contenders that take milliseconds; no time is asserted.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

from suite import measuring  # found by the line above
from suite.kit import Benchmark, Contender, Limit, Target  # the same
from suite.registry import benchmarks  # the same
from suite.report import write_report  # the same
from suite.results import Result, read_results, summed_up, worse  # the same

BENCH = Path(__file__).resolve().parents[2] / "bench"
CASE = """
import subprocess, sys, time
from suite.kit import Made

def small(case):
    with case.timed("first"):
        pass
    with case.timed("second"):
        time.sleep(0.01)
    return Made(3, case.options["sum"], 10, {"version": "1"})

def large(case):
    # in a child of the child, whose memory counts too
    with case.timed():
        subprocess.run([sys.executable, "-c", "x = bytearray(150_000_000); x[::4096] = x[::4096]; "
                        "import time; time.sleep(0.8)"], check=True)
    return Made(3, case.options["sum"], 10)

def broken(case):
    raise RuntimeError("no such thing")
"""


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    """Two contenders in a module of their own."""
    module = tmp_path / "contenders.py"
    module.write_text(CASE)
    return Benchmark(
        name="trial",
        title="a trial",
        baseline="small",
        contenders=(
            Contender("small", f"{module}:small", options={"sum": "7"}),
            Contender("large", f"{module}:large", options={"sum": "7"}, rounds=1),
        ),
        prepare=lambda folder, sizes: (folder / "made").touch(),
        sizes={"rows": 3},
        targets=(Target("large", "small", speed=100, memory=1),),
        limits=(Limit("small", step="second", seconds=60, peak_mb=1),),
    )


def run(benchmark: Benchmark, rounds: int = 2) -> tuple[Result, list[str]]:
    failed: list[str] = []
    samples = measuring.run(
        benchmark,
        rounds=rounds,
        keep=None,
        tell=lambda text: None,
        failed=failed.append,
    )
    return summed_up(benchmark, samples, 0.0), failed


def test_every_benchmark_names_contenders_that_it_has() -> None:
    found = benchmarks()
    assert {"ingest-parquet", "ingest-postgres", "run", "growth", "memory"} <= set(found)
    for one in found.values():
        for contender in one.contenders:
            path, _, function = contender.call.partition(":")
            assert f"def {function}(case: Case)" in (BENCH / path).read_text(encoding="utf-8")


def test_steps_and_the_memory_of_the_whole_process_tree_are_measured(
    benchmark: Benchmark, tmp_path: Path
) -> None:
    result, failed = run(benchmark)
    assert failed == []
    small, large = result.figures["small"], result.figures["large"]
    assert (small.rounds, large.rounds) == (2, 1)
    assert set(small.steps) == {"first", "second", "all"}
    assert small.whole.seconds.median >= small.steps["second"].seconds.median
    assert large.whole.peak.median > small.whole.peak.median + 100e6
    held = {one.text: one.holds for one in result.promises}
    assert held == {
        "large at least 100 times as fast as small": False,
        "large with at most 1 times the peak memory of small": False,
        "small, second, below 1 MB": False,
        "small, second, below 60 s": True,
    }
    result.write(tmp_path)
    assert read_results(tmp_path)["trial"].figures["small"].rows == 3
    page = write_report(tmp_path, {"trial": result}, ["- trial: measured for the first time"])
    assert "**1 of 4 promises hold.**" in page.read_text()
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag.endswith("svg")


def test_a_contender_with_other_rows_fails_the_benchmark(benchmark: Benchmark) -> None:
    small, _ = benchmark.contenders
    other = replace(small, name="lossy", options={"sum": "6"})
    lossy = replace(benchmark, contenders=(small, other))
    with pytest.raises(measuring.BenchmarkFailed, match=r"not the same rows.*lossy: 3 rows"):
        run(replace(lossy, targets=(), limits=()), rounds=1)


def test_a_contender_that_breaks_is_told_and_does_not_take_the_others_along(
    benchmark: Benchmark,
) -> None:
    small, _ = benchmark.contenders
    broken = replace(small, name="broken", call=small.call.replace("small", "broken"))
    result, failed = run(replace(benchmark, contenders=(small, broken), targets=()), rounds=1)
    assert set(result.figures) == {"small"}
    assert "no such thing" in failed[0]


@pytest.mark.parametrize(
    ("speed", "peak", "told"),
    [
        (1.0, 1.0, []),
        (0.95, 1.1, []),
        (0.5, 1.0, ["ours is 0.50 times as fast"]),
        (1.0, 3.0, ["ours takes 600 MB"]),
    ],
)
def test_what_is_worse_beyond_noise_is_named(speed: float, peak: float, told: list[str]) -> None:
    former, now = made_up(1.0, 200e6), made_up(speed, peak * 200e6)
    found = worse(now, former)
    assert len(found) == len(told)
    assert all(text in line for text, line in zip(told, found, strict=True))
    assert worse(replace(now, sizes={"rows": 9}), former) == [], "another size is no comparison"


def made_up(speed: float, peak: float) -> Result:
    """A result with the given speed and memory, in three rounds that hardly differ."""

    def samples(seconds: float) -> list[measuring.Sample]:
        made: dict[str, Any] = {"rows": 1, "checksum": "", "bytes": 0, "notes": {}}
        rounds = (seconds * noise for noise in (0.99, 1.0, 1.01))
        return [
            measuring.Sample({"all": measuring.Step(taken, taken, int(peak))}, made)
            for taken in rounds
        ]

    benchmark = Benchmark(
        name="made-up",
        title="made up",
        baseline="bare",
        contenders=(Contender("bare", "x:y"), Contender("ours", "x:y")),
        prepare=lambda folder, sizes: None,
        sizes={"rows": 1},
    )
    return summed_up(benchmark, {"bare": samples(1.0), "ours": samples(1 / speed)}, 0.0)
