"""Card payments: what the payment processor tells of each transaction, and chargebacks weeks later.

cards, ordinary purchases, attacks ─> transactions ─> `cards.transactions`; disputes of them ─>
`cards.chargebacks`; rules of the README over both ─> truth

A card is a token; its number is nowhere. Four kinds of attack are planted. It leaves out
authorisations that are captured later: a transaction is approved or declined at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from anycompany import days, money
from anycompany.defects import DefectLog, Spoiler, Spoilt
from anycompany.draws import Bools, Floats, Ints
from anycompany.feeding import Feed
from anycompany.systems.common import DAY, SKEWED_SECONDS
from anycompany.systems.messages import Messages, as_json, cut_off, deliver, travel
from anycompany.text import Column, cents, iso_utc, join, json_text, number, pick, when
from anycompany.world import World

# Country, currency and a town's latitude and longitude in thousandths of a degree.
PLACES = [
    ("US", "USD", 37_775, -122_419), ("US", "USD", 41_878, -87_630), ("CA", "CAD", 43_651, -79_347),
    ("MX", "MXN", 19_433, -99_133), ("GB", "GBP", 51_507, -128), ("DE", "EUR", 52_520, 13_405),
    ("FR", "EUR", 48_857, 2_352), ("JP", "JPY", 35_690, 139_692), ("AU", "AUD", -33_869, 151_209),
    ("BR", "BRL", -23_551, -46_633),
]  # fmt: skip
STREAM = "CARDS"
SUBJECTS = ("cards.>",)
PATTERNS = ["velocity", "distance", "amount", "new_device"]
ENTRIES = ["chip", "contactless", "ecommerce", "keyed"]
_ATTACK = 10_000_000
_BURST = 7
_DIRTINESS = 4
_STEPS = 8
_TRANSACTION_DEFECTS = {
    "missing": 0.15,
    "mistyped": 0.15,
    "skewed_clock": 0.1,
    "malformed": 0.1,
    "late": 0.2,
    "duplicated": 0.3,
}
_CHARGEBACK_DEFECTS = {"missing": 0.3, "unmatched": 0.3, "duplicated": 0.4}


@dataclass(frozen=True)
class Transactions:
    """The valid transactions that have been delivered, one a row.

    Attributes:
        id: Number of the transaction.
        card: Number of the card.
        moment: Epoch second.
        usd: US cents.
        latitude: Degrees.
        longitude: Degrees.
        entry: Index into `ENTRIES`.
        device: Number of the device that paid.
        pattern: Index into `PATTERNS` of the attack that it is part of, -1 if it is honest.
    """

    id: Ints
    card: Ints
    moment: Ints
    usd: Ints
    latitude: Floats
    longitude: Floats
    entry: Ints
    device: Ints
    pattern: Ints


@dataclass(frozen=True)
class CardPayments:
    """Card payments at the end of a day: messages by table, and what the truth needs.

    Attributes:
        messages: By table.
        transactions: The valid ones.
        disputed: Numbers of the transactions with a valid chargeback.
        log: The defects.
    """

    messages: dict[str, Messages]
    transactions: Transactions
    disputed: Ints
    log: DefectLog

    @property
    def feed(self) -> Feed:
        """What has been published, both tables in one stream, in the order of delivery."""
        tables = list(self.messages.values())
        delivered = np.concatenate([told.delivered for told in tables])
        order = pa.array(np.argsort(delivered, kind="stable"))
        topics = pa.chunked_array([told.topic for told in tables]).take(order)
        payloads = pa.chunked_array([told.payload for told in tables]).take(order)
        return Feed(
            stream=STREAM,
            subjects=SUBJECTS,
            topics=topics.to_pylist(),
            payloads=[payload.encode() for payload in payloads.to_pylist()],
        )


@dataclass(frozen=True)
class _Paid:
    """All transactions before their delivery, honest ones first."""

    id: Ints
    card: Ints
    moment: Ints
    place: Ints
    usd: Ints
    entry: Ints
    device: Ints
    pattern: Ints


def build(world: World) -> CardPayments:
    """Builds the messages, notes their defects, and keeps what the truth needs."""
    log = DefectLog()
    cards = world.arrivals("cards.cards", max(900, 60 / world.settings.scale), before=0.7)
    paid = _joined(_honest(world, cards), _attacks(world, cards))
    latitude, longitude = _position(world, paid)
    kind = _spoiler(world).kinds("card_payments.transactions", paid.id, _TRANSACTION_DEFECTS)
    payload = _payload(world, paid, (latitude, longitude), kind)
    messages = deliver(
        world.draws,
        "cards.transactions",
        paid.id,
        paid.moment + travel(world.draws, "cards", paid.id, late=kind["late"]),
        ("cards.transactions", payload),
        twice=kind["duplicated"],
        cut=world.cut,
    )
    good = _note(log, "transactions", key_of(paid.id), kind, messages)
    rows = np.flatnonzero(good)
    transactions = Transactions(
        id=paid.id[rows],
        card=paid.card[rows],
        moment=paid.moment[rows],
        usd=paid.usd[rows],
        latitude=latitude[rows] / 1_000,
        longitude=longitude[rows] / 1_000,
        entry=paid.entry[rows],
        device=paid.device[rows],
        pattern=paid.pattern[rows],
    )
    chargebacks, disputed = _chargebacks(world, log, paid)
    return CardPayments(
        {"transactions": messages, "chargebacks": chargebacks}, transactions, disputed, log
    )


def _spoiler(world: World) -> Spoiler:
    """Terminals send more that is spoilt than a system of one's own."""
    return Spoiler(world.draws, min(_DIRTINESS * world.settings.defects, 0.5))


