"""Lands from a system what it still has of the past and landing lacks.

a sequence number or a time -> a second reading from there up to the checkpoint -> messages whose
place no landed file has -> one more file, with the checkpoint as it was

So a place is never landed twice, and raw cannot double. It is for a stream whose first landing
began too late, or of which files were lost. Left out: reading landed files again, which `quarantine
replay` and `rebuild` do, and systems that do not keep what they have delivered.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput
from ingestion.evolution import literal
from ingestion.extract import prepare_extraction
from ingestion.lander.consumer import Consumer, Message
from ingestion.lander.stream import as_table, padded
from ingestion.lander.written import Newest, StreamFolder
from ingestion.landing import landed_files
from ingestion.settings import Settings
from ingestion.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

    from ingestion.declarations import TableDeclaration
    from ingestion.lander.landers import Work

_POLL_MESSAGES = 20_000
_FILE_MESSAGES = 100_000
_WAIT_SECONDS = 0.5
_SILENT_POLLS = 10


def replay_stream(work: Work, settings: Settings, start: str) -> int:
    """Lands what is missing between a place and the checkpoint.

    Args:
        work: The stream; no lander may be at work on it.
        settings: The project's settings.
        start: A sequence number, or a time (ISO 8601).

    Returns:
        How many messages were missing.

    Raises:
        LockHeld: A lander is at work on it.
        BadInput: It is no such place, or the system does not keep what it has delivered.
        IngestionError: The system cannot be read.
    """
    from ingestion.connections import resolve
    from ingestion.lander.decoding import prepare_decoding
    from ingestion.lander.opening import open_consumer

    prepare_extraction(settings)
    declaration, table = work.declaration, work.declaration.table(work.table)
    number = int(start) if re.fullmatch(r"\d+", start) else None
    if number is None:
        table = _from_time(table, start)
    connection = resolve(declaration.connection or "")
    consumer = open_consumer(declaration, table, connection)
    folder = StreamFolder(settings, declaration.name, table.name, consumer.width)
    with folder.lock(), closing(in_memory(settings)) as database:
        folder.clean()
        newest = folder.newest()
        if consumer.redelivers:
            raise _kept_nowhere(work)
        if not newest.checkpoint:
            return 0
        _list_landed(database, settings, work)
        decode = prepare_decoding(table.stream, settings.project_dir)
        missing = _Missing(folder, consumer, decode, database, newest)
        begin = {} if number is None else dict.fromkeys(newest.checkpoint, number - 1)
        try:
            consumer.open(begin)
            return missing.land()
        finally:
            consumer.close()


def _from_time(table: TableDeclaration, start: str) -> TableDeclaration:
    """The table as if its very first landing began at that time."""
    try:
        datetime.fromisoformat(start)
    except ValueError:
        raise BadInput(
            f"{start!r} is neither a sequence number nor a time",
            key="--replay-from",
            hint="Give a number, or a time such as 2026-01-31T00:00:00Z.",
        ) from None
    stream = table.stream.model_copy(update={"start": start})
    return replace(table, ingest=table.ingest.model_copy(update={"stream": stream}))


def _kept_nowhere(work: Work) -> BadInput:
    return BadInput(
        "its system keeps nothing of what it has delivered, so nothing can be read again",
        source=work.declaration.name,
        table=work.table,
        hint="What has landed can be loaded again: `wellspring quarantine replay`.",
    )


def _list_landed(database: duckdb.DuckDBPyConnection, settings: Settings, work: Work) -> None:
    """Makes a table of the places that are landed."""
    database.execute("create table landed (shard varchar, sequence varchar)")
    files = landed_files(settings, work.declaration.name, work.table)
    paths = list(dict.fromkeys(str(file.path) for file in files))
    for begin in range(0, len(paths), 1_000):
        listed = ", ".join(literal(path) for path in paths[begin : begin + 1_000])
        database.execute(
            "insert into landed select _shard, _sequence "
            f"from read_parquet([{listed}], hive_partitioning = false)"
        )


class _Missing:
    """Finds what is missing of a stream, and lands it."""

    def __init__(
        self,
        folder: StreamFolder,
        consumer: Consumer,
        decode: Any,
        database: duckdb.DuckDBPyConnection,
        newest: Newest,
    ) -> None:
        self._folder = folder
        self._consumer = consumer
        self._decode = decode
        self._database = database
        self._newest = newest.load_id
        self._checkpoint = newest.checkpoint
        self._found: list[Message] = []
        self._landed = 0

    def land(self) -> int:
        """Reads up to the checkpoint; returns how many messages were landed."""
        reached: dict[str, int] = {}
        silent = 0
        while silent < _SILENT_POLLS and not self._is_through(reached):
            messages = self._consumer.poll(_POLL_MESSAGES, _WAIT_SECONDS)
            silent = 0 if messages else silent + 1
            self._consumer.gaps()
            if messages:
                reached |= {message.shard: message.sequence for message in messages}
                self._found += self._not_landed(messages)
            if len(self._found) >= _FILE_MESSAGES:
                self._flush()
        self._flush()
        return self._landed

    def _is_through(self, reached: dict[str, int]) -> bool:
        return all(reached.get(s, -1) >= place for s, place in self._checkpoint.items())

    def _not_landed(self, messages: Sequence[Message]) -> list[Message]:
        import pyarrow as pa

        past = [m for m in messages if m.sequence <= self._checkpoint.get(m.shard, -1)]
        places = pa.table(
            {
                "position": pa.array(range(len(past)), pa.int64()),
                "shard": pa.array([m.shard for m in past], pa.string()),
                "sequence": padded([m.sequence for m in past], self._consumer.width),
            }
        )
        self._database.register("places", places)
        found = self._database.execute(
            "select position from places anti join landed using (shard, sequence) order by position"
        ).fetchall()
        self._database.unregister("places")
        return [past[position] for (position,) in found]

    def _flush(self) -> None:
        if not self._found:
            return
        messages, self._found = self._found, []
        content, _ = as_table(messages, self._decode, self._consumer.width)
        names = (messages[0].sequence, messages[-1].sequence)
        written = self._folder.write(content, names, self._checkpoint, [], self._newest)
        self._newest = written.load_id
        self._landed += len(messages)
