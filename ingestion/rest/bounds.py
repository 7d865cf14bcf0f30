"""From where on, and up to where, an API is asked: values of its incremental parameters.

highest landed cursor - window, or `initial` -> the API's own format -> query parameter or body

Left out: what has landed, which `delta` knows.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from ingestion.periods import midnight
from ingestion.rest.declared import RestIncremental

_MILLISECONDS_FROM = 100_000_000_000
_ISO = "%Y-%m-%dT%H:%M:%SZ"


class NoTime(Exception):
    """A landed cursor value that cannot be written in the declared format."""


def start_of(incremental: RestIncremental, landed: Any, window: timedelta) -> int | str:
    """Value of the incremental parameter, in the API's own format.

    Args:
        incremental: The declaration.
        landed: The highest landed value of the cursor; None to begin at `initial`.
        window: How far before it to read again.

    Raises:
        NoTime: The landed value is no time, and the format is one of times.
    """
    value = landed if landed is not None else moment(incremental.initial)
    if isinstance(value, Decimal):
        seconds = Decimal(str(window.total_seconds())) if landed is not None else Decimal(0)
        scale = 1000 if value >= _MILLISECONDS_FROM else 1
        if incremental.format in ("iso", "epoch"):
            return int(value - seconds * scale)
        value = datetime.fromtimestamp(float(value) / scale, UTC)
    if isinstance(value, str):
        if incremental.format != "iso":
            raise NoTime(value)
        return value
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if landed is not None:
        value = value - window
    if landed is None and incremental.format == "iso":
        return incremental.initial
    return written(incremental, value)


def bound(incremental: RestIncremental, day: date) -> int | str:
    """A day's beginning in the API's own format."""
    value = written(incremental, midnight(day))
    initial = moment(incremental.initial)
    in_milliseconds = isinstance(initial, Decimal) and initial >= _MILLISECONDS_FROM
    if incremental.format == "epoch" and in_milliseconds:
        return int(value) * 1000
    return value


def end_of(incremental: RestIncremental) -> int | str | None:
    """The end that a run which reads on sets; None if it sets none."""
    if incremental.until is None:
        return None
    value = datetime.now(UTC) if incremental.until == "now" else moment(incremental.until)
    if isinstance(value, Decimal):
        return int(value)
    return value if isinstance(value, str) else written(incremental, value)


def written(incremental: RestIncremental, value: datetime) -> int | str:
    """A time as the API writes times."""
    value = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    match incremental.format:
        case "epoch":
            return int(value.timestamp())
        case "epoch_ms":
            return int(value.timestamp() * 1000)
        case "iso":
            return value.strftime(_ISO)
        case "date":
            return value.strftime("%Y-%m-%d")
        case pattern:
            return value.strftime(pattern)


def moment(text: str) -> Any:
    """A start as a time, a number, or the text itself."""
    if re.fullmatch(r"\d{5,}", text):
        return Decimal(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found if found.tzinfo else found.replace(tzinfo=UTC)