def key_of(ident: Ints) -> Column:
    """Returns the id of each transaction as text."""
    return join("TX-", number(ident, 9))


def token_of(card: Ints) -> Column:
    """Returns the token of each card."""
    return join("tok_", number(card * 7_919 % 1_000_003, 7), number(card, 6))


def _home(world: World, card: Ints) -> Ints:
    return world.draws.weighted(
        "cards.home", card, [0.2, 0.15, 0.1, 0.05, 0.12, 0.12, 0.08, 0.08, 0.06, 0.04]
    )


def _usual(world: World, card: Ints) -> Ints:
    """Returns what each card usually pays, in US cents."""
    return 1_500 + world.draws.below("cards.usual", card, 6_000)


def _honest(world: World, cards: days.Arrivals) -> _Paid:
    draw, plan = world.draws, world.arrivals("cards.transactions", 32_000)
    ident = np.arange(plan.count(world.day)) + 1
    moment = plan.seconds(ident - 1)
    card = draw.below("cards.who", ident, cards.known(days.day_of(moment)))
    entry = draw.weighted("cards.entry", ident, [0.25, 0.3, 0.42, 0.03])
    travels = draw.chance("cards.travels", ident, 0.01)
    abroad = draw.below("cards.abroad", ident, len(PLACES))
    place = np.where(travels, abroad, _home(world, card))
    factor = np.clip(1 + draw.normal("cards.amount", ident) * 0.6, 0.2, 3.0)
    splurges = draw.chance("cards.splurges", ident, 0.002)
    usd = (_usual(world, card) * factor).astype(np.int64) * np.where(splurges, 12, 1)
    # A person has two devices, and now and then a new one.
    new = draw.chance("cards.renews", ident, 0.01)
    device = card * 4 + draw.below("cards.device", ident, 2)
    device = np.where(new, _ATTACK + ident, device)
    nothing = np.full(len(ident), -1)
    return _Paid(ident, card, moment, place, usd, entry, device, nothing)


def _attacks(world: World, cards: days.Arrivals) -> _Paid:
    """Returns the planted attacks: seven payments in minutes, far away, large, or by a stranger."""
    draw, plan = world.draws, world.arrivals("cards.attacks", max(200, 20 / world.settings.scale))
    attack = np.arange(plan.count(world.day))
    pattern = draw.below("cards.pattern", attack, len(PATTERNS))
    counts = np.where(pattern == 0, _BURST, np.where(pattern == 1, 2, 1))
    of = np.repeat(attack, counts)
    step = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    ident, shape = _ATTACK + of * _STEPS + step, pattern[of]
    begin = plan.seconds(attack)
    card = draw.below("cards.victim", attack, cards.known(days.day_of(begin)))[of]
    pause = np.where(shape == 1, 2_400, 60)
    moment = begin[of] + step * pause + draw.below("cards.beat", ident, 30)
    home, usual = _home(world, card), _usual(world, card)
    # Five towns on lie at least 3,000 km away.
    far = (shape == 1) & (step == 1)
    place = np.where(far, _far_from(home), home)
    factor = np.where(shape == 2, 20, 1)
    usd = usual * factor
    usd = np.where(shape == 3, 30_000 + draw.below("cards.stolen", ident, 50_000), usd)
    entry = np.where(shape == 1, 0, 2)
    device = np.where(shape == 3, _ATTACK * 2 + of, card * 4)
    # The first payment of a journey is the owner's own.
    honest = (shape == 1) & (step == 0)
    return _Paid(ident, card, moment, place, usd, entry, device, np.where(honest, -1, shape))


