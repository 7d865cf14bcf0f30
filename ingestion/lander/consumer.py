"""What a lander asks of every system that delivers messages.

checkpoint (from landing) -> `open` -> `poll`, `poll`, ... -> file durable -> `landed` -> `close`

A message has a place: its shard and a sequence number that grows within the shard. Places make
exactly once: what lies at or before the checkpoint is never landed again. Left out: how messages
become files, which the lander knows, and what they mean, which decoding knows.

A consumer is made as `<System>Consumer(declaration, table, connection)`, which opens nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Last landed sequence number by shard; a system without shards has one of an empty name.
Checkpoint = Mapping[str, int]


class Message(NamedTuple):
    """One message as the system delivered it; a tuple, for there are many of them.

    Attributes:
        sequence: Its place within the shard; the system's own number where it has one.
        data: Its bytes, unchanged.
        topic: Where it was sent to: subject, topic, key of the stream or path.
        key: Its key, where the system has keys.
        headers: Its headers, where the system has them.
        published_at: When the system took it, in microseconds since 1970 (UTC); None if unknown.
        shard: The part of the stream within which sequence numbers grow.
        redelivered: Whether the system says that it may have delivered this message before.
    """

    sequence: int
    data: bytes
    topic: str = ""
    key: str | None = None
    headers: Mapping[str, str] | None = None
    published_at: int | None = None
    shard: str = ""
    redelivered: bool = False


@dataclass(frozen=True)
class Gap:
    """Messages that the system gave up before they were landed.

    Attributes:
        shard: The part of the stream.
        first: The first missing sequence number.
        last: The last missing one.
        reason: Why, for people.
    """

    shard: str
    first: int
    last: int
    reason: str


class Consumer(ABC):
    """Reads one stream from one place on; used by one thread.

    Attributes:
        width: Digits of the widest sequence number: files and rows pad to it, so that texts sort.
        redelivers: Whether the system may deliver again, under a new sequence number, what was
            landed but not yet confirmed: the lander then compares identities.
        keys_identify: Whether a message with a key is the same as a landed one with that key: its
            sender names each attempt alike.
        quiet: A stream that cannot tell its end has been read to the end when nothing came for so
            many seconds; None where nothing waits to be read.
    """

    width: int = 20
    redelivers: bool = False
    keys_identify: bool = False
    quiet: float | None = None

    @abstractmethod
    def open(self, checkpoint: Checkpoint) -> None:
        """Connects, and goes on behind the checkpoint; where it is empty, as declared by `start`.

        It may be called again after `close`. What lies at or before the checkpoint and was never
        confirmed may come again: the lander passes over it and confirms it.

        Raises:
            SourceUnreachable: The system does not answer, or refuses the login. With `may_pass`
                the lander tries again, for ever.
            SourceFailed: It has no such stream; the same holds.
        """

    @abstractmethod
    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """Messages that have arrived: at once if there are any, else after waiting for one.

        Within a shard they come in the order of their sequence numbers.

        Args:
            limit: At most about so many.
            seconds: How long to wait for the first one; may be 0.

        Raises:
            SourceUnreachable: The connection is lost; the lander opens anew behind its checkpoint.
        """

    @abstractmethod
    def landed(self, checkpoint: Checkpoint) -> None:
        """Everything up to here is durable: confirm it to the system, if that is its way."""

    @abstractmethod
    def end(self) -> Checkpoint | None:
        """Last sequence number there is to read now, by shard; None if the system cannot tell.

        Shards that have nothing to read are left out.
        """

    def full(self) -> bool:
        """Whether nothing more is delivered before what was polled is confirmed.

        The lander then closes its file at once, however small, and calls `landed`.
        """
        return False

    def gaps(self) -> Sequence[Gap]:
        """What was found missing since last asked."""
        return ()

    def waiting(self) -> int | None:
        """About how many messages are still to be read; None if the system does not say."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Ends the connection, also a broken one; nothing more is confirmed."""
