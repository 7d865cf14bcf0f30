"""The help desk's data, in the shape of Zendesk's API; `desk_server.py` serves it.

users, tickets, comments, ratings ─> one JSON text per record, in the order of the export ─> a file
and an index per list

A record stands in its list as the bytes that go over the wire, so that a page is one slice of the
file. It leaves out everything of Zendesk's API but the four exports that a warehouse reads.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import days
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Ints
from anycompany.people import Record
from anycompany.systems.common import HOUR, NEVER, SKEWED_SECONDS, Persons, until
from anycompany.systems.files import Outbox
from anycompany.systems.pixelco import Tickets, last_order, person_of_account
from anycompany.text import Column, iso_utc, join, json_text, number, pick, quoted, when
from anycompany.world import World, person_of_erp, person_of_marketplace, person_of_shop

AGENTS = 60
LISTS = ("tickets", "users", "comments", "satisfaction_ratings")
FIRST_USER = 900_000_000
_FIRST_AGENT = 800_000_000
_FIRST_TICKET = 100
_UNKNOWN = 700_000_000
# The parts that a comment plays, which are also its number within the ticket.
_ASKS, _REPLIES, _NOTES, _INSISTS, _WRAPS = range(5)
_TYPES = ["question", "incident", "problem", "task"]
_USER_DEFECTS = {"missing": 0.35, "mistyped": 0.25, "wrong_encoding": 0.2, "duplicated": 0.2}
_TICKET_DEFECTS = {
    "missing": 0.25,
    "mistyped": 0.2,
    "orphaned": 0.2,
    "skewed_clock": 0.15,
    "duplicated": 0.2,
}
_COMMENT_DEFECTS = {
    "missing": 0.35,
    "orphaned": 0.25,
    "duplicated": 0.15,
    "personal_data": 0.25,
}
_STATUSES = ["new", "open", "pending", "hold", "solved", "closed"]
SUBJECTS = [
    "Console does not turn on",
    "Where is my order?",
    "Controller keeps disconnecting",
    "Refund for a damaged item",
    "Cannot sign in",
    "Invoice is wrong",
    "Game does not load",
    "Question about the warranty",
    "Wrong item delivered",
    "Cancel my subscription",
]
_SAYS = [
    "Hello, I need help with this, please.",
    "Thank you for your message, we are looking into it.",
    "Checked the account.",
    "It still does not work.",
    "This should be solved now. Please tell us if not.",
]


@dataclass(frozen=True)
class Export:
    """One list of the API: records in the order of the export, and what they are ordered by.

    Attributes:
        text: JSON of each record.
        id: Its id.
        stamp: Epoch second that the export's `start_time` is compared with.
    """

    text: Column
    id: Ints
    stamp: Ints

    def data(self) -> bytes:
        """Returns the records, each followed by a comma and a line end."""
        return "".join(f"{text},\n" for text in self.text.to_pylist()).encode()

    def index(self) -> bytes:
        """Returns a NumPy file of shape (records, 3): stamp, id, end of the record in the data."""
        lengths = np.asarray(pc.binary_length(self.text)).astype(np.int64) + 2
        buffer = io.BytesIO()
        np.save(buffer, np.stack([self.stamp, self.id, np.cumsum(lengths)], axis=1))
        return buffer.getvalue()


@dataclass(frozen=True)
class Asked:
    """Tickets, one by one: id, user (from 0), the agent's id, epoch second, subject, validity."""

    id: Ints
    user: Ints
    agent: Ints
    created: Ints
    subject: Ints
    valid: Bools


@dataclass(frozen=True)
class Helpdesk:
    """The help desk at the end of a day: its lists, and what the truth needs."""

    outbox: Outbox
    exports: dict[str, Export]
    tickets: Tickets
    persons: Persons
    asked: Asked


