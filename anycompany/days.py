"""The company's calendar: day 0 is 2025-01-01, and how much happens on a day.

day number ─> date texts, epoch seconds; yearly volume ─> arrivals per day ─> ids with a second

Never reads the machine's clock: the company's today is part of its state.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import ArrayLike

from anycompany.draws import Draws, Floats, Ints

START = date(2025, 1, 1)
FIRST_STATE = (date(2026, 6, 30) - START).days
LAST = (date(2027, 12, 31) - START).days
SECONDS = 86_400
EPOCH_DAY = (START - date(1970, 1, 1)).days
_HISTORY_DAYS = FIRST_STATE + 1
_BEFORE_DAYS = 730


def date_of(day: int) -> date:
    """Returns the date of a day number."""
    return START + timedelta(days=int(day))


def start_of(day: ArrayLike) -> Ints:
    """Returns the epoch second (UTC) at which each day begins."""
    return (np.asarray(day, dtype=np.int64) + EPOCH_DAY) * SECONDS


def day_of(seconds: ArrayLike) -> Ints:
    """Returns the day number of each epoch second (UTC)."""
    return np.asarray(seconds, dtype=np.int64) // SECONDS - EPOCH_DAY


def texts(pattern: str, first: int, last: int) -> list[str]:
    """Returns the days `first`..`last` in a pattern of %Y, %m and %d."""
    form = pattern.replace("%Y", "{0}").replace("%m", "{1}").replace("%d", "{2}")
    span = np.arange(first, last + 1) + EPOCH_DAY
    iso = np.datetime_as_string(span.astype("datetime64[D]")).tolist()
    return [form.format(day[:4], day[5:7], day[8:]) for day in iso]


def month_starts() -> Ints:
    """Returns the day numbers on which the months of the company's time begin."""
    return np.array([day for day in range(LAST + 1) if date_of(day).day == 1], dtype=np.int64)


@dataclass(frozen=True)
class Arrivals:
    """When the things of one kind come into being: numbered from 0, in order of time.

    Attributes:
        name: What arrives; names the draws.
        before: Count that came before day 0.
        total: For each day, the count by its end (day 0 first).
    """

    name: str
    before: int
    total: Ints
    draws: Draws

    def count(self, day: int) -> int:
        """Returns how many have arrived by the end of a day."""
        return int(self.total[day]) if day >= 0 else self.before

    def known(self, day: Ints) -> Ints:
        """Returns how many had arrived before each day began, at least one."""
        return np.maximum(np.where(day > 0, self.total[np.maximum(day, 1) - 1], self.before), 1)

    def seconds(self, ids: Ints) -> Ints:
        """Returns the epoch second (UTC) of each arrival; later ids are never earlier days."""
        day = np.searchsorted(self.total, ids, side="right").astype(np.int64)
        first = np.where(day > 0, self.total[np.maximum(day, 1) - 1], self.before)
        size = np.maximum(self.total[np.minimum(day, LAST)] - first, 1)
        part = (ids - first + self.draws.unit(f"{self.name}/second", ids)) / size
        during = start_of(day) + (part * SECONDS).astype(np.int64)
        share = (ids + self.draws.unit(f"{self.name}/second", ids)) / max(self.before, 1)
        earlier = start_of(-_BEFORE_DAYS) + (share * _BEFORE_DAYS * SECONDS).astype(np.int64)
        return np.where(ids < self.before, earlier, during)


def arrivals(
    draws: Draws, name: str, total: float, *, before: float = 0.0, even: bool = False
) -> Arrivals:
    """Plans the arrivals of one kind.

    Args:
        draws: The company's draws.
        name: What arrives, such as `shop.orders`.
        total: Count by the end of the first state.
        before: Share of them that came before day 0.
        even: Whether all days are alike, instead of having weekdays, seasons and growth.

    Returns:
        The plan for all days of the company's time.
    """
    weights = np.ones(LAST + 1) if even else _busyness(draws, name)
    early = round(total * before)
    made = np.cumsum(weights) / weights[:_HISTORY_DAYS].sum() * (total - early)
    return Arrivals(name, early, early + np.floor(made + 1e-9).astype(np.int64), draws)


def _busyness(draws: Draws, name: str) -> Floats:
    day = np.arange(LAST + 1)
    weekday = np.array([0.95, 0.9, 0.92, 1.0, 1.12, 1.2, 0.91])[(day + 2) % 7]
    in_year = (day % 365) / 365.0
    christmas = 0.8 * np.exp(-(((in_year - 0.94) / 0.045) ** 2))
    growth = 1.0 + 0.35 * day / _HISTORY_DAYS
    return weekday * (1.0 + christmas) * growth * (0.9 + 0.2 * draws.unit(f"{name}/busy", day))
