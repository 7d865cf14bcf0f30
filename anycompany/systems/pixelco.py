"""PixelCo, acquired: one nested JSON extract of its customers and support cases.

accounts, cases and their logs ─> JSON text ─> pixelco_<day>.json, whole each time

Other ids, other states, US dates, epoch milliseconds, and many of the same people. It leaves out
PixelCo's sales, which went through AnyCompany's shop already.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import days, geography
from anycompany.draws import Bools, Ints
from anycompany.names import ascii_name
from anycompany.systems.common import SKEWED_SECONDS, Persons
from anycompany.systems.files import Outbox
from anycompany.text import Column, grouped, join, json_text, number, pick, when
from anycompany.world import World, person_of_erp, person_of_shop

TOPICS = [
    "Controller drift",
    "Account locked",
    "Refund request",
    "Console does not start",
    "Game crashes",
    "Delivery late",
    "Warranty question",
    "Wrong invoice",
]
_MODELS = ["PX Mini", "PX One", "PX Go", "PX Dock"]
_BIRTH_FIRST = (days.START.replace(year=1948) - days.START).days
_BIRTHS = days.texts("%m/%d/%Y", _BIRTH_FIRST, _BIRTH_FIRST + 58 * 365)
_EPOCH_OF_BIRTHS = days.EPOCH_DAY + _BIRTH_FIRST


@dataclass(frozen=True)
class Tickets:
    """Valid tickets of one desk, for the truth.

    Attributes:
        desk: `helpdesk` or `pixelco`.
        key: Ticket id as text.
        created: Epoch second of the opening.
        solved: Whether it counts as solved.
        response: Minutes to the first response, -1 if there is none yet.
        resolution: Minutes to the resolution, -1 if there is none yet.
        satisfaction: 1 good, 0 bad, -1 neither.
    """

    desk: str
    key: Column
    created: Ints
    solved: Bools
    response: Ints
    resolution: Ints
    satisfaction: Ints


@dataclass(frozen=True)
class Pixelco:
    """PixelCo at the end of a day: its file, and what the truth needs."""

    outbox: Outbox
    tickets: Tickets
    persons: Persons
    accounts: int
    cases: int


def build(world: World) -> Pixelco:
    """Builds PixelCo's extract, notes its defects, and keeps what the truth needs."""
    accounts, account_valid, persons = _accounts(world)
    cases, tickets = _cases(world, account_valid)
    day = days.date_of(world.day)
    stamp = day.strftime("%d/%m/%Y 23:10")
    head = f'{{"extract": {{"company": "PixelCo", "generated": "{stamp}"}},\n"accounts": [\n'

    def make() -> bytes:
        return b"".join(
            [head.encode(), _rows(accounts), b'\n],\n"cases": [\n', _rows(cases), b"\n]}\n"]
        )

    box = Outbox()
    box.add(f"pixelco_{day.isoformat()}.json", world.day, make)
    return Pixelco(box, tickets, persons, len(accounts), len(cases))


def _rows(column: Column) -> bytes:
    return ",\n".join(column.to_pylist()).encode()


def person_of_account(world: World, account: Ints) -> Ints:
    """Returns the person number of each account (from 0); the shop or the ERP knows two in five."""
    group, turn = account // 5, account % 5
    known = np.where(
        turn == 0, person_of_shop(group * 16 + 3), person_of_erp(world.draws, group * 10 + 1)
    )
    return np.where(turn < 2, known, (account * 2 + 1) * 4 + 3)


