"""MariaDB's log, event by event, as the few things that matter to change capture.

server -> library's events -> `Start`, `Group`, `Statement`, `RowsOf`, `GroupEnd`, `Idle`

One connection reads one stretch: the library would connect again by itself in the middle of a
transaction and lose the rest of it, so it may not. Left out: what the events mean for landing.
"""

from __future__ import annotations

import logging
import os
import platform
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingestion.cdc.binlog_values import LogTable, Row, log_table
from ingestion.cdc.mariadb import MariadbServer, position
from ingestion.errors import BadInput, SourceFailed
from ingestion.settings import Settings

_HEARTBEAT_SECONDS = 0.2
_SILENCE_SECONDS = 60
# While a table is read whole nobody takes what the server sends.
_PATIENCE_SECONDS = 86_400
_STANDALONE, _PREPARED = 1, 64
_COMPRESSED = range(165, 172)
_NO_SUCH_PLACE = (1236, 29, 13)


class LogBroken(Exception):
    """The log does not go on at the position that was asked for."""


@dataclass(frozen=True, slots=True)
class Start:
    """A file of the log begins, or is entered.

    Attributes:
        made_at: When the server began it, Unix time; no other file of this name has the same.
    """

    made_at: int


@dataclass(frozen=True, slots=True)
class Group:
    """A transaction begins, or a statement that is one.

    Attributes:
        place: Where it begins.
        number: Its sequence number.
        at: When, Unix time.
        is_prepared: Whether it is one of two phases, of which this is the first.
    """

    place: int
    number: int
    at: int
    is_prepared: bool


@dataclass(frozen=True, slots=True)
class GroupEnd:
    """A transaction is over."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that the log tells as such.

    Attributes:
        schema: The database that was in use.
        text: The statement.
    """

    schema: str
    text: str


