"""Times and sizes as people write them.

`"90m"` -> seconds, `"10GB"` or `"5%"` -> bytes, and back into words for messages

Standard library only: settings are checked with it. Left out: calendar units longer than a week,
whose length depends on where one stands.
"""

from __future__ import annotations

import re

_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_POWERS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*", re.I)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%|([KMGT]?)(i?)B?)\s*", re.I)


def seconds_of(text: str) -> float:
    """The seconds that a time says: `90s`, `10m`, `1h`, `2d`; `0` is none.

    Raises:
        ValueError: It is no time; a number other than 0 needs its unit.
    """
    found = _TIME.fullmatch(text)
    if not found or (found[2] is None and float(found[1])):
        raise ValueError(f"{text!r} is no time, such as 90s, 10m, 1h or 2d")
    return float(found[1]) * _TIMES[(found[2] or "s").lower()]


def bytes_of(text: str, whole: int | None = None) -> int:
    """The bytes that a size says: `500MB`, `2GiB`, `10%`.

    Args:
        text: The size.
        whole: What a share is taken of; None where a share makes no sense.

    Raises:
        ValueError: It is no size, or a share of nothing.
    """
    found = _SIZE.fullmatch(text)
    if not found or (found[2] == "%" and (whole is None or float(found[1]) > 100)):
        raise ValueError(f"{text!r} is no size, such as 500MB, 2GiB" + (" or 10%" if whole else ""))
    if found[2] == "%":
        assert whole is not None
        return int(whole * float(found[1]) / 100)
    powers = _POWERS if found[4] else _SIZES
    return int(float(found[1]) * powers[found[3].upper()])


def is_time(text: str) -> bool:
    """Whether `seconds_of` understands it."""
    try:
        seconds_of(text)
    except ValueError:
        return False
    return True


def is_size(text: str) -> bool:
    """Whether `bytes_of` understands it, shares included."""
    try:
        bytes_of(text, 100)
    except ValueError:
        return False
    return True


def tell_bytes(size: float) -> str:
    """`512 B`, `3.4 MB`, `12 GB`: a size for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def tell_seconds(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `5 d`: a time for people."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"
