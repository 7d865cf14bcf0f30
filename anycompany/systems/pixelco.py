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
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Ints
from anycompany.names import ascii_name
from anycompany.people import Record, Traits
from anycompany.systems.common import SKEWED_SECONDS, Persons
from anycompany.systems.files import Outbox
from anycompany.text import Column, grouped, join, json_text, number, pick, quoted, when
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
_SAYS = [
    "It does not work, please help.",
    "Looked up the account.",
    "We are looking into it.",
    "This should be solved now.",
]
_CASE_DEFECTS = {
    "mistyped": 0.25,
    "orphaned": 0.2,
    "skewed_clock": 0.15,
    "outlying": 0.1,
    "duplicated": 0.15,
    "personal_data": 0.15,
}
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
    shares = {"missing": 0.4, "wrong_encoding": 0.3, "duplicated": 0.3}
    kind = world.spoiler.kinds("pixelco.accounts", index, shares)
    kind["wrong_encoding"] &= record.can_mangle
    key, everything = join("PX-", number(index + 1_000)), np.ones(len(index), dtype=bool)
    spoilt = Spoilt(world.log, "pixelco.accounts", key, kind, everything)
    spoilt.note("missing", "family", record.family)
    spoilt.note("wrong_encoding", "family", record.family)
    spoilt.note("duplicated")
    valid = spoilt.chain(everything, "acct")
    family = when(kind["wrong_encoding"], record.mangled_family, record.family)
    family = when(kind["missing"], "", family)
    since = number(plan.seconds(index) * 1000)
    text = _account_text(world, key, traits, record, family, since)
    rows = pa.array(np.repeat(index, 1 + kind["duplicated"]))
    persons = Persons("pixelco", "accounts", pid[valid], key.filter(pa.array(valid)))
    return text.take(rows), valid, persons