def _accounts(world: World) -> tuple[Column, Bools, Persons]:
    plan = world.arrivals("pixelco.accounts", 6_000, before=0.6, even=True)
    index = np.arange(plan.count(world.day))
    pid = person_of_account(world, index)
    traits = world.people.traits(pid)
    record = world.people.record(traits, "pixelco", np.full(len(index), -1))
    kind = world.spoiler.kinds(
        "pixelco.accounts", index, {"missing": 0.4, "wrong_encoding": 0.3, "duplicated": 0.3}
    )
    kind["wrong_encoding"] &= record.can_mangle
    key = join("PX-", number(index + 1_000))
    family = when(kind["wrong_encoding"], record.mangled_family, record.family)
    plain = pc.utf8_lower(_plain(record.family))
    initial = pc.utf8_lower(pc.utf8_slice_codeunits(_plain(record.given), 0, 1))
    born = when(
        record.has_birth, join('"', pick(_BIRTHS, traits.birth - _EPOCH_OF_BIRTHS), '"'), "null"
    )
    text = join(
        '{"acct": "',
        key,
        '", "display": "',
        plain,
        ", ",
        initial,
        '.", "given": "',
        record.given,
        '", "family": "',
        when(kind["missing"], "", family),
        '", "mail": ',
        json_text(record.email),
        ', "tel": ',
        json_text(record.phone),
        ', "born": ',
        born,
        ', "loc": {"zip": "',
        pick(geography.PLACES.postal_code, traits.place),
        '", "town": "',
        pick(geography.PLACES.town, traits.place),
        '", "ctry": "',
        pick(geography.NAMES, traits.country),
        '"}, "since": ',
        number(plan.seconds(index) * 1000),
        ', "devices": [',
        _devices(world, index),
        "]}",
    )
    for name, column in (("missing", "family"), ("wrong_encoding", "family"), ("duplicated", None)):
        mask = pa.array(kind[name])
        good = record.family.filter(mask) if column else None
        world.log.add("pixelco.accounts", key.filter(mask), name, column, good=good)
    valid = ~kind["missing"]
    rows = np.repeat(index, 1 + kind["duplicated"])
    return (
        text.take(pa.array(rows)),
        valid,
        Persons("pixelco", "accounts", pid[valid], key.filter(pa.array(valid))),
    )


def _plain(column: Column) -> Column:
    encoded = column.dictionary_encode()
    return pick(
        [ascii_name(name) for name in encoded.dictionary.to_pylist()], np.asarray(encoded.indices)
    )


def _devices(world: World, index: Ints) -> Column:
    counts = world.draws.weighted("pixelco.devices", index, [0.3, 0.5, 0.2])
    owner = np.repeat(index, counts)
    turn = np.arange(len(owner))
    model = pick(_MODELS, world.draws.below("pixelco.model", owner * 7 + turn % 3, len(_MODELS)))
    serial = number(100_000_000 + owner * 977 % 800_000_000 + turn % 2)
    return grouped(join('{"serial": "SN', serial, '", "model": "', model, '"}'), counts, ", ")


