"""When to run, as cron writes it.

`--at 06:00`, `--every 1h`, `--cron "0 6 * * 1-5"` -> cron expressions -> systemd's calendar events

Cron's five fields are the common ground: an interval must divide the hour or the day, because both
programs know clock times, not distances. All times are those of the machine's time zone. Left out:
names of days and months other than English, `@daily` and the like.
"""

from __future__ import annotations

import re

from ingestion.errors import SettingsError
from ingestion.units import seconds_of

_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_PART = re.compile(r"(\*|(\d+)(?:-(\d+))?)(?:/(\d+))?")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_EXAMPLES = '--at 06:00, --every 1h or --cron "0 6 * * 1-5"'


def expressions(
    at: list[str] | None = None, every: str | None = None, cron: str | None = None
) -> list[str]:
    """Cron expressions of what was asked for.

    Args:
        at: Times of the day.
        every: An interval that divides the hour or the day.
        cron: A cron expression of five fields.

    Raises:
        SettingsError: None or several kinds were given, or one is wrong.
    """
    given = [name for name, value in (("at", at), ("every", every), ("cron", cron)) if value]
    if len(given) != 1:
        what = "no time was given" if not given else f"--{given[0]} and --{given[1]} were given"
        raise SettingsError(what, hint=f"Give one of {_EXAMPLES}.")
    if at:
        return [_daily(time) for time in at]
    return [_interval(every) if every else checked(cron or "")]


def _daily(time: str) -> str:
    found = _TIME.fullmatch(time.strip())
    if not found:
        raise SettingsError(f"--at {time!r} is no time of the day", hint="For example --at 06:30.")
    return f"{int(found[2])} {int(found[1])} * * *"


def _interval(every: str) -> str:
    try:
        seconds = seconds_of(every)
    except ValueError:
        seconds = 0
    minutes, rest = divmod(seconds, 60)
    if minutes and not rest and minutes <= 60 and 60 % minutes == 0:
        return "0 * * * *" if minutes == 60 else f"*/{minutes:.0f} * * * *"
    hours, rest = divmod(seconds, 3600)
    if hours and not rest and hours <= 24 and 24 % hours == 0:
        return "0 0 * * *" if hours == 24 else f"0 */{hours:.0f} * * *"
    raise SettingsError(
        f"--every {every!r} does not divide an hour or a day",
        hint="For example 15m, 1h, 6h or 1d; --cron says anything else.",
    )


def checked(expression: str) -> str:
    """A cron expression with its names as numbers.

    Raises:
        SettingsError: It is none.
    """
    fields = expression.lower().split()
    if len(fields) != len(_FIELDS):
        raise SettingsError(
            f"--cron {expression!r} has {len(fields)} fields, expected 5",
            hint="Minute, hour, day of the month, month, day of the week, such as 0 6 * * 1-5.",
        )
    names: list[list[str]] = [[], [], [], ["", *_MONTHS], _DAYS]
    found = []
    for text, known, (name, low, high) in zip(fields, names, _FIELDS, strict=True):
        for number, word in enumerate(known):
            text = re.sub(rf"\b{word}\b", str(number), text) if word else text
        if not all(_is_part(part, low, high) for part in text.split(",")):
            raise SettingsError(
                f"--cron {expression!r}: {text!r} is no {name}",
                hint=f"Expected {low} to {high}, such as *, 5, 1-5, 1,15 or */10.",
            )
        found.append(text)
    return " ".join(found)


def _is_part(text: str, low: int, high: int) -> bool:
    found = _PART.fullmatch(text)
    if not found:
        return False
    first = int(found[2] or low)
    last = int(found[3] or first)
    step = int(found[4] or 1)
    return low <= first <= last <= high and step >= 1


def calendar_events(expression: str) -> list[str]:
    """A cron expression as systemd's `OnCalendar`.

    Cron runs when the day of the month or the day of the week fits if both are given, systemd when
    both do: that becomes two events.
    """
    minute, hour, day, month, weekday = expression.split()
    date, time = f"*-{_listed(month, 1, 12)}", f"{_listed(hour, 0, 23)}:{_listed(minute, 0, 59)}:00"
    by_date = f"{date}-{_listed(day, 1, 31)} {time}"
    if weekday == "*":
        return [by_date]
    by_weekday = f"{_weekdays(weekday)} {date}-* {time}"
    return [by_weekday] if day == "*" else [by_date, by_weekday]


def _listed(field: str, low: int, high: int) -> str:
    if field == "*":
        return "*"
    parts = []
    for part in field.split(","):
        text, _, step = part.partition("/")
        first, _, last = text.partition("-")
        if not step:
            parts.append(f"{first}..{last}" if last else first)
        elif text == "*":
            parts.append(f"{low}/{step}")
        else:
            parts.append(f"{first}..{last or high}/{step}")
    return ",".join(parts)


def _weekdays(field: str) -> str:
    """Names of days: systemd knows no steps there, and its week begins on Monday."""
    found: set[int] = set()
    for part in field.split(","):
        text, _, step = part.partition("/")
        first, _, last = (text if text != "*" else "0-6").partition("-")
        end = int(last or (6 if step else first))
        found |= {number % 7 for number in range(int(first), end + 1, int(step or 1))}
    return ",".join(_DAYS[number].capitalize() for number in sorted(found, key=lambda n: n or 7))
