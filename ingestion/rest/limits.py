"""Keeps to what an API allows: requests at the same time, requests in a time, and its pauses.

request -> `Budget` (how many at once) -> `Pace` (how soon after the last one) -> the API
an answer that limits -> `Pace.heed` -> nobody asks before the moment that it names

One budget and one pace serve all tables of a source. Left out: trying again, which sessions do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ingestion.progress import interruption
from ingestion.rest.declared import RateLimit

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

_LIMITED = (429, 503)
_REMAINING = ("X-RateLimit-Remaining", "RateLimit-Remaining", "X-Rate-Limit-Remaining")
_RESET = ("X-RateLimit-Reset", "RateLimit-Reset", "X-Rate-Limit-Reset")
# Numbers above are moments, those below are seconds to wait.
_FIRST_MOMENT = 1_000_000_000


class Budget:
    """How many requests of a source may be under way at the same time.

    Args:
        connections: Their number.
    """

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self._free = threading.BoundedSemaphore(connections)

    def send(self, send: Callable[[], requests.Response]) -> requests.Response:
        """Sends a request as soon as there is room for it."""
        with self._free:
            interruption.check()
            return send()


class Pace:
    """When the next request may be made.

    Args:
        limit: How many are allowed in a time; as many as there can be if None.
        longest: Seconds that an answer may make us wait at most.
        clock: Tells the seconds.
        wait: Waits for some seconds.
    """

    def __init__(
        self,
        limit: RateLimit | None,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], Any] = lambda seconds: interruption.event.wait(seconds),
    ) -> None:
        self._spacing = limit.per.total_seconds() / limit.requests if limit else 0.0
        self._longest = longest
        self._clock, self._wait = clock, wait
        self._lock = threading.Lock()
        self._next = self._held = 0.0

    def turn(self) -> None:
        """Waits until a request may be made."""
        with self._lock:
            turn = max(self._clock(), self._next)
            self._next = turn + self._spacing
        while (seconds := max(turn, self._held) - self._clock()) > 0:
            interruption.check()
            self._wait(seconds)

    def heed(self, response: requests.Response) -> None:
        """Takes note of an answer that asks for a pause."""
        seconds = pause_of(response.status_code, response.headers, time.time())
        if seconds:
            with self._lock:
                self._held = max(self._held, self._clock() + min(seconds, self._longest))

    def adapter(self, connections: int) -> HTTPAdapter:
        """What sends the requests of sessions: every attempt waits for its turn.

        Args:
            connections: How many are kept open.
        """
        from requests.adapters import HTTPAdapter

        pace = self

        class Paced(HTTPAdapter):
            def send(self, *args: Any, **options: Any) -> requests.Response:
                pace.turn()
                response = super().send(*args, **options)
                pace.heed(response)
                return response

        return Paced(pool_maxsize=connections)


def is_limited(response: requests.Response | None) -> bool:
    """Whether a refusal only says that there were too many requests, whatever its status."""
    if response is None:
        return False
    has_pause = "Retry-After" in response.headers or _number(response.headers, _REMAINING) == 0
    return response.status_code in _LIMITED or (response.status_code == 403 and has_pause)


def pause_of(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks to wait; None if it does not.

    Args:
        status: Its status.
        headers: Its headers.
        now: Seconds since 1970.
    """
    told = headers.get("Retry-After")
    if told and (status in _LIMITED or status == 403):
        if told.strip().isdigit():
            return float(told)
        try:
            return max(parsedate_to_datetime(told).timestamp() - now, 0.0)
        except ValueError:
            return None
    if _number(headers, _REMAINING) == 0:
        reset = _number(headers, _RESET)
        if reset is not None:
            return max(reset - now, 0.0) if reset >= _FIRST_MOMENT else reset
    return None


def _number(headers: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    for name in names:
        text = headers.get(name, "").strip()
        if text.replace(".", "", 1).isdigit():
            return float(text)
    return None
