"""Reads the pages of an API ahead, where their addresses are known: pages by number or by offset.

page n -> pages n+1 to n+8 asked for side by side -> handed out when their turn comes

The paginator alone decides which page is next and which is the last one, page by page as without
this: what was read ahead only answers a request that is made anyway. A page that was refused, or
that broke, is asked for again in its turn, with all its tries, and so told as if it were the first
time. Left out: pages whose address only the page before knows (cursors, links).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from ingestion.declarations import OffsetPaginator, PagePaginator, Paginator
from ingestion.progress import interruption

if TYPE_CHECKING:
    import requests


logger = logging.getLogger(__name__)


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
        paginator: Paginator,
        budget: Budget,
        look: Callable[[Any], tuple[int | None, bool | None, int | None]],
    ) -> None:
        self._session = session
        self._once = once
        self._paginator = paginator
        self._budget = budget
        self._look = look
        self._steps = _steps_of(paginator) if budget.connections > 1 else None
        self._ahead: dict[str, Future[requests.Response | None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        # A short table is not worth eight requests; a long one soon gets them.
        self._width = 1
        self._size: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """The answer to a request: the one that was read ahead, if it is good."""
        found = self._ahead.pop(str(request.url), None)
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
        param, step = self._steps
        url = str(request.url)
        found = re.search(rf"(?<=[?&]){re.escape(param)}=(\d+)(?=&|$)", url)
        count, more, total = self._look(response.json())
        self._size = self._size if self._size is not None else count
        is_last = more is False or (count is not None and count < (self._size or 1))
        if found is None or is_last:
            return
        self._width = min(self._width * 2, self._budget.connections)
        here = int(found.group(1))
        for value in range(here + step, here + step * (self._width + 1), step):
            address = (
                f"{str(request.url)[: found.start(1)]}{value}{str(request.url)[found.end(1) :]}"
            )
            if address not in self._ahead and self._exists(value, total):
                self._ahead[address] = self._submit(request, address, options)

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
        self, request: requests.PreparedRequest, address: str, options: dict[str, Any]
    ) -> Future[requests.Response | None]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._budget.connections, "read-ahead")
        copy = request.copy()
        copy.url = address
        return self._pool.submit(self._try, copy, options)

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


def _steps_of(paginator: Paginator) -> tuple[str, int] | None:
    """The parameter that counts pages, as it stands in an address, and its step."""
    if isinstance(paginator, PagePaginator):
        return quote_plus(paginator.page_param), 1
    if isinstance(paginator, OffsetPaginator):
        return quote_plus(paginator.offset_param), paginator.limit
    return None
