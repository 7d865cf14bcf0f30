"""`anycompany stream`: the company's systems send events now, at a rate, until told to stop.

clock ─> how many are due ─> events of each system ─> message broker ─┬─> truth/live_<system>.ndjson
                                                     files of the web ─┘

Numbers of events are taken before they are used, so no run uses one again; what is true of an event
is written once the broker has it, or its file has its name. Past events come from `feeding`; these
come on top, and are no part of the state: another run sends others at other times.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow.compute as pc

from anycompany import broker
from anycompany.draws import Bools, Ints
from anycompany.feeding import CHUNK, Notes, ensure_stream, publish, talk
from anycompany.gateway import Field
from anycompany.state import Home, StateError
from anycompany.systems.files import write
from anycompany.text import Column
from anycompany.world import World

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.05
_FILE_SECONDS = 1.0
_QUESTION_SECONDS = 1.0


@dataclass(frozen=True)
class Batch:
    """Events of one moment.

    Attributes:
        key: Id of each event.
        topic: Subject that it is sent to; on the web site, who does what on which page.
        payload: Content of its message.
        about: Whom or what it is about.
        happened: When it truly happened, in milliseconds since 1970.
        again: Whether it is sent twice.
        defect: What is wrong with it, null for nothing.
    """

    key: Column
    topic: Column
    payload: Column
    about: Column
    happened: Ints
    again: Bools
    defect: Column


@dataclass(frozen=True)
class Sender:
    """How a system sends events.

    Attributes:
        stream: JetStream stream that takes them; empty for other ways.
        subjects: What the stream takes.
        make: Makes events from the world, their numbers and the time in milliseconds.
        path: Path of a file below the system's folder, from its first event's number and the time,
            for a system that writes files; one with neither that nor a stream speaks MQTT.
    """

    stream: str
    subjects: tuple[str, ...]
    make: Callable[[World, Ints, int], Batch]
    path: Callable[[int, int], str] | None = None

    @property
    def speaks_mqtt(self) -> bool:
        """Whether it needs somebody who has subscribed."""
        return not self.stream and self.path is None


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Attributes:
        events: Different events by system.
        messages: Messages in all.
        seconds: How long it took.
    """

    events: dict[str, int]
    messages: int
    seconds: float


def senders() -> dict[str, Sender]:
    """Returns the systems that can send events, by name."""
    from anycompany.systems import card_payments, field_live, game, game_live, web_live

    return {
        "game": Sender(game.STREAM, game.SUBJECTS, game_live.batch),
        "card_payments": Sender(card_payments.STREAM, card_payments.SUBJECTS, field_live.payments),
        "devices": Sender("", (), field_live.measurements),
        "web": Sender("", (), web_live.batch, web_live.path),
    }


def stream(home: Home, rate: float, seconds: float | None, only: list[str], stop: Event) -> Sent:
    """Sends events until time is up or it is told to stop.

    Args:
        home: The company; its state must exist.
        rate: Events a second, of all systems together.
        seconds: For how long; None for ever.
        only: Names of systems; all if empty.
        stop: Set to end it.

    Raises:
        StateError: There is no state, or no such system.
        RuntimeError: The broker failed.
    """
    known, state = senders(), home.read()
    if state is None:
        raise StateError(f"There is no company in {home.folder} yet. `anycompany serve` makes one.")
    for name in only:
        if name not in known:
            raise StateError(f"{name!r} sends no events. These do: {', '.join(known)}.")
    chosen = {name: known[name] for name in only or known}
    world = World(state.settings, state.day)
    with broker.running(home.broker, home.token()) as addresses:
        return talk(
            _stream(
                addresses.nats_url,
                _Run(home, world, chosen, addresses, waits=not only),
                rate,
                seconds,
                stop,
            )
        )


