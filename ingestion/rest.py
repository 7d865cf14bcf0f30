"""Reads the tables of an HTTP API that answers in JSON, through dlt's REST client and paginators.

declaration -> pages (retried, bounded) -> records -> every field as text -> spool -> delta

A page is parsed once and becomes one Arrow table: top-level fields as text, numbers as they were
sent, nested values as JSON text. While a page is written, the next one is under way; of pages by
number or offset, several (`rest_ahead`). With `incremental`, the API is asked from the highest
landed cursor minus `window` on. Nothing of a table lands unless its last page was read.

Left out: endpoints that need the ids of another table, OAuth (`kind: python`, dlt's rest_api).
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from ingestion.connections import Connection, resolve
from ingestion.database import OnTable, Reading, skipped
from ingestion.declarations import (
    RestIncremental,
    RestSource,
    RestTable,
    SourceDeclaration,
    TableDeclaration,
)
from ingestion.delta import DELETED, ROW_GROUP, Delta, Spool
from ingestion.errors import (
    DeclarationError,
    DeclarationFault,
    IngestionError,
    SourceFailed,
    SourceUnreachable,
    first_line,
)
from ingestion.landing import column_mapping
from ingestion.periods import Period, midnight
from ingestion.progress import counted, interruption
from ingestion.redaction import redact
from ingestion.rest_ahead import Budget, ReadAhead

if TYPE_CHECKING:
    import pyarrow as pa
    import requests

logger = logging.getLogger(__name__)

_TABLES_AT_ONCE = 4
_MOST_PENDING = 32 * 2**20
# Fractions, exponents and long integers: a float would not keep them as they were sent.
_INEXACT = re.compile(rb"[\s:,\[]-?\d+(?:\.\d|[eE][+-]?\d|\d{15})")
_SIMPLE_PATH = re.compile(r"^[\w.-]+$")
_MILLISECONDS_FROM = 100_000_000_000


def read_tables(
    declaration: SourceDeclaration,
    full_refresh: bool,
    on_table: OnTable,
    period: Period | None = None,
) -> None:
    """Reads every table of an API, some of them at the same time.

    Args:
        declaration: The source.
        full_refresh: Whether `incremental` starts again at its `initial` value.
        on_table: See `database.read_tables`.
        period: Read the records of it, whatever has landed.

    Raises:
        ConnectionMissing: The connection, or a key that the authorisation needs, is not configured.
        DeclarationError: The connection's URL is not one of HTTP.
    """
    assert declaration.connection is not None
    assert declaration.rest is not None
    connection = resolve(declaration.connection)
    if urlsplit(connection.url).scheme not in ("http", "https"):
        found = f"connections.{connection.name}.url = {connection.safe_url}"
        place = (declaration.file, declaration.name, None, "ingest.connection")
        raise DeclarationError(
            [DeclarationFault(*place, found, "an address with http:// or https://")]
        )
    authorisation(declaration.rest, connection)
    budget = Budget(declaration.rest.connections)

    def work(table: TableDeclaration) -> None:
        def read(delta: Delta, folder: Path) -> Reading:
            reader = _TableReader(declaration, table, connection, budget)
            if period is not None:
                return reader.read_period(delta, folder, period)
            return reader.read(delta, folder, full_refresh)

        on_table(table, read)

    with ThreadPoolExecutor(_TABLES_AT_ONCE, f"read-{declaration.name}") as pool:
        for _ in pool.map(work, declaration.tables):
            pass


def read_total(declaration: SourceDeclaration, table: TableDeclaration, landed: Any) -> int:
    """The number of records that an API says it has.

    Args:
        declaration: The source.
        table: A table that declares `rest.total`.
        landed: The highest landed value of its cursor, to ask for what is newer; None to ask for
            everything.

    Raises:
        ConnectionMissing: The connection, or a key that the authorisation needs, is not configured.
        SourceUnreachable: The API does not answer or refuses the login.
        SourceFailed: It answers otherwise than expected.
    """
    assert declaration.connection is not None
    reader = _TableReader(declaration, table, resolve(declaration.connection), Budget(1))
    return reader.total(landed)


class _TableReader:
    """Reads one table.

    Args:
        declaration: Its source.
        table: The table.
        connection: Where the API is, and the secrets.
        budget: How many requests may be under way.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        table: TableDeclaration,
        connection: Connection,
        budget: Budget,
    ) -> None:
        assert declaration.rest is not None
        self._source: RestSource = declaration.rest
        self._table: RestTable = table.rest
        self._connection = connection
        self._budget = budget
        self._where: dict[str, Any] = {"source": declaration.name, "table": table.name}
        self._session: Any = None

    def read(self, delta: Delta, folder: Path, full_refresh: bool) -> Reading:
        """Reads all pages from where landing ends."""
        ingest = self._table
        cursor = self._mapping().get(ingest.cursor) if ingest.cursor else None
        if (incremental := ingest.rest.incremental) is None:
            return self._read(folder, {}, is_first=delta.is_first)
        landed = None if full_refresh or cursor is None else delta.high_water(cursor)
        start = _start(incremental, landed, ingest.window)
        return self._read(folder, {incremental.param: start}, is_first=delta.is_first)

    def read_period(self, delta: Delta, folder: Path, period: Period) -> Reading:
        """Reads all pages of a period; all from its whole stretch on where the API knows no end."""
        incremental = self._table.rest.incremental
        if incremental is not None and incremental.until_param is not None:
            ends = (_bound(incremental, period.start), _bound(incremental, period.end))
            names = (incremental.param, incremental.until_param)
            return self._read(folder, dict(zip(names, ends, strict=True)))
        note = "read whole: the declaration has no rest.incremental"
        if incremental is not None:
            note = f"read from {period.whole_start} on: rest.incremental has no until_param"
        if not period.is_first:
            return skipped(note)
        given = {}
        if incremental is not None:
            given = {incremental.param: _bound(incremental, period.whole_start)}
        return replace(self._read(folder, given), note=note)

    def _mapping(self) -> Mapping[str, str]:
        """Normalised name by declared name, of key and cursor."""
        ingest = self._table
        names = [*ingest.primary_key, *([ingest.cursor] if ingest.cursor else [])]
        return column_mapping(list(dict.fromkeys(names)), **self._where)

    def _read(self, folder: Path, bounds: Mapping[str, Any], *, is_first: bool = False) -> Reading:
        """Reads all pages that the API gives with these parameters."""
        ingest, incremental = self._table, self._table.rest.incremental
        mapping = self._mapping()
        cursor = mapping[ingest.cursor] if ingest.cursor else None
        params: dict[str, Any] = {**ingest.rest.params, **bounds}
        spooler = _TextSpooler(folder, self._where, is_first=is_first)
        pages = _Pages(self._paginator(), ingest, self._connection.url, incremental)
        with self._explained(pages), self._client() as client, _Writing(spooler) as writing:
            for page in client.paginate(
                ingest.rest.path,
                params=params,
                paginator=pages,
                data_selector=ingest.rest.records or "$",
                hooks={"response": [self._received]},
            ):
                interruption.check()
                writing.add(self._records(page, pages.read))
        key = [mapping[name] for name in ingest.primary_key]
        self._check_key(key, spooler)
        spool = Spool(
            spooler.files,
            key,
            cursor if cursor in spooler.columns else None,
            is_ready=spooler.is_ready,
        )
        given = [f"{name} = {value}" for name, value in bounds.items()]
        since = f" from {given[0]} on" if len(given) == 1 else ""
        since = f" with {' and '.join(given)}" if len(given) > 1 else since
        read = f"read {counted(spooler.rows, 'record')} in {counted(pages.read, 'page')}"
        return Reading(spool, read + since, is_whole=not bounds)

    def total(self, landed: Any) -> int:
        """Reads one page for the total that it states."""
        endpoint = self._table.rest
        assert endpoint.total is not None
        params: dict[str, Any] = dict(endpoint.params)
        if endpoint.incremental is not None:
            start = _start(endpoint.incremental, landed, timedelta(0))
            # Times of APIs are whole seconds: the one that has landed is not to come again.
            if landed is not None and isinstance(start, int):
                start += 1
            params[endpoint.incremental.param] = start
        pages = _Pages(self._paginator(), self._table, self._connection.url, endpoint.incremental)
        found: Any = None
        with self._explained(pages), self._client() as client:
            for page in client.paginate(
                endpoint.path,
                params=params,
                paginator=pages,
                data_selector=endpoint.records or "$",
                hooks={"response": [self._received]},
            ):
                found = _value(page.response.json(), endpoint.total)
                break
        if isinstance(found, bool) or not str(found).isdigit():
            raise SourceFailed(
                f"there is no number at {endpoint.total!r} in the answer, but {found!r}",
                key="ingest.rest.total",
                hint="Correct `rest.total`: the path of keys to the number of all records.",
                **self._where,
            )
        return int(str(found))

    def _check_key(self, key: Sequence[str], spooler: _TextSpooler) -> None:
        missing = [name for name in key if spooler.rows and name not in spooler.columns]
        if missing:
            raise SourceFailed(
                f"no record has the field {missing[0]!r} of the primary key",
                key="ingest.primary_key",
                hint=f"The records have: {', '.join(spooler.columns)}.",
                **self._where,
            )

    @contextmanager
    def _client(self) -> Iterator[Any]:
        from dlt.common.configuration import resolve_configuration
        from dlt.common.configuration.specs import RuntimeConfiguration
        from dlt.sources.helpers.requests.retry import Client
        from dlt.sources.helpers.rest_client import RESTClient

        runtime = resolve_configuration(RuntimeConfiguration())
        shared = {"request_timeout": self._source.page_timeout, "raise_for_status": False}
        self._session = Client(
            **shared,
            request_max_attempts=runtime.request_max_attempts,
            request_backoff_factor=runtime.request_backoff_factor,
            request_max_retry_delay=runtime.request_max_retry_delay,
        ).session
        # A session of it is one thread's own, with connections that are kept open.
        once = Client(**shared, request_max_attempts=1, status_codes=(), exceptions=())
        declared = self._table.rest.paginator
        session = ReadAhead(self._session, lambda: once.session, declared, self._budget, self._look)
        try:
            yield RESTClient(
                base_url=self._connection.url,
                headers=dict(self._source.headers),
                auth=authorisation(self._source, self._connection),
                session=session,
                config=runtime,
            )
        finally:
            session.close()

    def _look(self, page: Any) -> tuple[int | None, bool | None, int | None]:
        """What a page says of those behind it: see `ReadAhead`."""
        declared, path = self._table.rest.paginator, self._table.rest.records
        found = _value(page, path) if path and _SIMPLE_PATH.match(path) else page
        count = len(found) if isinstance(found, list) else None
        more = _value(page, getattr(declared, "has_more_path", None) or "")
        total = _value(page, getattr(declared, "total_path", None) or "")
        return (
            count,
            more if isinstance(more, bool) else None,
            int(total) if str(total).isdigit() else None,
        )

    def _paginator(self) -> Any:
        """The paginator of the declared type, from dlt."""
        from dlt.sources.rest_api.config_setup import create_paginator

        names = {
            "cursor": "cursor",
            "next_url": "json_link",
            "offset": "offset",
            "page": "page_number",
            "link_header": "header_link",
            "single": "single_page",
        }
        declared = self._table.rest.paginator
        keys = declared.model_dump(exclude={"type", "end_path"})
        if declared.type == "next_url":
            keys.pop("has_more_path")
        if declared.type == "cursor":
            keys = {key: value for key, value in keys.items() if value is not None}
        return create_paginator({"type": names[declared.type], **keys})

    def _received(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Called for every response, also for those that will be tried again."""
        import requests

        if response.status_code >= 400:
            raise requests.HTTPError(str(response.status_code), response=response)
        if response.is_redirect:
            return
        page = _parsed(response)
        records = self._table.rest.records
        if records and _SIMPLE_PATH.match(records) and not _has_path(page, records):
            keys = ", ".join(page) if isinstance(page, dict) else f"a {type(page).__name__}"
            raise _PageFault(
                f"there is no {records!r} in the answer, which has: {keys}",
                "Correct `rest.records`: the path of keys to the array of records.",
            )
        # dlt asks for the JSON several times; it is parsed once.
        response.json = lambda **_: page  # type: ignore[method-assign]

    def _records(self, page: Any, number: int) -> list[dict[str, Any]]:
        for position, record in enumerate(page, start=1):
            if not isinstance(record, dict):
                raise SourceFailed(
                    f"page {number}: record {position} is a {type(record).__name__}, an object is "
                    "expected",
                    key="ingest.rest.records",
                    hint="Correct `rest.records`: the path of keys to the array of records.",
                    **self._where,
                )
        return list(page)

    @contextmanager
    def _explained(self, pages: _Pages) -> Iterator[None]:
        """Turns what goes wrong with a page into an error that says which page, where and why."""
        import requests

        try:
            yield
        except IngestionError:
            raise
        except _PageFault as fault:
            raise self._failed(pages, fault.url, fault.message, fault.hint) from None
        except requests.HTTPError as error:
            raise self._refused(pages, error) from error
        except requests.RequestException as error:
            url = str(error.request.url) if error.request is not None else self._connection.url
            reason = why_unanswered(error, self._source.page_timeout)
            raise SourceUnreachable(
                f"{_safe(url)} does not answer: {reason} (page {pages.read + 1}, {self._tries})",
                hint=f"Check connections.{self._connection.name}.url and that the service runs; "
                "nothing of this table was landed.",
                **self._where,
            ) from error
        except ValueError as error:
            raise self._failed(pages, self._connection.url, first_line(error), "") from error

    @property
    def _tries(self) -> str:
        # Tenacity, which dlt's session retries with, counts on the function that it wraps.
        count = getattr(getattr(self._session, "send", None), "statistics", {})
        return counted(int(count.get("attempt_number", 1)), "attempt")

    def _failed(self, pages: _Pages, url: str | None, message: str, hint: str) -> SourceFailed:
        return SourceFailed(
            f"{_safe(url)}, page {pages.read + 1}: {message}",
            hint=f"{hint} Nothing of this table was landed.".strip(),
            **self._where,
        )

    def _refused(self, pages: _Pages, error: requests.HTTPError) -> IngestionError:
        response = error.response
        assert response is not None
        status = response.status_code
        text = (
            f"{_safe(response.url)} answered {status} {response.reason or ''}".rstrip()
            + f" (page {pages.read + 1}, {self._tries})"
        )
        if status in (401, 403, 407):
            key = f"connections.{self._connection.name}"
            hint = f"Check the secret in {key} and `rest.auth` in the declaration."
            return SourceUnreachable(f"the login is refused: {text}", hint=hint, **self._where)
        hint = {
            404: "Check `rest.path` in the declaration and the URL of the connection.",
            429: "The API limits requests; run again later.",
        }.get(status, "Run again later." if status >= 500 else "Check `rest.params`.")
        hint += " Nothing of this table was landed."
        return SourceFailed(text, hint=hint, **self._where)


class _PageFault(Exception):
    """Something is wrong with the content of a page."""

    def __init__(self, message: str, hint: str = "", url: str | None = None) -> None:
        self.message, self.hint, self.url = message, hint, url
        super().__init__(message)


class _Pages:
    """A paginator that counts, stops where the declaration says so, and never goes in circles.

    Args:
        inner: dlt's paginator, which knows how one page leads to the next.
        ingest: The table's declaration.
        base_url: Address of the API: the secret goes to no other host.
        incremental: Its parameter is not repeated beside a page's cursor.

    Attributes:
        read: Number of pages read.
    """

    def __init__(
        self, inner: Any, ingest: RestTable, base_url: str, incremental: RestIncremental | None
    ) -> None:
        self._inner = inner
        self._declared = ingest.rest.paginator
        self._base = urlsplit(base_url)
        self._incremental = incremental
        self._seen: set[str] = set()
        self._ended = False
        self.read = 0

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
        self._inner.update_state(response, data)
        self.read += 1
        page = response.json()
        end = getattr(self._declared, "end_path", None)
        if end and _value(page, end) is True:
            self._ended = True
        more = self._declared.has_more_path if self._declared.type == "next_url" else None
        if more and _value(page, more) is False:
            self._ended = True

    def update_request(self, request: requests.Request) -> None:
        """Turns the request into that for the next page."""
        if not self.has_next_page:
            return
        self._inner.update_request(request)
        if self._declared.type == "cursor" and self._incremental:
            # dlt keeps the parameters as the dictionary that was given to it.
            assert isinstance(request.params, dict)
            request.params.pop(self._incremental.param, None)
            request.params.pop(self._incremental.until_param or "", None)
        address = str(request.url)
        target = urlsplit(urljoin(self._base.geturl(), address))
        downgraded = self._base.scheme == "https" and target.scheme != "https"
        if target.hostname != self._base.hostname or downgraded:
            raise _PageFault(
                f"the next page lies at {_safe(address)}, not on the API's own host",
                "The secret is not sent there; correct the connection's URL if that host is meant.",
            )
        if not self._remember(request):
            raise _PageFault(
                "its successor is a page that has been read already",
                "Correct `rest.paginator`; `end_path` or `has_more_path` say where pages end.",
            )

    def _remember(self, request: requests.Request) -> bool:
        place = json.dumps([request.url, request.params, request.json], default=str, sort_keys=True)
        new = place not in self._seen
        self._seen.add(place)
        return new


class _Writing:
    """Writes pages beside the thread that asks for the next one.

    Args:
        spooler: Where they go.
    """

    _AT_ONCE = 4

    def __init__(self, spooler: _TextSpooler) -> None:
        self._spooler = spooler
        self._pool = ThreadPoolExecutor(1, "write")
        self._pages: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            while self._pages:
                self._pages.popleft().result()
            self._spooler.close()

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Takes a page; waits if the disk is slower than the API."""
        if len(self._pages) >= self._AT_ONCE:
            self._pages.popleft().result()
        self._pages.append(self._pool.submit(self._spooler.add, records))


class _TextSpooler:
    """Writes records as Parquet files of text columns, a new one when a new field is met.

    Args:
        folder: Where to.
        where: `source` and `table`, for messages.
        is_first: Whether nothing has landed yet, so that a single file can be landed as it is.

    Attributes:
        files: The files written so far, in order.
        columns: Normalised names of the fields met, in order.
        rows: Number of records.
    """

    def __init__(self, folder: Path, where: Mapping[str, str], *, is_first: bool = False) -> None:
        self._folder = folder
        self._where = where
        self._is_first = is_first
        self._fields: dict[str, str] = {}
        self._writer: Any = None
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self.files: list[Path] = []
        self.rows = 0

    @property
    def columns(self) -> list[str]:
        """Normalised names of the fields met, in order."""
        return list(self._fields.values())

    @property
    def is_ready(self) -> bool:
        """Whether what was written can be landed as it is."""
        return self._is_first and len(self.files) == 1

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Takes the records of one page; what is written at once are many pages."""
        if not records:
            return
        known = self._fields.keys()
        if not all(record.keys() <= known for record in records):
            names = list(dict.fromkeys([*known, *(name for r in records for name in r)]))
            self.close()
            self._fields = dict(column_mapping(names, **self._where))
        table = _text_table(records, self._fields)
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self._pending_bytes += table.nbytes
        self.rows += table.num_rows
        if self._pending_rows >= ROW_GROUP or self._pending_bytes >= _MOST_PENDING:
            self._flush()

    def close(self) -> None:
        """Ends the last file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._pending:
            return
        table = pa.concat_tables(self._pending)
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._is_first:
            table = table.append_column(DELETED, pa.repeat(False, table.num_rows))
        if self._writer is None:
            self.files.append(self._folder / f"records-{len(self.files):06d}.parquet")
            codec = "zstd" if self._is_first else "lz4"
            self._writer = pq.ParquetWriter(self.files[-1], table.schema, compression=codec)
        self._writer.write_table(table)


def _text_table(records: Sequence[Mapping[str, Any]], fields: Mapping[str, str]) -> pa.Table:
    """Records as one Arrow table of texts."""
    import pyarrow as pa

    return pa.table(
        {
            column: _text_array([record.get(name) for record in records])
            for name, column in fields.items()
        }
    )


def _text_array(values: list[Any]) -> pa.Array:
    """Values as an Arrow array of texts; at once where they are all of one simple type."""
    import pyarrow as pa

    kinds = {*map(type, values)} - {type(None)}
    if kinds <= {str, _Number}:
        return pa.array(values, pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_()).cast(pa.string())
    if kinds == {int}:
        # Longer ones are texts already, as they were sent.
        return pa.array(values, pa.int64()).cast(pa.string())
    return pa.array([_text(value) for value in values], pa.string())


class _Number(str):
    """A number as it was sent."""


def _parsed(response: requests.Response) -> Any:
    """The body of a response as Python values; numbers that a float would change as `_Number`."""
    import orjson

    body = response.content.removeprefix(b"\xef\xbb\xbf")
    charset = (response.encoding or "utf-8").lower()
    if "charset" in response.headers.get("Content-Type", "") and charset not in ("utf-8", "utf8"):
        body = body.decode(charset, "strict").encode()
    try:
        if not _INEXACT.search(body):
            return orjson.loads(body)
    except orjson.JSONDecodeError:
        logger.debug("not strictly JSON, trying again")
    try:
        return json.loads(
            body, parse_float=_Number, parse_int=_integer, parse_constant=lambda name: name
        )
    except ValueError as error:
        raise _no_json(response, body, error) from None


def _integer(text: str) -> int | _Number:
    return int(text) if len(text) < 19 else _Number(text)


def _no_json(response: requests.Response, body: bytes, error: ValueError) -> _PageFault:
    kind = response.headers.get("Content-Type", "").partition(";")[0] or "no content type"
    start = body[:60].decode("utf-8", "replace").strip()
    if "html" in kind or start[:9].lower() in ("<!doctype", "<html>") or start.startswith("<html"):
        return _PageFault(
            "the answer is an HTML page, perhaps a login page, where JSON is expected",
            "Check the URL of the connection and the secret.",
            response.url,
        )
    if not body.strip():
        return _PageFault("the answer is empty where JSON is expected", "", response.url)
    return _PageFault(
        f"the answer ({kind}, {len(body):,} bytes) is not valid JSON: {error}; it begins {start!r}",
        "Check `rest.path`; the service may have broken off.",
        response.url,
    )


def _text(value: Any) -> str | None:
    """A field as text: as it was sent, nested values as JSON."""
    if value is None or type(value) is str:
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str | int):
        return str(value)
    import orjson

    return orjson.dumps(value, default=_raw, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


def _raw(value: Any) -> Any:
    import orjson

    return orjson.Fragment(str(value))


def _value(page: Any, path: str) -> Any:
    for key in path.removeprefix("$.").split("."):
        page = page.get(key) if isinstance(page, dict) else None
    return page


def _has_path(page: Any, path: str) -> bool:
    parent, _, last = path.removeprefix("$.").rpartition(".")
    holder = _value(page, parent) if parent else page
    return isinstance(holder, dict) and last in holder


def _start(incremental: RestIncremental, landed: Any, window: timedelta) -> int | str:
    """Value of the incremental parameter, in the API's own format."""
    value = landed if landed is not None else _moment(incremental.initial)
    if isinstance(value, Decimal):
        seconds = Decimal(str(window.total_seconds())) if landed is not None else Decimal(0)
        scale = 1000 if value >= _MILLISECONDS_FROM else 1
        return int(value - seconds * scale)
    if isinstance(value, str):
        return value
    if landed is not None:
        value = value - window
    if incremental.format == "epoch":
        return int(value.timestamp())
    return incremental.initial if landed is None else value.strftime("%Y-%m-%dT%H:%M:%SZ")


def _bound(incremental: RestIncremental, day: date) -> int | str:
    """A day's beginning in the API's own format."""
    moment = midnight(day)
    if incremental.format == "epoch":
        seconds = int(moment.timestamp())
        initial = _moment(incremental.initial)
        in_milliseconds = isinstance(initial, Decimal) and initial >= _MILLISECONDS_FROM
        return seconds * 1000 if in_milliseconds else seconds
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str) -> Any:
    """A start as a time, a number, or the text itself."""
    if re.fullmatch(r"\d{5,}", text):
        return Decimal(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def authorisation(source: RestSource, connection: Connection) -> Any:
    """Authorisation of the declared type, with the connection's secrets.

    Args:
        source: The declaration of the API.
        connection: Where its secrets are.

    Raises:
        ConnectionMissing: The connection lacks a key that the authorisation needs.
    """
    from dlt.sources.helpers.rest_client.auth import APIKeyAuth, BearerTokenAuth, HttpBasicAuth

    auth = source.auth
    match auth.type:
        case "bearer":
            return BearerTokenAuth(token=connection.option(auth.key or "token"))
        case "api_key":
            key = connection.option(auth.key or "api_key")
            return APIKeyAuth(name=auth.name, api_key=key, location=auth.location)
        case "basic":
            user = connection.option("username")
            return HttpBasicAuth(username=user, password=connection.option(auth.key or "password"))
        case _:
            return None


def _safe(url: str | None) -> str:
    from dlt.sources.helpers.rest_client.redaction import sanitize_url

    return redact(sanitize_url(url)) if url else "the API"


def why_unanswered(error: requests.RequestException, timeout: float) -> str:
    """Why a request got no answer, in a few words."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "it broke off in the middle of a page"
    text = str(error)
    for sign, meaning in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "the host's name is not known"),
        ("name resolution", "the host's name is not known"),
        ("CERTIFICATE", "its certificate is not accepted"),
        ("Remote end closed", "it closed the connection"),
        ("Connection aborted", "it closed the connection"),
        ("IncompleteRead", "it broke off in the middle of a page"),
    ):
        if sign in text:
            return meaning
    return first_line(error)
