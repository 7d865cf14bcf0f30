"""The game as it goes on now: events made at the moment at which they are sent.

numbers of events, the machine's clock ─> session events, purchases, readings; some late, repeated,
out of order, by wrong clocks or cut off ─> messages and what is true of each

What an event is about depends on its number alone, its times on the clock. It leaves out the
history, which `game` makes: here players who exist go on playing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import money
from anycompany.draws import Bools, Ints
from anycompany.streaming import Batch
from anycompany.systems import events, game, game_servers
from anycompany.text import Column, cents, join, number, pick, when
from anycompany.world import World

_OF_SESSION = 5  # of each 8 events; then a purchase and two readings
_PURCHASE = 5
_KINDS = 8
_SESSION_EVENTS = 80
_DEFECTS = {
    "late": 0.3,
    "duplicated": 0.3,
    "out_of_order": 0.2,
    "wrong_clock": 0.15,
    "malformed": 0.05,
}


def batch(world: World, numbers: Ints, now: int) -> Batch:
    """Makes events.

    Args:
        world: The company; its players play.
        numbers: Number of each event, never used before.
        now: Milliseconds since 1970.
    """
    draw, turn = world.draws, numbers % _KINDS
    kind = events.spoiler(draw, world.settings.defects).kinds("live.game", numbers, _DEFECTS)
    delay = 3_600 + draw.below("live.late", numbers, events.LATEST_SECONDS - 3_600)
    pause = 20 + draw.below("live.disorder", numbers, 120)
    ago = np.where(kind["late"], delay, np.where(kind["out_of_order"], pause, 0))
    happened = now - ago * 1_000
    hours = 1 + draw.below("live.clock", numbers, 30)
    # Servers keep their clocks right.
    skew = np.where(kind["wrong_clock"] & (turn <= _PURCHASE), hours * 3_600_000, 0)
    key = join("l", number(numbers))
    said = join(
        '"event_at": "', _iso(happened + skew), '", "sent_at": "', _iso(now + skew),
        '", "received_at": "', _iso(np.full(len(numbers), now)), '"}',
    )  # fmt: skip
    topic, text, about = _contents(world, numbers, turn)
    payload = join('{"event_id": "', key, '", ', text, said)
    short = pc.utf8_slice_codeunits(payload, 0, 40)
    return Batch(
        key=key,
        topic=topic,
        payload=when(kind["malformed"], short, payload),
        about=about,
        happened=happened,
        again=kind["duplicated"],
        defect=_named(kind),
    )


def _named(kind: dict[str, Bools]) -> Column:
    names = [None, *kind]
    index = np.zeros(len(next(iter(kind.values()))), dtype=np.int64)
    for place, name in enumerate(kind, 1):
        index[kind[name]] = place
    return pick(names, index)


def _contents(world: World, numbers: Ints, turn: Ints) -> tuple[Column, Column, Column]:
    """Returns subject, first part of the content, and player or server of each event."""
    draw = world.draws
    session = numbers // _SESSION_EVENTS
    place = numbers % _SESSION_EVENTS
    count = max(int(3_000 * world.settings.scale), 1)
    player = draw.below("live.player", session, count)
    types = pick(
        ["heartbeat", "start", "end"],
        np.where(place == 0, 1, np.where(place >= _SESSION_EVENTS - 4, 2, 0)),
    )
    name = game.player_name(player)
    common = join('"session_id": "L', number(session), '", "player_id": "', name, '", ')
    played = join('"type": "', types, '", "platform": "pc", "country": "US", ', common)
    item = draw.below("live.item", numbers, len(game.ITEMS))
    price = cents(np.array(list(game.ITEMS.values()))[item])
    bought = join(
        join('"type": "purchase", "purchase_id": "L', number(numbers), '", ', common),
        join('"currency": "', money.CURRENCIES[0], '", "amount": ', price, ', "items": [{"sku": "'),
        join(pick(list(game.ITEMS), item), '", "quantity": 1, "unit_price": ', price, "}], "),
    )
    server = draw.below("live.server", numbers, game_servers.count(world))
    place_name = pick(game_servers.NAMES, server)
    read = join(
        join('"server_id": "', place_name, '", "cpu_pct": '),
        number(20 + draw.below("live.cpu", numbers, 60)),
        ', "memory_pct": 50.0, "players": 80, "tick_ms": 18.0, "errors": 0, ',
    )
    is_session, is_purchase = turn < _OF_SESSION, turn == _PURCHASE
    topic = when(
        is_session,
        join("game.sessions.", types),
        when(is_purchase, "game.purchases.purchase", join("game.servers.", place_name, ".metrics")),
    )
    text = when(is_session, played, when(is_purchase, bought, read))
    return topic, text, when(is_session | is_purchase, name, place_name)


def _iso(moment: Ints) -> Column:
    text = pc.cast(pa.array(moment).cast(pa.timestamp("ms")), pa.string())
    return join(pc.utf8_replace_slice(text, 10, 11, "T"), "Z")
