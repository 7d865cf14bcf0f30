"""The help desk's API: a real HTTP server over the exports that `systems/helpdesk.py` writes.

request ─> token, limit ─> list and position (start_time or cursor) ─> one slice of a mapped file
as a page

The data of the day in `state.json` is served; a change of that file is seen by the next request.
It leaves out writing, searching and everything else of Zendesk's API.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import json
import logging
import mmap
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np

from anycompany.systems.helpdesk import LISTS

logger = logging.getLogger(__name__)

PAGE = 1_000
RATINGS_PAGE = 100
_LIMITED_EVERY, _LIMITED_AT = 50, 8
_ATTEMPTS = 5


class BadRequest(Exception):
    """A parameter that the API cannot read; the text goes to the client."""


@dataclass(frozen=True)
class Listing:
    """One export of one day.

    Attributes:
        stamp: Epoch second of each record, ascending.
        id: Its id, ascending among equal stamps.
        end: Position after it in the bytes.
        content: All records, each followed by a comma and a line end.
    """

    stamp: np.ndarray
    id: np.ndarray
    end: np.ndarray
    content: Any

    @classmethod
    def open(cls, folder: Path, name: str) -> Listing:
        """Opens an export that lies in a folder."""
        index = np.load(folder / f"{name}.npy")
        with (folder / f"{name}.ndjson").open("rb") as file:
            content: Any = (
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if len(index) else b""
            )
        return cls(index[:, 0].copy(), index[:, 1].copy(), index[:, 2].copy(), content)

    def since(self, stamp: int) -> int:
        """Returns the position of the first record at or after a moment."""
        return int(np.searchsorted(self.stamp, stamp, side="left"))

    def after(self, cursor: str) -> int:
        """Returns the position behind a cursor."""
        try:
            stamp, ident = (
                int(part) for part in base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
            )
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise BadRequest("cursor is not valid") from None
        low = int(np.searchsorted(self.stamp, stamp, side="left"))
        high = int(np.searchsorted(self.stamp, stamp, side="right"))
        return low + int(np.searchsorted(self.id[low:high], ident, side="right"))

    def cursor(self, position: int) -> str:
        """Returns the cursor of the record before a position."""
        return base64.urlsafe_b64encode(
            f"{self.stamp[position - 1]}|{self.id[position - 1]}".encode()
        ).decode()

    def page_end(self, start: int, size: int, *, whole_seconds: bool = False) -> int:
        """Returns where a page ends; copies of one record, or one second, are never parted."""
        end = min(start + size, len(self.stamp))
        while 0 < end < len(self.stamp) and self.stamp[end] == self.stamp[end - 1]:
            if not whole_seconds and self.id[end] != self.id[end - 1]:
                break
            end += 1
        return end

    def records(self, start: int, end: int) -> bytes:
        """Returns the records of a page as the inside of a JSON array."""
        if end <= start:
            return b""
        first = int(self.end[start - 1]) if start else 0
        return bytes(self.content[first : int(self.end[end - 1]) - 2])


class Desk:
    """The data of the current day, opened again whenever the state file changes."""

    def __init__(self, state_file: Path, folder: Path) -> None:
        self._state_file = state_file
        self._folder = folder
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._lists: dict[str, Listing] = {}

    def lists(self) -> Mapping[str, Listing]:
        """Returns the exports by name."""
        status = self._state_file.stat()
        seen = (status.st_mtime_ns, status.st_ino)
        with self._lock:
            if seen != self._seen:
                self._lists = self._open()
                self._seen = seen
            return self._lists

    def _open(self) -> dict[str, Listing]:
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(FileNotFoundError):
                return self._open_day()
            # The day changed between reading its number and opening its lists.
            time.sleep(0.1)
        return self._open_day()

    def _open_day(self) -> dict[str, Listing]:
        folder = self._folder / str(json.loads(self._state_file.read_text())["day"])
        return {name: Listing.open(folder, name) for name in LISTS}


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: DeskServer

    def do_GET(self) -> None:
        """Answers a GET request."""
        if not hmac.compare_digest(
            self.headers.get("Authorization", "").encode(), f"Bearer {self.server.token}".encode()
        ):
            self._answer(401, b'{"error": "Couldn\'t authenticate you"}')
            return
        if self.server.is_limited():
            self._answer(
                429,
                b'{"error": "TooManyRequests", "description": "Slow down"}',
                {"Retry-After": "1"},
            )
            return
        address = urlsplit(self.path)
        route = _ROUTES.get(address.path)
        if route is None:
            self._answer(404, b'{"error": "InvalidEndpoint", "description": "Not found"}')
            return
        query = {
            name: values[-1]
            for name, values in parse_qs(address.query, keep_blank_values=True).items()
        }
        try:
            self._answer(
                200,
                route(
                    self.server.desk.lists(), query, f"http://{self.headers['Host']}{address.path}"
                ),
            )
        except BadRequest as problem:
            self._answer(
                400, json.dumps({"error": "InvalidValue", "description": str(problem)}).encode()
            )

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Logs a request for whoever debugs; the path holds no secret."""
        logger.debug(format, *args)


