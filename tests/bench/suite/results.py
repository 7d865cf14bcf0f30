"""What a run of a benchmark came to: medians, ratios, what was promised, what became worse.

samples -> `Result` (JSON, one file a benchmark) -> kept in docs/benchmarks, compared with the last

A ratio is the median of the ratios of each round, so that what slows the machine down for a while
slows both sides. Its spread is that of the rounds. Left out: seconds of former reports, which were
taken on a machine in another mood; only ratios and memory are compared with them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from suite.kit import ROOT, WHOLE, Benchmark, Contender, Limit, Target
from suite.measuring import Sample

# A ratio has to be worse by more than this, or by what the rounds differ, to count as worse.
_LEAST_NOISE = 0.10
_MEMORY_NOISE = 0.20
_MEMORY_FLOOR = 64e6


@dataclass(frozen=True)
class Spread:
    """A figure over rounds.

    Attributes:
        median: The middle one.
        low: The smallest one.
        high: The largest one.
    """

    median: float
    low: float
    high: float

    @property
    def noise(self) -> float:
        """Half the width, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True)
class StepFigures:
    """A step of a contender.

    Attributes:
        seconds: Wall seconds.
        cpu: Processor seconds.
        peak: Peak memory in bytes.
        speed: How many times as fast as the baseline's step for each unit; None without one.
    """

    seconds: Spread
    cpu: Spread
    peak: Spread
    speed: Spread | None


@dataclass(frozen=True)
class Figures:
    """A contender.

    Attributes:
        rounds: How often it ran.
        units: How much work a round was.
        steps: By name, `all` being the whole.
        rows: Rows of what it made.
        checksum: Of what it made.
        bytes: Size of what it made.
        notes: What else it told.
    """

    rounds: int
    units: float
    steps: dict[str, StepFigures]
    rows: int
    checksum: str
    bytes: int
    notes: dict[str, str]

    @property
    def whole(self) -> StepFigures:
        """All of the work."""
        return self.steps[WHOLE]


@dataclass(frozen=True)
class Promise:
    """A target or limit, and what came of it.

    Attributes:
        text: What was promised.
        found: What was measured.
        holds: Whether that is enough.
    """

    text: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Result:
    """What a run of a benchmark came to.

    Attributes:
        benchmark: Its name.
        title: What it measures.
        baseline: The contender that speeds refer to.
        unit: What units count.
        about: What a reader must know.
        sizes: Sizes of the data.
        taken_at: When, UTC.
        commit: The revision, with `+` where files differed from it.
        machine: The machine, versions and how busy it was.
        figures: By contender.
        promises: What was promised.
    """

    benchmark: str
    title: str
    baseline: str
    unit: str
    about: str
    sizes: dict[str, Any]
    taken_at: str
    commit: str
    machine: dict[str, str]
    figures: dict[str, Figures]
    promises: list[Promise] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Writes it as JSON, under the benchmark's name."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_short(asdict(self)), indent=1, ensure_ascii=False)
        (folder / f"{self.benchmark}.json").write_text(text + "\n", encoding="utf-8")


def read_results(folder: Path) -> dict[str, Result]:
    """The results that lie in a folder, by benchmark."""
    return {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}


def summed_up(
    benchmark: Benchmark, samples: Mapping[str, list[Sample]], load_before: float
) -> Result:
    """Makes figures of samples."""
    figures = {
        contender.name: _figures(contender, benchmark, samples)
        for contender in benchmark.contenders
        if samples.get(contender.name)
    }
    result = Result(
        benchmark=benchmark.name,
        title=benchmark.title,
        baseline=benchmark.baseline,
        unit=benchmark.unit,
        about=benchmark.about,
        sizes=dict(benchmark.sizes),
        taken_at=datetime.now(UTC).isoformat(timespec="minutes"),
        commit=_commit(),
        machine=_machine(load_before),
        figures=figures,
    )
    for target in benchmark.targets:
        result.promises.extend(_judged(target, figures, samples, benchmark))
    for limit in benchmark.limits:
        result.promises.extend(_kept(limit, figures, benchmark.unit))
    return result


def worse(now: Result, former: Result) -> list[str]:
    """What is worse than in a former result by more than the rounds differ, for people."""
    if now.sizes != former.sizes:
        return []
    found = []
    for name, figures in now.figures.items():
        if name not in former.figures or name == now.baseline:
            continue
        old, new = former.figures[name].whole, figures.whole
        if old.speed and new.speed:
            noise = max(_LEAST_NOISE, old.speed.noise + new.speed.noise)
            if new.speed.median < old.speed.median * (1 - noise):
                found.append(
                    f"{now.benchmark}: {name} is {new.speed.median:.2f} times as fast as "
                    f"{now.baseline}; it was {old.speed.median:.2f} (noise {noise:.0%})"
                )
        allowed = old.peak.median * (1 + _MEMORY_NOISE) + _MEMORY_FLOOR
        if new.peak.median > allowed:
            found.append(
                f"{now.benchmark}: {name} takes {new.peak.median / 1e6:.0f} MB at its peak; "
                f"it was {old.peak.median / 1e6:.0f} MB"
            )
    return found


