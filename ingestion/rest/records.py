"""From the body of an answer to records, and from records to Parquet files of text columns.

body -> parsed once, numbers as they were sent -> records -> one Arrow table a page -> spool

Top-level fields become text columns, nested values JSON text. What is written are many pages at
once, beside the thread that asks for the next one. Left out: which records a page has (`reading`).
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ingestion.delta import DELETED, ROW_GROUP
from ingestion.landing import column_mapping
from ingestion.rest.pages import PageFault

if TYPE_CHECKING:
    import pyarrow as pa
    import requests

logger = logging.getLogger(__name__)

_MOST_PENDING = 32 * 2**20
# Fractions, exponents and long integers: a float would not keep them as they were sent.
_INEXACT = re.compile(rb"[\s:,\[]-?\d+(?:\.\d|[eE][+-]?\d|\d{15})")


class Writing:
    """Writes pages beside the thread that asks for the next one.

    Args:
        spooler: Where they go.
    """

    _AT_ONCE = 4

    def __init__(self, spooler: TextSpooler) -> None:
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


class TextSpooler:
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


def parsed(response: requests.Response) -> Any:
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


def _no_json(response: requests.Response, body: bytes, error: ValueError) -> PageFault:
    kind = response.headers.get("Content-Type", "").partition(";")[0] or "no content type"
    start = body[:60].decode("utf-8", "replace").strip()
    if "html" in kind or start[:9].lower() in ("<!doctype", "<html>") or start.startswith("<html"):
        return PageFault(
            "the answer is an HTML page, perhaps a login page, where JSON is expected",
            "Check the URL of the connection and the secret.",
            response.url,
        )
    if not body.strip():
        return PageFault("the answer is empty where JSON is expected", "", response.url)
    return PageFault(
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
