"""Lands the changes that a MariaDB tells, as they come or up to now.

checkpoint -> does the log go on there? -> tables to read -> `Log` -> `BinlogFollowing` -> landed

The server keeps its log for as long as its settings say, whoever reads: nothing is confirmed to it,
and a log that is gone means that all tables are read again. A load ends where a transaction ends.
Left out: what PostgreSQL needs otherwise (`lander`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from ingestion.cdc.binlog import Group, GroupEnd, Log, LogBroken, RowsOf, Start, Statement
from ingestion.cdc.binlog_following import BinlogFollowing
from ingestion.cdc.binlog_values import Undecodable
from ingestion.cdc.mariadb import MariadbReader, MariadbServer, position_text
from ingestion.cdc.pgoutput import Begin
from ingestion.cdc.session import Session, note_status, read_status
from ingestion.cdc.writing import Checkpoint
from ingestion.connections import Connection
from ingestion.database import explained
from ingestion.databases.mysql import MySQL
from ingestion.declarations import SourceDeclaration
from ingestion.errors import SourceFailed
from ingestion.progress import interruption
from ingestion.settings import Settings

if TYPE_CHECKING:
    from ingestion.cdc.lander import ChangeLander

log = logging.getLogger(__name__)

_STATUS_SECONDS = 1.0


def run_session(
    connection: Connection,
    lander: ChangeLander,
    declaration: SourceDeclaration,
    settings: Settings,
    stop: threading.Event,
    until_now: bool,
) -> None:
    """One connection's life.

    Args:
        connection: Where the database is.
        lander: Told of what has landed.
        declaration: The source.
        settings: The project's settings.
        stop: Set to end it.
        until_now: Whether to end where the log ends now.
    """
    with explained(MySQL(connection), declaration, None):
        server = MariadbServer(connection, declaration)
        try:
            session = _BinlogSession(lander, server, declaration, settings, stop)
            session.go(until_now)
        except Undecodable as error:
            raise SourceFailed(
                f"values of a column cannot be told by the log: {error}",
                source=declaration.name,
                hint=f"Leave it out (exclude_columns: [{error.column}]), or read the source as "
                "kind: database.",
            ) from error
        finally:
            server.close()


def probe_log(connection: Connection, declaration: SourceDeclaration) -> str:
    """Logs in to a MariaDB and sees whether its log can be read.

    Returns:
        How the log is, for people.

    Raises:
        IngestionError: The database does not answer, or its log cannot be read.
    """
    with explained(MySQL(connection), declaration, None):
        server = MariadbServer(connection, declaration)
        try:
            server.check()
            for table in declaration.all_tables:
                server.structure(table)
            files = server.files()
        finally:
            server.close()
    size = sum(size for _, size in files.values())
    return f"its log can be read; the server keeps {size / 1e6:,.1f} MB of it"


class _BinlogSession(Session):
    """The log, from the checkpoint on, by one connection."""

    def __init__(
        self,
        lander: ChangeLander,
        server: MariadbServer,
        declaration: SourceDeclaration,
        settings: Settings,
        stop: threading.Event,
    ) -> None:
        super().__init__(server, declaration, settings, lander.note)
        self._lander = lander
        self._server = server
        self._stop = stop
        self._begin: Group | None = None
        self._made_at = 0
        self._entered = False
        self._file = 0
        self._told = 0.0

    def go(self, until_now: bool) -> None:
        """Reads the log until now, or until told to stop."""
        self._server.check()
        self._system = self._server.system
        why = self._gap()
        try:
            self._read(why, until_now)
        except LogBroken as broken:
            # Nothing has been taken yet: a log breaks off where it begins.
            self._load = self._new_load()
            self._read(str(broken), until_now)

    def _gap(self) -> str:
        """Why the log does not go on where we were; empty if it does."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return "nothing has landed yet"
        if checkpoint.system != self._system:
            return "it is another database server than before"
        files = self._server.files()
        start, _ = self._reached(checkpoint)
        name, size = files.get(start >> 32, ("", 0))
        if not name and (start >> 32) < min(files, default=0):
            return "the server has let go of the log behind what has landed (expire_logs_days)"
        if not name or size < start & 0xFFFFFFFF:
            return "the server's log ends before what has landed: it was reset or restored"
        return ""

    # Before the log

    def _read(self, why: str, until_now: bool) -> None:
        """Reads tables where the log alone does not do, and then the log."""
        if why and self._checkpoint is not None:
            log.warning(
                "%s: %s. All tables are read again; what differs from landing is landed, changes "
                "that the log told in between are not in the history.",
                self._declaration.name,
                why,
            )
        checkpoint = None if why else self._checkpoint
        known = checkpoint.tables if checkpoint else {}
        landed = self._checkpoint.tables if self._checkpoint else {}
        reader = MariadbReader(self._server, self._declaration, self._settings)
        structures = reader.structures(known=landed)
        following = BinlogFollowing(self._declaration, self._server, reader, known)
        self._following = following
        following.due(structures)
        start, self._made_at = following.furthest, 0
        if checkpoint is not None:
            start, self._made_at = self._reached(checkpoint)
        self._position = start
        self._begin, self._entered, self._file = None, False, start >> 32
        origins = [t.database.origin or t.name for t in self._declaration.all_tables]
        names = [*origins, *(structure.name for structure in structures.values())]
        log_ = Log(self._server, self._settings, self._declaration.name, start, names)
        try:
            self._follow(log_, until_now)
        finally:
            log_.close()

    def _reached(self, checkpoint: Checkpoint) -> tuple[int, int]:
        """Up to where the log is in landing, and when that file of the log was made."""
        noted = read_status(self._settings, self._declaration.name)
        # Log that said nothing to us need not be there any more, if the note is of this landing.
        if noted.get("after") == checkpoint.load_id and noted.get("system") == self._system:
            reached, made_at = noted.get("reached"), noted.get("made_at")
            if isinstance(reached, int) and isinstance(made_at, int) and reached > checkpoint.lsn:
                return reached, made_at
        return checkpoint.lsn, checkpoint.timeline

    # The log

    def _follow(self, log_: Log, until_now: bool) -> None:
        target = self._server.position() if until_now else None
        while not self._stop.is_set():
            if self._begin is None:
                self._following.settle(self._position, self._load)
            if target is not None:
                interruption.check()
                if self._is_at(max(target, self._following.furthest)):
                    break
            elif self._begin is None and self._is_due():
                self._land()
            if time.monotonic() - self._told > _STATUS_SECONDS:
                self._tell()
            self._take(log_)
        if self._begin is None:
            self._land()
        self._tell("ended")

    def _is_at(self, target: int) -> bool:
        """Whether the log has been read to a position, and between transactions."""
        return self._begin is None and self._entered and self._position >= target

    def _take(self, log_: Log) -> None:
        event = log_.next()
        following = self._following
        if isinstance(event, RowsOf):
            if self._begin is not None and not self._begin.is_prepared:
                following.rows(event, self._load, _nothing)
        elif isinstance(event, Group):
            self._begin = event
            following.begin(Begin(event.place, event.at * 1_000_000, event.number), self._load)
        elif isinstance(event, GroupEnd):
            self._end(log_)
        elif isinstance(event, Statement):
            following.statement(event, self._load, _nothing)
            if log_.in_statement or _ends(event.text):
                self._end(log_)
        elif isinstance(event, Start):
            self._enter(event, log_.position >> 32)
        # Between two files the new one's position would go with the time of the former.
        if self._begin is None and log_.position >> 32 == self._file:
            self._position = max(self._position, log_.position)

    def _enter(self, event: Start, file: int) -> None:
        """A file of the log: the one that we were in, or the next."""
        if self._made_at and not self._entered and event.made_at != self._made_at:
            raise LogBroken("the server's log was begun anew")
        self._made_at, self._file = event.made_at, file
        self._entered = True

    def _end(self, log_: Log) -> None:
        self._begin = None
        self._position = max(self._position, log_.position)
        if self._is_full():
            self._following.settle(self._position, self._load)
            self._land()

    # Landing

    def _land(self) -> None:
        """Lands what there is."""
        self._land_at(
            Checkpoint(
                self._position, "", self._system, self._made_at, dict(self._following.settled)
            )
        )

    def _tell(self, state: str = "landing") -> None:
        """Notes how far the log has been landed, for `wellspring status` and for the next start."""
        self._told = time.monotonic()
        reached: dict[str, Any] = {}
        clear = self._begin is None and self._load.is_empty and self._following.is_settled
        if clear and self._checkpoint is not None and self._entered:
            reached = {
                "after": self._checkpoint.load_id,
                "system": self._system,
                "reached": self._position,
                "made_at": self._made_at,
            }
        files = self._server.files()
        note_status(
            self._settings,
            self._declaration.name,
            state=state,
            pid=os.getpid(),
            started_at=self._lander.started_at,
            position=position_text(self._position),
            lag_bytes=_behind(files, self._position),
            kept_bytes=sum(size for _, size in files.values()),
            rows=sum(landed.rows for landed in self._lander.landed.values()),
            files=self._lander.files,
            last_landed_at=self._lander.last_landed_at,
            error="",
            **reached,
        )


def _behind(files: dict[int, tuple[str, int]], position: int) -> int:
    """Bytes of the log behind a position."""
    number = position >> 32
    later = sum(size for file, (_, size) in files.items() if file > number)
    here = files.get(number, ("", 0))[1]
    return later + max(0, here - (position & 0xFFFFFFFF))


def _ends(text: str) -> bool:
    """Whether a statement ends the transaction in which the log tells it."""
    words = text.upper().rstrip("; ").split()
    return (words[:1] == ["ROLLBACK"] and "TO" not in words) or words[:2] in (
        ["XA", "PREPARE"],
        ["XA", "COMMIT"],
        ["XA", "ROLLBACK"],
    )


def _nothing() -> None:
    """The server waits for us as long as it takes."""