def spread(values: list[float]) -> Spread:
    """Median, smallest, largest."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(
    one: list[Sample],
    other: list[Sample],
    step: str = WHOLE,
    other_step: str = "",
    scale: float = 1.0,
) -> Spread | None:
    """Seconds of the other one by those of the one, round by round; None without such a step."""
    theirs = other_step or step
    pairs = [
        (a.steps[step].seconds, b.steps[theirs].seconds)
        for a, b in zip(one, other, strict=False)
        if step in a.steps and theirs in b.steps
    ]
    return spread([b / a * scale for a, b in pairs if a]) if any(a for a, _ in pairs) else None


def _units(contender: Contender, taken: list[Sample]) -> float:
    return taken[-1].made["rows"] / 1e6 if contender.units is None else contender.units


def _figures(
    contender: Contender, benchmark: Benchmark, samples: Mapping[str, list[Sample]]
) -> Figures:
    taken = samples[contender.name]
    units = _units(contender, taken)
    base = samples.get(benchmark.baseline) or []
    first = next(one for one in benchmark.contenders if one.name == benchmark.baseline)
    base_units = _units(first, base) if base else units
    steps = {
        name: StepFigures(
            seconds=spread([sample.steps[name].seconds for sample in taken]),
            cpu=spread([sample.steps[name].cpu for sample in taken]),
            peak=spread([float(sample.steps[name].peak) for sample in taken]),
            speed=ratios(taken, base, name, scale=units / base_units),
        )
        for name in taken[0].steps
    }
    made = taken[-1].made
    return Figures(
        rounds=len(taken),
        units=units,
        steps=steps,
        rows=made["rows"],
        checksum=made["checksum"],
        bytes=made["bytes"],
        notes=dict(made["notes"]),
    )


def _judged(
    target: Target,
    figures: Mapping[str, Figures],
    samples: Mapping[str, list[Sample]],
    benchmark: Benchmark,
) -> list[Promise]:
    """What came of a comparison; nothing where one side took no part."""
    if target.contender not in figures or target.against not in figures:
        return []
    ours, theirs = figures[target.contender], figures[target.against]
    text = target.text and f" ({target.text})"
    step = "" if target.step == WHOLE else f", {target.step},"
    other = f", {target.against_step}" if target.against_step else ""
    promises = []
    if target.speed is not None:
        found = ratios(
            samples[target.contender],
            samples[target.against],
            target.step,
            target.against_step,
            ours.units / theirs.units,
        )
        speed = found.median if found else 0.0
        promises.append(
            Promise(
                f"{target.contender}{step} at least {target.speed:.3g} times as fast as "
                f"{target.against}{other}{text}",
                f"{speed:.2f} times",
                speed >= target.speed,
            )
        )
    if target.memory is not None:
        ratio = ours.whole.peak.median / max(theirs.whole.peak.median, 1)
        promises.append(
            Promise(
                f"{target.contender} with at most {target.memory:g} times the peak memory of "
                f"{target.against}{text}",
                f"{ratio:.2f} times",
                ratio <= target.memory,
            )
        )
    return promises


def _kept(limit: Limit, figures: Mapping[str, Figures], unit: str) -> list[Promise]:
    """What came of a limit; nothing where the contender or its step did not take part."""
    found = figures.get(limit.contender)
    step = found.steps.get(limit.step) if found else None
    if found is None or step is None:
        return []
    text = limit.text and f" ({limit.text})"
    who = limit.contender + ("" if limit.step == WHOLE else f", {limit.step},")
    peak, seconds = step.peak.median / 1e6, step.seconds.median
    rate = found.units / seconds
    promises = []
    if limit.peak_mb is not None:
        holds = peak <= limit.peak_mb
        told = f"{who} below {limit.peak_mb:,.0f} MB{text}"
        promises.append(Promise(told, f"{peak:,.0f} MB", holds))
    if limit.seconds is not None:
        holds = seconds <= limit.seconds
        promises.append(
            Promise(f"{who} below {limit.seconds:g} s{text}", f"{seconds:.2f} s", holds)
        )
    if limit.rate is not None:
        told = f"{who} at least {limit.rate:g} {unit}/s{text}"
        promises.append(Promise(told, f"{rate:.3g} {unit}/s", rate >= limit.rate))
    return promises


def _read(path: Path) -> Result:
    told = json.loads(path.read_text(encoding="utf-8"))
    told["figures"] = {name: _read_figures(one) for name, one in told["figures"].items()}
    told["promises"] = [Promise(**one) for one in told["promises"]]
    return Result(**told)


def _read_figures(told: dict[str, Any]) -> Figures:
    steps = {
        name: StepFigures(
            **{key: value and Spread(**value) for key, value in step.items()},
        )
        for name, step in told.pop("steps").items()
    }
    return Figures(steps=steps, **told)


def _short(value: Any) -> Any:
    """Figures with as many digits as they mean."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    revision = git("rev-parse", "--short=10", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--", ".", ":!docs")
    return revision + ("+" if changed else "")


def _machine(load_before: float) -> dict[str, str]:
    memory = psutil.virtual_memory().total / 2**30
    versions = ("duckdb", "dlt", "dbt-core", "dbt-duckdb", "pyarrow")
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in versions},
        # Above the number of cores, somebody else was at work.
        "load before": f"{load_before:.1f}",
        "load after": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