def _cases(world: World, account_valid: Bools) -> tuple[Column, Tickets]:
    draw, plan = world.draws, world.arrivals("pixelco.cases", 9_000)
    index = np.arange(plan.count(world.day))
    opened = plan.seconds(index)
    known = world.arrivals("pixelco.accounts", 6_000, before=0.6, even=True).known(
        days.day_of(opened)
    )
    account = draw.below("pixelco.case.account", index, known)
    replied = opened + 60 * (4 + draw.below("pixelco.reply", index, 60 * 20))
    answers = draw.chance("pixelco.answers", index, 0.97)
    ends = draw.chance("pixelco.ends", index, 0.95)
    closed = replied + 60 * (30 + draw.below("pixelco.close", index, 60 * 96))
    has_reply, is_closed = answers & (replied < world.cut), ends & (closed < world.cut)
    dropped = draw.chance("pixelco.dropped", index, 0.12)
    state = np.where(is_closed, np.where(dropped, 3, 2), np.where(has_reply, 1, 0))
    stars = 1 + draw.weighted("pixelco.stars", index, [0.1, 0.1, 0.15, 0.3, 0.35])
    rated = is_closed & draw.chance("pixelco.rated", index, 0.4)
    kind = world.spoiler.kinds(
        "pixelco.cases",
        index,
        {
            "mistyped": 0.25,
            "orphaned": 0.2,
            "skewed_clock": 0.15,
            "outlying": 0.1,
            "duplicated": 0.15,
            "personal_data": 0.15,
        },
    )
    key = join("C-", number(index + 80_000))
    rating = np.where(kind["outlying"], 50, stars)
    order = _order_ref(world, index, account, opened)
    shown = np.where(kind["skewed_clock"], SKEWED_SECONDS, opened)
    sure = account + 1_000 + np.where(kind["orphaned"], 8_000_000, 0)
    severity = 1 + draw.weighted("pixelco.sev", index, [0.05, 0.2, 0.45, 0.3])
    text = join(
        '{"case": "',
        key,
        '", "acct": "PX-',
        number(sure),
        '", "state": "',
        pick(["O", "W", "R", "X"], state),
        '", "sev": ',
        when(kind["mistyped"], '"high"', number(severity)),
        ', "topic": "',
        pick(TOPICS, draw.below("pixelco.topic", index, 8)),
        '", "opened": ',
        number(shown * 1000),
        ', "closed": ',
        when(is_closed, number(closed * 1000), "null"),
        ', "stars": ',
        when(rated | kind["outlying"], number(rating), "null"),
        ', "order_ref": ',
        json_text(order),
        ', "log": [',
        _log(world, index, opened, replied, has_reply, closed, is_closed, kind["personal_data"]),
        "]}",
    )
    own = ~kind["mistyped"] & ~kind["orphaned"] & ~kind["skewed_clock"] & ~kind["outlying"]
    for name, column in (
        ("mistyped", "sev"),
        ("orphaned", "acct"),
        ("skewed_clock", "opened"),
        ("outlying", "stars"),
        ("duplicated", None),
        ("personal_data", "log"),
    ):
        world.log.add("pixelco.cases", key.filter(pa.array(kind[name])), name, column)
    chained = np.flatnonzero(own & ~account_valid[account])
    chained = np.repeat(chained, 1 + kind["duplicated"][chained])
    world.log.add("pixelco.cases", key.take(pa.array(chained)), "unresolvable", "acct")
    good = own & account_valid[account]
    # A case that nobody answered before still gets a last word, a minute before its end.
    response = np.where(has_reply, replied, np.where(is_closed, closed - 60, -1))
    happy = np.where(rated & (stars >= 4), 1, np.where(rated & (stars <= 2), 0, -1))
    tickets = Tickets(
        "pixelco",
        key.filter(pa.array(good)),
        opened[good],
        is_closed[good],
        np.where(response >= 0, (response - opened) // 60, -1)[good],
        np.where(is_closed, (closed - opened) // 60, -1)[good],
        happy[good],
    )
    return text.take(pa.array(np.repeat(index, 1 + kind["duplicated"]))), tickets


def _order_ref(world: World, index: Ints, account: Ints, opened: Ints) -> Column:
    """Returns the shop order a case is about, where the account's person has ordered before."""
    customer = np.where(account % 5 == 0, account // 5 * 16 + 3, -1)
    order = last_order(world.shop.order_customer, world.shop.order_second, customer, opened)
    return when(order >= 0, join("NA-", number(np.maximum(order, 0) + 1, 7)), None)


def last_order(owner: Ints, second: Ints, wanted: Ints, moment: Ints) -> Ints:
    """Returns the position of each wanted customer's last order before a moment, -1 for none.

    Args:
        owner: Customer of each order.
        second: Epoch second of each order.
        wanted: Customers to look up, -1 for none.
        moment: Epoch second for each of them.
    """
    if not len(owner):
        return np.full(len(wanted), -1, dtype=np.int64)
    span = np.int64(2**33)
    keys = owner * span + second
    order = np.argsort(keys, kind="stable")
    place = np.searchsorted(keys[order], wanted * span + moment) - 1
    found = order[np.maximum(place, 0)]
    return np.where((wanted >= 0) & (place >= 0) & (owner[found] == wanted), found, -1)


def _log(
    world: World,
    index: Ints,
    opened: Ints,
    replied: Ints,
    has_reply: Bools,
    closed: Ints,
    is_closed: Bools,
    personal: Bools,
) -> Column:
    noted = has_reply & world.draws.chance("pixelco.noted", index, 0.3)
    present = np.stack([np.ones(len(index), dtype=bool), noted, has_reply, is_closed], axis=1)
    case, slot = np.nonzero(present)
    note_at = opened + (replied - opened) // 2
    moment = np.stack([opened, note_at, replied, np.maximum(closed - 60, replied)], axis=1)[
        case, slot
    ]
    who = pick(["client", "note", "agent", "agent"], slot)
    says = pick(
        [
            "It does not work, please help.",
            "Looked up the account.",
            "We are looking into it.",
            "This should be solved now.",
        ],
        slot,
    )
    leak = join(
        "My card is 5500 0000 0000 ", number(1_000 + world.draws.below("pixelco.card", case, 9_000))
    )
    says = when(personal[case] & (slot == 0), leak, says)
    entry = join('{"t": ', number(moment * 1000), ', "who": "', who, '", "txt": "', says, '"}')
    return grouped(entry, present.sum(axis=1), ", ")
