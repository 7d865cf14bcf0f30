"""Reads the pages of an API ahead, where their addresses are known: pages by number or by offset.

page n -> pages n+1 to n+8 asked for side by side -> handed out when their turn comes

The paginator alone decides which page is next and which is the last one, page by page as without
this: what was read ahead only answers a request that is made anyway. A page that was refused, or
that broke, is asked for again in its turn, with all its tries, and so told as if it were the first
time. The number may stand in the query or in a JSON body. Left out: pages whose address only the
page before knows (cursors, links).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from ingestion.rest.declared import OffsetPaginator, PagePaginator, Paginator
from ingestion.rest.limits import Budget

if TYPE_CHECKING:
    import requests


logger = logging.getLogger(__name__)


class ReadAhead:
    """A session whose next pages are under way already.

    Args:
        session: Sends what was not read ahead, and tries again by itself.
        once: Makes a session for another thread; it does not try again.
        paginator: The declared way of paging.
        budget: Shared by all tables of the source.
        look: Takes the answer's JSON; returns its number of records, whether more are said to
            follow, and the total that it states, each None if that is not known.
    """

    def __init__(
        self,
        session: Any,
        once: Callable[[], Any],
        paginator: Paginator | None,
        budget: Budget,
        look: Callable[[Any], tuple[int | None, bool | None, int | None]],
    ) -> None:
        self._session = session
        self._once = once
        self._paginator = paginator
        self._budget = budget
        self._look = look
        self._steps = _steps_of(paginator) if budget.connections > 1 else None
        self._ahead: dict[_Place, Future[requests.Response | None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        # A short table is not worth eight requests; a long one soon gets them.
        self._width = 1
        self._size: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """The answer to a request: the one that was read ahead, if it is good."""
        found = self._ahead.pop(_place(request), None)
        response = found.result() if found is not None else None
        if found is not None and response is None:
            # The API limits requests, or is at its limits: fewer at the same time.
            self._width = max(self._width // 4, 1)
        if response is None:
            response = self._budget.send(lambda: self._session.send(request, **options))
        if self._steps is not None:
            self._plan(request, options, response)
        return response

    def close(self) -> None:
        """Ends what is under way."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._ahead = {}

    def _plan(
        self,
        request: requests.PreparedRequest,
        options: dict[str, Any],
        response: requests.Response,
    ) -> None:
        """Asks for the pages behind this one that are likely to be there."""
        assert self._steps is not None
        here = self._steps.value(request)
        count, more, total = self._look(response.json())
        self._size = self._size if self._size is not None else count
        is_last = more is False or (count is not None and count < (self._size or 1))
        if here is None or is_last:
            return
        self._width = min(self._width * 2, self._budget.connections)
        step = self._steps.step
        for value in range(here + step, here + step * (self._width + 1), step):
            if self._exists(value, total):
                copy = self._steps.copy(request, value)
                place = _place(copy)
                if place not in self._ahead:
                    self._ahead[place] = self._submit(copy, options)

    def _exists(self, value: int, total: int | None) -> bool:
        """Whether there can be a page of this number or offset."""
        declared = self._paginator
        if isinstance(declared, PagePaginator):
            ends = [total + declared.base_page] if total is not None else []
            ends += [declared.maximum_page] if declared.maximum_page else []
        else:
            assert isinstance(declared, OffsetPaginator)
            ends = [total] if total is not None else []
            ends += [declared.maximum_offset] if declared.maximum_offset else []
        return all(value < end for end in ends)

    def _submit(
        self, request: requests.PreparedRequest, options: dict[str, Any]
    ) -> Future[requests.Response | None]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._budget.connections, "read-ahead")
        return self._pool.submit(self._try, request, options)

    def _try(
        self, request: requests.PreparedRequest, options: dict[str, Any]
    ) -> requests.Response | None:
        """The answer to a request that may be in vain; None if it is not good."""
        try:
            return self._budget.send(lambda: self._once().send(request, **options))
        except Exception as error:
            # Whatever it was is met again, and told, when the page's turn has come.
            logger.debug("a page that was read ahead is asked for again: %s", type(error).__name__)
            return None


_Place = tuple[str, str]


def _place(request: requests.PreparedRequest) -> _Place:
    body = request.body
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body or "")
    return str(request.url), text


def _body(request: requests.PreparedRequest) -> Any:
    return json.loads(request.body) if isinstance(request.body, str | bytes) else {}


class _Steps:
    """How requests for one page after the other differ.

    Args:
        step: By how much the number grows from page to page.
        param: The query parameter that holds it, or None.
        body_path: The path in the JSON body that holds it, or None.
    """

    def __init__(self, step: int, param: str | None, body_path: str | None) -> None:
        self.step = step
        self._keys = (body_path or "").removeprefix("$.").split(".") if body_path else []
        name = re.escape(quote_plus(param or ""))
        self._in_url = re.compile(rf"(?<=[?&]){name}=(\d+)(?=&|$)")

    def value(self, request: requests.PreparedRequest) -> int | None:
        """The number that a request holds; None if there is none to be found."""
        if not self._keys:
            found = self._in_url.search(str(request.url))
            return int(found.group(1)) if found else None
        holder = self._holder(_body(request))
        number = holder.get(self._keys[-1]) if holder is not None else None
        return number if isinstance(number, int) else None

    def copy(self, request: requests.PreparedRequest, value: int) -> requests.PreparedRequest:
        """The same request with another number."""
        copy = request.copy()
        if not self._keys:
            found = self._in_url.search(str(request.url))
            assert found is not None
            url = str(request.url)
            copy.url = f"{url[: found.start(1)]}{value}{url[found.end(1) :]}"
            return copy
        body = _body(request)
        holder = self._holder(body)
        assert holder is not None
        holder[self._keys[-1]] = value
        copy.prepare_body(None, None, json=body)
        return copy

    def _holder(self, body: Any) -> dict[str, Any] | None:
        for key in self._keys[:-1]:
            body = body.get(key) if isinstance(body, dict) else None
        return body if isinstance(body, dict) else None


def _steps_of(paginator: Paginator | None) -> _Steps | None:
    """Where and how pages are counted; None where they are not."""
    if isinstance(paginator, PagePaginator):
        return _Steps(1, *paginator.counter)
    if isinstance(paginator, OffsetPaginator):
        return _Steps(paginator.limit, *paginator.counter)
    return None
