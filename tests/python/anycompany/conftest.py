"""Starting AnyCompany in a folder of the test's own, and worlds that touch no disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SCALE = "0.01"
DEFECTS = "0.04"


@contextmanager
def serving(data: Path, *options: str) -> Iterator[dict[str, dict[str, str]]]:
    """Runs `anycompany serve` over a data folder; yields its connections."""
    process = start(data, *options)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"serve ended with {process.wait(20)}"
        yield json.loads(line)["connections"]
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def start(data: Path, *options: str) -> subprocess.Popen[str]:
    """Starts `anycompany serve` and returns at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "anycompany", "serve", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "WELLSPRING_DATA": str(data)},
    )


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `anycompany` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "anycompany", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "WELLSPRING_DATA": str(data)},
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes worlds (no disk) and remembers them by their settings."""
    from anycompany.world import Settings, World

    worlds: dict[tuple[Any, ...], World] = {}

    def make(day: int = 545, seed: int = 1, scale: float = 0.01, defects: float = 0.04) -> World:
        key = (day, seed, scale, defects)
        if key not in worlds:
            worlds[key] = World(Settings(seed, scale, defects), day)
        return worlds[key]

    return make
