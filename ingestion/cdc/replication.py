"""The replication protocol: a connection that streams the log, by libpq itself.

`Replication` -> `command` (slots) -> `start` -> `receive`, `receive`, ... with `confirm` between

psycopg's connections know nothing of this protocol, its binding of libpq does. Nothing is confirmed
by itself: what the server may forget is decided only by who has made it durable.
Left out: what the messages mean, which `pgoutput` knows.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from ingestion.cdc.pgoutput import lsn_text
from ingestion.databases.base import CONNECT_SECONDS

# Texts must not depend on settings of the server or the user: as for reading tables.
_OPTIONS = (
    "-c timezone=UTC -c datestyle=ISO,YMD -c intervalstyle=postgres -c extra_float_digits=3 "
    "-c bytea_output=hex -c statement_timeout=0 -c client_encoding=UTF8"
)
_EPOCH_SHIFT = 946_684_800.0
_DATA, _ALIVE = ord("w"), ord("k")
_KEEPALIVE = struct.Struct(">cqqB")


class Replication:
    """A connection in replication mode.

    Args:
        url: The database's address.

    Attributes:
        seen: The server has told everything before this position; of transactions that are on
            their way, the messages tell more.
    """

    def __init__(self, url: str) -> None:
        from psycopg import conninfo, pq

        given = conninfo.conninfo_to_dict(url)
        options = f"{given.get('options') or ''} {_OPTIONS}".strip()
        given.setdefault("connect_timeout", CONNECT_SECONDS)
        given |= {"replication": "database", "options": options}
        given["application_name"] = "wellspring"
        text = conninfo.make_conninfo("", **given)
        # Which of libpq's bindings this is is decided when it is imported.
        self._pq: Any = pq.PGconn.connect(text.encode())
        if self._pq.status != pq.ConnStatus.OK:
            raise self._error()
        self.seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; a temporary slot goes with it."""
        self._pq.finish()

    def command(self, text: str) -> list[dict[str, str | None]]:
        """Executes a command of the replication protocol and returns its rows.

        Raises:
            psycopg.Error: The server refused it.
        """
        from psycopg import pq

        result = self._pq.exec_(text.encode())
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise self._refused(result)
        names = [(result.fname(n) or b"").decode() for n in range(result.nfields)]
        rows = []
        for row in range(result.ntuples):
            values = [result.get_value(row, n) for n in range(result.nfields)]
            texts = [None if value is None else bytes(value).decode() for value in values]
            rows.append(dict(zip(names, texts, strict=True)))
        return rows

    def identity(self) -> tuple[str, int]:
        """The system's number, which a restored copy shares, and its timeline, which it does not.

        Raises:
            psycopg.Error: The connection is lost.
        """
        (told,) = self.command("IDENTIFY_SYSTEM")
        return told["systemid"] or "", int(told["timeline"] or 0)

    def start(self, slot: str, publication: str, lsn: int) -> None:
        """Begins to stream the transactions that end behind a position.

        Raises:
            psycopg.Error: The server refused it.
        """
        from psycopg import pq

        named = publication.replace('"', '""').replace("'", "''")
        result = self._pq.exec_(
            f'START_REPLICATION SLOT "{slot}" LOGICAL {lsn_text(lsn)} '
            f"(proto_version '1', publication_names '\"{named}\"')".encode()
        )
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise self._refused(result)
        self.seen = lsn

    def receive(self, seconds: float, limit: int = 10_000) -> list[bytes]:
        """Messages that have arrived; waits for the first one.

        Args:
            seconds: How long to wait if there is none.
            limit: At most so many.

        Raises:
            psycopg.Error: The connection is lost.
        """
        found = self._arrived(limit)
        if found or seconds <= 0:
            return found
        select.select([self._pq.socket], [], [], seconds)
        self._pq.consume_input()
        return self._arrived(limit)

    def _arrived(self, limit: int) -> list[bytes]:
        found: list[bytes] = []
        get = self._pq.get_copy_data
        while len(found) < limit:
            size, data = get(1)
            if size == 0:
                if found:
                    break
                # What the socket holds already is taken without waiting.
                self._pq.consume_input()
                size, data = get(1)
                if size == 0:
                    break
            if size < 0:
                raise self._ended()
            if data[0] == _DATA:
                found.append(bytes(data[25:]))
            elif data[0] == _ALIVE:
                _, end, _, wants_answer = _KEEPALIVE.unpack_from(data)
                self.seen = max(self.seen, end)
                if wants_answer:
                    found.append(b"")
                    break
        return found

    def confirm(self, received: int, durable: int, *, ask: bool = False) -> None:
        """Tells the server how far we are.

        Args:
            received: Everything before this position has been received.
            durable: Everything before this position may be forgotten.
            ask: Whether the server shall answer at once where it is.
        """
        moment = int((time.time() - _EPOCH_SHIFT) * 1_000_000)
        message = struct.pack(">cqqqqB", b"r", received, durable, durable, moment, ask)
        self._pq.put_copy_data(message)
        self._pq.flush()

    def _ended(self) -> Exception:
        result = self._pq.get_result()
        return self._error() if result is None else self._refused(result)

    def _refused(self, result: Any) -> Exception:
        import psycopg
        from psycopg import errors, pq

        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        told = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        if state is None:
            return self._error()
        try:
            kind = errors.lookup(state.decode())
        except KeyError:
            kind = psycopg.OperationalError
        error: Exception = kind(told.decode(errors="replace"))
        return error

    def _error(self) -> Exception:
        import psycopg

        told = self._pq.error_message.decode(errors="replace").strip()
        return psycopg.OperationalError(told or "the server ended the connection")


def make_slot(replication: Replication, name: str, *, temporary: bool) -> dict[str, str | None]:
    """Creates a slot; a temporary one exports the snapshot of its consistent point.

    Raises:
        psycopg.Error: The server refused it.
    """
    kind, snapshot = ("TEMPORARY ", "EXPORT") if temporary else ("", "NOEXPORT")
    (made,) = replication.command(
        f'CREATE_REPLICATION_SLOT "{name}" {kind}LOGICAL pgoutput {snapshot}_SNAPSHOT'
    )
    return made


def joined(names: Sequence[str]) -> str:
    """A list for a sentence: `a, b and c`."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
