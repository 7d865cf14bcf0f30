"""Runs contenders in turn and measures them: wall and processor seconds, memory, what they made.

benchmark -> prepare -> rounds: for each contender a child process | a thread that adds up the
resident memory of its tree every 50 ms, from the start of a step to its end -> `Sample`s

Peak memory is the larger one of two figures: the sum over the process tree as sampled, and what the
kernel noted as the peak of the child alone. Shared pages count once for each process that maps
them, so that a tree is never flattered. Left out: what the page cache holds.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from suite import peers
from suite.kit import ROOT, WHOLE, Benchmark, Contender

_CHILD = Path(__file__).with_name("child.py")
_SAMPLE_SECONDS = 0.05
# Looking for new processes is a walk over all of the machine's, so it is done less often.
_TREE_SECONDS = 0.5
_LONGEST_SECONDS = 3_600


class BenchmarkFailed(Exception):
    """A contender failed, or did not make what others made."""


@dataclass(frozen=True)
class Step:
    """What was measured of a step.

    Attributes:
        seconds: Wall seconds.
        cpu: Processor seconds, of children that were waited for too.
        peak: Peak memory in bytes.
    """

    seconds: float
    cpu: float
    peak: int


@dataclass
class Sample:
    """One contender in one round.

    Attributes:
        steps: By name, in order; `all` is their sum.
        made: What it made: rows, checksum, bytes, notes.
    """

    steps: dict[str, Step] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)


Tell = Callable[[str], None]


def run(
    benchmark: Benchmark,
    *,
    rounds: int,
    keep: Path | None,
    tell: Tell,
    failed: Tell,
    through: Sequence[str] = (),
) -> dict[str, list[Sample]]:
    """Prepares a benchmark and runs it.

    Args:
        benchmark: What to run.
        rounds: How many rounds.
        keep: A folder for the data, which is made again only if its sizes differ; None for a
            temporary one.
        tell: Told what happens.
        failed: Told of a contender that failed and goes on without.
        through: A command that starts each contender's process, such as one that waits for a
            moment when nothing else is on; empty to start it as it is.

    Returns:
        By contender its samples; those that failed, or whose environment cannot be made, are left
        out.

    Raises:
        BenchmarkFailed: The baseline failed, or a contender made other rows than its group.
    """
    with tempfile.TemporaryDirectory(prefix="wellspring-bench-") as scratch:
        data = _prepared(benchmark, keep or Path(scratch), tell)
        able = {one.name: one for one in benchmark.contenders if _able(one, tell)}
        samples: dict[str, list[Sample]] = {name: [] for name in able}
        with benchmark.around(data) if benchmark.around else nullcontext({}) as more:
            options = {**benchmark.sizes, **more}
            for number, contender in itertools.product(range(rounds), able.values()):
                limit = contender.rounds or rounds
                if contender.name not in samples or number >= limit:
                    continue
                try:
                    sample = _measured(contender, data, Path(scratch), options, through)
                except BenchmarkFailed as error:
                    if contender.name == benchmark.baseline:
                        raise
                    failed(f"{benchmark.name}: {error}")
                    samples.pop(contender.name)
                    continue
                samples[contender.name].append(sample)
                whole = sample.steps[WHOLE]
                tell(
                    f"  {number + 1}/{rounds}  {contender.name:<28} {whole.seconds:9.2f} s"
                    f" {whole.cpu:9.2f} s cpu {whole.peak / 1e6:8.0f} MB"
                )
        _require_same(benchmark, samples)
    return samples


def _prepared(benchmark: Benchmark, place: Path, tell: Tell) -> Path:
    """The folder with the benchmark's data, made if it is not there in these sizes."""
    sizes = benchmark.sizes
    data = place / benchmark.name
    mark = place / f"{benchmark.name}.json"
    wanted = json.dumps(sizes, sort_keys=True)
    if mark.exists() and mark.read_text() == wanted:
        return data
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    tell(f"  data: {', '.join(f'{key} {value}' for key, value in sizes.items())}")
    benchmark.prepare(data, sizes)
    mark.write_text(wanted)
    return data


def _able(contender: Contender, tell: Tell) -> bool:
    """Whether its environment is there or can be made; says why, if not."""
    try:
        peers.python_of(contender.environment)
    except peers.PeerMissing as error:
        tell(f"  {contender.name} takes no part: {error}")
        return False
    return True


