"""The gateway in front of the devices: publishes their messages over MQTT, each once.

messages of all days so far, in order ─> is there a session that takes them? ─> MQTT, QoS 1 ─> note

A broker keeps messages for sessions that it knows, and for nobody else. So the gateway holds them
back until somebody has subscribed, as gateways in the field do while their line is down. The note
says how many messages of each table were sent and what the broker had counted before the chunk that
is on its way: a gateway that was killed finds out by the broker's count how much of it arrived. It
leaves out more than one gateway: of several processes of a company one is at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from anycompany.broker import Addresses
    from anycompany.state import Home

logger = logging.getLogger(__name__)

CHUNK = 2_000
_STORE = "$MQTT_msgs"
_TOPICS = "$MQTT.msgs."
_CLIENT = "anycompany-gateway"
_POLL_SECONDS = 0.2
_ANSWER_SECONDS = 30.0
_KEEPALIVE_SECONDS = 60
_CONNECT, _PUBLISH_ONCE, _DISCONNECT = 0x10, 0x32, 0xE0
_ACCEPTED, _TAKEN = bytes([0x20, 2, 0, 0]), bytes([0x40, 2])
# As many answers as fit into the buffers of a connection while nobody reads them.
_AT_ONCE = 1_000


@dataclass
class Note:
    """What has been sent.

    Attributes:
        sent: Messages by table.
        sending: Table of the chunk that is on its way, None if there is none.
        counted: What the broker had counted before that chunk.
    """

    sent: dict[str, int] = field(default_factory=dict)
    sending: str | None = None
    counted: int = 0

    @classmethod
    def read(cls, path: Path) -> Note:
        """Reads the note, an empty one if nothing was sent yet."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        return cls()

    def write(self, path: Path) -> None:
        """Writes the note in one step."""
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.replace(path)

    def settle(self, counted: int) -> None:
        """Adds what arrived of a chunk whose sender was killed."""
        if self.sending is not None:
            arrived = min(max(counted - self.counted, 0), CHUNK)
            self.sent[self.sending] = self.sent.get(self.sending, 0) + arrived
            self.sending = None


@dataclass(frozen=True)
class Table:
    """All messages of one table so far.

    Attributes:
        pattern: The topics as the broker stores them, `*` for any level.
        topics: Topic of each message.
        payloads: Each message.
    """

    pattern: str
    topics: Sequence[str]
    payloads: Sequence[str]


class Field:
    """Publishes over MQTT, one publisher of the company at a time.

    Args:
        folder: The broker's folder.
        addresses: Where it is.
    """

    def __init__(self, folder: Path, addresses: Addresses) -> None:
        self._addresses = addresses
        self.path = folder / "gateway.json"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other publishers from changing the broker's count meanwhile."""
        with self.path.with_suffix(".sending").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    async def settled(self, js: JetStreamContext) -> Note:
        """Returns the note, brought up to date where a sender was killed. To be called alone."""
        note = Note.read(self.path)
        if note.sending is not None:
            # The former sender's connection ends when its name logs in again.
            await asyncio.to_thread(publish, self._addresses, [])
            note.settle(await _counted(js))
            note.write(self.path)
        return note

    async def send(self, messages: Sequence[tuple[str, str]]) -> None:
        """Publishes messages. To be called alone."""
        await asyncio.to_thread(publish, self._addresses, messages)

    async def has_taker(self, js: JetStreamContext) -> bool:
        """Returns whether anybody has subscribed to what the devices measure."""
        return "devices.*.telemetry" in await _taken(js)

    async def tell(self, js: JetStreamContext, messages: Sequence[tuple[str, str]]) -> None:
        """Publishes messages that are no part of the past.

        Raises:
            RuntimeError: Nobody has subscribed to them, or the broker did not take them.
        """
        if not await self.has_taker(js):
            raise RuntimeError(
                "Nobody has subscribed to what the devices tell, so that the broker would drop it. "
                "Extract the source `devices` once, or run `wellspring land`, and try again."
            )
        with self.alone():
            await self.settled(js)
            await self.send(messages)


