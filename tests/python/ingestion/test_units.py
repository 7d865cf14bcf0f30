"""Times and sizes are read as people write them."""

from __future__ import annotations

import pytest

from ingestion.units import bytes_of, is_size, is_time, seconds_of, tell_bytes, tell_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("90s", 90),
        ("1.5 h", 5400),
        ("10m", 600),
        ("2d", 172_800),
        ("5ms", 0.005),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "soon", "-5s", "1 month"])
def test_what_is_no_time_is_refused(text: str) -> None:
    assert not is_time(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1GB", 10**9), ("1 GiB", 2**30), ("500M", 5 * 10**8), ("25%", 50), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text, 200) == size


@pytest.mark.parametrize("text", ["", "much", "120%", "5XB", "-1GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert not is_size(text)


def test_a_share_needs_a_whole() -> None:
    with pytest.raises(ValueError, match="no size"):
        bytes_of("5%")


def test_they_are_told_in_words() -> None:
    assert [tell_bytes(n) for n in (12, 1500, 123_000_000, 2.5e12)] == [
        *("12 B", "1.5 kB", "123 MB", "2.5 TB")
    ]
    assert [tell_seconds(n) for n in (5, 600, 12_000, 7200, 400_000)] == [
        *("5 s", "10 min", "3 h 20 min", "2 h", "4 d")
    ]
