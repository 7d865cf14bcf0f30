"""The game's servers: a reading of each one's metrics every minute, and what goes wrong with them.

minutes x servers ─> incidents (overload, errors, outage) ─> readings ─> JetStream subjects
game.servers.<id>.metrics

Servers are kept on time by the network, so a wrong clock is a broken one, far in the future. It
leaves out readings before the last week of the first state: a company keeps its metrics briefly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from anycompany import days
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Draws, Floats, Ints
from anycompany.systems import events
from anycompany.systems.common import SKEWED_SECONDS
from anycompany.systems.events import Messages
from anycompany.text import Column, iso_utc, join, number, pick, when
from anycompany.world import World

NAMES = [f"{region}-{place}" for place in (1, 2, 3, 4) for region in ("eu", "us", "ap")]
OVERLOAD, ERRORS, OUTAGE = 1, 2, 3
_MINUTES = 1_440
_BLOCK = 360  # minutes; each has at most one incident a server
_DEFECTS = {
    "late": 0.3,
    "duplicated": 0.25,
    "malformed": 0.1,
    "missing": 0.1,
    "mistyped": 0.1,
    "outlying": 0.1,
    "skewed_clock": 0.05,
}


@dataclass(frozen=True)
class Readings:
    """Valid readings, one per server and minute, in order of server and minute.

    Attributes:
        server: Index into `NAMES`.
        minute: Minutes since day 0.
        cpu, memory: Tenths of a per cent.
        players: Players on the server.
        tick: Tenths of a millisecond that a step of the game takes.
        errors: Errors in the minute.
    """

    server: Ints
    minute: Ints
    cpu: Ints
    memory: Ints
    players: Ints
    tick: Ints
    errors: Ints


def count(world: World) -> int:
    """Returns how many servers there are."""
    return int(np.clip(round(6 * world.settings.scale), 2, len(NAMES)))


def first_day(world: World) -> int:
    """Returns the day number of the oldest readings."""
    return days.FIRST_STATE + 1 - max(2, round(7 * min(world.settings.scale, 1.0)))


def incidents(draws: Draws, server: Ints, minute: Ints) -> Ints:
    """Returns what is wrong with each server in each minute; 0 for nothing."""
    block = minute // _BLOCK * len(NAMES) + server
    begins = draws.below("game.incident_start", block, _BLOCK - 60)
    lasts = 4 + draws.below("game.incident_length", block, 40)
    since = minute % _BLOCK - begins
    happens = draws.chance("game.incident", block, 0.12) & (since >= 0) & (since < lasts)
    kind = 1 + draws.weighted("game.incident_kind", block, [0.5, 0.3, 0.2])
    return np.where(happens, kind, 0)


def build(world: World) -> tuple[Messages, Readings]:
    """Builds the messages, notes their defects, and keeps the valid readings."""
    minute, server = (
        part.ravel()
        for part in np.meshgrid(
            np.arange(first_day(world) * _MINUTES, (world.day + 1) * _MINUTES),
            np.arange(count(world)),
            indexing="ij",
        )
    )
    wrong = incidents(world.draws, server, minute)
    alive = wrong != OUTAGE
    measured = _measured(world.draws, server[alive], minute[alive], wrong[alive])
    return _messages(world, measured)


def _measured(draws: Draws, server: Ints, minute: Ints, wrong: Ints) -> Readings:
    ids = minute * 16 + server
    wave: Floats = 0.5 - 0.5 * np.cos(minute % _MINUTES / _MINUTES * 2 * np.pi)
    load = 0.3 * wave + 0.2 * draws.unit("game.load", ids)
    overload, errors = wrong == OVERLOAD, wrong == ERRORS
    return Readings(
        server=server,
        minute=minute,
        cpu=np.where(
            overload, 920 + draws.below("game.cpu", ids, 80), (300 + 800 * load).astype(np.int64)
        ),
        memory=(400 + 600 * load).astype(np.int64),
        players=(20 + 400 * load).astype(np.int64),
        tick=np.where(
            overload, 600 + draws.below("game.tick", ids, 800), (120 + 300 * load).astype(np.int64)
        ),
        errors=np.where(
            errors, 20 + draws.below("game.errors", ids, 180), draws.below("game.errors", ids, 3)
        ),
    )


def _messages(world: World, one: Readings) -> tuple[Messages, Readings]:
    draw, ids = world.draws, one.minute * 16 + one.server
    happened = int(days.start_of(0)) + one.minute * 60 + draw.below("game.offset", one.server, 50)
    kind = events.spoiler(draw, world.settings.defects).kinds("game.server_metrics", ids, _DEFECTS)
    sent = events.sent_at(
        draw, "game.metrics", ids, happened, kind["late"], np.zeros(len(ids), dtype=bool)
    )
    shown, key = sent < world.cut, join("m", number(ids))
    spoilt = Spoilt(world.log, "game.server_metrics", key, kind, shown)
    spoilt.note("late", "event_at")
    spoilt.note("malformed")
    spoilt.note("missing", "server_id", pick(NAMES, one.server))
    spoilt.note("mistyped", "tick_ms", _tenths(one.tick))
    spoilt.note("outlying", "cpu_pct", _tenths(one.cpu))
    spoilt.note("skewed_clock", "event_at", iso_utc(happened))
    again = np.flatnonzero(kind["duplicated"])
    resent = events.again_at(draw, "game.metrics", ids[again], sent[again])
    delivered = np.zeros(len(ids), dtype=bool)
    delivered[again] = resent < world.cut
    spoilt.note("duplicated", mask=delivered)
    at = np.concatenate([np.arange(len(ids)), again])
    copy = (np.arange(len(at)) >= len(ids)).astype(np.int64)
    rows = pa.array(at)
    messages = Messages(
        sent=np.concatenate([sent, resent]),
        number=ids[at] * 2 + copy,
        topic=join("game.servers.", pick(NAMES, one.server), ".metrics").take(rows),
        text=_texts(one, key, happened, kind).take(rows),
        malformed=kind["malformed"][at],
    )
    bad = np.any([kind[name] for name in kind if name not in ("late", "duplicated")], axis=0)
    return messages, _chosen(one, shown & ~bad)


def _chosen(one: Readings, chosen: Bools) -> Readings:
    order = np.lexsort((one.minute[chosen], one.server[chosen]))
    return Readings(
        *(
            getattr(one, name)[chosen][order]
            for name in ("server", "minute", "cpu", "memory", "players", "tick", "errors")
        )
    )


def _tenths(values: Ints) -> Column:
    return join(number(values // 10), ".", number(values % 10))


def _texts(one: Readings, key: Column, happened: Ints, kind: dict[str, Bools]) -> Column:
    second = np.where(kind["skewed_clock"], SKEWED_SECONDS + happened % 86_400, happened)
    name = pick(NAMES, one.server)
    return join(
        join('{"event_id": "', key, '", "server_id": "', when(kind["missing"], "", name)),
        join('", "event_at": "', iso_utc(second), '", "cpu_pct": '),
        _tenths(np.where(kind["outlying"], one.cpu * 1_000, one.cpu)),
        join(', "memory_pct": ', _tenths(one.memory), ', "players": ', number(one.players)),
        join(', "tick_ms": ', when(kind["mistyped"], '"n/a"', _tenths(one.tick))),
        join(', "errors": ', number(one.errors), "}"),
    )
