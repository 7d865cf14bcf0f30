"""Stretches of days, in which the past of a source is read again part by part.

first day, last day, length -> `Period`s, one after the other -> what a source's kind makes of one

A period is half-open and lies in UTC. Rows and files without a date belong to no day; they come
with the first period, so that all periods together are all there is. Left out: which tables can be
read so, which each kind of source knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

Length = Literal["day", "week", "month"]
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")
_WEEK = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?W([0-5]\d)(?!\d)")
_MONTH = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_.]?(0[1-9]|1[0-2])(?!\d)")


@dataclass(frozen=True)
class Period:
    """One stretch of days.

    Attributes:
        start: Its first day.
        end: The day after its last one.
        whole_start: The first day of the whole stretch that it is a part of.
        whole_end: The day after the last one of the whole stretch.
    """

    start: date
    end: date
    whole_start: date
    whole_end: date

    @property
    def is_first(self) -> bool:
        """Whether what has no date, or cannot be read by dates, comes with it."""
        return self.start == self.whole_start

    def holds(self, days: tuple[date, date] | None) -> bool:
        """Whether what stands for these days, or for none, belongs to it.

        It belongs to the period in which it begins; if that lies before the whole stretch but its
        end does not, to the first one.

        Args:
            days: Its first day and the day after its last one; None without any.
        """
        if days is None:
            return self.is_first
        begun_before = self.is_first and days[0] < self.start < days[1]
        return begun_before or self.start <= days[0] < self.end

    def __str__(self) -> str:
        last = self.end - timedelta(days=1)
        return f"{self.start}" if last == self.start else f"{self.start} to {last}"


def periods(start: date, end: date, length: Length) -> list[Period]:
    """Cuts a stretch of days into days, weeks from Monday on, or calendar months.

    Args:
        start: The first day.
        end: The day after the last one.
        length: How long a period is; the first and the last one may be shorter.
    """
    return [Period(*ends, start, end) for ends in _cut(start, end, length)]


def _cut(start: date, end: date, length: Length) -> Iterator[tuple[date, date]]:
    while start < end:
        following = min(_next(start, length), end)
        yield start, following
        start = following


def _next(day: date, length: Length) -> date:
    if length == "day":
        return day + timedelta(days=1)
    if length == "week":
        return day + timedelta(days=7 - day.weekday())
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def midnight(day: date) -> datetime:
    """The moment at which a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def date_in_name(name: str, every: str) -> date | None:
    """The day, first day of the week or of the month that a file's name tells of; None if none.

    The last date in the name counts, since folders come before the file.
    """
    pattern = {"day": _DATE, "week": _WEEK, "month": _MONTH}[every]
    parts = [match.groups() for match in pattern.finditer(name)]
    # A weekly or monthly file may bear a day of its period.
    if not parts and every != "day":
        day = date_in_name(name, "day")
        return day and _start(day, every)
    if not parts:
        return None
    year, second, third = (*(int(part) for part in parts[-1]), 1)[:3]
    try:
        return (
            date.fromisocalendar(year, second, 1) if every == "week" else date(year, second, third)
        )
    except ValueError:
        return None


def _start(day: date, every: str) -> date:
    return day.replace(day=1) if every == "month" else day - timedelta(days=day.weekday())


def days_of_file(name: str, modified_at: str) -> tuple[date, date] | None:
    """The days that a file stands for: by its name, else when it was modified; None if unknown.

    Args:
        name: Its path below the connection.
        modified_at: When it was modified, as an ISO text; empty if that is not known.

    Returns:
        The first day and the day after the last one.
    """
    lengths: tuple[Length, ...] = ("day", "week", "month")
    for length in lengths:
        if (day := date_in_name(name, length)) is not None:
            return day, _next(day, length)
    try:
        moment = datetime.fromisoformat(modified_at)
    except ValueError:
        return None
    day = (moment.astimezone(UTC) if moment.tzinfo else moment).date()
    return day, _next(day, "day")