def _measured(
    contender: Contender,
    data: Path,
    scratch: Path,
    common: Mapping[str, Any],
    through: Sequence[str],
) -> Sample:
    """Runs a contender once, in a child process."""
    own = Path(tempfile.mkdtemp(prefix="round-", dir=scratch))
    options = {**common, **contender.options}
    given = json.dumps({"data": str(data), "scratch": str(own), "options": options})
    reading, writing = os.pipe()
    log = own.with_suffix(".log")
    python = peers.python_of(contender.environment)
    try:
        with log.open("wb") as out:
            child = subprocess.Popen(
                [*through, str(python), str(_CHILD), contender.call, given],
                cwd=ROOT,
                env=_environment(writing),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
            )
        os.close(writing)
        sample = _followed(child, reading)
        if child.wait() != 0 or not sample.made:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise BenchmarkFailed(f"{contender.name} ended with code {child.returncode}:\n{tail}")
    finally:
        shutil.rmtree(own, ignore_errors=True)
        log.unlink(missing_ok=True)
    return sample


def _environment(channel: int) -> dict[str, str]:
    """Ours without settings that would change what a contender does."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("WELLSPRING", "DBT_", "CONNECTIONS__", "DESTINATION__"))
    }
    return {**kept, "BENCH_CHANNEL": str(channel), "PYTHONHASHSEED": "0"}


def _followed(child: subprocess.Popen[bytes], reading: int) -> Sample:
    """Follows what a child tells until it ends."""
    sample = Sample()
    watch = _Watch(child.pid)
    started = time.monotonic()
    with os.fdopen(reading, encoding="utf-8") as told:
        for line in told:
            event = json.loads(line)
            match event.pop("event"):
                case "start":
                    watch.begin()
                    assert child.stdin is not None
                    child.stdin.write(b"\n")
                    child.stdin.flush()
                case "stop":
                    peak = max(watch.end(), event["peak"])
                    _add(sample, event["step"], Step(event["seconds"], event["cpu"], peak))
                case "told":
                    sample.steps[event["step"]] = Step(event["seconds"], 0.0, 0)
                case "made":
                    sample.made = event
            if time.monotonic() - started > _LONGEST_SECONDS:
                child.kill()
                raise BenchmarkFailed("a contender took more than an hour")
    watch.close()
    return sample


def _add(sample: Sample, name: str, step: Step) -> None:
    """Adds a step, and to the whole."""
    for key in {name, WHOLE}:
        former = sample.steps.get(key, Step(0.0, 0.0, 0))
        sample.steps[key] = Step(
            former.seconds + step.seconds, former.cpu + step.cpu, max(former.peak, step.peak)
        )


def _require_same(benchmark: Benchmark, samples: Mapping[str, list[Sample]]) -> None:
    """Fails unless all contenders of a group made the same rows in every round."""
    groups: dict[str, dict[tuple[int, str], set[str]]] = {}
    for contender in benchmark.contenders:
        for sample in samples.get(contender.name, []):
            made = (sample.made["rows"], sample.made["checksum"])
            groups.setdefault(contender.group, {}).setdefault(made, set()).add(contender.name)
    for group, variants in groups.items():
        if len(variants) > 1:
            told = "; ".join(
                f"{', '.join(sorted(who))}: {rows} rows, checksum {checksum}"
                for (rows, checksum), who in variants.items()
            )
            raise BenchmarkFailed(f"{benchmark.name}, {group}: not the same rows. {told}")


class _Watch:
    """Adds up the resident memory of a process and of all below it, again and again."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peak = 0
        self._looked = 0.0
        self._found: list[psutil.Process] = []
        self._on = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """A step begins."""
        self._peak = self._resident()
        self._on.set()

    def end(self) -> int:
        """A step has ended; its peak."""
        self._on.clear()
        return self._peak

    def close(self) -> None:
        """No further step."""
        self._closed = True
        self._on.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._closed:
            self._on.wait()
            self._peak = max(self._peak, self._resident())
            time.sleep(_SAMPLE_SECONDS)

    def _resident(self) -> int:
        total = 0
        for process in self._tree():
            try:
                total += process.memory_info().rss
            except psutil.Error:  # it has ended between two samples
                continue
        return total

    def _tree(self) -> list[psutil.Process]:
        now = time.monotonic()
        if now - self._looked > _TREE_SECONDS:
            self._looked = now
            try:
                self._found = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:  # likewise
                self._found = []
        return self._found