def _far_from(place: Ints) -> Ints:
    return np.where(place == 7, 4, 7)


def _joined(first: _Paid, second: _Paid) -> _Paid:
    return _Paid(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in _Paid.__dataclass_fields__
        )
    )


def _position(world: World, paid: _Paid) -> tuple[Ints, Ints]:
    """Returns latitude and longitude in thousandths of a degree, within a town."""
    towns = np.array([place[2:] for place in PLACES], dtype=np.int64)
    around = [world.draws.below(f"cards.{axis}", paid.id, 100) for axis in ("north", "east")]
    return towns[paid.place, 0] + around[0], towns[paid.place, 1] + around[1]


def _local(world: World, paid: _Paid) -> tuple[Column, Ints]:
    codes = [place[1] for place in PLACES]
    currency = np.array([money.INDEX[code] for code in codes])[paid.place]
    return pick(codes, paid.place), money.local_price(paid.usd, currency)


def _payload(
    world: World, paid: _Paid, position: tuple[Ints, Ints], kind: dict[str, Bools]
) -> Column:
    draw, ident = world.draws, paid.id
    currency, amount = _local(world, paid)
    owner = paid.card * 5 + 3
    customers = world.arrivals("shop.customers", 20_000, before=0.4).count(days.FIRST_STATE)
    orders = world.arrivals("shop.orders", 75_000).count(days.FIRST_STATE)
    ours = draw.chance("cards.ours", ident, 0.2) & (paid.pattern < 0)
    order = join("NA-", number(1 + draw.below("cards.order", ident, orders), 7))
    declined = draw.chance("cards.declined", ident, np.where(paid.pattern >= 0, 0.15, 0.03))
    occurred = np.where(kind["skewed_clock"], SKEWED_SECONDS + ident % DAY, paid.moment)
    shown = when(kind["mistyped"], '"12,5O"', cents(amount))
    merchant = np.where(ours, 0, 1 + draw.below("cards.merchant", ident, 3))
    payload = as_json(
        {
            "transaction_id": json_text(key_of(ident)),
            "card_token": json_text(token_of(paid.card)),
            "customer_id": json_text(number(1 + owner % customers)),
            "merchant": json_text(pick(_MERCHANTS, merchant)),
            "order_number": json_text(when(ours, order, None)),
            "amount": shown,
            "currency": json_text(when(kind["missing"], "", currency)),
            "amount_usd": cents(paid.usd),
            "country": json_text(pick([place[0] for place in PLACES], paid.place)),
            "latitude": _thousandths(position[0]),
            "longitude": _thousandths(position[1]),
            "device_fingerprint": json_text(join("fp", number(paid.device, 9))),
            "entry_mode": json_text(pick(ENTRIES, paid.entry)),
            "decision": json_text(when(declined, "declined", "approved")),
            "occurred_at": json_text(iso_utc(occurred)),
        }
    )
    return cut_off(payload, kind["malformed"])


_MERCHANTS = ["anycompany_shop", "game_store", "arcade_hall", "partner_outlet"]


def _thousandths(values: Ints) -> Column:
    whole, rest = np.divmod(np.abs(values), 1_000)
    return join(when(values < 0, "-", ""), number(whole), ".", number(rest, 3))


