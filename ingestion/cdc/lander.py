"""Lands the changes of one database, as they come or up to now.

lock -> publication, slot -> tables to read (`reading`) -> log -> `Following` -> `ChangeLoad`
-> landed -> confirmed to the server -> and on

A load ends where a transaction ends. The server may forget its log only behind what has landed, and
what it sends again after a restart is passed by its position, so that nothing is lost or doubled.
Left out: what a row becomes (`shape`), its files (`writing`), MariaDB's log (`binlog_session`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from ingestion.cdc.following import Following
from ingestion.cdc.pgoutput import Begin, Committed, Truncated, decode, lsn_text
from ingestion.cdc.pgoutput import Change as LogChange
from ingestion.cdc.pgoutput import Table as LogTable
from ingestion.cdc.reading import Reader
from ingestion.cdc.replication import Replication
from ingestion.cdc.server import Server
from ingestion.cdc.session import Session, note_status, read_status
from ingestion.cdc.writing import ChangeLoad, Checkpoint
from ingestion.connections import Connection, resolve
from ingestion.database import explained
from ingestion.declarations import SourceDeclaration
from ingestion.errors import IngestionError, LockHeld, SourceFailed
from ingestion.failpoints import failpoint
from ingestion.lander.written import state_folder
from ingestion.progress import interruption
from ingestion.settings import Settings

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_CATALOG_SECONDS = 5.0
_CONFIRM_SECONDS = 5.0
_STATUS_SECONDS = 1.0
# After a death the server may need a moment to see that the slot's reader is gone.
_SLOT_SECONDS = 15.0
_LONGEST_PAUSE = 30.0


@dataclass
class Landed:
    """What a lander has landed of one table.

    Attributes:
        read: Changes and rows that the source told.
        rows: Rows that landed.
        deleted: Of these, marks of deletion.
    """

    read: int = 0
    rows: int = 0
    deleted: int = 0


class ChangeLander:
    """Lands one source of kind `cdc`; one at a time for a source.

    Args:
        declaration: The source.
        settings: The project's settings.
        on_landed: Called with the load's id after each load.

    Attributes:
        landed: What has landed so far, by table.
        files: Files that have landed so far.
        started_at: When it was made (ISO 8601, UTC).
        last_landed_at: When the last load was made durable, Unix time.
    """

    def __init__(
        self,
        declaration: SourceDeclaration,
        settings: Settings,
        on_landed: Callable[[str], None] | None = None,
    ) -> None:
        self._declaration = declaration
        self._settings = settings
        self._on_landed = on_landed
        self.landed = {table.name: Landed() for table in declaration.all_tables}
        self.files = 0
        self.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.last_landed_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Lands until told to stop; what may pass is waited for.

        Raises:
            IngestionError: Something that does not pass by waiting.
        """
        pause = 1.0
        with self._lock():
            while not stop.is_set():
                began = time.monotonic()
                try:
                    self._session(stop, until_now=False)
                    return
                except IngestionError as error:
                    state = "waiting" if error.may_pass else "failed"
                    note_status(
                        self._settings, self._declaration.name, state=state, error=error.sentence
                    )
                    if not error.may_pass:
                        raise
                    # One that held for a while is not the one before again.
                    pause = 1.0 if time.monotonic() - began > _LONGEST_PAUSE else pause
                    log.warning("%s: %s; again in %d s", self._declaration.name, error, pause)
                    stop.wait(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)

    def catch_up(self) -> None:
        """Lands everything that has been committed by now.

        Raises:
            LockHeld: A lander is at work on this source: it lands by itself.
            IngestionError: The database or its log cannot be read.
        """
        with self._lock():
            self._session(threading.Event(), until_now=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        path = state_folder(self._settings) / f"{self._declaration.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockHeld(
                    "a lander is at work on it already",
                    source=self._declaration.name,
                    hint="One is enough: `wellspring status` shows it.",
                ) from None
            yield

    def _session(self, stop: threading.Event, *, until_now: bool) -> None:
        """One connection's life."""
        from ingestion.databases.postgres import Postgres

        connection = resolve(self._declaration.connection or "")
        if is_mysql(connection):
            from ingestion.cdc.binlog_session import run_session

            run_session(connection, self, self._declaration, self._settings, stop, until_now)
            return
        with explained(Postgres(connection), self._declaration, None):
            server = Server(connection, self._declaration)
            try:
                _Session(self, server, self._declaration, self._settings, stop).go(until_now)
            finally:
                server.close()

    def note(self, load: ChangeLoad) -> None:
        """Counts a load that has landed."""
        for name, writer in load.tables.items():
            landed = self.landed.setdefault(name, Landed())
            landed.read += writer.read
            landed.rows += writer.rows
            landed.deleted += writer.deleted
        self.files += sum(writer.rows > 0 for writer in load.tables.values())
        self.last_landed_at = time.time()
        if self._on_landed is not None:
            self._on_landed(load.load_id)


