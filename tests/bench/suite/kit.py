"""What a benchmark is: contenders for the same work, on the same data, in the same run.

`prepare` once -> rounds of A B C, A B C ..., each contender in a fresh process (`child.py`) with a
scratch folder of its own -> samples (`measuring.py`) -> results (`results.py`) -> report

A contender is a function that takes a `Case`, does what is not to be counted, does the work below
`case.timed()`, and returns what came of it, so that all can be compared. This module needs nothing
but the standard library, since peers' environments import it too.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
WHOLE = "all"


@dataclass(frozen=True)
class Made:
    """What a contender made, told after the clock has stopped.

    Attributes:
        rows: Rows in its result.
        checksum: A number or text that is the same for the same rows, in whatever order.
        bytes: Size of its result on disk.
        notes: Whatever else is worth keeping, such as a version.
    """

    rows: int
    checksum: str
    bytes: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Case:
    """What a contender is given.

    Attributes:
        data: What `prepare` made; nobody changes it.
        scratch: An empty folder of this one round, removed afterwards.
        options: The contender's own options.
    """

    data: Path
    scratch: Path
    options: Mapping[str, Any]

    @contextmanager
    def timed(self, step: str = WHOLE) -> Iterator[None]:
        """Counts what happens in it, as a step; what all steps take together is the work."""
        _own_peak(reset=True)
        tell("start", step=step)
        # Whoever watches memory shall have seen the start before anything happens.
        sys.stdin.readline()
        cpu, wall = _cpu(), time.perf_counter()
        yield
        seconds, cpu = time.perf_counter() - wall, _cpu() - cpu
        tell("stop", step=step, seconds=seconds, cpu=cpu, peak=_own_peak())

    def told(self, step: str, seconds: float) -> None:
        """Notes a step that what was timed has measured itself; it does not count again."""
        tell("told", step=step, seconds=seconds)


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: Its name, unique in the benchmark; the report's word for it.
        call: `path/to/module.py:function`, the path being one below tests/bench.
        options: Handed to it; must be JSON.
        group: Contenders of a group must make the same rows with the same checksum.
        units: How much work this is; a ratio is per unit. Without it, millions of the rows made.
        environment: Name of a folder of tests/bench/peers whose requirements it runs with; empty
            for the project's own.
        rounds: At most so many rounds, for what takes long.
    """

    name: str
    call: str
    options: Mapping[str, Any] = field(default_factory=dict)
    group: str = WHOLE
    units: float | None = None
    environment: str = ""
    rounds: int | None = None


@dataclass(frozen=True)
class Target:
    """What the project promises: how fast one contender is, measured by another one.

    Attributes:
        contender: Whose speed.
        against: Measured by whom.
        speed: At least so many times as fast, for each unit of work.
        memory: Its peak memory is at most so many times the other one's.
        step: What is compared: a step, or all of the work.
        against_step: The other one's step; empty for the same.
        text: Where the promise comes from, in a few words.
    """

    contender: str
    against: str
    speed: float | None = None
    memory: float | None = None
    step: str = WHOLE
    against_step: str = ""
    text: str = ""


@dataclass(frozen=True)
class Limit:
    """What the project promises without comparison.

    Attributes:
        contender: Whose.
        peak_mb: Its peak memory in MB.
        seconds: Its time; for what a person waits for only.
        rate: Units a second at least.
        step: Of which step.
        text: Where the promise comes from.
    """

    contender: str
    step: str = WHOLE
    peak_mb: float | None = None
    seconds: float | None = None
    rate: float | None = None
    text: str = ""


Prepare = Callable[[Path, Mapping[str, Any]], None]
Around = Callable[[Path], AbstractContextManager[Mapping[str, Any]]]


@dataclass(frozen=True)
class Benchmark:
    """A named comparison.

    Attributes:
        name: Its name on the command line and of its result file.
        title: What is measured, in one sentence.
        baseline: The contender that ratios refer to.
        contenders: Who takes part, in the order of a round.
        prepare: Makes what all read, in the folder that it is given; called once a run.
        around: Held during all rounds, with the folder of `prepare`: a server that all ask. What it
            yields is added to the options of each contender.
        sizes: Handed to `prepare`, and told in the report: rows, bytes, scale.
        quick: Sizes of a quick look instead; its figures are not kept.
        unit: What `units` counts.
        targets: What is promised, by comparison.
        limits: What is promised, in itself.
        about: What a reader must know to judge the figures.
    """

    name: str
    title: str
    baseline: str
    contenders: tuple[Contender, ...]
    prepare: Prepare
    around: Around | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "million rows"
    targets: tuple[Target, ...] = ()
    limits: tuple[Limit, ...] = ()
    about: str = ""


def folder_bytes(place: Path) -> int:
    """Bytes of a file, or of all files below a folder; a file with several names counts once."""
    paths = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    sizes = {(stat.st_dev, stat.st_ino): stat.st_size for stat in (path.lstat() for path in paths)}
    return sum(sizes.values())


def tell(event: str, **values: Any) -> None:
    """Tells the process that measures, on the channel that it opened for that."""
    channel = int(os.environ["BENCH_CHANNEL"])
    os.write(channel, (json.dumps({"event": event, **values}) + "\n").encode())


def _cpu() -> float:
    """Processor seconds of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _own_peak(*, reset: bool = False) -> int:
    """The most memory that this process had resident since the last reset; 0 if unknown."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
            return 0
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux, or not allowed: then only what the samples of the tree say counts
        return 0
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(peak.split()[1]) * 1024
