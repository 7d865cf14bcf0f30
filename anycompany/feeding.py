"""Publishing a company's past to the message broker, each message once.

messages of all days so far, in order ─> how many the broker has ─> the rest, in bulk ─> note

A message's number in that order is its `Nats-Msg-Id`. The note says how many messages a stream had
when feeding last paused; what came after it, live events included, is looked through for
numbers, so a feeder that was killed goes on behind what reached the broker. Repeated
messages are a matter of the systems: they have numbers of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from nats.js import JetStreamContext

CHUNK = 2_000
_NUMBER = "Nats-Msg-Id"
# Seconds; how long a killed feeder's last messages may still be on their way.
_DUPLICATE_WINDOW = 120.0
_ATTEMPTS = 20
_ANSWER_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class Feed:
    """Everything that has been published to one JetStream stream, in order.

    The messages of a day are the first ones of each later day.

    Attributes:
        stream: Name of the stream.
        subjects: What the stream takes.
        topics: Subject of each message.
        payloads: Each message.
    """

    stream: str
    subjects: tuple[str, ...]
    topics: Sequence[str]
    payloads: Sequence[bytes]


def feed(url: str, folder: Path, day: int, feeds: Sequence[Feed]) -> None:
    """Publishes what the broker lacks of the company's past.

    Args:
        url: Address of the broker.
        folder: The broker's folder.
        day: Day number that the feeds are of.
        feeds: What there is to publish.

    Raises:
        RuntimeError: The broker did not take it.
    """
    notes = Notes(folder)
    for one in feeds:
        talk(_feed(url, notes, one))
    notes.finish(day)


def talk(conversation: Coroutine[Any, Any, T]) -> T:
    """Holds a conversation with the broker; its failures become a RuntimeError."""
    from nats.errors import Error

    try:
        return asyncio.run(conversation)
    except (Error, OSError) as problem:
        raise RuntimeError(
            f"The message broker failed ({type(problem).__name__}: {problem}). Try again."
        ) from problem


class Notes:
    """What is known of the broker's streams, kept beside it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fed.json"
        self._lock = folder / "feed.lock"

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        return {"day": None, "streams": {}}

    def _write(self, content: dict[str, Any]) -> None:
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(self._path)

    @property
    def day(self) -> int | None:
        """The day of which everything was fed."""
        found = self._read()["day"]
        return None if found is None else int(found)

    def finish(self, day: int) -> None:
        """Notes that everything of a day was fed."""
        self._write({**self._read(), "day": day})

    def of(self, stream: str) -> tuple[int, int]:
        """Returns how many messages were fed, and the stream's last sequence number then."""
        fed, sequence = self._read()["streams"].get(stream, (0, 0))
        return int(fed), int(sequence)

    def note(self, stream: str, fed: int, sequence: int) -> None:
        """Notes how many messages were fed up to a sequence number of the stream."""
        content = self._read()
        content["streams"][stream] = (fed, sequence)
        self._write(content)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other publishers of the company from counting the same sequence numbers."""
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


async def ensure_stream(js: JetStreamContext, stream: str, subjects: Sequence[str]) -> int:
    """Makes a stream unless there is one; returns its last sequence number."""
    from nats.js.api import StorageType, StreamConfig
    from nats.js.errors import NotFoundError

    try:
        info = await js.stream_info(stream)
    except NotFoundError:
        info = await js.add_stream(
            StreamConfig(
                name=stream,
                subjects=list(subjects),
                storage=StorageType.FILE,
                duplicate_window=_DUPLICATE_WINDOW,
            )
        )
    return int(info.state.last_seq)


async def publish(js: JetStreamContext, nc: Any, messages: Sequence[tuple[str, bytes, str]]) -> int:
    """Publishes messages in order and waits for the last; returns its sequence number.

    Args:
        js: The broker's streams.
        nc: The connection.
        messages: Subject, content and number of each; at least one.
    """
    for subject, payload, number in messages[:-1]:
        await nc.publish(subject, payload, headers={_NUMBER: number})
    subject, payload, number = messages[-1]
    # One connection's messages are taken in order: the last answer stands for all before it.
    answer = await js.publish(subject, payload, timeout=_ANSWER_SECONDS, headers={_NUMBER: number})
    return int(answer.seq)


async def _feed(url: str, notes: Notes, feed: Feed) -> None:
    import nats

    nc = await nats.connect(url, connect_timeout=5, max_reconnect_attempts=_ATTEMPTS)
    try:
        js = nc.jetstream()
        last = await ensure_stream(js, feed.stream, feed.subjects)
        fed = await _fed(js, notes, feed.stream, last)
        misses = 0
        while fed < len(feed.topics):
            with notes.alone():
                before = await ensure_stream(js, feed.stream, feed.subjects)
                end = min(fed + CHUNK, len(feed.topics))
                chunk = [
                    (feed.topics[at], feed.payloads[at], f"{feed.stream}-{at}")
                    for at in range(fed, end)
                ]
                after = await publish(js, nc, chunk)
                if after == before + len(chunk):
                    notes.note(feed.stream, end, after)
                    fed = end
                    continue
            # The broker had some of them already, or dropped some: look at what it has.
            misses += 1
            if misses > _ATTEMPTS:
                raise RuntimeError(
                    f"The message broker keeps only some of what is sent to {feed.stream}. "
                    "Start afresh with `anycompany reset`."
                )
            fed = await _fed(js, notes, feed.stream, after)
    finally:
        await nc.close()


async def _fed(js: JetStreamContext, notes: Notes, stream: str, last: int) -> int:
    """Returns how many of the past's messages a stream has."""
    from nats.js.api import ConsumerConfig, DeliverPolicy

    fed, sequence = notes.of(stream)
    if last < sequence:
        # A broker that lost its last messages, or all of them, is looked through from the start.
        fed, sequence = 0, 0
    if last == sequence:
        return fed
    subscription = await js.subscribe(
        ">",
        stream=stream,
        ordered_consumer=True,
        config=ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=sequence + 1,
            headers_only=True,
        ),
    )
    there = set()
    try:
        while sequence < last:
            message = await subscription.next_msg(timeout=_ANSWER_SECONDS)
            sequence = message.metadata.sequence.stream
            name, _, number = (message.headers or {}).get(_NUMBER, "").rpartition("-")
            if name == stream and number.isdigit():
                there.add(int(number))
    finally:
        await subscription.unsubscribe()
    while fed in there:
        fed += 1
    return fed
