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
from anycompany.draws import Bools, Ints
from anycompany.systems.common import HOUR, SKEWED_SECONDS, Persons
from anycompany.systems.files import Outbox
from anycompany.systems.pixelco import Tickets, last_order, person_of_account
from anycompany.text import Column, iso_utc, join, json_text, number, pick, when
from anycompany.world import World, person_of_erp, person_of_marketplace, person_of_shop

AGENTS = 60
LISTS = ("tickets", "users", "comments", "satisfaction_ratings")
_FIRST_USER = 900_000_000
_FIRST_AGENT = 800_000_000
_FIRST_TICKET = 100
_STATUSES = ["new", "open", "pending", "hold", "solved", "closed"]
_SUBJECTS = [
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
class Helpdesk:
    """The help desk at the end of a day: its lists, and what the truth needs."""

    outbox: Outbox
    exports: dict[str, Export]
    tickets: Tickets
    persons: Persons


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
    return Helpdesk(box, exports, truth, persons)


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
    changed = np.maximum(created, days.start_of(0)) + (
        draw.unit("helpdesk.user_at", index) * 600 * 24 * HOUR
    ).astype(np.int64)
    moved = draw.chance("helpdesk.user_changes", index, 0.3) & (changed < world.cut)
    # Nobody is older than the desk's move to this system.
    updated = np.where(moved, changed, np.maximum(created, days.start_of(0) + 60))
    kind = world.spoiler.kinds(
        "helpdesk.users",
        index,
        {"missing": 0.35, "mistyped": 0.25, "wrong_encoding": 0.2, "duplicated": 0.2},
    )
    kind["wrong_encoding"] &= record.can_mangle
    way = draw.weighted("helpdesk.name", index, [0.86, 0.09, 0.05])
    family = when(kind["wrong_encoding"], record.mangled_family, record.family)
    name = when(way == 1, join(family, ", ", record.given), join(record.given, " ", family))
    name = when(way == 2, pc.utf8_upper(name), name)
    ident = _FIRST_USER + index
    text = join(
        '{"id": ',
        number(ident),
        ', "name": "',
        when(kind["missing"], "", name),
        '", "email": ',
        json_text(record.email),
        ', "phone": ',
        json_text(record.phone),
        ', "role": "',
        when(kind["mistyped"], "end_usr", "end-user"),
        '", "locale": "en-US", "time_zone": "UTC", "created_at": "',
        iso_utc(created),
        '", "updated_at": "',
        iso_utc(updated),
        '"}',
    )
    key = number(ident)
    for defect, column in (
        ("missing", "name"),
        ("mistyped", "role"),
        ("wrong_encoding", "name"),
        ("duplicated", None),
    ):
        mask = pa.array(kind[defect])
        world.log.add(
            "helpdesk.users",
            key.filter(mask),
            defect,
            column,
            version_at=updated[kind[defect]],
            good=name.filter(mask) if defect == "missing" else None,
        )
    staff, staff_ids = _staff(world)
    text = pa.concat_arrays([staff, text])
    ids = np.concatenate([staff_ids, ident])
    stamps = np.concatenate([np.full(AGENTS, days.start_of(0) + 30), updated])
    exports["users"] = _export(
        text, ids, stamps, np.concatenate([np.zeros(AGENTS, dtype=bool), kind["duplicated"]])
    )
    valid = ~kind["missing"] & ~kind["mistyped"]
    return valid, Persons("helpdesk", "users", pid[valid], key.filter(pa.array(valid)))


def _staff(world: World) -> tuple[Column, Ints]:
    index = np.arange(AGENTS)
    traits = world.people.traits((index + 50_000_000) * 4 + 3)
    record = world.people.record(traits, "helpdesk.staff", np.full(AGENTS, -1), home=True)
    ident = _FIRST_AGENT + index
    text = join(
        '{"id": ',
        number(ident),
        ', "name": "',
        record.given,
        " ",
        record.family,
        '", "email": "agent',
        number(index + 1),
        '@anycompany.example", "phone": null, "role": "',
        when(index < 3, "admin", "agent"),
        '", "locale": "en-US", "time_zone": "UTC", "created_at": "2024-11-04T08:00:00Z"',
        ', "updated_at": "2025-01-01T00:00:30Z"}',
    )
    return text, ident


def _plan(world: World) -> _Tickets:
    draw, plan = world.draws, world.arrivals("helpdesk.tickets", 30_000)
    index = np.arange(plan.count(world.day))
    created = plan.seconds(index)
    known = world.arrivals("helpdesk.users", 22_000, before=0.4).known(days.day_of(created))
    user = draw.below("helpdesk.requester", index, known)
    answers = draw.chance("helpdesk.answers", index, 0.96)
    minutes = np.clip(np.exp(4.4 + 0.9 * draw.normal("helpdesk.reply", index)), 2, 6_000).astype(
        np.int64
    )
    replied = np.where(answers, created + 60 * minutes, 2**62)
    ends = answers & draw.chance("helpdesk.ends", index, 0.95)
    solved = np.where(
        ends, replied + 60 * (20 + draw.below("helpdesk.solve", index, 60 * 80)), 2**62
    )
    offered = ends & draw.chance("helpdesk.offered", index, 0.27)
    rates = offered & draw.chance("helpdesk.rates", index, 0.62)
    rated = np.where(rates, solved + 60 * (10 + draw.below("helpdesk.rate", index, 60 * 48)), 2**62)
    return _Tickets(
        index,
        _FIRST_TICKET + index,
        user,
        _FIRST_AGENT + draw.below("helpdesk.agent", index, AGENTS),
        created,
        replied,
        solved,
        rated,
        offered,
        draw.chance("helpdesk.good", index, 0.82),
    )


def _references(world: World, tickets: _Tickets) -> tuple[Column, Column]:
    """Returns the order number and the product's EAN of each ticket, null where it has none."""
    slot, group, at = tickets.user % 22, tickets.user // 22, tickets.created
    none = np.full(len(at), -1, dtype=np.int64)
    sources = (
        (
            world.shop.order_customer,
            world.shop.order_second,
            slot < 9,
            group * 20 + slot * 2,
            "NA-",
            0,
            7,
        ),
        (
            world.erp.order_customer,
            world.erp.order_second,
            (slot >= 9) & (slot < 14),
            group * 12 + (slot - 9) * 2,
            "",
            45_000_000,
            0,
        ),
        (
            world.marketplace.order_buyer,
            world.marketplace.order_second,
            (slot >= 14) & (slot < 18),
            group * 10 + (slot - 14) * 2,
            "MK-",
            0,
            7,
        ),
    )
    number_ = pa.nulls(len(at), pa.string())
    tells = world.draws.chance("helpdesk.tells", tickets.index, 0.75)
    for owner, second, mine, wanted, prefix, base, width in sources:
        order = last_order(owner, second, np.where(mine & tells, wanted, none), at)
        number_ = when(
            order >= 0, join(prefix, number(np.maximum(order, 0) + 1 + base, width)), number_
        )
    retailers = (slot == 19) & tells & (world.distributor.order_count > 0)
    some = world.draws.below(
        "helpdesk.retail", tickets.index, max(world.distributor.order_count // 2, 1)
    )
    number_ = when(retailers, join("D-", number(some + 1, 6)), number_)
    product = world.pick_product("helpdesk.product", tickets.index)
    about = world.draws.chance("helpdesk.about", tickets.index, 0.6)
    return number_, when(about, pick(world.catalogue.ean, product), None)


def _ticket_rows(
    world: World, exports: dict[str, Export], tickets: _Tickets, user_valid: Bools
) -> Bools:
    draw, cut, index = world.draws, world.cut, tickets.index
    closed = np.where(tickets.solved < 2**61, tickets.solved + 96 * HOUR, 2**62)
    status, updated = np.zeros(len(index), dtype=np.int64), tickets.created.copy()
    waits = np.array([1, 2, 3])[draw.weighted("helpdesk.waits", index, [0.5, 0.4, 0.1])]
    for moment, code in (
        (tickets.replied, waits),
        (tickets.solved, 4),
        (tickets.rated, 4),
        (closed, 5),
    ):
        happened = moment < cut
        status = np.where(happened, np.maximum(status, code), status)
        updated = np.where(happened, np.maximum(updated, moment), updated)
    kind = world.spoiler.kinds(
        "helpdesk.tickets",
        index,
        {
            "missing": 0.25,
            "mistyped": 0.2,
            "orphaned": 0.2,
            "skewed_clock": 0.15,
            "duplicated": 0.2,
        },
    )
    order, ean = _references(world, tickets)
    score = np.where(
        tickets.offered & (tickets.solved < cut),
        np.where(tickets.rated < cut, np.where(tickets.good, 2, 3), 1),
        0,
    )
    stranger = _FIRST_USER + tickets.user + np.where(kind["orphaned"], 90_000_000, 0)
    created = iso_utc(np.where(kind["skewed_clock"], SKEWED_SECONDS, tickets.created))
    subject = draw.below("helpdesk.subject", index, len(_SUBJECTS))
    priority = pick(
        ["low", "normal", "high", "urgent", None],
        draw.weighted("helpdesk.priority", index, [0.2, 0.4, 0.2, 0.05, 0.15]),
    )
    channel = pick(
        ["email", "web", "chat", "phone"],
        draw.weighted("helpdesk.channel", index, [0.5, 0.25, 0.15, 0.1]),
    )
    text = join(
        '{"id": ',
        number(tickets.id),
        ', "external_id": null, "requester_id": ',
        when(kind["missing"], "null", number(stranger)),
        ', "assignee_id": ',
        number(tickets.agent),
        ', "subject": "',
        pick(_SUBJECTS, subject),
        '", "description": "',
        _SAYS[0],
        '", "status": "',
        when(kind["mistyped"], "sovled", pick(_STATUSES, status)),
        '", "priority": ',
        json_text(priority),
        ', "type": "',
        pick(["question", "incident", "problem", "task"], draw.below("helpdesk.type", index, 4)),
        '", "via": {"channel": "',
        channel,
        '"}, "tags": ["',
        pick(["console", "order", "account", "billing"], subject % 4),
        '"], "custom_fields": [{"id": 360001, "value": ',
        json_text(order),
        '}, {"id": 360002, "value": ',
        json_text(ean),
        '}], "satisfaction_rating": {"score": "',
        pick(["unoffered", "offered", "good", "bad"], score),
        '"}, "created_at": "',
        created,
        '", "updated_at": "',
        iso_utc(updated),
        '", "solved_at": ',
        when(
            tickets.solved < cut,
            join('"', iso_utc(np.where(tickets.solved < cut, tickets.solved, 0)), '"'),
            "null",
        ),
        "}",
    )
    exports["tickets"] = _export(text, tickets.id, updated, kind["duplicated"])
    key = number(tickets.id)
    own = ~kind["missing"] & ~kind["mistyped"] & ~kind["orphaned"] & ~kind["skewed_clock"]
    for defect, column in (
        ("missing", "requester_id"),
        ("mistyped", "status"),
        ("orphaned", "requester_id"),
        ("skewed_clock", "created_at"),
        ("duplicated", None),
    ):
        world.log.add(
            "helpdesk.tickets",
            key.filter(pa.array(kind[defect])),
            defect,
            column,
            version_at=updated[kind[defect]],
        )
    chained = np.flatnonzero(own & ~user_valid[tickets.user])
    chained = np.repeat(chained, 1 + kind["duplicated"][chained])
    world.log.add(
        "helpdesk.tickets",
        key.take(pa.array(chained)),
        "unresolvable",
        "requester_id",
        version_at=updated[chained],
    )
    return own & user_valid[tickets.user]


def _comments(
    world: World, exports: dict[str, Export], tickets: _Tickets, ticket_valid: Bools
) -> Ints:
    """Adds the comments; returns the minutes to each ticket's first response, -1 for none."""
    draw, cut, index = world.draws, world.cut, tickets.index
    replied = tickets.replied < 2**61
    noted = replied & draw.chance("helpdesk.noted", index, 0.2)
    insists = replied & draw.chance("helpdesk.insists", index, 0.35)
    wraps = (tickets.solved < 2**61) & draw.chance("helpdesk.wraps", index, 0.3)
    minute = 60
    early = np.where(
        noted, tickets.created + (tickets.replied - tickets.created) // 120 * minute, 2**62
    )
    again = np.where(insists, tickets.replied + 10 * minute, 2**62)
    last = np.where(wraps, tickets.solved, 2**62)
    # 0 asks, 1 first reply, 2 private note, 3 asks again, 4 last word
    moments = np.stack([tickets.created, tickets.replied, early, again, last], axis=1)
    ticket, slot = np.nonzero(moments < cut)
    moment, ident = moments[ticket, slot], tickets.id[ticket] * 10 + slot
    kind = world.spoiler.kinds(
        "helpdesk.comments",
        ident,
        {"missing": 0.35, "orphaned": 0.25, "duplicated": 0.15, "personal_data": 0.25},
    )
    by_requester = (slot == 0) | (slot == 3)
    author = np.where(by_requester, _FIRST_USER + tickets.user[ticket], tickets.agent[ticket])
    body = pick(_SAYS, slot)
    leak = join(
        "My card 4111 1111 1111 ",
        number(1_000 + draw.below("helpdesk.card", ident, 9_000)),
        " was charged twice, mail me at me",
        number(ident),
        "@example.com.",
    )
    parent = tickets.id[ticket] + np.where(kind["orphaned"], 700_000_000, 0)
    text = join(
        '{"id": ',
        number(ident),
        ', "ticket_id": ',
        number(parent),
        ', "author_id": ',
        when(kind["missing"], "null", number(author)),
        ', "public": ',
        when(slot == 2, "false", "true"),
        ', "body": "',
        when(kind["personal_data"], leak, body),
        '", "created_at": "',
        iso_utc(moment),
        '"}',
    )
    exports["comments"] = _export(text, ident, moment, kind["duplicated"])
    key = number(ident)
    own = ~kind["missing"] & ~kind["orphaned"]
    for defect, column in (
        ("missing", "author_id"),
        ("orphaned", "ticket_id"),
        ("duplicated", None),
        ("personal_data", "body"),
    ):
        world.log.add(
            "helpdesk.comments",
            key.filter(pa.array(kind[defect])),
            defect,
            column,
            version_at=moment[kind[defect]],
        )
    chained = np.flatnonzero(own & ~ticket_valid[ticket])
    chained = np.repeat(chained, 1 + kind["duplicated"][chained])
    world.log.add(
        "helpdesk.comments",
        key.take(pa.array(chained)),
        "unresolvable",
        "ticket_id",
        version_at=moment[chained],
    )
    first = np.full(len(index), 2**62, dtype=np.int64)
    answer = own & ((slot == 1) | (slot == 4))
    np.minimum.at(first, ticket[answer], moment[answer])
    return np.where(first < 2**61, (first - tickets.created) // 60, -1)


def _ratings(
    world: World, exports: dict[str, Export], tickets: _Tickets, ticket_valid: Bools
) -> None:
    at = np.flatnonzero(tickets.offered & (tickets.solved < world.cut))
    ident, is_rated = tickets.id[at] * 10 + 9, tickets.rated[at] < world.cut
    created, updated = tickets.solved[at], np.where(is_rated, tickets.rated[at], tickets.solved[at])
    score = pick(
        ["offered", "good", "bad"], np.where(is_rated, np.where(tickets.good[at], 1, 2), 0)
    )
    kind = world.spoiler.kinds(
        "helpdesk.satisfaction_ratings", ident, {"orphaned": 0.5, "duplicated": 0.5}
    )
    # A stray rating stands beside the true one, so that no ticket loses its score.
    stray = np.flatnonzero(kind["orphaned"])
    row = np.concatenate([np.arange(len(at)), stray])
    is_stray = np.arange(len(row)) >= len(at)
    ids = np.where(is_stray, ident[row] + 3_000_000_000, ident[row])
    ticket = np.where(is_stray, 700_000_000, 0) + tickets.id[at][row]
    said = when(is_rated & tickets.good[at], '"Quick and kind."', "null").take(pa.array(row))
    text = join(
        '{"id": ',
        number(ids),
        ', "ticket_id": ',
        number(ticket),
        ', "requester_id": ',
        number(_FIRST_USER + tickets.user[at][row]),
        ', "assignee_id": ',
        number(tickets.agent[at][row]),
        ', "score": "',
        score.take(pa.array(row)),
        '", "comment": ',
        said,
        ', "created_at": "',
        iso_utc(created[row]),
        '", "updated_at": "',
        iso_utc(updated[row]),
        '"}',
    )
    twice = kind["duplicated"][row] & ~is_stray
    exports["satisfaction_ratings"] = _export(text, ids, updated[row], twice)
    key = number(ids)
    for defect, mask, column in (("orphaned", is_stray, "ticket_id"), ("duplicated", twice, None)):
        world.log.add(
            "helpdesk.satisfaction_ratings",
            key.filter(pa.array(mask)),
            defect,
            column,
            version_at=updated[row][mask],
        )
    chained = np.flatnonzero(~is_stray & ~ticket_valid[at][row])
    chained = np.repeat(chained, 1 + twice[chained])
    world.log.add(
        "helpdesk.satisfaction_ratings",
        key.take(pa.array(chained)),
        "unresolvable",
        "ticket_id",
        version_at=updated[row][chained],
    )
