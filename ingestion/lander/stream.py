"""Lands one stream: takes messages, closes files, goes on behind what is landed.

lock -> newest file -> checkpoint -> consumer opened behind it -> poll, poll, ... -> file durable
-> confirmed -> poll, ...

Each message is landed exactly once: a killed lander goes on behind its newest file, and what comes
again is passed over by its place, or by its identity where places are given by us. A connection
that is lost is made anew, as long as it takes. Left out: which system it is (`Consumer`), what a
message means (`decoding`), and who starts landers (`landers`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.budget import require_free
from ingestion.errors import BadInput, IngestionError, disk_full, disk_full_error
from ingestion.failpoints import failpoint
from ingestion.lander.consumer import Consumer, Gap, Message
from ingestion.lander.decoding import Decode
from ingestion.lander.identities import Identities
from ingestion.lander.written import StreamFolder, Written
from ingestion.landing import check_whole, landed_files
from ingestion.progress import counted
from ingestion.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from ingestion.declarations import StreamEndpoint

log = logging.getLogger(__name__)

_POLL_MESSAGES = 20_000
# How soon a lander notices that it shall end, where nothing arrives.
_PATIENCE_SECONDS = 0.25
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
# A stream whose end cannot be reached any more: its last messages have expired.
_SILENCE_SECONDS = 5.0
_SPACE_SECONDS = 10.0
_data = attrgetter("data")
_shard = attrgetter("shard")


@dataclass
class Progress:
    """What a lander has done so far.

    Attributes:
        state: What it does now.
        rows: Messages landed.
        bytes: Size of the files.
        files: Files made durable.
        faults: Messages that could not be decoded; they are landed all the same.
        repeated: Messages that came again and were passed over.
        gaps: What the system gave up before it was landed.
        reconnects: How often the connection was made anew.
        checkpoint: Last landed sequence number by shard.
        waiting: About how many messages are still to be read; None if that is not known.
        last_file: Name of the newest file.
        last_landed_at: When it was made durable, Unix time.
        error: Why it waits, for people; empty if it does not.
    """

    state: str = "starting"
    rows: int = 0
    bytes: int = 0
    files: int = 0
    faults: int = 0
    repeated: int = 0
    gaps: list[Gap] = field(default_factory=list)
    reconnects: int = 0
    checkpoint: dict[str, int] = field(default_factory=dict)
    waiting: int | None = None
    last_file: str = ""
    last_landed_at: float | None = None
    error: str = ""


OnProgress = Callable[[Progress], None]


class StreamLander:
    """Lands one stream of messages; used by one thread.

    Args:
        settings: The project's settings.
        source: Name of the source.
        table: Name of the table.
        endpoint: Which messages these are.
        consumer: What reads them.
        decode: What decodes them.
        stop: Set to end it: what has arrived is landed first.
        on_progress: Told of what it does, some times a second.

    Attributes:
        progress: What it has done so far.
    """

    def __init__(
        self,
        settings: Settings,
        source: str,
        table: str,
        endpoint: StreamEndpoint,
        consumer: Consumer,
        decode: Decode,
        *,
        stop: threading.Event | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.progress = Progress()
        self._settings = settings
        self._source, self._table = source, table
        self._endpoint = endpoint
        self._consumer = consumer
        self._decode = decode
        self._stop = stop or threading.Event()
        self._on_progress = on_progress
        self._folder = StreamFolder(settings, source, table, consumer.width)
        self._identities = None
        if consumer.redelivers:
            self._identities = Identities(endpoint, decode, by_key=consumer.keys_identify)
        self._newest = ""
        self._newest_path: Path | None = None
        self._checkpoint: dict[str, int] = {}
        self._arrived: dict[str, int] = {}
        self._buffer: list[Message] = []
        self._buffered = 0
        self._began = 0.0
        self._gaps: list[Gap] = []
        self._room_checked = 0.0

    def stop(self) -> None:
        """Lets it land what has arrived, and end; may be called by any thread."""
        self._stop.set()

    # The two ways to land

    def run(self) -> Progress:
        """Lands what arrives until it is told to stop.

        Raises:
            LockHeld: Another lander is at work on the stream.
            SourceUnreachable: The login is refused.
            SourceFailed: There is no such stream, and waiting would not help.
            DiskFull: There is no room; nothing was confirmed that is not landed.
        """
        with self._folder.lock():
            self._recover()
            wait = _FIRST_WAIT_SECONDS
            while not self._stop.is_set():
                try:
                    self._open()
                    wait = _FIRST_WAIT_SECONDS
                    self._land(lambda: self._stop.is_set())
                except IngestionError as error:
                    if not error.may_pass:
                        raise
                    self._flush(confirm=False)
                    self._tell_waiting(error, wait)
                    self._stop.wait(wait)
                    wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
                finally:
                    self._consumer.close()
            self._tell("ended")
        return self.progress

    def catch_up(self) -> Progress:
        """Lands what there is now, and no more; nothing where nothing waits to be read.

        Raises:
            LockHeld: Another lander is at work on the stream.
            SourceUnreachable: The system does not answer, or refuses the login.
            SourceFailed: There is no such stream.
            DiskFull: There is no room.
        """
        with self._folder.lock():
            self._recover()
            try:
                self._open()
                end = self._consumer.end()
                if end:
                    self._land(self._at(end))
                elif end is None and self._consumer.quiet is not None:
                    self._land(self._silent_for(self._consumer.quiet))
            finally:
                try:
                    self._flush(confirm=False)
                finally:
                    self._consumer.close()
            self._tell("ended")
        return self.progress

    def _at(self, end: Any) -> Callable[[], bool]:
        """Whether everything up to the end has arrived, or will never."""
        last = time.monotonic()
        seen: dict[str, int] = {}

        def reached() -> bool:
            nonlocal last, seen
            if self._stop.is_set():
                return True
            if all(self._arrived.get(shard, -1) >= place for shard, place in end.items()):
                return True
            if self._arrived != seen:
                seen, last = dict(self._arrived), time.monotonic()
            if time.monotonic() - last < _SILENCE_SECONDS:
                return False
            log.warning("%s.%s: its last messages do not come", self._source, self._table)
            return True

        return reached

    def _silent_for(self, seconds: float) -> Callable[[], bool]:
        """Whether nothing has arrived for so long."""
        last = time.monotonic()
        seen: dict[str, int] = {}

        def silent() -> bool:
            nonlocal last, seen
            if self._arrived != seen:
                seen, last = dict(self._arrived), time.monotonic()
            return self._stop.is_set() or time.monotonic() - last >= seconds

        return silent

    # Connection

    def _recover(self) -> None:
        """Goes back to what is landed, whatever was going on before."""
        self._folder.clean()
        newest = self._folder.newest()
        self._newest, self._checkpoint = newest.load_id, dict(newest.checkpoint)
        self._newest_path = newest.path
        self.progress.checkpoint = self._checkpoint
        if self._identities is not None:
            self._identities.recall(landed_files(self._settings, self._source, self._table))

    def _open(self) -> None:
        self._tell("connecting")
        self._arrived = dict(self._checkpoint)
        self._consumer.open(self._checkpoint)
        if not self._checkpoint and self._endpoint.start == "latest":
            self._begin_at_end()
        self.progress.error = ""
        self._tell("landing")

    def _begin_at_end(self) -> None:
        """Lands where the stream ended at first: whatever arrives from now on is not lost."""
        end = self._consumer.end()
        if end is None:
            return
        self._consumer.close()
        self._arrived = {shard: max(place, 0) for shard, place in end.items()}
        self._write([], (0, 0))
        self._consumer.open(self._checkpoint)

    def _tell_waiting(self, error: IngestionError, wait: float) -> None:
        if self.progress.error != str(error):
            log.warning("%s.%s: %s", self._source, self._table, error.sentence)
        self.progress.error = str(error)
        self.progress.reconnects += 1
        self._tell(f"waiting {wait:.1f} s to connect")

    # Landing

    def _land(self, ended: Callable[[], bool]) -> None:
        """Takes messages and closes files until it has ended."""
        while not ended():
            messages = self._consumer.poll(_POLL_MESSAGES, self._time_to_wait())
            self._take_gaps()
            if messages:
                self._take(messages)
            if self._is_due():
                self._flush()
            self.progress.waiting = self._consumer.waiting()
            self._tell("landing")
        self._flush()

    def _time_to_wait(self) -> float:
        if not self._buffer:
            return _PATIENCE_SECONDS
        left = self._began + self._endpoint.flush.seconds - time.monotonic()
        return min(max(left, 0.0), _PATIENCE_SECONDS)

    def _is_due(self) -> bool:
        flush = self._endpoint.flush
        return bool(self._buffer) and (
            len(self._buffer) >= flush.rows
            or self._buffered >= flush.megabytes * 1_000_000
            or time.monotonic() - self._began >= flush.seconds
            or self._consumer.full()
        )

    def _take_gaps(self) -> None:
        for gap in self._consumer.gaps():
            shard = f" of shard {gap.shard}" if gap.shard else ""
            log.warning(
                "%s.%s: messages %s to %s%s are lost to us: %s",
                *(self._source, self._table, gap.first, gap.last, shard, gap.reason),
            )
            self._gaps.append(gap)
            self.progress.gaps.append(gap)

    def _take(self, messages: Sequence[Message]) -> None:
        """Buffers what is new."""
        new = self._behind(messages)
        if self._identities is not None:
            new = self._identities.new(new)
        repeated = len(messages) - len(new)
        if repeated:
            self.progress.repeated += repeated
            if not self._buffer and not new:
                # Landed before, but the system has not heard of it: else it would ask for ever.
                self._advance(messages)
                self._consumer.landed(self._arrived)
        if not self._buffer:
            self._began = time.monotonic()
        self._buffer += new
        self._buffered += sum(map(len, map(_data, new)))
        self._advance(messages)

    def _behind(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Messages that lie behind what has arrived."""
        shards = set(map(_shard, messages))
        if len(shards) == 1:
            place = self._arrived.get(messages[0].shard)
            if place is None or messages[0].sequence > place:
                return messages
        arrived = self._arrived
        return [m for m in messages if m.shard not in arrived or m.sequence > arrived[m.shard]]

    def _advance(self, messages: Sequence[Message]) -> None:
        last = {message.shard: message.sequence for message in messages}
        for shard, sequence in last.items():
            if sequence > self._arrived.get(shard, -1):
                self._arrived[shard] = sequence

    def _flush(self, *, confirm: bool = True) -> None:
        """Makes what is buffered durable, and confirms it."""
        if not self._buffer:
            return
        messages, self._buffer, self._buffered = self._buffer, [], 0
        self._write(messages, (messages[0].sequence, messages[-1].sequence))
        failpoint("land.durable")
        if confirm:
            self._consumer.landed(self._checkpoint)
            failpoint("land.confirmed")

    def _write(self, messages: Sequence[Message], names: tuple[int, int]) -> None:
        self._check_place()
        self._check_room()
        try:
            content, faults = as_table(messages, self._decode, self._consumer.width)
            gaps, self._gaps = self._gaps, []
            written = self._folder.write(content, names, self._arrived, gaps, self._newest)
        except OSError as error:
            if disk_full(error):
                place = self._settings.landing_dir
                raise disk_full_error(place, error, source=self._source) from error
            raise
        self._newest, self._checkpoint = written.load_id, dict(self._arrived)
        self._newest_path = written.path
        self._count(written, faults)

    def _check_place(self) -> None:
        """What is landed must still be what this lander goes on behind.

        Raises:
            BadInput: Landing is being restored, or was removed.
        """
        check_whole(self._settings)
        if self._newest_path is not None and not self._newest_path.is_file():
            raise BadInput(
                "the newest file of the stream was removed while a lander was at work on it",
                source=self._source,
                table=self._table,
                file=self._newest_path,
                hint="Nothing more is landed. Start `wellspring land` again: it goes on behind "
                "what is there now.",
            )

    def _check_room(self) -> None:
        """Ends before the disk is full, as a run does; asked now and then."""
        now = time.monotonic()
        if not self._room_checked or now - self._room_checked >= _SPACE_SECONDS:
            self._room_checked = now
            require_free(self._settings, f"{self._source}.{self._table} is not landed further")

    def _count(self, written: Written, faults: int) -> None:
        progress = self.progress
        progress.rows += written.rows
        progress.bytes += written.bytes
        progress.files += 1
        progress.faults += faults
        progress.checkpoint = self._checkpoint
        progress.last_file, progress.last_landed_at = written.path.name, time.time()
        if faults:
            told = counted(faults, "message")
            log.warning(
                "%s.%s: %s cannot be decoded; landed as they are in %s, rejected once loaded",
                *(self._source, self._table, told, written.path.name),
            )

    def _tell(self, state: str) -> None:
        self.progress.state = state
        if self._on_progress is not None:
            self._on_progress(self.progress)


