"""The online game: sessions and purchases of players as messages, and metrics of its servers.

players ─> days on which they play ─> sessions ─> start, heartbeats, end; purchases, refunds ─>
JetStream subjects game.sessions.*, game.purchases.*, game.servers.<id>.metrics

The game began on 2026-01-01. A player whose clock is wrong says wrong times, but the gateway adds
when it received each message. It leaves out the game itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anycompany import days, money
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Floats, Ints
from anycompany.feeding import Feed
from anycompany.systems import events, game_servers
from anycompany.systems.events import Messages
from anycompany.systems.game_servers import Readings
from anycompany.text import Column, cents, grouped, iso_utc, join, number, pick, when
from anycompany.world import World

STREAM = "GAME"
SUBJECTS = ("game.>",)
LAUNCH = 365
HEARTBEAT_SECONDS = 1_800
PLATFORMS = ["console", "pc", "mobile"]
COUNTRIES = ["US", "DE", "GB", "FR", "JP", "AU", "CA", "BR"]
_CURRENCY = np.array(
    [money.INDEX[code] for code in ("USD", "EUR", "GBP", "EUR", "JPY", "AUD", "CAD", "BRL")]
)
# Article and its list price in US cents.
ITEMS = {
    "SKIN-EMBER": 499,
    "SKIN-FROST": 499,
    "SKIN-ROYAL": 1299,
    "PASS-SEASON": 999,
    "COINS-500": 449,
    "COINS-1200": 999,
    "COINS-6500": 4999,
    "EMOTE-WAVE": 199,
    "MOUNT-WOLF": 1999,
    "SLOT-EXTRA": 799,
}
_ITEM_CENTS = np.array(list(ITEMS.values()))
_PLAYERS = 3_000
_DAYS_BITS = 11  # days since the launch fit
_SLOTS = 16
_END = 15
_LONGEST_SECONDS = 4 * 3_600
# Clocks closer to the gateway's than this count as right.
CLOCK_TOLERANCE = 60
_EVENT_DEFECTS = {
    "late": 0.3,
    "duplicated": 0.25,
    "out_of_order": 0.2,
    "malformed": 0.1,
    "missing": 0.075,
    "mistyped": 0.075,
}
_PURCHASE_DEFECTS = {
    "late": 0.25,
    "duplicated": 0.25,
    "malformed": 0.1,
    "orphaned": 0.1,
    "missing": 0.1,
    "mistyped": 0.1,
    "outlying": 0.1,
}


@dataclass(frozen=True)
class Sessions:
    """Sessions that began by the end of the world's day.

    Attributes:
        id: Stable number.
        player: Number of the player, from 0.
        start: True epoch second of the beginning.
        length: Seconds.
        skew: Seconds that the device's clock is ahead.
    """

    id: Ints
    player: Ints
    start: Ints
    length: Ints
    skew: Ints


@dataclass(frozen=True)
class Seen:
    """Valid messages as an ideal warehouse would read them, one per event.

    Attributes:
        player: Number of the player, from 0; unknown players have high ones.
        group: Session of each event, or kind of each purchase (0 purchase, 1 refund).
        moment: Epoch second at which it happened, as far as messages tell.
        cents: Amount in US cents, 0 for events of sessions.
    """

    player: Ints
    group: Ints
    moment: Ints
    cents: Ints


@dataclass(frozen=True)
class Game:
    """The game at the end of a day: its messages, and what the truth needs."""

    feed: Feed
    events: Seen
    purchases: Seen
    readings: Readings
    counts: dict[str, int]


def build(world: World) -> Game:
    """Builds the game's messages, notes their defects, and keeps what the truth needs."""
    made = _Maker(world)
    sessions, seen = made.session_messages()
    purchases, paid = made.purchase_messages()
    metrics, readings = game_servers.build(world)
    feed = events.feed(world.draws, STREAM, SUBJECTS, [sessions, purchases, metrics], world.cut)
    counts = {
        name: int((kind.sent < world.cut).sum())
        for name, kind in (
            ("session_events", sessions),
            ("purchases", purchases),
            ("server_metrics", metrics),
        )
    }
    return Game(feed, seen, paid, readings, counts)


def player_name(player: Ints) -> Column:
    """Returns the id of each player as the game writes it."""
    return join("P", number(player + 1, 7))


def session_name(session: Ints) -> Column:
    """Returns the id of each session as the game writes it."""
    return join("S", number(session, 9))