def _note(
    log: DefectLog, table: str, key: Column, kind: dict[str, Bools], messages: Messages
) -> Bools:
    """Notes the defects of one table; returns which of its rows count."""
    everything = np.ones(len(key), dtype=bool)
    spoilt = Spoilt(log, f"card_payments.{table}", key, kind, messages.seen(len(key)))
    columns = {
        "missing": "currency",
        "mistyped": "amount",
        "skewed_clock": "occurred_at",
        "unmatched": "transaction_id",
    }
    for name in kind:
        spoilt.note(name, columns.get(name))
    good = spoilt.chain(everything, "transaction_id")
    return good & ~kind["malformed"] if "malformed" in kind else good


def _chargebacks(world: World, log: DefectLog, paid: _Paid) -> tuple[Messages, Ints]:
    """Returns the disputes: of four in five frauds, and of a few honest transactions."""
    draw = world.draws
    rate = np.where(paid.pattern >= 0, 0.8, 0.002)
    at = np.flatnonzero(draw.chance("cards.disputed", paid.id, rate))
    ident, moment = paid.id[at], paid.moment[at]
    raised = moment + 5 * DAY + draw.below("cards.raised", ident, 40 * DAY)
    kind = _spoiler(world).kinds("card_payments.chargebacks", ident, _CHARGEBACK_DEFECTS)
    key = join("CB-", number(ident, 9))
    currency, amount = _local(world, paid)
    about = when(kind["unmatched"], join("TX-8", number(ident, 8)), key_of(ident))
    currency = currency.take(pa.array(at))
    is_fraud = paid.pattern[at] >= 0
    payload = as_json(
        {
            "chargeback_id": json_text(key),
            "transaction_id": json_text(about),
            "amount": cents(amount[at]),
            "currency": json_text(when(kind["missing"], "", currency)),
            "reason": json_text(when(is_fraud, "fraud", "not_received")),
            "raised_at": json_text(iso_utc(raised)),
        }
    )
    nobody = np.zeros(len(at), dtype=bool)
    messages = deliver(
        draw,
        "cards.chargebacks",
        ident,
        raised + travel(draw, "cards.chargebacks", ident, late=nobody),
        ("cards.chargebacks", payload),
        twice=kind["duplicated"],
        cut=world.cut,
    )
    good = _note(log, "chargebacks", key, kind, messages)
    return messages, ident[good & ~kind["unmatched"]]


def alerts(paid: Transactions) -> pa.Table:
    """Returns which rules of the README fire on which transactions, counted one by one."""
    rows: dict[str, list[str]] = {"transaction_id": [], "rule": []}
    keys = key_of(paid.id).to_pylist()
    order = np.lexsort((paid.id, paid.moment, paid.card))
    splits = np.flatnonzero(np.diff(paid.card[order])) + 1
    for card in np.split(order, splits):
        for row, rule in _alerts_of_card(paid, card):
            rows["transaction_id"].append(keys[row])
            rows["rule"].append(rule)
    return pa.table(rows, schema=pa.schema([(name, pa.string()) for name in rows]))


def _alerts_of_card(paid: Transactions, card: Ints) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    known: set[int] = set()
    spent, present = 0, -1
    for position, row in enumerate(card.tolist()):
        moment, usd, entry = paid.moment[row], int(paid.usd[row]), paid.entry[row]
        if position >= 4 and moment - paid.moment[card[position - 4]] <= 600:
            found.append((row, "velocity"))
        if position >= 5 and usd * position >= 8 * spent:
            found.append((row, "amount"))
        device = int(paid.device[row])
        if position >= 5 and entry == 2 and usd >= 20_000 and device not in known:
            found.append((row, "new_device"))
        if entry in (0, 1):
            if present >= 0:
                km = _kilometres(paid, present, row)
                if km >= 500 and km * 3_600 >= 900 * (moment - paid.moment[present]):
                    found.append((row, "distance"))
            present = row
        known.add(device)
        spent += usd
    return found


def _kilometres(paid: Transactions, one: int, other: int) -> float:
    """Returns the distance on a sphere of 6,371 km radius."""
    north = np.radians([paid.latitude[one], paid.latitude[other]])
    east = np.radians(paid.longitude[other] - paid.longitude[one])
    chord = np.sin((north[1] - north[0]) / 2) ** 2
    chord += np.cos(north[0]) * np.cos(north[1]) * np.sin(east / 2) ** 2
    return float(2 * 6_371 * np.arcsin(np.sqrt(chord)))
