"""How one page of an API leads to the next, and where pages end.

declared paginator -> dlt's -> `Pages`, which counts, keeps to the API's host, never goes in circles

An answer that tells of further pages, where the declaration finds none, is refused: half a table
would look like a whole one. Left out: sending requests, which is `reading` and `ahead`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ingestion.redaction import redact
from ingestion.rest.declared import (
    SIMPLE_PATH,
    CursorPaginator,
    HeaderCursorPaginator,
    NextUrlPaginator,
    OffsetPaginator,
    PagePaginator,
    Paginator,
    RestEndpoint,
)

if TYPE_CHECKING:
    import requests

_DLT_TYPES = {
    "cursor": "cursor",
    "header_cursor": "header_cursor",
    "next_url": "json_link",
    "offset": "offset",
    "page": "page_number",
    "link_header": "header_link",
    "single": "single_page",
}
# Names of keys, without their capitals and underscores, that tell of a further page.
_NEXT = frozenset(
    [
        "next",
        "nexturl",
        "nextlink",
        "nexthref",
        "nextpage",
        "nextpageurl",
        "nextpagetoken",
        "nextcursor",
        "nexttoken",
        "nextrecordsurl",
        "aftercursor",
        "@odata.nextlink",
    ]
)
_MORE = frozenset(["hasmore", "hasnext", "hasnextpage", "morerecords", "moreitems"])
_TOTAL = frozenset(["total", "totalcount", "totalresults", "totalrecords", "totalitems"])
_DEEPEST = 3


class PageFault(Exception):
    """Something is wrong with the content of a page."""

    def __init__(self, message: str, hint: str = "", url: str | None = None) -> None:
        self.message, self.hint, self.url = message, hint, url
        super().__init__(message)


class Pages:
    """A paginator that counts, stops where the declaration says so, and never goes in circles.

    Args:
        endpoint: The table's declaration.
        base_url: Address of the API: the secret goes to no other host.

    Attributes:
        read: Number of pages read.
        totals: Numbers of all records that the pages stated.
    """

    def __init__(self, endpoint: RestEndpoint, base_url: str) -> None:
        self._endpoint = endpoint
        self._declared = endpoint.paginator
        self._inner = _dlt_paginator(endpoint.paginator)
        self._base = urlsplit(base_url)
        self._seen: set[str] = set()
        self._ended = False
        self._before: list[Any] | None = None
        self.read = 0
        self.totals: list[int] = []

    @property
    def has_next_page(self) -> bool:
        """Whether there is a further page."""
        return not self._ended and bool(self._inner.has_next_page)

    def init_request(self, request: requests.Request) -> None:
        """Prepares the first request."""
        self._inner.init_request(request)
        self._remember(request)

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Takes note of a page."""
        page = response.json()
        self._check_signs(page)
        self._check_new(data)
        self._inner.update_state(response, data)
        self.read += 1
        end = getattr(self._declared, "end_path", None)
        if end and value_at(page, end) is True:
            self._ended = True
        if isinstance(self._declared, NextUrlPaginator) and self._declared.has_more_path:
            more = value_at(page, self._declared.has_more_path)
            self._ended = self._ended or more is False
        self._note_total(page)
        if not self.has_next_page and not self._ended:
            self._check_end(response, page, len(data or ()))

    def update_request(self, request: requests.Request) -> None:
        """Turns the request into that for the next page."""
        if not self.has_next_page:
            return
        self._inner.update_request(request)
        self._forget_bounds(request)
        address = str(request.url)
        self.check_host(address)
        if not self._remember(request):
            raise PageFault(
                "its successor is a page that has been read already",
                "Correct `rest.paginator`; `end_path` or `has_more_path` say where pages end.",
            )

    def check_host(self, address: str) -> None:
        """Refuses an address on another host, or one without encryption where there was some.

        Raises:
            PageFault: The secret would go there.
        """
        target = urlsplit(urljoin(self._base.geturl(), address))
        downgraded = self._base.scheme == "https" and target.scheme != "https"
        if target.hostname != self._base.hostname or downgraded:
            raise PageFault(
                f"the next page lies at {safe(address)}, not on the API's own host",
                "The secret is not sent there; correct the connection's URL if that host is meant.",
            )

    def _forget_bounds(self, request: requests.Request) -> None:
        """A page's cursor holds what was asked for; beside it, that is not repeated."""
        declared, incremental = self._declared, self._endpoint.incremental
        if isinstance(declared, CursorPaginator | HeaderCursorPaginator) and incremental:
            # dlt keeps the parameters as the dictionary that was given to it.
            assert isinstance(request.params, dict)
            request.params.pop(incremental.param, None)
            request.params.pop(incremental.until_param or "", None)

    def _remember(self, request: requests.Request) -> bool:
        place = json.dumps([request.url, request.params, request.json], default=str, sort_keys=True)
        new = place not in self._seen
        self._seen.add(place)
        return new

    def _note_total(self, page: Any) -> None:
        declared = self._declared
        of_paging = declared.total_path if isinstance(declared, OffsetPaginator) else None
        for path in (self._endpoint.total, of_paging):
            number = whole(value_at(page, path)) if path else None
            if number is not None:
                self.totals.append(number)
                return

    def _check_signs(self, page: Any) -> None:
        """What pages are said to state about their end must be there and of its kind."""
        declared = self._declared
        paths = [("total_path", whole, "a whole number"), ("has_more_path", _flag, "true or false")]
        for key, read, expected in paths:
            path: str | None = getattr(declared, key, None)
            if path is None or isinstance(declared, NextUrlPaginator):
                continue
            if not SIMPLE_PATH.match(path.removeprefix("$.")):
                continue
            found = value_at(page, path)
            if read(found) is None:
                keys = ", ".join(page) if isinstance(page, dict) else f"a {type(page).__name__}"
                raise PageFault(
                    f"there is no {path!r} that is {expected} in the answer, which has: {keys}",
                    f"Correct `rest.paginator.{key}`, or leave it out.",
                )

    def _check_new(self, data: list[Any] | None) -> None:
        """An API that does not know the parameter that counts gives its first page for ever."""
        if isinstance(self._declared, OffsetPaginator | PagePaginator):
            if data and data == self._before:
                raise PageFault(
                    "it holds the same records as the page before it",
                    "Correct the parameter that counts in `rest.paginator`: the API does not heed "
                    "it.",
                )
            self._before = data

    def _check_end(self, response: requests.Response, page: Any, count: int) -> None:
        """Refuses to end where the answer itself says that more follows."""
        declared = self._declared
        if declared is not None and declared.type in ("offset", "page", "single"):
            return
        if isinstance(declared, CursorPaginator) and (
            declared.has_more_path or declared.stop_after_empty_page
        ):
            return
        for sign in _signs_of_more(response, page, None if self._declared else count):
            raise PageFault(
                f"it tells of further pages ({sign}), which the declaration does not find",
                "Correct `rest.paginator`, or declare `paginator: {type: single}` if one page is "
                "meant.",
            )


