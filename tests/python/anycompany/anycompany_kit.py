"""Starting AnyCompany in a folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import warm

SCALE = "0.01"


def environment(data: Path) -> dict[str, str]:
    """Returns the environment of a process that keeps its data in a folder."""
    return {**os.environ, "WELLSPRING_DATA": str(data)}


def start(data: Path, *options: str) -> subprocess.Popen[str]:
    """Starts `anycompany serve` and returns at once."""
    return warm.Popen(
        ["-m", "anycompany", "serve", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(data),
    )


@contextmanager
def serving(data: Path, *options: str) -> Iterator[dict[str, dict[str, str]]]:
    """Runs `anycompany serve` over a data folder; yields its connections."""
    process = start(data, *options)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"serve ended with {process.wait(20)}"
        yield json.loads(line)["connections"]
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `anycompany` to its end."""
    return warm.run(
        ["-m", "anycompany", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=environment(data),
    )