class DeskServer(ThreadingHTTPServer):
    """The API on a loopback port.

    Args:
        desk: The data.
        token: What clients must send as bearer token.
        port: 0 for any free one.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, desk: Desk, token: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.desk = desk
        self.token = token
        self._requests = 0
        self._counting = threading.Lock()

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def is_limited(self) -> bool:
        """Counts a request and returns whether it is one too many: each 50th is, the 8th first."""
        with self._counting:
            self._requests += 1
            return self._requests % _LIMITED_EVERY == _LIMITED_AT


def _whole(query: Mapping[str, str], name: str, default: int, highest: int | None = None) -> int:
    try:
        value = int(query.get(name, default))
    except ValueError:
        raise BadRequest(f"{name} is not a whole number") from None
    if value < 0 or (highest is not None and value == 0):
        raise BadRequest(f"{name} is out of range")
    return value if highest is None else min(value, highest)


def _by_cursor(name: str) -> Callable[[Mapping[str, Listing], Mapping[str, str], str], bytes]:
    def page(lists: Mapping[str, Listing], query: Mapping[str, str], address: str) -> bytes:
        listing = lists[name]
        if "cursor" not in query and "start_time" not in query:
            raise BadRequest("start_time or cursor is required")
        start = (
            listing.after(query["cursor"])
            if "cursor" in query
            else listing.since(_whole(query, "start_time", 0))
        )
        end = listing.page_end(start, _whole(query, "per_page", PAGE, PAGE))
        more = end < len(listing.stamp)
        cursor = listing.cursor(end) if more else None
        tail = {
            "after_cursor": cursor,
            "after_url": f"{address}?{urlencode({'cursor': cursor})}" if more else None,
            "before_cursor": None,
            "before_url": None,
            "end_of_stream": not more,
        }
        return _body(name, listing.records(start, end), tail)

    return page


def _comments(lists: Mapping[str, Listing], query: Mapping[str, str], address: str) -> bytes:
    listing = lists["comments"]
    if "start_time" not in query:
        raise BadRequest("start_time is required")
    start = listing.since(_whole(query, "start_time", 0))
    end = listing.page_end(start, _whole(query, "per_page", PAGE, PAGE), whole_seconds=True)
    more = end < len(listing.stamp)
    following = (
        f"{address}?{urlencode({'start_time': int(listing.stamp[end - 1]) + 1})}" if more else None
    )
    return _body(
        "comments",
        listing.records(start, end),
        {"next_page": following, "end_of_stream": not more, "count": end - start},
    )


def _ratings(lists: Mapping[str, Listing], query: Mapping[str, str], address: str) -> bytes:
    listing = lists["satisfaction_ratings"]
    size = _whole(query, "page[size]", RATINGS_PAGE, RATINGS_PAGE)
    since = _whole(query, "start_time", 0)
    start = listing.after(query["page[after]"]) if "page[after]" in query else listing.since(since)
    end = listing.page_end(start, size)
    more = end < len(listing.stamp)
    cursor = listing.cursor(end) if more else None
    link = (
        f"{address}?{urlencode({'start_time': since, 'page[size]': size, 'page[after]': cursor})}"
        if more
        else None
    )
    total = len(np.unique(listing.id[listing.since(since) :]))
    tail = {
        "meta": {"has_more": more, "after_cursor": cursor},
        "links": {"next": link},
        "count": total,
    }
    return _body("satisfaction_ratings", listing.records(start, end), tail)


def _body(name: str, records: bytes, tail: Mapping[str, object]) -> bytes:
    return b'{"' + name.encode() + b'": [' + records + b"], " + json.dumps(tail).encode()[1:]


_ROUTES = {
    "/api/v2/incremental/tickets/cursor.json": _by_cursor("tickets"),
    "/api/v2/incremental/users/cursor.json": _by_cursor("users"),
    "/api/v2/incremental/comments.json": _comments,
    "/api/v2/satisfaction_ratings.json": _ratings,
}