@dataclass(frozen=True)
class _Tickets:
    index: Ints
    id: Ints
    user: Ints
    agent: Ints
    created: Ints
    replied: Ints
    solved: Ints
    rated: Ints
    offered: Bools
    good: Bools


def build(world: World) -> Helpdesk:
    """Builds the help desk's lists, notes their defects, and keeps what the truth needs."""
    exports: dict[str, Export] = {}
    user_valid, persons = _users(world, exports)
    tickets = _plan(world)
    valid = _ticket_rows(world, exports, tickets, user_valid)
    response = _comments(world, exports, tickets, valid)
    _ratings(world, exports, tickets, valid)
    cut, box = world.cut, Outbox()
    for name, export in exports.items():
        box.add(f"{world.day}/{name}.ndjson", world.day, export.data)
        box.add(f"{world.day}/{name}.npy", world.day, export.index)
    is_solved, is_rated = tickets.solved < cut, tickets.offered & (tickets.rated < cut)
    truth = Tickets(
        "helpdesk",
        number(tickets.id[valid]),
        tickets.created[valid],
        is_solved[valid],
        response[valid],
        np.where(is_solved, (tickets.solved - tickets.created) // 60, -1)[valid],
        np.where(is_rated, tickets.good, -1)[valid],
    )
    subject = world.draws.below("helpdesk.subject", tickets.index, len(SUBJECTS))
    asked = Asked(tickets.id, tickets.user, tickets.agent, tickets.created, subject, valid)
    return Helpdesk(box, exports, truth, persons, asked)


def _export(text: Column, ids: Ints, stamp: Ints, twice: Bools) -> Export:
    rows = np.repeat(np.arange(len(ids)), 1 + twice)
    rows = rows[np.lexsort((ids[rows], stamp[rows]))]
    return Export(text.take(pa.array(rows)), ids[rows], stamp[rows])


def _person(world: World, user: Ints) -> Ints:
    """Returns the person number of each end-user (from 0); four in five buy somewhere."""
    group, slot = user // 22, user % 22
    pid = np.where(slot < 9, person_of_shop(group * 20 + slot * 2), (user * 2) * 4 + 3)
    erp = person_of_erp(world.draws, group * 12 + np.maximum(slot - 9, 0) * 2)
    pid = np.where((slot >= 9) & (slot < 14), erp, pid)
    buyer = person_of_marketplace(world.draws, group * 10 + np.maximum(slot - 14, 0) * 2)
    pid = np.where((slot >= 14) & (slot < 18), buyer, pid)
    return np.where(slot == 18, person_of_account(world, group * 6 + 2), pid)


def _users(world: World, exports: dict[str, Export]) -> tuple[Bools, Persons]:
    draw, plan = world.draws, world.arrivals("helpdesk.users", 22_000, before=0.4)
    index = np.arange(plan.count(world.day))
    pid, created = _person(world, index), plan.seconds(index)
    traits = world.people.traits(pid)
    record = world.people.record(traits, "helpdesk", np.full(len(index), -1))
    # Nobody is older than the desk's move to this system.
    updated = np.maximum(created, days.start_of(0) + 60)
    changed = updated + until(draw, "helpdesk.user_at", index, 0, 600 * 24)
    changes = draw.chance("helpdesk.user_changes", index, 0.3) & (changed < world.cut)
    updated = np.where(changes, changed, updated)
    kind = world.spoiler.kinds("helpdesk.users", index, _USER_DEFECTS)
    kind["wrong_encoding"] &= record.can_mangle
    name = _names(world, record, index, kind["wrong_encoding"])
    key, everything = number(FIRST_USER + index), np.ones(len(index), dtype=bool)
    spoilt = Spoilt(world.log, "helpdesk.users", key, kind, everything, updated)
    spoilt.note("missing", "name", name)
    spoilt.note("mistyped", "role", pick(["end-user"], index * 0))
    spoilt.note("wrong_encoding", "name")
    spoilt.note("duplicated")
    valid = spoilt.chain(everything, "id")
    shown = when(kind["missing"], "", name)
    role = when(kind["mistyped"], "end_usr", "end-user")
    text = _user_text(key, shown, record.email, record.phone, role, created, updated)
    staff = _staff(world)
    ids = np.concatenate([staff.id, FIRST_USER + index])
    stamps = np.concatenate([staff.stamp, updated])
    twice = np.concatenate([np.zeros(AGENTS, dtype=bool), kind["duplicated"]])
    exports["users"] = _export(pa.concat_arrays([staff.text, text]), ids, stamps, twice)
    return valid, Persons("helpdesk", "users", pid[valid], key.filter(pa.array(valid)))


def _names(world: World, record: Record, index: Ints, mangled: Bools) -> Column:
    """Returns names as the desk has them: in order, turned round, or in capitals."""
    way = world.draws.weighted("helpdesk.name", index, [0.86, 0.09, 0.05])
    family = when(mangled, record.mangled_family, record.family)
    in_order = join(record.given, " ", family)
    name = when(way == 1, join(family, ", ", record.given), in_order)
    return when(way == 2, pc.utf8_upper(name), name)


def _user_text(
    ident: Column,
    name: Column,
    email: Column,
    phone: Column,
    role: Column,
    created: Ints,
    updated: Ints,
) -> Column:
    return join(
        '{"id": ',
        ident,
        ', "name": "',
        name,
        '", "email": ',
        json_text(email),
        ', "phone": ',
        json_text(phone),
        ', "role": "',
        role,
        '", "locale": "en-US", "time_zone": "UTC", "created_at": "',
        iso_utc(created),
        '", "updated_at": "',
        iso_utc(updated),
        '"}',
    )


def _staff(world: World) -> Export:
    """Returns the desk's own people."""
    index = np.arange(AGENTS)
    traits = world.people.traits((index + 50_000_000) * 4 + 3)
    record = world.people.record(traits, "helpdesk.staff", np.full(AGENTS, -1), home=True)
    ident, start = _FIRST_AGENT + index, int(days.start_of(0))
    text = _user_text(
        number(ident),
        join(record.given, " ", record.family),
        join("agent", number(index + 1), "@anycompany.example"),
        pa.nulls(AGENTS, pa.string()),
        when(index < 3, "admin", "agent"),
        np.full(AGENTS, start - 60 * 24 * HOUR),
        np.full(AGENTS, start + 30),
    )
    return Export(text, ident, np.full(AGENTS, start + 30))


def _plan(world: World) -> _Tickets:
    draw, plan = world.draws, world.arrivals("helpdesk.tickets", 30_000)
    index = np.arange(plan.count(world.day))
    created = plan.seconds(index)
    users = world.arrivals("helpdesk.users", 22_000, before=0.4)
    answers = draw.chance("helpdesk.answers", index, 0.96)
    wait = np.exp(4.4 + 0.9 * draw.normal("helpdesk.reply", index))
    replied = created + 60 * np.clip(wait, 2, 6_000).astype(np.int64)
    ends = answers & draw.chance("helpdesk.ends", index, 0.95)
    solved = replied + 60 * (20 + draw.below("helpdesk.solve", index, 60 * 80))
    offered = ends & draw.chance("helpdesk.offered", index, 0.27)
    rates = offered & draw.chance("helpdesk.rates", index, 0.62)
    rated = solved + 60 * (10 + draw.below("helpdesk.rate", index, 60 * 48))
    return _Tickets(
        index=index,
        id=_FIRST_TICKET + index,
        user=draw.below("helpdesk.requester", index, users.known(days.day_of(created))),
        agent=_FIRST_AGENT + draw.below("helpdesk.agent", index, AGENTS),
        created=created,
        replied=np.where(answers, replied, NEVER),
        solved=np.where(ends, solved, NEVER),
        rated=np.where(rates, rated, NEVER),
        offered=offered,
        good=draw.chance("helpdesk.good", index, 0.82),
    )


def _references(world: World, tickets: _Tickets) -> tuple[Column, Column]:
    """Returns the order number and the product's EAN of each ticket, null where it has none."""
    slot, group, at = tickets.user % 22, tickets.user // 22, tickets.created
    shop, erp, market = world.shop, world.erp, world.marketplace
    tells = world.draws.chance("helpdesk.tells", tickets.index, 0.75)
    # (orders' owners and moments, slots of the system's people, orders' numbers): see _person.
    systems = (
        (shop.order_customer, shop.order_second, 0, 9, 20, "NA-", 1, 7),
        (erp.order_customer, erp.order_second, 9, 14, 12, "", 45_000_001, 0),
        (market.order_buyer, market.order_second, 14, 18, 10, "MK-", 1, 7),
    )
    found = pa.nulls(len(at), pa.string())
    for owner, second, low, high, stride, prefix, first, width in systems:
        mine = tells & (slot >= low) & (slot < high)
        wanted = np.where(mine, group * stride + (slot - low) * 2, -1)
        order = last_order(owner, second, wanted, at)
        told = join(prefix, number(np.maximum(order, 0) + first, width))
        found = when(order >= 0, told, found)
    # Of the orders known when the ticket was opened: what it says never changes afterwards.
    some = np.maximum(world.distributor.placed.known(days.day_of(at)) // 2, 1)
    retail = join("D-", number(world.draws.below("helpdesk.retail", tickets.index, some) + 1, 6))
    found = when((slot == 19) & tells, retail, found)
    product = world.pick_product("helpdesk.product", tickets.index)
    about = world.draws.chance("helpdesk.about", tickets.index, 0.6)
    return found, when(about, pick(world.catalogue.ean, product), None)


def _ticket_rows(
    world: World, exports: dict[str, Export], tickets: _Tickets, user_valid: Bools
) -> Bools:
    status, updated = _progress(world, tickets)
    everything = np.ones(len(tickets.id), dtype=bool)
    kind = world.spoiler.kinds("helpdesk.tickets", tickets.index, _TICKET_DEFECTS)
    text = _ticket_text(world, tickets, status, updated, kind)
    twice = kind["duplicated"]
    exports["tickets"] = _export(text, tickets.id, updated, twice)
    key = number(tickets.id)
    spoilt = Spoilt(world.log, "helpdesk.tickets", key, kind, everything, updated, copies=twice)
    requester = number(FIRST_USER + tickets.user)
    spoilt.note("missing", "requester_id", requester)
    spoilt.note("orphaned", "requester_id", requester)
    spoilt.note("mistyped", "status", pick(_STATUSES, status))
    spoilt.note("skewed_clock", "created_at", iso_utc(tickets.created))
    spoilt.note("duplicated")
    return spoilt.chain(user_valid[tickets.user], "requester_id")


def _progress(world: World, tickets: _Tickets) -> tuple[Ints, Ints]:
    """Returns each ticket's status (index) at the end of the day, and its last change."""
    closed = np.where(tickets.solved < NEVER, tickets.solved + 96 * HOUR, NEVER)
    waits = 1 + world.draws.weighted("helpdesk.waits", tickets.index, [0.5, 0.4, 0.1])
    status, updated = np.zeros(len(tickets.id), dtype=np.int64), tickets.created.copy()
    stages = ((tickets.replied, waits), (tickets.solved, 4), (tickets.rated, 4), (closed, 5))
    for moment, code in stages:
        happened = moment < world.cut
        status = np.where(happened, np.maximum(status, code), status)
        updated = np.where(happened, np.maximum(updated, moment), updated)
    return status, updated


def _ticket_text(
    world: World, tickets: _Tickets, status: Ints, updated: Ints, kind: dict[str, Bools]
) -> Column:
    draw, index = world.draws, tickets.index
    stranger = FIRST_USER + tickets.user + np.where(kind["orphaned"], 90_000_000, 0)
    created = np.where(kind["skewed_clock"], SKEWED_SECONDS, tickets.created)
    subject = draw.below("helpdesk.subject", index, len(SUBJECTS))
    urgency = draw.weighted("helpdesk.priority", index, [0.2, 0.4, 0.2, 0.05, 0.15])
    channel = draw.weighted("helpdesk.channel", index, [0.5, 0.25, 0.15, 0.1])
    solved = tickets.solved < world.cut
    return join(
        '{"id": ',
        number(tickets.id),
        ', "external_id": null, "requester_id": ',
        when(kind["missing"], "null", number(stranger)),
        ', "assignee_id": ',
        number(tickets.agent),
        ', "subject": "',
        pick(SUBJECTS, subject),
        f'", "description": "{_SAYS[0]}", "status": "',
        when(kind["mistyped"], "sovled", pick(_STATUSES, status)),
        '", "priority": ',
        json_text(pick(["low", "normal", "high", "urgent", None], urgency)),
        ', "type": "',
        pick(_TYPES, draw.below("helpdesk.type", index, len(_TYPES))),
        '", "via": {"channel": "',
        pick(["email", "web", "chat", "phone"], channel),
        '"}, "tags": ["',
        pick(["console", "order", "account", "billing"], subject % 4),
        '"], ',
        _ticket_fields(world, tickets),
        ', "created_at": "',
        iso_utc(created),
        '", "updated_at": "',
        iso_utc(updated),
        '", "solved_at": ',
        when(solved, quoted(iso_utc(np.where(solved, tickets.solved, 0))), "null"),
        "}",
    )


def _ticket_fields(world: World, tickets: _Tickets) -> Column:
    order, ean = _references(world, tickets)
    rated = np.where(tickets.good, 2, 3)
    offered = np.where(tickets.rated < world.cut, rated, 1)
    score = np.where(tickets.offered & (tickets.solved < world.cut), offered, 0)
    return join(
        '"custom_fields": [{"id": 360001, "value": ',
        json_text(order),
        '}, {"id": 360002, "value": ',
        json_text(ean),
        '}], "satisfaction_rating": {"score": "',
        pick(["unoffered", "offered", "good", "bad"], score),
        '"}',
    )


def _comments(
    world: World, exports: dict[str, Export], tickets: _Tickets, ticket_valid: Bools
) -> Ints:
    """Adds the comments; returns the minutes to each ticket's first response, -1 for none."""
    ticket, slot, moment = _conversation(world, tickets)
    ident = tickets.id[ticket] * 10 + slot
    kind = world.spoiler.kinds("helpdesk.comments", ident, _COMMENT_DEFECTS)
    asks = (slot == _ASKS) | (slot == _INSISTS)
    author = np.where(asks, FIRST_USER + tickets.user[ticket], tickets.agent[ticket])
    parent = tickets.id[ticket] + np.where(kind["orphaned"], _UNKNOWN, 0)
    body = when(kind["personal_data"], _leak(world, ident), pick(_SAYS, slot))
    text = join(
        '{"id": ',
        number(ident),
        ', "ticket_id": ',
        number(parent),
        ', "author_id": ',
        when(kind["missing"], "null", number(author)),
        ', "public": ',
        when(slot == _NOTES, "false", "true"),
        ', "body": "',
        body,
        '", "created_at": "',
        iso_utc(moment),
        '"}',
    )
    twice, everything = kind["duplicated"], np.ones(len(ident), dtype=bool)
    exports["comments"] = _export(text, ident, moment, twice)
    key = number(ident)
    spoilt = Spoilt(world.log, "helpdesk.comments", key, kind, everything, moment, copies=twice)
    spoilt.note("missing", "author_id", number(author))
    spoilt.note("orphaned", "ticket_id", number(tickets.id[ticket]))
    spoilt.note("duplicated")
    spoilt.note("personal_data", "body")
    valid = spoilt.chain(ticket_valid[ticket], "ticket_id")
    answer = valid & ((slot == _REPLIES) | (slot == _WRAPS))
    first = np.full(len(tickets.id), NEVER)
    np.minimum.at(first, ticket[answer], moment[answer])
    return np.where(first < NEVER, (first - tickets.created) // 60, -1)


def _conversation(world: World, tickets: _Tickets) -> tuple[Ints, Ints, Ints]:
    """Returns ticket, slot and moment of every comment so far."""
    draw, index, created = world.draws, tickets.index, tickets.created
    replied = tickets.replied < NEVER
    noted = replied & draw.chance("helpdesk.noted", index, 0.2)
    insists = replied & draw.chance("helpdesk.insists", index, 0.35)
    wraps = (tickets.solved < NEVER) & draw.chance("helpdesk.wraps", index, 0.3)
    half_way = created + (tickets.replied - created) // 120 * 60
    moments = np.stack(
        [
            created,
            tickets.replied,
            np.where(noted, half_way, NEVER),
            np.where(insists, tickets.replied + 600, NEVER),
            np.where(wraps, tickets.solved, NEVER),
        ],
        axis=1,
    )
    ticket, slot = np.nonzero(moments < world.cut)
    return ticket, slot, moments[ticket, slot]


def _leak(world: World, ident: Ints) -> Column:
    """Returns texts that no one should keep: a card number and an address."""
    digits = number(1_000 + world.draws.below("helpdesk.card", ident, 9_000))
    card = join("My card 4111 1111 1111 ", digits)
    return join(card, " was charged twice, mail me at me", number(ident), "@example.com.")


def _ratings(
    world: World, exports: dict[str, Export], tickets: _Tickets, ticket_valid: Bools
) -> None:
    at = np.flatnonzero(tickets.offered & (tickets.solved < world.cut))
    ident = tickets.id[at] * 10 + 9
    shares = {"orphaned": 0.5, "duplicated": 0.5}
    kind = world.spoiler.kinds("helpdesk.satisfaction_ratings", ident, shares)
    # A stray rating stands beside the true one, so that no ticket loses its score.
    stray = np.flatnonzero(kind["orphaned"])
    row = np.concatenate([np.arange(len(at)), stray])
    is_stray = np.arange(len(row)) >= len(at)
    twice = kind["duplicated"][row] & ~is_stray
    ticket = at[row]
    ids = ident[row] + np.where(is_stray, 3_000_000_000, 0)
    is_rated = tickets.rated[ticket] < world.cut
    score = np.where(is_rated, np.where(tickets.good[ticket], 1, 2), 0)
    updated = np.where(is_rated, tickets.rated[ticket], tickets.solved[ticket])
    text = join(
        '{"id": ',
        number(ids),
        ', "ticket_id": ',
        number(tickets.id[ticket] + np.where(is_stray, _UNKNOWN, 0)),
        ', "requester_id": ',
        number(FIRST_USER + tickets.user[ticket]),
        ', "assignee_id": ',
        number(tickets.agent[ticket]),
        ', "score": "',
        pick(["offered", "good", "bad"], score),
        '", "comment": ',
        when(score == 1, '"Quick and kind."', "null"),
        ', "created_at": "',
        iso_utc(tickets.solved[ticket]),
        '", "updated_at": "',
        iso_utc(updated),
        '"}',
    )
    exports["satisfaction_ratings"] = _export(text, ids, updated, twice)
    key, everything = number(ids), np.ones(len(ids), dtype=bool)
    kind = {"orphaned": is_stray, "duplicated": twice}
    table = "helpdesk.satisfaction_ratings"
    spoilt = Spoilt(world.log, table, key, kind, everything, updated, copies=twice)
    spoilt.note("orphaned", "ticket_id")
    spoilt.note("duplicated")
    spoilt.chain(ticket_valid[ticket], "ticket_id")