class Gateway:
    """Sends what the devices have told, while `serve` runs.

    Args:
        home: The company.
        addresses: Where its broker is.
    """

    def __init__(self, home: Home, addresses: Addresses) -> None:
        self._home = home
        self._addresses = addresses
        self._field = Field(home.broker, addresses)
        self._path = self._field.path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._day = -1
        self._tables: Mapping[str, Table] = {}

    def start(self) -> None:
        """Begins to send, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends in order: the chunk that is on its way is sent and noted."""
        self._stop.set()
        self._thread.join(_ANSWER_SECONDS)

    def _run(self) -> None:
        lock = self._alone()
        if lock is None:
            return
        with lock:
            while not self._stop.is_set():
                try:
                    asyncio.run(self._work())
                # A thread has nobody to hand an error to, and whatever it was, the next try may do.
                except Exception as problem:  # a gateway goes on, whatever broke: its messages wait
                    logger.warning("The devices' gateway tries again: %s", problem)
                    self._stop.wait(1.0)

    def _alone(self) -> IO[str] | None:
        """Waits until no other process of the company is the gateway; None when told to stop."""
        lock = self._path.with_suffix(".lock").open("w")
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            self._stop.wait(_POLL_SECONDS)
        lock.close()
        return None

    async def _work(self) -> None:
        import nats

        nc = await nats.connect(self._addresses.nats_url, connect_timeout=5)
        try:
            while not self._stop.is_set():
                self._look_up_day()
                if not await self._send_next(nc.jetstream()):
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            await nc.close()

    def _look_up_day(self) -> None:
        state = self._home.read()
        if state is None or state.day == self._day:
            return
        from anycompany.world import World

        self._tables = tables(World(state.settings, state.day).devices.messages)
        self._day = state.day

    async def _send_next(self, js: JetStreamContext) -> bool:
        """Sends one chunk of each table that has a taker; returns whether there was any."""
        with self._field.alone():
            note = await self._field.settled(js)
        waiting = [
            name for name, table in self._tables.items()
            if note.sent.get(name, 0) < len(table.topics)
        ]  # fmt: skip
        taken = await _taken(js) if waiting else set()
        found = False
        for name in waiting:
            table = self._tables[name]
            if table.pattern in taken:
                begin = note.sent.get(name, 0)
                chunk = list(
                    zip(
                        table.topics[begin : begin + CHUNK],
                        table.payloads[begin : begin + CHUNK],
                        strict=True,
                    )
                )
                with self._field.alone():
                    note.sending, note.counted = name, await _counted(js)
                    note.write(self._path)
                    await self._field.send(chunk)
                    note.sending = None
                    note.sent[name] = begin + len(chunk)
                    note.write(self._path)
                found = True
        return found


def tables(messages: Mapping[str, Any]) -> dict[str, Table]:
    """Returns the messages of the devices as the gateway sends them, by table."""
    return {
        name: Table(f"devices.*.{name}", told.topic.to_pylist(), told.payload.to_pylist())
        for name, told in messages.items()
    }


async def _counted(js: JetStreamContext) -> int:
    """Returns how many messages the broker has ever taken over MQTT."""
    from nats.js.errors import NotFoundError

    with contextlib.suppress(NotFoundError):
        return int((await js.stream_info(_STORE)).state.last_seq)
    return 0


async def _taken(js: JetStreamContext) -> set[str]:
    """Returns the topic filters that sessions have subscribed to."""
    from nats.js.errors import NotFoundError

    with contextlib.suppress(NotFoundError):
        return {
            (consumer.config.filter_subject or "").removeprefix(_TOPICS)
            for consumer in await js.consumers_info(_STORE)
        }
    return set()


def publish(addresses: Addresses, messages: Sequence[tuple[str, str]]) -> None:
    """Publishes messages in order with QoS 1 and waits until the broker has all of them.

    The few bytes of the protocol that this takes are written here: a client library spends many
    times the broker's own time on each message.

    Args:
        addresses: Where the broker is.
        messages: Topic and payload of each, at most 65,535.

    Raises:
        RuntimeError: The broker did not take them.
    """
    login = _text("MQTT") + bytes([4, 0b1100_0010]) + (_KEEPALIVE_SECONDS).to_bytes(2)
    login += _text(_CLIENT) + _text("anycompany") + _text(addresses.token)
    packets = [
        _packet(_PUBLISH_ONCE, _text(topic) + number.to_bytes(2) + payload.encode())
        for number, (topic, payload) in enumerate(messages, start=1)
    ]
    expected = _ACCEPTED + b"".join(
        _TAKEN + number.to_bytes(2) for number in range(1, len(messages) + 1)
    )
    with (
        socket.create_connection(("127.0.0.1", addresses.mqtt), _ANSWER_SECONDS) as link,
        link.makefile("rb") as answers,
    ):
        link.sendall(_packet(_CONNECT, login))
        answer = answers.read(len(_ACCEPTED))
        for begin in range(0, len(packets), _AT_ONCE):
            part = packets[begin : begin + _AT_ONCE]
            link.sendall(b"".join(part))
            answer += answers.read(len(part) * 4)
        link.sendall(_packet(_DISCONNECT, b""))
    if answer != expected:
        raise RuntimeError("the message broker did not confirm all that was sent over MQTT")


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded


def _packet(kind: int, content: bytes) -> bytes:
    """Returns a control packet: kind, length in groups of seven bits, content."""
    length, groups = len(content), []
    while True:
        length, group = divmod(length, 128)
        groups.append(group | (128 if length else 0))
        if not length:
            return bytes([kind, *groups]) + content
