"""The band in which a value was to be expected, from the values before it.

regular series (slots x series) -> level, seasonal offset, spread of what they leave -> `Bands`

Each slot is judged by earlier slots alone, so the same code serves a run (its newest slot counts)
and a series with a past. The level is the median of the last season, the offset the median of what
was left at this place of the last seasons; the half-width comes of median deviation and of a high
quantile, so that neither a single bad day nor a heavy tail moves it. What lies outside enters the
past at the band's edge: an outlier does not widen the band, a new habit does. Cold start is quiet.
Left out: what the values are, and when a slot is; `anomalies` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Standard deviations at either side; 4 is left by 1 of 16,000 values of a normal distribution.
WIDTHS = {"low": 6.0, "normal": 4.0, "high": 3.0}
MIN_PAST = 10
_MIN_SEASONAL = 14
_SEASONS_OF_OFFSET, _MIN_PLACES = 6, 3
_SEASONS_OF_SPREAD, _MIN_SPREAD = 6, 90
_UNSEASONAL_LEVEL = 7
# Median absolute deviation of a normal distribution, as a share of its standard deviation.
_DEVIATION = 1.4826
_TAIL, _TAIL_FACTOR = 0.98, 0.5


@dataclass(frozen=True)
class Bands:
    """Where each value was to be expected; missing where too little is known.

    Attributes:
        low: Lower edge, shaped as the values (slots, series), in their unit.
        middle: The value to be expected.
        high: Upper edge.
        outside: Whether the value lies outside, False where value or band is missing.
    """

    low: Floats
    middle: Floats
    high: Floats
    outside: NDArray[np.bool_]


def expected_bands(
    values: Floats,
    season: int = 1,
    width: float = WIDTHS["normal"],
    floor: float | Floats = 0.0,
    judge_from: int = 0,
) -> Bands:
    """Finds the band of each slot from the slots before it.

    Args:
        values: One row a slot, oldest first, one column a series; NaN where a slot has no value.
        season: Slots after which the series repeats itself; 1 if it does not.
        width: Half-width of the band in standard deviations; see `WIDTHS`.
        floor: Smallest half-width, in the values' unit; one for all, a row, or shaped as values.
        judge_from: The first slot to judge; earlier ones only teach.

    Returns:
        Bands shaped as the values.
    """
    import numpy as np

    memory = _Memory(np.asarray(values, dtype=float), season)
    slots = memory.values.shape[0]
    floors = np.broadcast_to(np.asarray(floor, dtype=float), memory.values.shape)
    edges = np.full((3, *memory.values.shape), np.nan)
    outside = np.zeros(memory.values.shape, dtype=bool)
    for slot in range(slots):
        middle, half = memory.expect(slot, width)
        half = np.maximum(half, floors[slot])
        far = np.abs(memory.values[slot] - middle) > half
        if slot >= judge_from:
            edges[:, slot] = middle - half, middle, middle + half
            outside[slot] = far
        memory.learn(slot, middle, half, far)
    return Bands(edges[0], edges[1], edges[2], outside)


class _Memory:
    """What is left of the values when level and season are taken away, slot by slot."""

    def __init__(self, values: Floats, season: int) -> None:
        import numpy as np

        self.values = values
        self.season = season
        self.reach = max(season, _UNSEASONAL_LEVEL)
        self.plain = np.full(values.shape, np.nan)
        self.left = np.full(values.shape, np.nan)
        self._level: Any = None
        self._offset: Any = None

    def expect(self, slot: int, width: float) -> tuple[Floats, Floats]:
        """The value to be expected, and how far from it is still usual."""
        import numpy as np

        self._level = _median(self.values[max(0, slot - self.reach) : slot], 3)
        places = range(slot - self.season, -1, -self.season)[:_SEASONS_OF_OFFSET]
        several = self.season > 1 and len(places) >= _MIN_PLACES
        self._offset = (
            _median(self.plain[list(places)], _MIN_PLACES)
            if several
            else np.full(self.values.shape[1], np.nan)
        )
        spread = max(_SEASONS_OF_SPREAD * self.season, _MIN_SPREAD)
        since = max(0, slot - spread)
        seasonal = _half_width(self.left[since:slot], width, _MIN_SEASONAL)
        known = ~np.isnan(self._offset) & ~np.isnan(seasonal)
        plain = _half_width(self.plain[since:slot], width, MIN_PAST)
        return (
            np.where(known, self._level + self._offset, self._level),
            np.where(known, seasonal, plain),
        )

    def learn(self, slot: int, middle: Floats, half: Floats, far: NDArray[np.bool_]) -> None:
        """Takes the slot's value into the past, at the edge of its band if it lies outside."""
        import numpy as np

        edge = middle + np.sign(self.values[slot] - middle) * half
        value = np.where(far, edge, self.values[slot])
        self.plain[slot] = value - self._level
        self.left[slot] = self.plain[slot] - self._offset


def _half_width(left: Floats, width: float, at_least: int) -> Floats:
    """Half-width of the band around what is left; NaN where too little is known."""
    import numpy as np

    if left.shape[0] < at_least:
        return np.full(left.shape[1], np.nan)
    distance = np.abs(left)
    spread = width * _DEVIATION * _median(distance, at_least)
    # Heavy tails: as far again as all but the farthest have come.
    tail = width * _TAIL_FACTOR * _quantile(distance, _TAIL, at_least)
    return np.maximum(spread, tail)


def _median(rows: Floats, at_least: int) -> Floats:
    return _quantile(rows, 0.5, at_least)


def _quantile(rows: Floats, share: float, at_least: int) -> Floats:
    """A quantile of each column, NaN left out; NaN where fewer values than `at_least` are left."""
    import numpy as np

    if rows.shape[0] < at_least:
        return np.full(rows.shape[1], np.nan)
    # NaN sorts last; numpy's own nanquantile takes column by column and a hundred times as long.
    ordered = np.sort(rows, axis=0)
    known = rows.shape[0] - np.isnan(rows).sum(axis=0)
    place = share * np.maximum(known - 1, 0)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, np.maximum(known - 1, 0))
    column = np.arange(rows.shape[1])
    low, high = ordered[below, column], ordered[above, column]
    found = low + (high - low) * (place - below)
    return np.asarray(np.where(known >= at_least, found, np.nan))
