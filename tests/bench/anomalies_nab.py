"""Labelled anomalies of the Numenta Anomaly Benchmark, found by the code that judges runs.

data/<group>/<series>.csv, labels/combined_windows.json -> regular slots -> bands -> alarms -> table

    .venv/bin/python tests/bench/anomalies_nab.py PATH

A window counts as found if an alarm lies in it. Alarms of one series that are less than a day apart
are one alarm to a person; those outside of every window are false. Each value is judged by earlier
ones alone. Nothing is fitted to these series: slots are as long as the usual step between values,
seasons follow from that (a day; for days, a week). The same run judges them by two plain rules: 3
standard deviations around the mean of all earlier values, and a move of more than 3 standard
deviations of earlier moves from one value to the next. Left out: NAB's own score, which rewards
early alarms.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from runner.veracity.bands import WIDTHS, expected_bands

DAY = timedelta(days=1)
Judge = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Series:
    """A labelled series, brought to regular slots.

    Attributes:
        name: Its file.
        start: Moment of the first slot.
        step: Length of a slot.
        values: One a slot, NaN where there is none.
        windows: Labelled anomalies, first and last moment.
    """

    name: str
    start: datetime
    step: timedelta
    values: np.ndarray
    windows: list[tuple[datetime, datetime]]

    @property
    def season(self) -> int:
        """Slots after which it is expected to repeat itself."""
        return round(DAY / self.step) if self.step < DAY else 7

    @property
    def weeks(self) -> float:
        """How long it is."""
        return len(self.values) * self.step / (7 * DAY)


def read(folder: Path) -> list[Series]:
    """Reads every labelled series of which there is a file."""
    labels = json.loads((folder / "labels" / "combined_windows.json").read_text())
    found = []
    for name, windows in sorted(labels.items()):
        path = folder / "data" / name
        if path.is_file():
            ends = [(moment(first), moment(last)) for first, last in windows]
            found.append(regular(name, path, ends))
    if not found:
        raise SystemExit(f"no labelled series below {folder / 'data'}")
    return found


def moment(text: str) -> datetime:
    """A time as NAB writes it."""
    return datetime.fromisoformat(text)


def regular(name: str, path: Path, windows: list[tuple[datetime, datetime]]) -> Series:
    """Brings a file's values to slots as long as the usual step; several in one are averaged."""
    with path.open(newline="") as handle:
        rows = [(moment(row["timestamp"]), float(row["value"])) for row in csv.DictReader(handle)]
    rows.sort()
    steps = sorted(after - before for (before, _), (after, _) in itertools.pairwise(rows))
    step = steps[len(steps) // 2]
    start = rows[0][0]
    sums = np.zeros(round((rows[-1][0] - start) / step) + 1)
    counts = np.zeros(len(sums))
    for at, value in rows:
        slot = round((at - start) / step)
        sums[slot] += value
        counts[slot] += 1
    values = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Series(name, start, step, values, windows)


def banded(width: float) -> Judge:
    """Judges as runs and marts are judged."""

    def judge(values: np.ndarray, season: int) -> np.ndarray:
        return expected_bands(values[:, None], season, width).outside[:, 0]

    return judge


def three_sigma(values: np.ndarray, season: int) -> np.ndarray:
    """More than 3 standard deviations from the mean of all earlier values."""
    return beyond(values, values)


def jump(values: np.ndarray, season: int) -> np.ndarray:
    """A move from the value before by more than 3 standard deviations of such moves."""
    return beyond(np.diff(values, prepend=values[0]), values)


def beyond(judged: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which values are more than 3 standard deviations from the mean of those before them."""
    known = ~np.isnan(judged)
    filled = np.where(known, judged, 0.0)
    count = np.cumsum(known) - known
    mean = (np.cumsum(filled) - filled) / np.maximum(count, 1)
    square = (np.cumsum(filled**2) - filled**2) / np.maximum(count, 1)
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    return known & (count >= 10) & (np.abs(filled - mean) > 3 * spread)


def score(series: Series, outside: np.ndarray) -> tuple[int, int, float]:
    """Windows found, false alarms, and false alarms a week."""
    alarms = [series.start + int(slot) * series.step for slot in np.flatnonzero(outside)]
    found = sum(any(a <= at <= b for at in alarms) for a, b in series.windows)
    wrong = [at for at in alarms if not any(a <= at <= b for a, b in series.windows)]
    false = sum(i == 0 or at - wrong[i - 1] >= DAY for i, at in enumerate(wrong))
    length = sum(((b - a) for a, b in series.windows), timedelta()) / (7 * DAY)
    return found, false, false / (series.weeks - length)


def main() -> None:
    """Prints a Markdown table, one line a series and way of judging."""
    parser = argparse.ArgumentParser(description="Find the labelled anomalies of NAB.")
    parser.add_argument("path", type=Path, help="folder with data/ and labels/")
    options = parser.parse_args()
    ways: dict[str, Judge] = {
        **{f"bands, {name} sensitivity": banded(width) for name, width in WIDTHS.items()},
        "3 sigma of all before": three_sigma,
        "3 sigma of moves": jump,
    }
    lines = [
        "| series | weeks | judged by | windows found | false alarms | a week | seconds |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for series in read(options.path):
        for name, judge in ways.items():
            began = time.monotonic()
            found, false, weekly = score(series, judge(series.values, series.season))
            lines.append(
                f"| {series.name} | {series.weeks:.1f} | {name} | {found} of "
                f"{len(series.windows)} | {false} | {weekly:.2f} | {time.monotonic() - began:.1f} |"
            )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