def _dlt_paginator(declared: Paginator | None) -> Any:
    """The paginator of the declared type, from dlt."""
    from dlt.sources.rest_api.config_setup import create_paginator

    if declared is None:
        return create_paginator({"type": "single_page"})
    keys = declared.model_dump(exclude={"type", "end_path"}, exclude_none=True)
    if isinstance(declared, NextUrlPaginator):
        keys.pop("has_more_path", None)
    if isinstance(declared, HeaderCursorPaginator):
        keys["cursor_key"] = keys.pop("cursor_header")
    if isinstance(declared, OffsetPaginator):
        keys.setdefault("total_path", None)
    if isinstance(declared, PagePaginator):
        keys.setdefault("total_path", None)
        if "page_body_path" not in keys:
            keys.setdefault("page_param", "page")
    return create_paginator({"type": _DLT_TYPES[declared.type], **keys})


def _signs_of_more(response: requests.Response, page: Any, count: int | None) -> Iterator[str]:
    """What an answer says of further pages.

    Args:
        response: The answer.
        page: Its content.
        count: Records that it holds, to compare with a total; None to compare it with none.
    """
    if "next" in response.links:
        yield "a Link header with rel=next"
    for path, key, value in _outside_records(page, ()):
        name = ".".join((*path, key))
        plain = key.lower().replace("_", "").replace("-", "")
        if plain in _NEXT and _leads_on(value):
            yield name
        elif plain in _MORE and value is True:
            yield f"{name} = true"
        elif plain in _TOTAL and count is not None and (whole(value) or 0) > count > 0:
            yield f"{name} = {value}, with {count} records here"


def _leads_on(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_leads_on(value.get(key)) for key in ("href", "url"))
    return isinstance(value, str | int) and bool(value) and value is not True


def _outside_records(
    page: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Keys and values of an answer that lie in no list."""
    if not isinstance(page, dict) or len(path) >= _DEEPEST:
        return
    for key, value in page.items():
        yield path, str(key), value
        yield from _outside_records(value, (*path, str(key)))


def value_at(page: Any, path: str) -> Any:
    """The value at a path of keys; None if there is none."""
    for key in path.removeprefix("$.").split("."):
        page = page.get(key) if isinstance(page, dict) else None
    return page


def has_path(page: Any, path: str) -> bool:
    """Whether there is a value, also null, at a path of keys."""
    parent, _, last = path.removeprefix("$.").rpartition(".")
    holder = value_at(page, parent) if parent else page
    return isinstance(holder, dict) and last in holder


def whole(value: Any) -> int | None:
    """A value as a whole number; None if it is none."""
    if isinstance(value, bool) or not str(value).isdigit():
        return None
    return int(str(value))


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).lower())


def safe(url: str | None) -> str:
    """An address without secrets, fit for messages."""
    from dlt.sources.helpers.rest_client.redaction import sanitize_url

    return redact(sanitize_url(url)) if url else "the API"