@dataclass(frozen=True, slots=True)
class RowsOf:
    """Rows were inserted, updated or deleted.

    Attributes:
        schema: The table's database.
        table: Its name.
        layout: How the rows look; None if the log does not say all of it.
        operation: What happened.
        rows: The rows; of an update each before and after.
    """

    schema: str
    table: str
    layout: LogTable | None
    operation: str
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing for now, or nothing of interest."""


Event = Start | Group | GroupEnd | Statement | RowsOf | Idle


class Log:
    """The log from a position on.

    Args:
        server: The database.
        settings: The project's settings.
        source: Name of the source.
        start: Where to begin: at the end of a transaction.
        tables: Names of the tables of which rows are wanted.
    """

    def __init__(
        self,
        server: MariadbServer,
        settings: Settings,
        source: str,
        start: int,
        tables: Sequence[str],
    ) -> None:
        import pymysql

        self._source = source
        self._server = server
        self._connected = 0
        self._layouts: dict[str, LogTable] = {}
        self._in_statement = False

        def connect(**how: Any) -> Any:
            self._connected += 1
            if self._connected > 2:
                raise pymysql.OperationalError(2055, "the connection to the log broke")
            return pymysql.connect(**how)

        file = server.files().get(start >> 32)
        if file is None:
            raise LogBroken("the server has let go of that part of its log")
        self._reader = _reader(server, settings, source, file[0], start, tables, connect)
        self.position = start

    def close(self) -> None:
        """Ends the connection."""
        self._reader.close()

    def next(self) -> Event:
        """What comes next; waits a moment for it.

        Raises:
            LogBroken: The log does not begin where it should.
            SourceFailed: The log is of a kind that cannot be read.
        """
        import pymysql

        try:
            event = self._reader.fetchone()
        except pymysql.Error as error:
            if error.args and error.args[0] in _NO_SUCH_PLACE:
                raise LogBroken(f"the server says: {error.args[-1]}") from error
            raise
        if event is None:
            raise SourceFailed(
                "the server ended its log", source=self._source, may_pass=True, hint="Run again."
            )
        self.position = position(self._reader.log_file, self._reader.log_pos)
        return self._meaning(event)

    def _meaning(self, event: Any) -> Event:
        from pymysqlreplication import event as events
        from pymysqlreplication.row_event import RowsEvent

        if isinstance(event, RowsEvent):
            return self._rows(event)
        if isinstance(event, events.MariadbGtidEvent):
            packet = event.packet
            begins = (self.position >> 32 << 32) | (packet.log_pos - packet.event_size)
            self._in_statement = bool(event.flags & _STANDALONE)
            prepared = bool(event.flags & _PREPARED)
            return Group(begins, event.gtid_seq_no, event.timestamp, prepared)
        if isinstance(event, events.XidEvent):
            return GroupEnd()
        if isinstance(event, events.XAPrepareEvent):
            return Statement("", "XA PREPARE")
        if isinstance(event, events.QueryEvent):
            return self._statement(event)
        if isinstance(event, events.FormatDescriptionEvent):
            return Start(event.timestamp)
        if event.event_type in _COMPRESSED:
            raise SourceFailed(
                "the log has compressed events, which cannot be read",
                source=self._source,
                hint="set global log_bin_compress = OFF; then remove the files "
                f"_dlt_loads/cdc__* of landing/{self._source}: all tables are read again.",
            )
        return Idle()

    def _statement(self, event: Any) -> Event:
        text = event.query.strip()
        if text.upper() == "COMMIT":
            return GroupEnd()
        schema = event.schema.decode("utf-8", errors="replace")
        return Statement(schema, text)

    @property
    def in_statement(self) -> bool:
        """Whether the group consists of one statement, with which it ends."""
        return self._in_statement

    def _rows(self, event: Any) -> RowsOf:
        from pymysqlreplication.row_event import UpdateRowsEvent, WriteRowsEvent

        operation = "delete"
        bitmaps = [event.columns_present_bitmap]
        if isinstance(event, UpdateRowsEvent):
            operation = "update"
            bitmaps.append(event.columns_present_bitmap2)
        elif isinstance(event, WriteRowsEvent):
            operation = "insert"
        count = event.number_of_columns
        every = (1 << count) - 1
        whole = all(int.from_bytes(bitmap, "little") & every == every for bitmap in bitmaps)
        if not whole or any(column.name is None for column in event.columns):
            return RowsOf(event.schema, event.table, None, operation, ())
        layout = self._layout(event.columns)
        packet = event.packet
        data = packet.read(event.event_size - packet.read_bytes)
        return RowsOf(event.schema, event.table, layout, operation, list(layout.rows(data)))

    def _layout(self, columns: Sequence[Any]) -> LogTable:
        key = repr([vars(column) for column in columns])
        found = self._layouts.get(key)
        if found is None:
            found = self._layouts[key] = log_table(columns)
        return found


def _reader(
    server: MariadbServer,
    settings: Settings,
    source: str,
    file: str,
    start: int,
    tables: Sequence[str],
    connect: Any,
) -> Any:
    try:
        from pymysqlreplication import BinLogStreamReader
        from pymysqlreplication import event as events
        from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent
    except ImportError as error:
        raise BadInput(
            "the change log of a MariaDB needs the package mysql-replication",
            hint="Install it: uv sync --extra mysql-cdc",
        ) from error
    logging.getLogger("pymysqlreplication").setLevel(logging.ERROR)
    return BinLogStreamReader(
        connection_settings={
            **server.database.address,
            "read_timeout": _SILENCE_SECONDS,
            "init_command": f"set session net_write_timeout = {_PATIENCE_SECONDS}",
        },
        server_id=_our_number(settings, source),
        resume_stream=True,
        blocking=True,
        log_file=file,
        log_pos=start & 0xFFFFFFFF,
        only_tables=sorted(set(tables)),
        only_events=[
            events.FormatDescriptionEvent,
            events.RotateEvent,
            events.MariadbGtidEvent,
            events.QueryEvent,
            events.XidEvent,
            events.XAPrepareEvent,
            events.HeartbeatLogEvent,
            events.NotImplementedEvent,
            WriteRowsEvent,
            UpdateRowsEvent,
            DeleteRowsEvent,
        ],
        filter_non_implemented_events=False,
        slave_heartbeat=_HEARTBEAT_SECONDS,
        pymysql_wrapper=connect,
        enable_logging=False,
    )


def _our_number(settings: Settings, source: str) -> int:
    """The number under which the server knows us: it ends an older reader of the same number."""
    told = f"{platform.node()}{os.path.realpath(settings.landing_dir)}{source}"
    return zlib.crc32(told.encode()) | 1 << 31