class _Run:
    """Makes the events of one run, and notes what is true of them."""

    def __init__(
        self,
        home: Home,
        world: World,
        chosen: dict[str, Sender],
        addresses: broker.Addresses,
        *,
        waits: bool,
    ) -> None:
        self._home, self._world, self.chosen = home, world, chosen
        self._waits = waits
        self._taker = False
        self._next_question = 0.0
        self._told_of_no_taker = False
        self._due = dict.fromkeys(chosen, 0)
        self._written_at = time.monotonic()
        self._field = Field(home.broker, addresses)
        self.notes = Notes(home.broker)
        self._numbers = home.folder / "live.json"
        self._truth = home.truth
        self.sent = dict.fromkeys(chosen, 0)
        self.messages = 0

    def take(self, name: str, count: int) -> Ints:
        """Returns numbers that no event of a system has had."""
        taken: dict[str, int] = {}
        if self._numbers.exists():
            taken = json.loads(self._numbers.read_text(encoding="utf-8"))
        first = taken.get(name, 0)
        partial = self._numbers.with_suffix(".part")
        partial.write_text(json.dumps({**taken, name: first + count}), encoding="utf-8")
        partial.replace(self._numbers)
        return np.arange(first, first + count)

    async def send(self, js: Any, nc: Any, name: str, count: int) -> None:
        """Sends events of one system, in messages that the broker has taken at its return.

        Those of a system that writes files wait until a file is due; those of one that speaks MQTT
        are passed over while nobody takes them, unless it was asked for by name.
        """
        sender = self.chosen[name]
        if sender.path is not None:
            self._due[name] += count
            if time.monotonic() - self._written_at >= _FILE_SECONDS:
                self.finish()
            return
        if sender.speaks_mqtt and self._waits and not await self._is_taken(js, name):
            return
        made = sender.make(self._world, self.take(name, count), time.time_ns() // 1_000_000)
        topics, payloads = made.topic.to_pylist(), made.payload.to_pylist()
        keys = made.key.to_pylist()
        order = [*range(count), *np.flatnonzero(made.again).tolist()]
        messages = [
            (topics[at], payloads[at].encode(), f"live-{keys[at]}{'-again' * (place >= count)}")
            for place, at in enumerate(order)
        ]
        if sender.stream:
            with self.notes.alone():
                await publish(js, nc, messages)
        else:
            told = [(topics[at], payloads[at]) for at in order]
            await self._field.tell(js, told)
        self._note(name, made)
        self.messages += len(messages)

    async def _is_taken(self, js: Any, name: str) -> bool:
        """Whether somebody has subscribed, asked once a second until then."""
        if not self._taker and time.monotonic() >= self._next_question:
            self._taker = await self._field.has_taker(js)
            self._next_question = time.monotonic() + _QUESTION_SECONDS
            if not self._taker and not self._told_of_no_taker:
                self._told_of_no_taker = True
                logger.warning(
                    "%s wait: nobody has subscribed to what they tell. They begin once the source "
                    "`devices` is extracted, or `wellspring land` or `wellspring watch` runs; "
                    "the other systems send.",
                    name,
                )
        return self._taker

    def finish(self) -> None:
        """Writes the files that are due, each in one step."""
        self._written_at = time.monotonic()
        for name, sender in self.chosen.items():
            count = self._due[name]
            if sender.path is None or not count:
                continue
            numbers, now = self.take(name, count), time.time_ns() // 1_000_000
            made = sender.make(self._world, numbers, now)
            found = made.payload.to_pylist()
            found += [found[at] for at in np.flatnonzero(made.again).tolist()]
            target = self._home.folder / name / sender.path(int(numbers[0]), now)
            target.parent.mkdir(parents=True, exist_ok=True)
            write(target, gzip.compress("".join(f"{line}\n" for line in found).encode(), 4))
            self._note(name, made)
            self._due[name] = 0
            self.messages += len(found)

    def _note(self, name: str, made: Batch) -> None:
        keys, topics = made.key.to_pylist(), made.topic.to_pylist()
        self.sent[name] += len(keys)
        moments, abouts = made.happened.tolist(), made.about.to_pylist()
        defects = pc.fill_null(made.defect, "").to_pylist()
        sent_at = time.time_ns() // 1_000_000
        lines = [
            json.dumps(
                {
                    "event_id": keys[at],
                    "topic": topics[at],
                    "about": abouts[at],
                    "happened_ms": moments[at],
                    "sent_ms": sent_at,
                    "defect": defects[at] or None,
                }
            )
            for at in range(len(keys))
        ]
        path: Path = self._truth / f"live_{name}.ndjson"
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


async def _stream(url: str, run: _Run, rate: float, seconds: float | None, stop: Event) -> Sent:
    import nats

    nc = await nats.connect(url, max_reconnect_attempts=-1)
    try:
        js = nc.jetstream()
        for sender in run.chosen.values():
            if not sender.stream:
                continue
            await ensure_stream(js, sender.stream, sender.subjects)
        began = time.monotonic()
        names, done = list(run.chosen), 0
        while not stop.is_set() and (seconds is None or time.monotonic() - began < seconds):
            due = int((time.monotonic() - began) * rate) - done
            share = min(-(-due // len(names)), CHUNK)
            for name in names if due > 0 else []:
                await run.send(js, nc, name, share)
                done += share
            if due <= CHUNK:
                await asyncio.sleep(_TICK_SECONDS)
        run.finish()
        return Sent(run.sent, run.messages, time.monotonic() - began)
    finally:
        await nc.close()
