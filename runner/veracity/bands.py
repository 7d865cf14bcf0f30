"""The band in which a value was to be expected, from the values before it.

regular series (slots x series) -> level, seasonal offset, spread of what they leave -> `Bands`

Each slot is judged by earlier slots alone, so the same code serves a run (its newest slot counts)
and a series with a past. Two bands are laid, and a value outside of either is outside: a near one
around the median of the last season, moved by what is usual at this place of a season if that makes
it tighter; and a far one around the median of many seasons, for what is slow. Half-widths come of
median deviation and of a high quantile, so that neither a single bad day nor a heavy tail moves
them. What lies outside enters the past at the band's edge: an outlier does not widen the band, a
new habit does. Cold start is quiet. Left out: what the values are, and when a slot is; `anomalies`
knows.
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
_SEASONS_OF_FAR, _MIN_FAR, _MIN_SEASONS_OF_FAR = 60, 60, 4
# A season must take away a tenth of the spread; else its offsets only add noise.
_WORTH = 0.9
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
    shape = memory.values.shape
    floors = np.broadcast_to(np.asarray(floor, dtype=float), shape)
    edges = np.full((3, *shape), np.nan)
    outside = np.zeros(shape, dtype=bool)
    for slot in range(shape[0]):
        low, middle, high = memory.expect(slot, width, floors[slot])
        far = (memory.values[slot] < low) | (memory.values[slot] > high)
        if slot >= judge_from:
            edges[:, slot] = low, middle, high
            outside[slot] = far
        memory.learn(slot, low, high)
    return Bands(edges[0], edges[1], edges[2], outside)


class _Memory:
    """What is left of the values when level and season are taken away, slot by slot."""

    def __init__(self, values: Floats, season: int) -> None:
        import numpy as np

        self.values = values
        self.season = season
        self.reach = max(season, _UNSEASONAL_LEVEL)
        self.clipped = np.full(values.shape, np.nan)
        self.bare = np.full(values.shape, np.nan)
        self.plain = np.full(values.shape, np.nan)
        self.left = np.full(values.shape, np.nan)
        self._level: Any = None
        self._offset: Any = None

    def expect(self, slot: int, width: float, floor: Floats) -> tuple[Floats, Floats, Floats]:
        """Lower edge, middle and upper edge of what is usual."""
        import numpy as np

        middle, half = self._near(slot, width)
        half = np.maximum(half, floor)
        low, high = middle - half, middle + half
        far_middle, far_half = self._far(slot, width)
        far_low = far_middle - np.maximum(far_half, floor)
        far_high = far_middle + np.maximum(far_half, floor)
        # Where both exclude each other the level has moved, and the near one tells more.
        both = np.fmax(low, far_low) <= np.fmin(high, far_high)
        low = np.where(both, np.fmax(low, far_low), low)
        return low, middle, np.where(both, np.fmin(high, far_high), high)

    def learn(self, slot: int, low: Floats, high: Floats) -> None:
        """Takes the slot's value into the past, at the edge of its band if it lies outside."""
        import numpy as np

        value = np.fmin(np.fmax(self.values[slot], low), high)
        value[np.isnan(self.values[slot])] = np.nan
        self.clipped[slot] = value
        self.bare[slot] = self.values[slot] - self._offset
        self.plain[slot] = value - self._level
        self.left[slot] = self.plain[slot] - self._offset

    def _near(self, slot: int, width: float) -> tuple[Floats, Floats]:
        """The value to be expected by the last seasons, and how far from it is still usual."""
        import numpy as np

        season = slice(max(0, slot - self.reach), slot)
        level = _median(self.values[season], 3)
        # Without their season the values lie close together: one outlier hardly moves the median.
        bare = _median(self.bare[season], self.reach // 2 + 1)
        self._level = np.where(np.isnan(bare), level, bare)
        places = range(slot - self.season, -1, -self.season)[:_SEASONS_OF_OFFSET]
        several = self.season > 1 and len(places) >= _MIN_PLACES
        self._offset = (
            _median(self.plain[list(places)], _MIN_PLACES)
            if several
            else np.full(self.values.shape[1], np.nan)
        )
        since = max(0, slot - max(_SEASONS_OF_SPREAD * self.season, _MIN_SPREAD))
        plain, usual = _half_width(self.plain[since:slot], width, MIN_PAST)
        seasonal, left = _half_width(self.left[since:slot], width, _MIN_SEASONAL)
        worth = ~np.isnan(self._offset) & (left <= _WORTH * usual)
        return (
            np.where(worth, self._level + self._offset, self._level),
            np.where(worth, seasonal, plain),
        )

    def _far(self, slot: int, width: float) -> tuple[Floats, Floats]:
        """The value to be expected by many seasons, and how far from it is still usual."""
        since = max(0, slot - max(_SEASONS_OF_FAR * self.season, 4 * _MIN_FAR))
        past = self.clipped[since:slot]
        at_least = max(_MIN_FAR, _MIN_SEASONS_OF_FAR * self.season)
        middle = _median(past, at_least)
        return middle, _half_width(past - middle, width, at_least)[0]


def _half_width(left: Floats, width: float, at_least: int) -> tuple[Floats, Floats]:
    """Half-width of a band around what is left, and its median; NaN where too little is known."""
    import numpy as np

    distance = np.abs(left)
    usual = _median(distance, at_least)
    # Heavy tails: as far again as all but the farthest have come.
    tail = width * _TAIL_FACTOR * _quantile(distance, _TAIL, at_least)
    return np.maximum(width * _DEVIATION * usual, tail), usual


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