class _Session(Session):
    """The log, from the checkpoint on, by one connection."""

    def __init__(
        self,
        lander: ChangeLander,
        server: Server,
        declaration: SourceDeclaration,
        settings: Settings,
        stop: threading.Event,
    ) -> None:
        super().__init__(server, declaration, settings, lander.note)
        self._lander = lander
        self._server = server
        self._stop = stop
        self._begin: Begin | None = None
        self._passed = False
        self._confirmed = self._told = 0.0
        self._durable = 0
        # One at a time uses the connection: this thread, or the one that keeps it alive.
        self._wire = threading.Lock()
        self._sent = (0, 0)

    def go(self, until_now: bool) -> None:
        """Reads the log until now, or until told to stop."""
        self._server.check()
        with Replication(self._server.url) as replication:
            self._replication = replication
            self._system, self._timeline = replication.identity()
            start = self._prepare()
            self._position = self._durable = start
            self._start(start)
            with self._kept_alive():
                self._follow(until_now)

    # Before the log

    def _prepare(self) -> int:
        """Publication, slot and tables; returns the position from which to read."""
        server, checkpoint = self._server, self._checkpoint
        reader = Reader(server, self._declaration, self._settings)
        structures = reader.structures(known=checkpoint.tables if checkpoint else {})
        server.publish(list(structures.values()))
        why = self._gap()
        if why and checkpoint is not None:
            log.warning(
                "%s: %s. All tables are read again; what differs from landing is landed, changes "
                "that the log told in between are not in the history.",
                self._declaration.name,
                why,
            )
        failpoint("cdc.slot_made")
        if why:
            # Its position means nothing in this log: to confirm it would give up what is not read.
            self._checkpoint = checkpoint = None
        self._load = self._new_load()
        known = checkpoint.tables if checkpoint else {}
        self._following = Following(self._declaration, server, reader, known)
        self._following.due(structures)
        return checkpoint.lsn if checkpoint else 0

    def _gap(self) -> str:
        """Makes sure that there is a slot; returns why the log does not go on where we were."""
        server, checkpoint = self._server, self._checkpoint
        slot = server.slot()
        name = server.slot_name
        if slot is not None and slot.is_lost:
            server.drop_slot()
            server.make_slot()
            return f"the server gave up the log of the slot {name} (max_slot_wal_keep_size)"
        if slot is None:
            server.make_slot()
            return f"the slot {name} is gone" if checkpoint else "nothing has landed yet"
        if checkpoint is None:
            return "nothing has landed yet"
        if checkpoint.system != self._system:
            return "it is another database system than before"
        if checkpoint.timeline != self._timeline:
            return "the server was restored, or a standby took its place"
        if server.position() < checkpoint.lsn:
            return "the server's log ends before what has landed: it was restored"
        noted = int(read_status(self._settings, self._declaration.name).get("confirmed") or 0)
        if slot.confirmed > max(checkpoint.lsn, noted):
            return f"the slot {name} was made anew, or somebody else has read from it"
        return ""

    def _start(self, start: int) -> None:
        import psycopg

        deadline = time.monotonic() + _SLOT_SECONDS
        while True:
            try:
                server = self._server
                self._replication.start(server.slot_name, server.publication, start)
                return
            except psycopg.errors.ObjectInUse as error:
                if time.monotonic() > deadline:
                    raise SourceFailed(
                        f"somebody else reads from the slot {self._server.slot_name}: {error}",
                        source=self._declaration.name,
                        may_pass=True,
                        hint="End the other reader, or declare a slot of our own: cdc.slot.",
                    ) from error
                time.sleep(_POLL_SECONDS)

    @contextmanager
    def _kept_alive(self) -> Iterator[None]:
        """Gives the server signs of life while a long piece of work keeps us from reading."""
        import psycopg

        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_CONFIRM_SECONDS):
                if time.monotonic() - self._confirmed < _CONFIRM_SECONDS:
                    continue
                try:
                    with self._wire:
                        self._replication.confirm(*self._sent)
                except psycopg.Error:
                    # Whoever reads next meets the same, and knows what to do.
                    return

        thread = threading.Thread(target=beat, name="alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    # The log

    def _follow(self, until_now: bool) -> None:
        target = self._server.position() if until_now else None
        polled = time.monotonic()
        while not self._stop.is_set():
            with self._wire:
                messages = self._replication.receive(self._patience(_POLL_SECONDS))
            for data in messages:
                if data:
                    self._take(data)
                else:
                    self._confirm(ask=False)
            self._idle(asks=target is not None and not messages)
            if target is not None:
                interruption.check()
                if self._position >= max(target, self._following.furthest) and not self._begin:
                    break
                continue
            if self._begin is None and self._is_due():
                self._land()
            if time.monotonic() - polled > _CATALOG_SECONDS:
                polled = time.monotonic()
                self._following.look(self._beat)
        if not self._begin:
            self._land()
            self._confirm(ask=False)
        self._tell("ended")

    def _beat(self) -> None:
        """Keeps the connection alive while a table is being read."""
        self._confirm(ask=False)

    def _take(self, data: bytes) -> None:
        message = decode(data)
        if isinstance(message, LogChange):
            if not self._passed:
                self._following.change(message, self._load)
        elif isinstance(message, Begin):
            self._begin = message
            # The server sends again what it was not told of.
            self._passed = message.lsn < self._position
            if not self._passed:
                self._following.begin(message, self._load)
        elif isinstance(message, Committed):
            self._begin = None
            self._position = max(self._position, message.end_lsn)
            if self._is_full():
                self._land()
        elif isinstance(message, LogTable):
            self._following.table(message, self._beat)
        elif isinstance(message, Truncated) and not self._passed:
            self._following.truncated(message, self._load)

    def _idle(self, *, asks: bool) -> None:
        """Goes on over log that tells nothing of our tables, and says so to the server."""
        if self._begin is None:
            self._position = max(self._position, self._replication.seen)
            self._following.settle(self._position, self._load)
        now = time.monotonic()
        if asks or now - self._confirmed > _CONFIRM_SECONDS:
            self._confirm(ask=asks)
        if now - self._told > _STATUS_SECONDS:
            self._tell()

    # Landing

    def _land(self) -> None:
        """Lands what there is, and tells the server how far it has come."""
        checkpoint = Checkpoint(
            self._position,
            self._server.slot_name,
            self._system,
            self._timeline,
            dict(self._following.known),
        )
        if self._land_at(checkpoint):
            self._confirm(ask=False)
            failpoint("cdc.confirmed")

    def _confirm(self, *, ask: bool) -> None:
        """Tells the server what it may forget: all that has landed, or that said nothing to us."""
        if self._load.is_empty and self._begin is None:
            self._durable = max(self._durable, self._position)
            landed = self._checkpoint.lsn if self._checkpoint else 0
            noted = read_status(self._settings, self._declaration.name).get("confirmed") or 0
            # Noted first: a slot that is further than we ever said is not ours any more.
            if self._durable > max(landed, noted):
                self._tell()
        elif self._checkpoint is not None:
            self._durable = max(self._durable, self._checkpoint.lsn)
        self._sent = (max(self._position, self._durable), self._durable)
        with self._wire:
            self._replication.confirm(*self._sent, ask=ask)
        self._confirmed = time.monotonic()

    def _tell(self, state: str = "landing") -> None:
        """Notes for `wellspring status` how far the log has been landed."""
        self._told = time.monotonic()
        slot = self._server.slot()
        note_status(
            self._settings,
            self._declaration.name,
            state=state,
            pid=os.getpid(),
            started_at=self._lander.started_at,
            confirmed=self._durable,
            position=lsn_text(self._position),
            lag_bytes=max(0, self._server.position() - self._position),
            kept_bytes=slot.kept_bytes if slot else 0,
            rows=sum(landed.rows for landed in self._lander.landed.values()),
            files=self._lander.files,
            last_landed_at=self._lander.last_landed_at,
            error="",
        )


def is_mysql(connection: Connection) -> bool:
    """Whether a connection leads to a MariaDB or MySQL."""
    scheme = connection.url.partition("://")[0].partition("+")[0].lower()
    return scheme in ("mysql", "mariadb")


def probe(declaration: SourceDeclaration) -> str:
    """Logs in to a source's database and sees whether its log can be read.

    Returns:
        How the log is, for people.

    Raises:
        IngestionError: The database does not answer, or its log cannot be read.
    """
    from ingestion.databases.postgres import Postgres

    connection = resolve(declaration.connection or "")
    if is_mysql(connection):
        from ingestion.cdc.binlog_session import probe_log

        return probe_log(connection, declaration)
    with explained(Postgres(connection), declaration, None):
        server = Server(connection, declaration)
        try:
            server.check()
            for table in declaration.all_tables:
                server.structure(table)
            slot = server.slot()
        finally:
            server.close()
    if slot is None:
        return f"its log can be read; the slot {server.slot_name} is not made yet"
    if slot.is_lost:
        return f"the slot {server.slot_name} is lost: all tables will be read again"
    return f"its log can be read; {slot.kept_bytes / 1e6:,.1f} MB of it are kept for us"
