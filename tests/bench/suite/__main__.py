"""`make bench`: runs benchmarks, writes the report, compares it with the last one.

    .venv/bin/python -m suite [--only NAME ...] [--rounds 5] [--quick] [--size KEY=VALUE ...]
        [--check] [--list] [--data FOLDER] [--into FOLDER] [--through COMMAND]

With tests/bench in PYTHONPATH, which `make bench` sees to. `--quick` takes small sizes and two
rounds: it shows that everything works, prints the figures and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from suite.kit import ROOT, Benchmark
from suite.measuring import BenchmarkFailed, run
from suite.registry import benchmarks
from suite.report import section, write_report
from suite.results import Result, read_results, summed_up, worse

_KEPT = ROOT / "docs" / "benchmarks"


def main() -> int:
    """Runs what the command line asks for.

    Returns:
        1 if a benchmark failed or, with `--check`, something became worse or a promise is missed.
    """
    options = _options()
    known = benchmarks()
    unknown = [name for name in options.only or () if name not in known]
    if unknown:
        _say(f"There is no benchmark {unknown[0]}; there are: {', '.join(known)}")
        return 64
    chosen = [known[name] for name in options.only or known]
    if options.list:
        for benchmark in chosen:
            _say(f"{benchmark.name:<20} {benchmark.title}")
        return 0
    former = read_results(options.into)
    taken, failures = _taken(chosen, options)
    compared = _compared(taken, former)
    if not options.quick:
        page = write_report(options.into, read_results(options.into), compared)
        _say(f"report: {page}")
    for line in [*compared, *failures]:
        _say(line)
    missed = [one for result in taken for one in result.promises if not one.holds]
    bad = [line for line in compared if line.startswith("- worse")]
    return 1 if failures or (options.check and (bad or missed)) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure Wellspring.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these benchmarks")
    parser.add_argument("--rounds", type=int, help="rounds of each benchmark (default 5)")
    parser.add_argument("--quick", action="store_true", help="small sizes, 2 rounds, keep nothing")
    parser.add_argument(
        "--size",
        nargs="+",
        metavar="KEY=VALUE",
        default=[],
        help="other sizes than a benchmark's own, for a slower machine, such as rows=1000000",
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if something became worse")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument("--data", type=Path, help="keep made data here for the next time")
    parser.add_argument("--into", type=Path, default=_KEPT, help="folder of the report")
    parser.add_argument(
        "--through",
        default="",
        metavar="COMMAND",
        help="start each contender through this command, such as one that waits for quiet",
    )
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def _taken(chosen: list[Benchmark], options: argparse.Namespace) -> tuple[list[Result], list[str]]:
    """Runs benchmarks; their results and what failed."""
    taken: list[Result] = []
    failures: list[str] = []
    rounds = options.rounds or (2 if options.quick else 5)
    for declared in chosen:
        benchmark = _resized(declared, options)
        _say(f"{benchmark.name}: {benchmark.title}")
        load = os.getloadavg()[0]
        try:
            samples = run(
                benchmark,
                rounds=rounds,
                keep=options.data,
                tell=_say,
                failed=failures.append,
                through=shlex.split(options.through),
            )
        except BenchmarkFailed as error:
            failures.append(f"{benchmark.name} failed: {error}")
            continue
        result = summed_up(benchmark, samples, load)
        taken.append(result)
        if not options.quick:
            result.write(options.into)
        _say("\n".join(section(result)[4:]))
    return taken, failures


def _resized(benchmark: Benchmark, options: argparse.Namespace) -> Benchmark:
    """The benchmark with the sizes that the command line asks for, of those that it has."""
    asked = dict(text.partition("=")[::2] for text in options.size)
    try:
        given = {key: json.loads(text) for key, text in asked.items() if key in benchmark.sizes}
    except ValueError as error:
        raise SystemExit(f"--size {' '.join(options.size)}: {error}") from error
    quick = benchmark.quick if options.quick else {}
    return replace(benchmark, sizes={**benchmark.sizes, **quick, **given})


def _compared(taken: list[Result], former: dict[str, Result]) -> list[str]:
    """What a comparison with former results says, a line each."""
    lines = []
    for result in taken:
        if result.benchmark not in former:
            lines.append(f"- {result.benchmark}: measured for the first time")
        elif result.sizes != former[result.benchmark].sizes:
            lines.append(f"- {result.benchmark}: not comparable, the data has another size")
        else:
            found = worse(result, former[result.benchmark])
            lines += [f"- worse: {text}" for text in found] or [
                f"- {result.benchmark}: nothing is worse beyond noise"
            ]
    return lines


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
