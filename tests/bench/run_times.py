"""Times whole runs of the example company, as a user meets them.

scratch data folder -> first run -> run with nothing new -> a week passes -> run -> table of seconds

    .venv/bin/python tests/bench/run_times.py [--scale 1] [--repeat 1]

The data folder is a temporary one and is removed at the end. Interpreter start is part of each run.
Left out: peers and parts, which benchmarks of their own measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
Times = dict[str, dict[str, float]]


def run(environment: dict[str, str]) -> tuple[float, dict[str, Any]]:
    """Does one `wellspring run`; returns its seconds and its summary.

    Raises:
        SystemExit: The run did not end well.
    """
    began = time.monotonic()
    done = subprocess.run(
        [BIN / "wellspring", "run", "--log-format", "json", "--quiet"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"the run ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    return seconds, json.loads(done.stdout.splitlines()[-1])


def measure(scale: str) -> tuple[Times, int]:
    """Three runs in a fresh data folder.

    Returns:
        Seconds by step for each run, and the rows that the first one loaded.
    """
    scratch = Path(tempfile.mkdtemp(prefix="wellspring-bench-"))
    environment = os.environ | {
        "WELLSPRING_DATA": str(scratch / "data"),
        "DBT_TARGET_PATH": str(scratch / "target"),
        "WELLSPRING__COMPANION__COMMAND": f"anycompany serve --scale {scale}",
    }
    times: Times = {}
    rows = 0
    try:
        for name in ("first run", "nothing new", "after 7 days"):
            if name == "after 7 days":
                subprocess.run(
                    [BIN / "anycompany", "advance", "--days", "7"],
                    cwd=ROOT,
                    env=environment,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            seconds, result = run(environment)
            rows = rows or sum(figures["rows"] for figures in result["sources"].values())
            times[name] = {step["step"]: step["seconds"] for step in result["steps"]}
            times[name]["all"] = seconds
    finally:
        shutil.rmtree(scratch)
    return times, rows


def main() -> None:
    """Prints the medians as a Markdown table."""
    parser = argparse.ArgumentParser(description="Time whole runs of the example company.")
    parser.add_argument("--scale", default="1", help="scale of the example company")
    parser.add_argument("--repeat", type=int, default=1, help="how often to measure")
    options = parser.parse_args()
    measured = [measure(options.scale) for _ in range(options.repeat)]
    first, rows = measured[0]
    steps = list(first["first run"])
    lines = [
        f"{rows:,} rows, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"seconds, median of {options.repeat}",
        "",
        f"| run | {' | '.join(steps)} |",
        f"|---|{'---:|' * len(steps)}",
    ]
    for name in first:
        medians = [statistics.median(times[name][step] for times, _ in measured) for step in steps]
        lines.append(f"| {name} | {' | '.join(f'{median:.1f}' for median in medians)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
