"""Bands over made-up series: what was planted is found, what is usual is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from runner.veracity.bands import WIDTHS, Bands, expected_bands

SLOTS = 365
WEEK = np.array([100.0, 90.0, 95.0, 100.0, 130.0, 40.0, 20.0])


def weekly(seed: int, noise: float = 3.0) -> np.ndarray:
    """A year of days with a weekly pattern, as one column."""
    random = np.random.default_rng(seed)
    return (np.tile(WEEK, 53)[:SLOTS] + random.normal(0, noise, SLOTS))[:, None]


def bands(values: np.ndarray, season: int = 7, width: str = "normal") -> Bands:
    return expected_bands(values, season, WIDTHS[width])


def test_a_quiet_series_raises_no_alarm() -> None:
    alarms = sum(bands(weekly(seed)).outside.sum() for seed in range(10))
    assert alarms == 0


@pytest.mark.parametrize("shape", ["laplace", "poisson", "trend", "growth"])
def test_heavy_tails_counts_and_trends_stay_quiet(shape: str) -> None:
    random = np.random.default_rng(11)
    slots = np.arange(SLOTS)[:, None]
    made = {
        "laplace": lambda: weekly(1, 0) + random.laplace(0, 3, (SLOTS, 20)),
        "poisson": lambda: random.poisson(np.tile(WEEK, 53)[:SLOTS, None] / 4, (SLOTS, 20)),
        "trend": lambda: weekly(1, 0) + slots * 0.5 + random.normal(0, 3, (SLOTS, 20)),
        "growth": lambda: weekly(1, 0) * 1.003**slots * random.normal(1, 0.03, (SLOTS, 20)),
    }[shape]()
    assert bands(made.astype(float)).outside.mean() < 0.002


def test_a_spike_and_a_dip_are_found_on_their_day_alone() -> None:
    values = weekly(3)
    values[200] += 40
    values[300] -= 40
    assert set(np.flatnonzero(bands(values).outside)) == {200, 300}


def test_an_ordinary_sunday_value_on_a_friday_is_found() -> None:
    values = weekly(4)
    friday, sunday = 4 + 7 * 30, 6 + 7 * 30
    values[friday] = WEEK[6]
    found = bands(values)
    assert found.outside[friday, 0]
    assert not found.outside[sunday, 0]
    assert found.low[friday, 0] > WEEK[6]
    assert found.low[friday, 0] < WEEK[4] < found.high[friday, 0]


def test_a_level_shift_is_told_when_it_comes_and_then_becomes_usual() -> None:
    values = weekly(5)
    values[200:] += 60
    outside = bands(values).outside[:, 0]
    assert outside[200]
    assert not outside[:200].any()
    assert not outside[230:].any()


def test_an_outlier_does_not_hide_the_next_one() -> None:
    values = weekly(6)
    values[200] += 1_000
    values[204] += 50
    assert set(np.flatnonzero(bands(values).outside)) == {200, 204}


def test_missing_slots_are_neither_judged_nor_learnt() -> None:
    values = weekly(7)
    values[100:120] = np.nan
    values[250] += 60
    found = bands(values)
    assert set(np.flatnonzero(found.outside)) == {250}


def test_cold_start_is_quiet() -> None:
    values = weekly(8)
    values[9] = 10_000
    found = bands(values)
    assert not found.outside[:10].any()
    assert np.isnan(found.low[:10]).all()


def test_a_narrow_band_finds_what_a_wide_one_passes() -> None:
    values = weekly(9)
    values[200] += 20
    assert bands(values, width="high").outside[200, 0]
    assert not bands(values, width="low").outside[200, 0]
    assert bands(values, width="low").high[200, 0] > bands(values, width="high").high[200, 0]


def test_the_floor_keeps_a_value_that_never_moved_from_alarming_at_once() -> None:
    values = np.full((60, 2), 5.0)
    values[59] = 5.5
    found = expected_bands(values, 1, floor=np.array([1.0, 0.1]))
    assert list(found.outside[59]) == [False, True]
    assert found.high[59, 0] == 6.0


def test_series_side_by_side_are_judged_as_alone() -> None:
    together = np.hstack([weekly(1), weekly(2) * 7])
    together[150, 1] += 500
    both = bands(together)
    for column in (0, 1):
        alone = bands(together[:, [column]])
        np.testing.assert_allclose(both.low[:, [column]], alone.low)
        np.testing.assert_array_equal(both.outside[:, [column]], alone.outside)


def test_an_outlier_leaves_the_days_after_it_alone_however_strong_the_season() -> None:
    random = np.random.default_rng(12)
    values = (1_000 + 500 * (np.arange(SLOTS) % 7) + random.normal(0, 12, SLOTS))[:, None]
    values[200] = 0
    values[301] = 9_000
    assert set(np.flatnonzero(bands(values).outside)) == {200, 301}