def _account_text(
    world: World, key: Column, traits: Traits, record: Record, family: Column, since: Column
) -> Column:
    plain = pc.utf8_lower(_plain(record.family))
    initial = pc.utf8_lower(pc.utf8_slice_codeunits(_plain(record.given), 0, 1))
    birth = quoted(pick(_BIRTHS, traits.birth - _EPOCH_OF_BIRTHS))
    return join(
        '{"acct": "',
        key,
        '", "display": "',
        join(plain, ", ", initial, "."),
        '", "given": "',
        record.given,
        '", "family": "',
        family,
        '", "mail": ',
        json_text(record.email),
        ', "tel": ',
        json_text(record.phone),
        ', "born": ',
        when(record.has_birth, birth, "null"),
        ', "loc": {"zip": "',
        pick(geography.PLACES.postal_code, traits.place),
        '", "town": "',
        pick(geography.PLACES.town, traits.place),
        '", "ctry": "',
        pick(geography.NAMES, traits.country),
        '"}, "since": ',
        since,
        ', "devices": [',
        _devices(world, np.arange(len(traits.pid))),
        "]}",
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


@dataclass(frozen=True)
class _Cases:
    """What happens to each case; moments in epoch seconds."""

    index: Ints
    account: Ints
    opened: Ints
    replied: Ints
    has_reply: Bools
    closed: Ints
    is_closed: Bools
    stars: Ints
    rated: Bools

    @property
    def response(self) -> Ints:
        """Minutes to the first response, -1 if there is none."""
        # A case that nobody answered before still gets a last word, a minute before its end.
        last_word = np.where(self.is_closed, self.closed - 60, -1)
        moment = np.where(self.has_reply, self.replied, last_word)
        return np.where(moment >= 0, (moment - self.opened) // 60, -1)


def _plan(world: World) -> _Cases:
    draw, plan = world.draws, world.arrivals("pixelco.cases", 9_000)
    index = np.arange(plan.count(world.day))
    opened = plan.seconds(index)
    accounts = world.arrivals("pixelco.accounts", 6_000, before=0.6, even=True)
    replied = opened + 60 * (4 + draw.below("pixelco.reply", index, 60 * 20))
    closed = replied + 60 * (30 + draw.below("pixelco.close", index, 60 * 96))
    is_closed = draw.chance("pixelco.ends", index, 0.95) & (closed < world.cut)
    return _Cases(
        index=index,
        account=draw.below("pixelco.case.account", index, accounts.known(days.day_of(opened))),
        opened=opened,
        replied=replied,
        has_reply=draw.chance("pixelco.answers", index, 0.97) & (replied < world.cut),
        closed=closed,
        is_closed=is_closed,
        stars=1 + draw.weighted("pixelco.stars", index, [0.1, 0.1, 0.15, 0.3, 0.35]),
        rated=is_closed & draw.chance("pixelco.rated", index, 0.4),
    )


def _cases(world: World, account_valid: Bools) -> tuple[Column, Tickets]:
    cases = _plan(world)
    index, everything = cases.index, np.ones(len(cases.index), dtype=bool)
    kind = world.spoiler.kinds("pixelco.cases", index, _CASE_DEFECTS)
    key = join("C-", number(index + 80_000))
    copies = kind["duplicated"]
    spoilt = Spoilt(world.log, "pixelco.cases", key, kind, everything, copies=copies)
    spoilt.note("mistyped", "sev")
    spoilt.note("orphaned", "acct", join("PX-", number(cases.account + 1_000)))
    spoilt.note("skewed_clock", "opened", number(cases.opened * 1000))
    spoilt.note("outlying", "stars")
    spoilt.note("duplicated")
    spoilt.note("personal_data", "log")
    good = spoilt.chain(account_valid[cases.account], "acct")
    happy = np.where(cases.stars >= 4, 1, np.where(cases.stars <= 2, 0, -1))
    lasted = np.where(cases.is_closed, (cases.closed - cases.opened) // 60, -1)
    tickets = Tickets(
        desk="pixelco",
        key=key.filter(pa.array(good)),
        created=cases.opened[good],
        solved=cases.is_closed[good],
        response=cases.response[good],
        resolution=lasted[good],
        satisfaction=np.where(cases.rated, happy, -1)[good],
    )
    text = _case_text(world, key, cases, kind)
    return text.take(pa.array(np.repeat(index, 1 + copies))), tickets


def _case_text(world: World, key: Column, cases: _Cases, kind: dict[str, Bools]) -> Column:
    draw, index = world.draws, cases.index
    dropped = draw.chance("pixelco.dropped", index, 0.12)
    ended = np.where(dropped, 3, 2)
    state = np.where(cases.is_closed, ended, np.where(cases.has_reply, 1, 0))
    severity = 1 + draw.weighted("pixelco.sev", index, [0.05, 0.2, 0.45, 0.3])
    account = cases.account + 1_000 + np.where(kind["orphaned"], 8_000_000, 0)
    opened = np.where(kind["skewed_clock"], SKEWED_SECONDS, cases.opened)
    stars = number(np.where(kind["outlying"], 50, cases.stars))
    order = _order_ref(world, cases.account, cases.opened)
    return join(
        '{"case": "',
        key,
        '", "acct": "PX-',
        number(account),
        '", "state": "',
        pick(["O", "W", "R", "X"], state),
        '", "sev": ',
        when(kind["mistyped"], '"high"', number(severity)),
        ', "topic": "',
        pick(TOPICS, draw.below("pixelco.topic", index, len(TOPICS))),
        '", "opened": ',
        number(opened * 1000),
        ', "closed": ',
        when(cases.is_closed, number(cases.closed * 1000), "null"),
        ', "stars": ',
        when(cases.rated | kind["outlying"], stars, "null"),
        ', "order_ref": ',
        json_text(order),
        ', "log": [',
        _log(world, cases, kind["personal_data"]),
        "]}",
    )


def _order_ref(world: World, account: Ints, opened: Ints) -> Column:
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


def _log(world: World, cases: _Cases, personal: Bools) -> Column:
    """Returns the entries of each case's log: opening, note, reply, last word."""
    index, opened, replied = cases.index, cases.opened, cases.replied
    noted = cases.has_reply & world.draws.chance("pixelco.noted", index, 0.3)
    always = np.ones(len(index), dtype=bool)
    present = np.stack([always, noted, cases.has_reply, cases.is_closed], axis=1)
    note_at = opened + (replied - opened) // 2
    moments = np.stack([opened, note_at, replied, cases.closed - 60], axis=1)
    case, slot = np.nonzero(present)
    digits = number(1_000 + world.draws.below("pixelco.card", case, 9_000))
    leak = join("My card is 5500 0000 0000 ", digits)
    says = when(personal[case] & (slot == 0), leak, pick(_SAYS, slot))
    entry = join(
        '{"t": ',
        number(moments[case, slot] * 1000),
        ', "who": "',
        pick(["client", "note", "agent", "agent"], slot),
        '", "txt": "',
        says,
        '"}',
    )
    return grouped(entry, present.sum(axis=1), ", ")