class _Maker:
    def __init__(self, world: World) -> None:
        self._world = world
        self._draw = world.draws
        self._spoiler = events.spoiler(world.draws, world.settings.defects)
        self._plan = self._arrivals()
        self._player = np.arange(self._plan.count(world.day))
        self._joined = self._plan.seconds(self._player)

    def _arrivals(self) -> days.Arrivals:
        """Players join from the launch on, many at first."""
        age = np.maximum(np.arange(days.LAST + 1) - LAUNCH, 0)
        weights = np.where(np.arange(days.LAST + 1) >= LAUNCH, 1 + 3 * np.exp(-age / 20), 0)
        total = _PLAYERS * self._world.settings.scale
        made = np.cumsum(weights) / weights[: days.FIRST_STATE + 1].sum() * total
        return days.Arrivals("game.players", 0, np.floor(made + 1e-9).astype(np.int64), self._draw)

    def country(self, player: Ints) -> Ints:
        """Returns the index of each player's country."""
        weights = [0.35, 0.15, 0.12, 0.08, 0.12, 0.06, 0.07, 0.05]
        return self._draw.weighted("game.country", player, weights)

    def platform(self, player: Ints) -> Ints:
        """Returns the index of each player's platform."""
        return self._draw.weighted("game.platform", player, [0.5, 0.3, 0.2])

    def customer(self, player: Ints) -> Ints:
        """Returns each player's number as a customer of the shop, 0 for none."""
        shop = self._world.arrivals("shop.customers", 20_000, before=0.4)
        known = shop.known(days.day_of(self._joined[player]))
        linked = self._draw.chance("game.linked", player, 0.35)
        return np.where(linked, 1 + self._draw.below("game.customer", player, known), 0)

    @cached_property
    def sessions(self) -> Sessions:
        """All sessions that have begun."""
        first = days.day_of(self._joined)
        spans = self._world.day - first + 1
        player = np.repeat(self._player, spans)
        age = np.arange(len(player)) - np.repeat(np.cumsum(spans) - spans, spans)
        day = first[player] + age
        visit = (player << _DAYS_BITS) + day - LAUNCH
        loyalty: Floats = 0.15 + 0.85 * self._draw.unit("game.loyalty", player)
        # Four in ten stay; the others leave, most of them soon.
        stays = self._draw.chance("game.stays", player, 0.4)
        leaves = -30 * np.log1p(-self._draw.unit("game.leaves", player))
        keen = loyalty * (1.0 + age) ** -0.4
        plays = self._draw.chance("game.plays", visit, keen) & (stays | (age < leaves))
        plays |= age == 0
        again = plays & self._draw.chance("game.plays_again", visit, 0.3)
        ids = np.concatenate([visit[plays] * 2, visit[again] * 2 + 1])
        return self._timed(ids, day[np.concatenate([np.flatnonzero(plays), np.flatnonzero(again)])])

    def _timed(self, ids: Ints, day: Ints) -> Sessions:
        player = ids >> (_DAYS_BITS + 1)
        start = days.start_of(day) + self._draw.below("game.start", ids, days.SECONDS)
        joined = self._joined[player]
        # The first session is the one in which a player joins; none is earlier.
        is_first = (day == days.day_of(joined)) & (ids % 2 == 0)
        start = np.where(is_first, joined, np.maximum(start, joined + 1))
        length: Floats = -2_100 * np.log1p(-self._draw.unit("game.length", ids))
        length = np.minimum(120 + length, _LONGEST_SECONDS)
        share = self._world.settings.defects * events.DIRTINESS
        is_wrong = self._draw.chance("game.clock", ids, min(share / 2, 0.9))
        hours = self._draw.below("game.clock_hours", ids, 60) - 30
        minutes = 11 + self._draw.below("game.clock_minutes", ids, 48)
        skew = np.where(is_wrong, hours * 3_600 + minutes * 60, 0)
        return Sessions(ids, player, start, length.astype(np.int64), skew)

    # Messages

    def session_messages(self) -> tuple[Messages, Seen]:
        """Returns what is sent about sessions."""
        one = self.sessions
        share = min(self._world.settings.defects * events.DIRTINESS * 2, 0.9)
        never_ends = self._draw.chance("game.never_ends", one.id, share)
        beats = one.length // HEARTBEAT_SECONDS
        counts = 1 + beats + ~never_ends
        row = np.repeat(np.arange(len(one.id)), counts)
        turn = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        is_end = turn == 1 + beats[row]
        slot = np.where(is_end, _END, turn)
        ids = one.id[row] * _SLOTS + slot
        happened = one.start[row] + np.where(is_end, one.length[row], turn * HEARTBEAT_SECONDS)
        kind = self._spoiler.kinds("game.session_events", ids, _EVENT_DEFECTS)
        name = np.where(is_end, 2, np.minimum(turn, 1))
        sent = events.sent_at(
            self._draw, "game.sessions", ids, happened, kind["late"], kind["out_of_order"]
        )
        return self._session_texts(row, ids, name, happened, sent, kind)

    def _session_texts(
        self,
        row: Ints,
        ids: Ints,
        name: Ints,
        happened: Ints,
        sent: Ints,
        kind: dict[str, Bools],
    ) -> tuple[Messages, Seen]:
        one, player = self.sessions, self.sessions.player[row]
        key = join("e", number(ids))
        types = pick(["start", "heartbeat", "end"], name)
        shown = sent < self._world.cut
        spoilt = Spoilt(self._world.log, "game.session_events", key, kind, shown)
        spoilt.note("late", "event_at")
        spoilt.note("out_of_order", "event_at")
        spoilt.note("malformed")
        spoilt.note("missing", "player_id", player_name(player))
        spoilt.note("mistyped", "type", types)
        spoilt.note("wrong_clock", "event_at", mask=one.skew[row] != 0)
        copies = self._copies(spoilt, "game.sessions", ids, sent, kind["duplicated"])
        at, moment, copy = copies
        skew, customer = one.skew[row], self.customer(player)
        said = _times(happened + skew, sent + skew, sent, at, moment, skew)
        text = join(
            join('{"event_id": "', key, '", "type": "', when(kind["mistyped"], "pause", types)),
            join('", "session_id": "', session_name(one.id[row]), '", "player_id": "'),
            when(kind["missing"], "", player_name(player)),
            join('", "platform": "', pick(PLATFORMS, self.platform(player))),
            join('", "country": "', pick(COUNTRIES, self.country(player)), '", "customer_id": '),
            when(customer > 0, number(customer), "null"),
            ', "server_id": "',
            pick(game_servers.NAMES, player % game_servers.count(self._world)),
            '", ',
        )
        topic = join("game.sessions.", types)
        messages = Messages(
            moment, ids[at] * 2 + copy, _at(topic, at), join(_at(text, at), said),
            kind["malformed"][at],
        )  # fmt: skip
        valid = shown & ~kind["malformed"] & ~kind["missing"] & ~kind["mistyped"]
        return messages, Seen(
            player[valid], one.id[row][valid], happened[valid], np.zeros(int(valid.sum()), np.int64)
        )

    def _copies(
        self, spoilt: Spoilt, name: str, ids: Ints, sent: Ints, twice: Bools
    ) -> tuple[Ints, Ints, Ints]:
        """Returns row, second of sending and number of copy of each message."""
        again = np.flatnonzero(twice)
        resent = events.again_at(self._draw, name, ids[again], sent[again])
        delivered = np.zeros(len(ids), dtype=bool)
        delivered[again] = resent < self._world.cut
        spoilt.note("duplicated", mask=delivered)
        at = np.concatenate([np.arange(len(ids)), again])
        copy = np.concatenate([np.zeros(len(ids), np.int64), np.ones(len(again), np.int64)])
        return at, np.concatenate([sent, resent]), copy

    def purchase_messages(self) -> tuple[Messages, Seen]:
        """Returns what is sent about purchases and refunds."""
        one, draw = self.sessions, self._draw
        pays = draw.chance("game.payer", one.player, 0.25)
        buys = np.flatnonzero(draw.chance("game.buys", one.id, np.where(pays, 0.3, 0.0)))
        ids, player = one.id[buys], one.player[buys]
        moment = one.start[buys] + draw.below("game.bought", ids, np.maximum(one.length[buys], 1))
        back = draw.chance("game.refunded", ids, 0.05)
        wait = 3_600 + draw.below("game.refund", ids, 20 * days.SECONDS)
        at = np.concatenate([np.arange(len(ids)), np.flatnonzero(back)])
        is_refund = np.arange(len(at)) >= len(ids)
        happened = np.where(is_refund, (moment + wait)[at], moment[at])
        event = ids[at] * 2 + is_refund
        kind = self._spoiler.kinds("game.purchases", event, _PURCHASE_DEFECTS)
        sent = events.sent_at(
            draw, "game.purchases", event, happened, kind["late"], np.zeros(len(at), dtype=bool)
        )
        counts = 1 + draw.weighted("game.items", ids, [0.75, 0.2, 0.05])
        currency = _CURRENCY[self.country(player)]
        basket, total = self._baskets(ids, counts, currency)
        return self._purchase_texts(
            event, buys[at], is_refund, happened, sent, kind, _at(basket, at), total[at],
            currency[at],
        )  # fmt: skip

    def _baskets(self, ids: Ints, counts: Ints, currency: Ints) -> tuple[Column, Ints]:
        """Returns the items of each purchase as JSON, and their sum."""
        owner = np.repeat(np.arange(len(ids)), counts)
        line = ids[owner] * 4 + np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
        item = self._draw.below("game.item", line, len(ITEMS))
        quantity = 1 + self._draw.weighted("game.quantity", line, [0.85, 0.1, 0.05])
        price = money.local_price(_ITEM_CENTS[item], currency[owner])
        text = join(
            '{"sku": "', pick(list(ITEMS), item), '", "quantity": ', number(quantity),
            ', "unit_price": ', cents(price), "}",
        )  # fmt: skip
        total = np.zeros(len(ids), dtype=np.int64)
        np.add.at(total, owner, quantity * price)
        return grouped(text, counts, ", "), total

    def _purchase_texts(
        self,
        event: Ints,
        row: Ints,
        is_refund: Bools,
        happened: Ints,
        sent: Ints,
        kind: dict[str, Bools],
        basket: Column,
        total: Ints,
        currency: Ints,
    ) -> tuple[Messages, Seen]:
        one = self.sessions
        player = np.where(kind["orphaned"], 8_000_000 + one.player[row], one.player[row])
        key = join("b", number(event))
        types = pick(["purchase", "refund"], is_refund.astype(np.int64))
        shown = sent < self._world.cut
        spoilt = Spoilt(self._world.log, "game.purchases", key, kind, shown)
        spoilt.note("late", "event_at")
        spoilt.note("malformed")
        spoilt.note("unknown_player", "player_id", player_name(one.player[row]), kind["orphaned"])
        spoilt.note("missing", "player_id", player_name(player))
        spoilt.note("mistyped", "currency", pick(money.CURRENCIES, currency))
        spoilt.note("outlying", "amount", cents(total))
        at, moment, copy = self._copies(spoilt, "game.purchases", event, sent, kind["duplicated"])
        skew = one.skew[row]
        text = join(
            join('{"event_id": "', key, '", "type": "', types, '", "purchase_id": "B'),
            number(one.id[row]),
            join('", "session_id": "', session_name(one.id[row]), '", "player_id": "'),
            when(kind["missing"], "", player_name(player)),
            '", "currency": "',
            when(kind["mistyped"], "GEM", pick(money.CURRENCIES, currency)),
            '", "amount": ',
            cents(np.where(kind["outlying"], total * 1_000_000, total)),
            join(', "items": [', basket, "], "),
        )
        said = _times(happened + skew, sent + skew, sent, at, moment, skew)
        messages = Messages(
            moment, event[at] * 2 + copy, _at(join("game.purchases.", types), at),
            join(_at(text, at), said), kind["malformed"][at],
        )  # fmt: skip
        valid = shown.copy()
        for name in ("malformed", "missing", "mistyped", "outlying"):
            valid &= ~kind[name]
        usd = money.to_usd(self._world.rates, total, currency, days.day_of(happened))
        return messages, Seen(
            player[valid], is_refund[valid].astype(np.int64), happened[valid], usd[valid]
        )


def _at(column: Column, rows: Ints) -> Column:
    import pyarrow as pa

    return column.take(pa.array(rows))


def _times(event: Ints, sent: Ints, received: Ints, at: Ints, moment: Ints, skew: Ints) -> Column:
    """Returns the times that messages end with; a copy says when it was sent and received itself.

    Args:
        event: When it happened by the device's clock, for each event.
        sent: When it was first sent by that clock.
        received: When it was first sent by the gateway's.
        at: Event of each message.
        moment: When each message was sent.
        skew: Seconds that the device's clock is ahead, for each event.
    """
    device = np.where(moment == received[at], sent[at], moment + skew[at])
    return join(
        '"event_at": "', iso_utc(event[at]), '", "sent_at": "', iso_utc(device),
        '", "received_at": "', iso_utc(moment), '"}',
    )  # fmt: skip
