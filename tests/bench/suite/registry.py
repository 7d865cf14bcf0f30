"""All benchmarks: `BENCHMARKS` of each module of `cases/`, in the order of their names."""

from __future__ import annotations

import importlib
import pkgutil

from suite import cases
from suite.kit import Benchmark


def benchmarks() -> dict[str, Benchmark]:
    """By name.

    Raises:
        ValueError: Two have the same name, or one names a contender that it does not have.
    """
    found: dict[str, Benchmark] = {}
    for module in sorted(pkgutil.iter_modules(cases.__path__), key=lambda module: module.name):
        for benchmark in importlib.import_module(f"suite.cases.{module.name}").BENCHMARKS:
            _require_sound(benchmark)
            if benchmark.name in found:
                raise ValueError(f"two benchmarks are called {benchmark.name}")
            found[benchmark.name] = benchmark
    return found


def _require_sound(benchmark: Benchmark) -> None:
    """Fails if a benchmark refers to what it does not have."""
    names = [contender.name for contender in benchmark.contenders]
    named = {benchmark.baseline, *(limit.contender for limit in benchmark.limits)}
    for target in benchmark.targets:
        named |= {target.contender, target.against}
    for name in named - set(names):
        raise ValueError(f"benchmark {benchmark.name} has no contender {name}")
    if len(set(names)) < len(names):
        raise ValueError(f"benchmark {benchmark.name} has two contenders of one name")
