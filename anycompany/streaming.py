"""`anycompany stream`: the company's systems send events now, at a rate, until told to stop.

clock ─> how many are due ─> events of each system ─> message broker ─> truth/live_<system>.ndjson

Numbers of events are taken before they are used, so no run uses one again; what is true of an event
is written once the broker has it. Past events come from `feeding`; these come on top, and are no
part of the state: another run sends others at other times.
"""

from __future__ import annotations

import asyncio
import json
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
from anycompany.text import Column
from anycompany.world import World

_TICK_SECONDS = 0.05


@dataclass(frozen=True)
class Batch:
    """Events of one moment.

    Attributes:
        key: Id of each event.
        topic: Subject that it is sent to.
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
        stream: JetStream stream that takes them; empty for a system that speaks MQTT.
        subjects: What the stream takes.
        make: Makes events from the world, their numbers and the time in milliseconds.
    """

    stream: str
    subjects: tuple[str, ...]
    make: Callable[[World, Ints, int], Batch]


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
    from anycompany.systems import card_payments, field_live, game, game_live

    return {
        "game": Sender(game.STREAM, game.SUBJECTS, game_live.batch),
        "card_payments": Sender(card_payments.STREAM, card_payments.SUBJECTS, field_live.payments),
        "devices": Sender("", (), field_live.measurements),
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
            _stream(addresses.nats_url, _Run(home, world, chosen, addresses), rate, seconds, stop)
        )


class _Run:
    """Makes the events of one run, and notes what is true of them."""

    def __init__(
        self, home: Home, world: World, chosen: dict[str, Sender], addresses: broker.Addresses
    ) -> None:
        self._world, self.chosen = world, chosen
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
        """Sends events of one system, in messages that the broker has taken at its return."""
        made = self.chosen[name].make(
            self._world, self.take(name, count), time.time_ns() // 1_000_000
        )
        topics, payloads = made.topic.to_pylist(), made.payload.to_pylist()
        keys = made.key.to_pylist()
        order = [*range(count), *np.flatnonzero(made.again).tolist()]
        messages = [
            (topics[at], payloads[at].encode(), f"live-{keys[at]}{'-again' * (place >= count)}")
            for place, at in enumerate(order)
        ]
        if self.chosen[name].stream:
            with self.notes.alone():
                await publish(js, nc, messages)
        else:
            told = [(topics[at], payloads[at]) for at in order]
            await self._field.tell(js, told)
        self._note(name, made, keys, topics)
        self.sent[name] += count
        self.messages += len(messages)

    def _note(self, name: str, made: Batch, keys: list[str], topics: list[str]) -> None:
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
        return Sent(run.sent, run.messages, time.monotonic() - began)
    finally:
        await nc.close()