def as_table(messages: Sequence[Message], decode: Decode, width: int) -> tuple[pa.Table, int]:
    """Messages as they are landed, and how many of them cannot be decoded.

    Args:
        messages: The messages, in order.
        decode: What decodes them.
        width: Digits to which sequence numbers are padded.
    """
    import pyarrow as pa

    columns = list(zip(*messages, strict=True)) or [()] * len(Message._fields)
    sequence, data, topic, key, headers, published_at, shard, _ = columns
    decoded = decode(data)
    faults = decoded.faults
    original: Any = pa.nulls(len(messages), pa.binary())
    reasons: Any = pa.nulls(len(messages), pa.string())
    if faults:
        kept = [data[n] if n in faults else None for n in range(len(messages))]
        original = pa.array(kept, pa.binary())
        reasons = pa.array([faults.get(n) for n in range(len(messages))], pa.string())
    content = {
        "_sequence": padded(sequence, width),
        "_shard": pa.array(shard, pa.string()),
        "_topic": pa.array(topic, pa.string()),
        "_key": pa.array(key, pa.string()),
        "_headers": _texts_of(headers),
        "_published_at": pa.array(published_at, pa.timestamp("us", "UTC")),
        "payload": pa.array(decoded.payloads, pa.string()),
        "original": original,
        "fault": reasons,
    }
    return pa.table(content), len(faults)


def padded(sequence: Sequence[int], width: int) -> Any:
    """Sequence numbers as texts that sort like numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        texts = pc.cast(pa.array(sequence, pa.uint64()), pa.string())
    except OverflowError:
        # Kinesis counts further than any machine does.
        texts = pa.array(map(str, sequence), pa.string())
    return pc.utf8_lpad(texts, width, "0")


def _texts_of(headers: Sequence[Any]) -> Any:
    """Headers as JSON; NULL where there are none."""
    import pyarrow as pa

    if not any(headers):
        return pa.nulls(len(headers), pa.string())
    texts = [json.dumps(one, ensure_ascii=False) if one else None for one in headers]
    return pa.array(texts, pa.string())
