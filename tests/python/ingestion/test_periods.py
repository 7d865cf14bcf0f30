"""Stretches of days: how they are cut, and which day a file stands for."""

from __future__ import annotations

from datetime import date

import pytest

from ingestion.periods import Length, days_of_file, periods


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        ("day", ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02", "2026-02-03"]),
        ("week", ["2026-01-30", "2026-02-02"]),
        ("month", ["2026-01-30", "2026-02-01"]),
    ],
)
def test_parts_are_those_of_the_calendar_and_leave_out_no_day(
    length: Length, starts: list[str]
) -> None:
    parts = periods(date(2026, 1, 30), date(2026, 2, 4), length)

    assert [str(part.start) for part in parts] == starts
    assert [part.end for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert parts[-1].end == date(2026, 2, 4)
    assert [part.is_first for part in parts] == [True] + [False] * (len(parts) - 1)


@pytest.mark.parametrize(
    ("days", "part"),
    [
        ((date(2025, 12, 31), date(2026, 1, 1)), 0),
        ((date(2026, 1, 1), date(2026, 1, 2)), 1),
        ((date(2026, 3, 1), date(2026, 3, 2)), None),
        ((date(2025, 12, 1), date(2026, 1, 1)), 0),
        ((date(2025, 11, 1), date(2025, 12, 1)), None),
        ((date(2025, 12, 29), date(2026, 1, 5)), 0),
        (None, 0),
    ],
)
def test_all_belongs_to_one_part_at_most(days: tuple[date, date] | None, part: int | None) -> None:
    parts = periods(date(2025, 12, 15), date(2026, 3, 1), "month")

    holding = [number for number, each in enumerate(parts) if each.holds(days)]
    assert holding == ([] if part is None else [part])


@pytest.mark.parametrize(
    ("name", "modified_at", "days"),
    [
        (
            "2025/sales_2026-01-05.csv",
            "2026-03-01T00:00:00+00:00",
            (date(2026, 1, 5), date(2026, 1, 6)),
        ),
        ("sales_20260105.csv", "", (date(2026, 1, 5), date(2026, 1, 6))),
        ("orders-2026-W05.zip", "", (date(2026, 1, 26), date(2026, 2, 2))),
        ("catalog_2026-06.xml", "", (date(2026, 6, 1), date(2026, 7, 1))),
        ("sales.csv", "2026-03-01T23:30:00-02:00", (date(2026, 3, 2), date(2026, 3, 3))),
        ("sales.csv", "", None),
        ("sales_2026-13-45.csv", "", None),
    ],
)
def test_days_of_a_file(name: str, modified_at: str, days: tuple[date, date] | None) -> None:
    assert days_of_file(name, modified_at) == days
