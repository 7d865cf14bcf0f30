"""Reads the tables of an HTTP API that answers in JSON, by what is declared of it alone.

declaration -> what to ask for -> pages (retried, bounded, paced) -> records -> spool -> delta

With `incremental`, the API is asked from the highest landed cursor minus `window` on. A table with
a `parent` is asked for once per row of that table, several rows at the same time, handed on in the
parent's order. Nothing of a table lands unless the last page of all was read.

Left out: authorisation that a person has to agree to, answers that are no JSON (`kind: python`).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ingestion.connections import resolve
from ingestion.database import OnTable, Reading, skipped
from ingestion.declarations import RestTable, SourceDeclaration, TableDeclaration
from ingestion.delta import Delta, Spool, quoted, scan
from ingestion.errors import DeclarationError, DeclarationFault, SourceFailed
from ingestion.landing import column_mapping
from ingestion.periods import Period
from ingestion.progress import counted, interruption
from ingestion.rest.asking import Api, Ask, Asking
from ingestion.rest.bounds import NoTime, bound, end_of, start_of
from ingestion.rest.declared import RestIncremental, filled
from ingestion.rest.pages import value_at, whole
from ingestion.rest.parents import Parents
from ingestion.rest.records import TextSpooler, Writing
from ingestion.settings import Settings

logger = logging.getLogger(__name__)

_TABLES_AT_ONCE = 4
_PAGES_WAITING = 4
Records = list[dict[str, Any]]


def read_tables(
    declaration: SourceDeclaration,
    settings: Settings,
    full_refresh: bool,
    on_table: OnTable,
    period: Period | None = None,
) -> None:
    """Reads every table of an API, some of them at the same time, each after its parent.

    Args:
        declaration: The source.
        settings: The project's settings.
        full_refresh: Whether `incremental` starts again at its `initial` value.
        on_table: See `database.read_tables`.
        period: Read the records of it, whatever has landed.

    Raises:
        ConnectionMissing: The connection, or a key that the authorisation needs, is not configured.
        DeclarationError: The connection's URL is not one of HTTP.
    """
    api = _api(declaration)
    outcomes: dict[str, Future[Sequence[Path] | None]] = {}

    def work(table: TableDeclaration) -> Sequence[Path] | None:
        parent = table.rest.rest.parent
        before = outcomes.get(parent.table) if parent is not None else None

        def read(delta: Delta, folder: Path) -> Reading:
            new = before.result() if before is not None else ()
            if new is None:
                assert parent is not None
                raise SourceFailed(
                    f"not read, because its parent {parent.table} failed",
                    hint="It is read with the next run, once its parent is mended.",
                )
            reader = _TableReader(declaration, settings, table, api, new)
            if period is not None:
                return reader.read_period(delta, folder, period)
            return reader.read(delta, folder, full_refresh)

        return on_table(table, read)

    with ThreadPoolExecutor(_TABLES_AT_ONCE, f"read-{declaration.name}") as pool:
        # A parent begins before its children, so that none of them can wait for it in vain.
        for table in sorted(declaration.tables, key=lambda table: _depth(table, declaration)):
            outcomes[table.name] = pool.submit(work, table)
        for outcome in outcomes.values():
            outcome.result()


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
    endpoint = table.rest.rest
    assert endpoint.total is not None
    where: dict[str, Any] = {"source": declaration.name, "table": table.name}
    start: int | str | None = None
    if endpoint.incremental is not None:
        start = start_of(endpoint.incremental, landed, timedelta(0))
        # Times of APIs are whole seconds: the one that has landed is not to come again.
        if landed is not None and isinstance(start, int):
            start += 1
    page = Asking(_api(declaration), endpoint, where).first_page(_ask(table.rest, start, None))
    found = value_at(page, endpoint.total)
    number = whole(found)
    if number is None:
        raise SourceFailed(
            f"there is no number at {endpoint.total!r} in the answer, but {found!r}",
            key="ingest.rest.total",
            hint="Correct `rest.total`: the path of keys to the number of all records.",
            **where,
        )
    return number


def _api(declaration: SourceDeclaration) -> Api:
    assert declaration.connection is not None
    assert declaration.rest is not None
    connection = resolve(declaration.connection)
    if urlsplit(connection.url).scheme not in ("http", "https"):
        found = f"connections.{connection.name}.url = {connection.safe_url}"
        place = (declaration.file, declaration.name, None, "ingest.connection")
        raise DeclarationError(
            [DeclarationFault(*place, found, "an address with http:// or https://")]
        )
    return Api(declaration.rest, connection)


def _depth(table: TableDeclaration, source: SourceDeclaration) -> int:
    """How many parents are above a table."""
    tables = {other.name: other for other in source.tables}
    depth, parent = 0, table.rest.rest.parent
    while parent is not None and parent.table in tables:
        depth, parent = depth + 1, tables[parent.table].rest.rest.parent
    return depth


def _ask(
    ingest: RestTable,
    start: int | str | None,
    end: int | str | None,
    row: Mapping[str, str] | None = None,
) -> Ask:
    """What is asked for with these bounds, for a row of the parent."""
    endpoint, incremental = ingest.rest, ingest.rest.incremental
    row = row or {}
    in_path = {name: quote(value, safe="") for name, value in row.items()}
    params = filled(endpoint.params, row) if row else dict(endpoint.params)
    body = filled(endpoint.body, row)
    if incremental is not None:
        places = (
            (start, incremental.param, incremental.body_path),
            (end, incremental.until_param, incremental.until_body_path),
        )
        for value, param, path in places:
            if value is not None and param:
                params[param] = _templated(incremental, value)
            elif value is not None and path:
                _put(body, path, _templated(incremental, value))
    parent = endpoint.parent
    include = {name: row[column] for name, column in parent.include.items()} if parent else {}
    return Ask(filled(endpoint.path, in_path) if row else endpoint.path, params, body, include)


def _templated(incremental: RestIncremental, value: int | str) -> int | str:
    if incremental.template == "{value}":
        return value
    return incremental.template.replace("{value}", str(value))


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    """Sets a value of a request's body; what is missing on the way is made."""
    *parents, last = path.removeprefix("$.").split(".")
    for key in parents:
        body = body.setdefault(key, {})
    body[last] = value


@dataclass
class _Tally:
    """What was read, over all rows of a parent."""

    pages: int = 0
    totals: tuple[int, ...] = ()


class _TableReader:
    """Reads one table.

    Args:
        declaration: Its source.
        settings: The project's settings.
        table: The table.
        api: Where it is read from.
        new: Files that are about to land of its parent in this run.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        settings: Settings,
        table: TableDeclaration,
        api: Api,
        new: Sequence[Path],
    ) -> None:
        self._table: RestTable = table.rest
        self._api = api
        self._where: dict[str, Any] = {"source": declaration.name, "table": table.name}
        has_parent = table.rest.rest.parent is not None
        self._parents = Parents(settings, declaration, table, new) if has_parent else None
        self._rows = 0

    def read(self, delta: Delta, folder: Path, full_refresh: bool) -> Reading:
        """Reads all pages from where landing ends."""
        ingest = self._table
        cursor = self._mapping().get(ingest.cursor) if ingest.cursor else None
        incremental, start, first, end = ingest.rest.incremental, None, None, None
        if incremental is not None:
            landed = None if full_refresh or cursor is None else delta.high_water(cursor)
            try:
                start = start_of(incremental, landed, ingest.window)
            except NoTime as error:
                raise SourceFailed(
                    f"the highest landed value of its cursor {cursor}, {str(error)!r}, is no time",
                    key="ingest.rest.incremental.format",
                    hint="Name a cursor that holds times in ISO 8601 or since 1970, or leave "
                    "`format` out.",
                    **self._where,
                ) from None
            first, end = start_of(incremental, None, timedelta(0)), end_of(incremental)
        asks = self._asks(start, first, end, everything=full_refresh)
        return self._read(delta, folder, asks, {"start": start, "end": end})

    def read_period(self, delta: Delta, folder: Path, period: Period) -> Reading:
        """Reads all pages of a period; all from its whole stretch on where the API knows no end."""
        incremental = self._table.rest.incremental
        if incremental is not None and incremental.has_until:
            start, end = bound(incremental, period.start), bound(incremental, period.end)
            asks = self._asks(start, start, end, everything=True)
            return self._read(delta, folder, asks, {"start": start, "end": end})
        note = "read whole: the declaration has no rest.incremental"
        if incremental is not None:
            note = f"read from {period.whole_start} on: rest.incremental has no until_param"
        if not period.is_first:
            return skipped(note)
        given = bound(incremental, period.whole_start) if incremental is not None else None
        asks = self._asks(given, given, None, everything=True)
        return replace(self._read(delta, folder, asks, {"start": given}), note=note)

    def _asks(
        self,
        start: int | str | None,
        first: int | str | None,
        end: int | str | None,
        *,
        everything: bool,
    ) -> list[Ask]:
        """What to ask for: once, or once for each row of the parent."""
        if self._parents is None:
            return [_ask(self._table, start, end)]
        rows = self._parents.rows(everything)
        if self._parents.without:
            logger.warning(
                "%s.%s: %s of its parent cannot be asked for, because a value of it is null",
                self._where["source"],
                self._where["table"],
                counted(self._parents.without, "row"),
            )
        self._rows = len(rows)
        return [_ask(self._table, first if row.is_new else start, end, row.values) for row in rows]

    def _mapping(self) -> Mapping[str, str]:
        """Normalised name by declared name, of key and cursor."""
        ingest = self._table
        names = [*ingest.primary_key, *([ingest.cursor] if ingest.cursor else [])]
        return column_mapping(list(dict.fromkeys(names)), **self._where)

    def _read(
        self, delta: Delta, folder: Path, asks: Sequence[Ask], bounds: Mapping[str, Any]
    ) -> Reading:
        """Reads all pages of all that is asked for."""
        ingest, mapping = self._table, self._mapping()
        cursor = mapping[ingest.cursor] if ingest.cursor else None
        spooler = TextSpooler(folder, self._where, is_first=delta.is_first)
        tally = _Tally()
        with Writing(spooler) as writing, _answers(self._api, ingest, self._where, asks) as pages:
            for records in pages(tally):
                writing.add(records)
        key = [mapping[name] for name in ingest.primary_key]
        self._check_key(key, spooler)
        spool = Spool(
            spooler.files,
            key,
            cursor if cursor in spooler.columns else None,
            is_ready=spooler.is_ready,
        )
        shifted = self._shifted(delta, spool, spooler.rows, tally)
        statement = self._statement(spooler.rows, tally.pages, bounds) + shifted
        bounded = any(value is not None for value in bounds.values())
        return Reading(spool, statement, is_whole=not bounded and self._parents is None)

    def _statement(self, rows: int, pages: int, bounds: Mapping[str, Any]) -> str:
        incremental = self._table.rest.incremental
        told = f"read {counted(rows, 'record')} in {counted(pages, 'page')}"
        if self._parents is not None:
            told += f" for {counted(self._rows, 'row')} of its parent"
        if incremental is None:
            return told
        start = incremental.param or incremental.body_path
        end = incremental.until_param or incremental.until_body_path
        given = [
            f"{name} = {bounds[place]}"
            for name, place in ((start, "start"), (end, "end"))
            if bounds.get(place) is not None
        ]
        if not given:
            return told
        bounded = f" from {given[0]} on" if len(given) == 1 else f" with {' and '.join(given)}"
        return told + bounded

    def _check_key(self, key: Sequence[str], spooler: TextSpooler) -> None:
        missing = [name for name in key if spooler.rows and name not in spooler.columns]
        if missing:
            raise SourceFailed(
                f"no record has the field {missing[0]!r} of the primary key",
                key="ingest.primary_key",
                hint=f"The records have: {', '.join(spooler.columns)}.",
                **self._where,
            )

    def _shifted(self, delta: Delta, spool: Spool, rows: int, tally: _Tally) -> str:
        """Tells if records moved from page to page while numbered pages were read."""
        paginator = self._table.rest.paginator
        if paginator is None or paginator.type not in ("page", "offset") or tally.pages < 2:
            return ""
        signs = []
        if spool.key and spool.files and self._parents is None:
            names = ", ".join(quoted(name) for name in spool.key)
            (found,) = delta.connection.execute(
                f"select count(*) from (select distinct {names} from {scan(spool.files)})"
            ).fetchone() or (rows,)
            if found < rows:
                signs.append(f"{counted(rows - found, 'record')} came twice")
            rows = found
        last = tally.totals[-1] if tally.totals else None
        if last is not None and tally.totals[0] != last:
            signs.append(f"the API said {tally.totals[0]:,} records first and {last:,} at the end")
        if last is not None and rows < last and self._parents is None:
            signs.append(f"{counted(rows, 'record')} of {last:,} were read")
        if not signs:
            return ""
        logger.warning(
            "%s.%s: records moved between pages while they were read (%s). Nothing is counted "
            "twice, but a record may have been passed over: the next run reads it if the table is "
            "read whole or `window` reaches back to it. Pages by cursor do not move.",
            self._where["source"],
            self._where["table"],
            "; ".join(signs),
        )
        return f"; records moved between pages: {'; '.join(signs)}"


@contextmanager
def _answers(
    api: Api, ingest: RestTable, where: Mapping[str, Any], asks: Sequence[Ask]
) -> Iterator[Any]:
    """Yields a function that gives all pages of all that is asked for, in order."""
    if len(asks) == 1:

        def in_turn(tally: _Tally) -> Iterator[Records]:
            asking = Asking(api, ingest.rest, where)
            yield from asking(asks[0])
            tally.pages, tally.totals = asking.pages.read, tuple(asking.pages.totals)

        yield in_turn
        return
    side_by_side = _SideBySide(api, ingest, where, asks)
    try:
        yield side_by_side.pages
    finally:
        side_by_side.close()


class _SideBySide:
    """Asks for several rows of a parent at the same time, and hands their pages on in order.

    Args:
        api: The API.
        ingest: The table's declaration.
        where: `source` and `table`, for messages.
        asks: What is asked for.
    """

    def __init__(
        self, api: Api, ingest: RestTable, where: Mapping[str, Any], asks: Sequence[Ask]
    ) -> None:
        self._api, self._ingest, self._where, self._asks = api, ingest, where, asks
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(api.source.connections, "ask")

    def pages(self, tally: _Tally) -> Iterator[Records]:
        """The pages of all, those of the first row first."""
        # One more than is under way, so that a thread that is done finds the next.
        ahead = self._api.source.connections + 1
        waiting = [self._begin(ask) for ask in self._asks[:ahead]]
        for place in range(len(self._asks)):
            found, done = waiting.pop(0)
            while (records := _next(found, done)) is not None:
                yield records
            tally.pages += done.result()
            if place + ahead < len(self._asks):
                waiting.append(self._begin(self._asks[place + ahead]))

    def close(self) -> None:
        """Ends what is under way."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, ask: Ask) -> tuple[queue.Queue[Records | None], Future[int]]:
        found: queue.Queue[Records | None] = queue.Queue(_PAGES_WAITING)
        return found, self._pool.submit(self._work, ask, found)

    def _work(self, ask: Ask, found: queue.Queue[Records | None]) -> int:
        asking = Asking(self._api, self._ingest.rest, self._where)
        try:
            for records in asking(ask):
                self._hand_on(found, records)
            return asking.pages.read
        finally:
            self._hand_on(found, None)

    def _hand_on(self, found: queue.Queue[Records | None], records: Records | None) -> None:
        """Waits while the rows before this one are not done, unless all of it has ended."""
        while not self._stop.is_set():
            interruption.check()
            try:
                found.put(records, timeout=_LOOK_UP_SECONDS)
            except queue.Full:
                continue
            return


_LOOK_UP_SECONDS = 0.2


def _next(found: queue.Queue[Records | None], done: Future[int]) -> Records | None:
    """The next page of a row; None behind its last one."""
    while True:
        try:
            return found.get(timeout=_LOOK_UP_SECONDS)
        except queue.Empty:
            if done.done() and found.empty():
                return None
