"""The shop's web site: a clickstream, NDJSON by the hour.

visits (strangers, customers, orders, crawlers) ─> events ─> hour in which the server got them ─>
<year>/<month>/<day>/<hour>.ndjson.gz

The site has been measured since May 2026. A browser tells its own clock twice, when an event
happened and when it was sent; only the server's clock, of the receipt, can be trusted. Who does not
consent gets a name for one visit only. It leaves out what a crawler would do beyond reading pages.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from anycompany import days, geography, products
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Floats, Ints
from anycompany.systems.common import HOUR
from anycompany.systems.files import Outbox
from anycompany.text import Column, join, json_text, lines, number, pick, when
from anycompany.world import World, person_of_shop

START = (date(2026, 5, 1) - days.START).days
# Files of what is sent now, which no state of the past holds.
LIVE_FILES = "live-*.ndjson.gz"
IDLE_MS = 30 * 60 * 1_000
EVENTS = ["page_view", "view_product", "add_to_cart", "checkout", "purchase"]
PAGES = ["home", "category", "product", "search", "cart", "checkout", "thanks", "help"]
COUNTRIES = ["US", "CA", "MX", "BR", "GB"]
DEVICES = ["desktop", "mobile", "tablet"]
CONNECTIONS = ["cable", "wifi", "5g", "4g", "3g"]
_VISITS = 540_000
STRANGERS = 10_000_000
_OF_ORDER, _OF_CRAWLER = 1_000_000_000, 2_000_000_000
MOST_EVENTS = 32
_SHORT_MS, _HOUR_MS = 1_000, 3_600_000
# What happens in a visit: capitals are pages, in the order of PAGES; v, a, o, b the other events.
VISIT_WAYS = ["H", "Pv", "HCPv", "HSPvPv", "L", "HCPvaK", "PvaKoX", "CPvPv", "HCCPvPvPv"]
VISIT_WEIGHTS = [0.2, 0.22, 0.18, 0.1, 0.06, 0.07, 0.05, 0.08, 0.04]
ORDER_WAYS = ["HPvaKoXbT", "PvaKoXbT", "HSPvPvaKoXbT"]
ORDER_WEIGHTS = [0.5, 0.3, 0.2]
CRAWLER_WAYS = ["HCPPPPPPPPCPPPPPPPP", "CPPPCPPP"]
LETTERS = "HCPSKXTLvaob"
PAGE_OF = [0, 1, 2, 3, 4, 5, 6, 7, 2, 2, 4, 5]
EVENT_OF = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
_BASE_MS = np.array([900, 1_100, 1_300, 1_500, 800, 1_600, 700, 600])
_BY_COUNTRY = np.array([1.0, 1.05, 1.4, 1.9, 1.2])
_BY_DEVICE = np.array([1.0, 1.25, 1.1])
_BY_CONNECTION = np.array([0.8, 1.0, 0.9, 1.3, 3.0])
# From June 2026 on a new payment form slows the checkout, and smaller pictures speed up products.
_JUNE_MS = int(days.start_of((date(2026, 6, 1) - days.START).days)) * 1_000
_SINCE_JUNE = np.array([1.0, 1.0, 0.85, 1.0, 1.0, 1.7, 1.0, 1.0])
_AGENTS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/138.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/138.0 Mobile",
    "Mozilla/5.0 (iPad; CPU OS 18_5) Safari/604.1",
    "Mozilla/5.0 (compatible; ShopCrawlerBot/2.1; +https://crawler.example/bot)",
]
_EVENT_DEFECTS = {
    "missing": 0.1,
    "mistyped": 0.1,
    "outlying": 0.1,
    "duplicated": 0.3,
    "late": 0.4,
}
_LONGEST_MS = 120_000


@dataclass(frozen=True)
class Web:
    """The web site at the end of a day: its files, and what the truth needs.

    Attributes:
        outbox: Files by hour; of days long past, by day.
        sessions: The visits as they should be told apart: half an hour of silence ends one.
        loads: Times that pages took to load, by month and what they depend on.
    """

    outbox: Outbox
    sessions: pa.Table
    loads: pa.Table


@dataclass(frozen=True)
class Visits:
    """Who visits: a number for each visit and visitor, and what both have."""

    id: Ints
    visitor: Ints
    begin_ms: Ints
    letters: list[NDArray[np.int64]]
    consents: Bools
    logged_in: Bools
    order: Ints
    product: Ints
    is_crawler: Bools
    country: Ints
    device: Ints
    connection: Ints

    def client(self, world: World) -> NDArray[np.uint64]:
        """Returns what each visitor is known by: for long by consent, else for this visit."""
        lasting = world.draws.bits("web.client", self.visitor)
        return np.where(self.consents, lasting, world.draws.bits("web.tab", self.id))


@dataclass(frozen=True)
class Events:
    """Events flat; moments in right milliseconds since 1970, `skew` is the browser's error."""

    visits: Visits
    visit: Ints
    id: Ints
    event: Ints
    page: Ints
    product: Ints
    at: Ints
    sent: Ints
    received: Ints
    skew: Ints
    load: Ints
    client: NDArray[np.uint64]
    key: Column
    kind: dict[str, Bools]

    @property
    def told_at(self) -> Ints:
        """The moment that can be told from outside: the receipt, less what the browser waited."""
        return self.received - (self.sent - self.at)


def build(world: World) -> Web:
    """Builds the site's files, notes their defects, and keeps what the truth needs."""
    events = _events(world, _visits(world))
    delivered = events.received < world.cut * 1_000
    path_of, box = _files(world, events, delivered)
    spoilt = Spoilt(world.log, "web.events", events.key, events.kind, delivered, origin=path_of)
    spoilt.note("missing", "client", client_text(events, np.arange(len(events.id))))
    spoilt.note("mistyped", "event", pick(EVENTS, events.event))
    spoilt.note("outlying", "load_ms", number(events.load))
    spoilt.note("duplicated")
    spoilt.note("late")
    spoilt.note("truncated")
    valid = spoilt.chain(delivered, "event_id") & ~events.visits.is_crawler[events.visit]
    return Web(box, _sessions(events, np.flatnonzero(valid)), _loads(events, valid))


def _visits(world: World) -> Visits:
    """Plans the visits of strangers and customers, those that lead to orders, and crawlers."""
    draw, known = world.draws, world.arrivals("shop.customers", 20_000, before=0.4)
    plan = world.arrivals("web.visits", _VISITS)
    usual = np.arange(plan.count(START - 1), plan.count(world.day))
    orders = world.shop.order_second >= days.start_of(START) + 2 * HOUR
    bought = np.flatnonzero(orders & draw.chance("web.orders", np.arange(len(orders)) + 1, 0.15))
    robots = world.arrivals("web.crawls", _VISITS * 0.012)
    crawls = np.arange(robots.count(START - 1), robots.count(world.day))
    ident = np.concatenate([usual, bought + _OF_ORDER, crawls + _OF_CRAWLER])
    count = (len(usual), len(bought), len(crawls))
    second = plan.seconds(usual)
    is_known = draw.chance("web.is_known", usual, 0.35)
    strangers = max(int(40_000 * world.settings.scale), 50)
    stranger = STRANGERS + draw.below("web.stranger", usual, strangers)
    customer = draw.below("web.customer", usual, known.known(days.day_of(second)))
    visitor = np.concatenate(
        [np.where(is_known, customer, stranger), world.shop.order_customer[bought], -1 - crawls]
    )
    begin = np.concatenate([second, world.shop.order_second[bought], robots.seconds(crawls)])
    begin_ms = begin * 1_000 + np.concatenate(
        [draw.below("web.ms", usual, 1_000), np.zeros(count[1] + count[2], dtype=np.int64)]
    )
    of_order = np.repeat([False, True, False], count)
    crawler = np.repeat([False, False, True], count)
    customers = (visitor >= 0) & (visitor < STRANGERS)
    consents = draw.chance("web.consents", visitor, 0.62) & ~crawler
    order = np.full(len(ident), -1, dtype=np.int64)
    order[of_order] = bought
    first = world.pick_product("shop.product", (bought + 1) * 10 + 1)
    product = world.pick_product("web.product", ident)
    product[of_order] = first
    device = draw.weighted("web.device", visitor, [0.38, 0.55, 0.07])
    return Visits(
        id=ident,
        visitor=visitor,
        begin_ms=begin_ms,
        letters=_ways(world, ident, count),
        consents=consents,
        logged_in=consents & customers & (of_order | draw.chance("web.login", ident, 0.5)),
        order=order,
        product=product,
        is_crawler=crawler,
        country=country_of(world, visitor, customers),
        device=np.where(crawler, 0, device),
        connection=connection_of(world, ident, device),
    )


def _ways(world: World, ident: Ints, count: tuple[int, int, int]) -> list[NDArray[np.int64]]:
    """Returns what happens in each visit, as places in `LETTERS`."""
    ways = [*VISIT_WAYS, *ORDER_WAYS, *CRAWLER_WAYS]
    known = [np.array([LETTERS.index(letter) for letter in way]) for way in ways]
    parts = np.split(ident, np.cumsum(count)[:2])
    usual = world.draws.weighted("web.way", parts[0], VISIT_WEIGHTS)
    order = world.draws.weighted("web.way", parts[1], ORDER_WEIGHTS) + len(VISIT_WAYS)
    crawl = world.draws.below("web.way", parts[2], len(CRAWLER_WAYS))
    crawl += len(VISIT_WAYS) + len(ORDER_WAYS)
    return [known[way] for way in np.concatenate([usual, order, crawl]).tolist()]


def country_of(world: World, visitor: Ints, customers: Bools) -> Ints:
    """Returns the country of each visitor: a customer's own, or any."""
    country = world.draws.weighted("web.country", visitor, [0.62, 0.14, 0.12, 0.06, 0.06])
    own = world.people.traits(person_of_shop(visitor[customers])).country
    place = np.zeros(len(geography.CODES), dtype=np.int64)
    for position, code in enumerate(COUNTRIES):
        if code in geography.INDEX:
            place[geography.INDEX[code]] = position
    country[customers] = place[own]
    return country


def connection_of(world: World, ident: Ints, device: Ints) -> Ints:
    """Returns the connection of each visit: a desktop computer's is fixed."""
    fixed = world.draws.weighted("web.connection", ident, [0.55, 0.45])
    moving = 1 + world.draws.weighted("web.connection", ident, [0.45, 0.2, 0.28, 0.07])
    return np.where(device == 0, fixed, moving)


def _events(world: World, visits: Visits) -> Events:
    """Unfolds the visits into events, in the order of each visit."""
    draw = world.draws
    counts = np.array([len(way) for way in visits.letters], dtype=np.int64)
    visit = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    place = np.arange(len(visit)) - starts[visit]
    letter = np.concatenate(visits.letters) if len(counts) else np.zeros(0, dtype=np.int64)
    event, page = np.array(EVENT_OF)[letter], np.array(PAGE_OF)[letter]
    ident = visits.id[visit] * MOST_EVENTS + place
    at = visits.begin_ms[visit] + _elapsed(world, visits, visit, ident, place, event, starts)
    kind = world.spoiler.kinds("web.events", ident, _EVENT_DEFECTS)
    load = load_times(world, visits, visit, ident, page, at)
    load = np.where(event == 0, load, -1)
    kind["outlying"] &= load >= 0
    # Its line stands in the file a second time, cut off.
    cut = draw.chance("web.cut", ident, world.spoiler.rate * 0.05)
    kind["truncated"] = cut & ~kind["duplicated"]
    waits = 50 + draw.below("web.waits", ident, 1_500)
    offline = (_HOUR_MS + draw.unit("web.offline", ident) * 71 * _HOUR_MS).astype(np.int64)
    sent = at + np.where(kind["late"], offline, waits)
    received = sent + 30 + draw.below("web.latency", ident, 400)
    # A clock is wrong for a visit, not for an event.
    wrong = draw.chance("web.clock", visits.id, world.spoiler.rate * 5)
    skew = np.where(wrong, draw.below("web.skew", visits.id, 3 * 86_400) - 86_400, 0) * 1_000
    turn = np.where((event == 0) & (page == 2), 1, 0)
    seen = np.cumsum(turn)
    nth = np.maximum(seen - (seen - turn)[starts[visit]] - 1, 0)
    # An order's product is the last one looked at.
    last = np.zeros(len(counts), dtype=np.int64)
    np.maximum.at(last, visit, nth)
    other = world.pick_product("web.other", visits.id[visit] * 32 + nth)
    product = np.where(nth == last[visit], visits.product[visit], other)
    about = (page == 2) | (event == 2)
    digits = draw.bits("web.event", ident).tolist()
    return Events(
        visits,
        visit,
        ident,
        event,
        page,
        np.where(about, product, -1),
        at,
        sent,
        received,
        skew[visit],
        load,
        visits.client(world)[visit],
        pa.array([f"{bits:016x}" for bits in digits], pa.string()),
        kind,
    )


def _elapsed(
    world: World, visits: Visits, visit: Ints, ident: Ints, place: Ints, event: Ints, starts: Ints
) -> Ints:
    """Returns the milliseconds from the moment of the visit: its begin, or its purchase."""
    draw = world.draws
    pause = -25_000 * np.log1p(-draw.unit("web.pause", ident))
    gap = 2_000 + np.minimum(pause, 110_000).astype(np.int64)
    gap = np.where(visits.is_crawler[visit], 400, np.where(event == 1, _SHORT_MS, gap))
    # Some leave the page open and come back after more than the half hour that ends a session.
    long = draw.chance("web.returns", ident, 0.01) & (place > 1) & (event == 0)
    away = 31 + draw.below("web.away", ident, 20)
    gap = np.where(long & (visits.order[visit] < 0), away * 60_000, gap)
    gap[place == 0] = 0
    total = np.cumsum(gap)
    elapsed = total - total[starts[visit]]
    until = np.zeros(len(visits.id), dtype=np.int64)
    bought = np.flatnonzero(event == 4)
    until[visit[bought]] = elapsed[bought]
    before: Ints = elapsed - until[visit]
    return before


def load_times(
    world: World, visits: Visits, visit: Ints, ident: Ints, page: Ints, at: Ints
) -> Ints:
    """Returns the milliseconds that each page took to load, -1 where the browser did not tell."""
    draw = world.draws
    typical: Floats = _BASE_MS[page] * _BY_COUNTRY[visits.country][visit]
    typical *= _BY_DEVICE[visits.device][visit] * _BY_CONNECTION[visits.connection][visit]
    typical *= np.where(at >= _JUNE_MS, _SINCE_JUNE[page], 1.0)
    spread = np.exp(0.45 * draw.normal("web.load", ident))
    stalls = np.where(draw.chance("web.stalls", ident, 0.02), 4.0, 1.0)
    load = np.clip(typical * spread * stalls, 60, 60_000).astype(np.int64)
    return np.where(draw.chance("web.untold", ident, 0.03), -1, load)


def _files(world: World, events: Events, delivered: Bools) -> tuple[_PathOf, Outbox]:
    """Sorts the events into files, by the hour in which the server got them."""
    hour = events.received // _HOUR_MS
    rows = np.flatnonzero(delivered)
    again = rows[events.kind["duplicated"][rows]]
    later = hour[again] + world.draws.below("web.again", events.id[again], 4)
    kept = later < world.cut // HOUR
    path_of = _PathOf(hour)
    row = np.concatenate([rows, again[kept]])
    file = _file_of(np.concatenate([hour[rows], later[kept]]))
    events.kind["duplicated"][again[~kept]] = False
    # The server writes what it has in hand: nearly in the order of receipt.
    shuffled = events.received[row] // 5_000 * 1_024 + events.id[row] * 977 % 1_021
    order = np.lexsort((shuffled, file))
    row, file = row[order], file[order]
    cut = events.kind["truncated"]
    found, first = np.unique(file, return_index=True)
    box = Outbox(kept=LIVE_FILES)
    for name, part in zip(found.tolist(), np.split(row, first[1:]), strict=True):
        day = int(days.day_of(name * HOUR))

        def make(part: Ints = part) -> bytes:
            text = text_of(world, events, part)
            broken = pc.utf8_slice_codeunits(text.filter(pa.array(cut[part])), 0, 70)
            return gzip.compress(lines(pa.concat_arrays([text, broken])), 4, mtime=0)

        box.add(_path(name), day, make)
    return path_of, box


def _file_of(hour: Ints) -> Ints:
    """Returns the first hour of the file that an hour is in: long past days are one file each."""
    day = days.day_of(hour * HOUR)
    return np.where(day < days.FIRST_STATE - 1, days.start_of(day) // HOUR, hour)


def _path(hour: int) -> str:
    day = int(days.day_of(hour * HOUR))
    part = "day" if day < days.FIRST_STATE - 1 else f"{hour % 24:02d}"
    return f"{days.date_of(day).strftime('%Y/%m/%d')}/{part}.ndjson.gz"


@dataclass(frozen=True)
class _PathOf:
    """Tells the file of an event, given by position."""

    hour: Ints

    def __call__(self, rows: Ints) -> Column:
        found, back = np.unique(_file_of(self.hour[rows]), return_inverse=True)
        return pick([_path(int(hour)) for hour in found], back)


def _stamp(milliseconds: Ints) -> Column:
    text = pc.cast(pa.array(milliseconds).cast(pa.timestamp("ms")), pa.string())
    return join('"', pc.utf8_replace_slice(text, 10, 11, "T"), 'Z"')


def client_text(events: Events, rows: Ints) -> Column:
    """Returns what the visitors of some events are known by."""
    kind = np.where(events.visits.consents[events.visit[rows]], 1, 0)
    digits = [f"{bits:016x}" for bits in events.client[rows].tolist()]
    return join(pick(["a-", "c-"], kind), pa.array(digits, pa.string()))


def _path_text(world: World, events: Events, rows: Ints) -> Column:
    page, product = events.page[rows], np.maximum(events.product[rows], 0)
    category = np.array(world.catalogue.category)[product]
    sections = [f"/c/{name.lower()}" for name in products.CATEGORIES]
    plain = ["/", "", "", "/search", "/cart", "/checkout", "/thanks", "/help"]
    path = when(page == 1, pick(sections, category), pick(plain, page))
    return when(page == 2, join("/p/", pick(world.catalogue.sku, product)), path)


def text_of(world: World, events: Events, rows: Ints) -> Column:
    """Returns the lines of some events."""
    visits, visit, kind = events.visits, events.visit[rows], events.kind
    spoilt = {name: mask[rows] for name, mask in kind.items()}
    event = when(spoilt["mistyped"], "pagevew", pick(EVENTS, events.event[rows]))
    load = events.load[rows] + np.where(spoilt["outlying"], 1_000_000, 0)
    product, skew, goods = events.product[rows], events.skew[rows], world.catalogue.sku
    bought, about = events.event[rows] == 4, np.maximum(product, 0)
    order = join('"NA-', number(np.maximum(visits.order[visit], 0) + 1, 7), '"')
    agent = np.where(visits.is_crawler, 3, visits.device)[visit]
    address = world.draws.bits("web.address", visits.visitor[visit])
    numbers = [
        number(((address >> np.uint64(shift)) % 223 + 1).astype(np.int64)) for shift in (8, 24, 40)
    ]
    return join(
        '{"event_id": "', events.key.take(pa.array(rows)),
        '", "event": "', event,
        '", "client": ', when(spoilt["missing"], "null", json_text(client_text(events, rows))),
        ', "visit": ', number(visits.id[visit]),
        ', "consent": ', when(visits.consents[visit], "true", "false"),
        ', "customer": ', when(visits.logged_in[visit], number(visits.visitor[visit] + 1), "null"),
        ', "at": ', _stamp(events.at[rows] + skew),
        ', "sent": ', _stamp(events.sent[rows] + skew),
        ', "received": ', _stamp(events.received[rows]),
        ', "path": "', _path_text(world, events, rows),
        '", "product": ', when(product >= 0, json_text(pick(goods, about)), "null"),
        ', "order": ', when(bought, order, "null"),
        ', "country": "', pick(COUNTRIES, visits.country[visit]),
        '", "device": "', pick(DEVICES, visits.device[visit]),
        '", "connection": "', pick(CONNECTIONS, visits.connection[visit]),
        '", "ip": "', join(*numbers, "0", sep="."),
        '", "agent": "', pick(_AGENTS, agent),
        '", "load_ms": ', when(load >= 0, number(load), "null"),
        "}",
    )  # fmt: skip


def _sessions(events: Events, rows: Ints) -> pa.Table:
    """Returns the visits as half an hour of silence tells them apart."""
    moment = events.told_at
    client = events.client
    rows = rows[np.lexsort((events.id[rows], moment[rows], client[rows]))]
    same = client[rows][1:] == client[rows][:-1]
    near = np.diff(moment[rows]) <= IDLE_MS
    begins = np.flatnonzero(np.concatenate([[True], ~(same & near)])) if len(rows) else rows
    if not len(rows):
        begins = np.zeros(0, dtype=np.int64)
    counts = np.diff(np.append(begins, len(rows)))
    session = np.repeat(np.arange(len(begins)), counts)
    first, visit = rows[begins], events.visit[rows[begins]]
    views = np.bincount(session, weights=events.event[rows] == 0, minlength=len(begins))
    step = np.zeros(len(begins), dtype=np.int64)
    np.maximum.at(step, session, events.event[rows])
    ended = moment[rows[np.append(begins[1:], len(rows)) - 1]] if len(begins) else first
    return pa.table(
        {
            "client_id": client_text(events, first),
            "started_at": pa.array(moment[first]).cast(pa.timestamp("ms")),
            "ended_at": pa.array(ended).cast(pa.timestamp("ms")),
            "event_count": pa.array(counts),
            "page_view_count": pa.array(views.astype(np.int64)),
            "last_step": pick(EVENTS, step),
            "country_code": pick(COUNTRIES, events.visits.country[visit]),
            "device": pick(DEVICES, events.visits.device[visit]),
        }
    )


_CUTS = ((), (0,), (1,), (2,), (3,), (0, 1, 2, 3))
_DIMENSIONS = (PAGES, COUNTRIES, DEVICES, CONNECTIONS)


def _loads(events: Events, valid: Bools) -> pa.Table:
    """Returns exact percentiles of load times: by month, by each dimension, and by all of them."""
    rows = np.flatnonzero(valid & (events.event == 0))
    visits, visit, load = events.visits, events.visit[rows], events.load[rows]
    months = events.told_at[rows].astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    parts = (
        events.page[rows], visits.country[visit], visits.device[visit], visits.connection[visit]
    )  # fmt: skip
    return pa.concat_tables([_load_cut(months, parts, cut, load) for cut in _CUTS])


def _load_cut(months: Ints, parts: tuple[Ints, ...], cut: tuple[int, ...], load: Ints) -> pa.Table:
    """Returns the percentiles by month and some dimensions; the others are `all`."""
    pools = [[*pool, "all"] for pool in _DIMENSIONS]
    index = [
        part if place in cut else np.full_like(part, len(_DIMENSIONS[place]))
        for place, part in enumerate(parts)
    ]
    key = np.ravel_multi_index((months, *index), (12_000, *(len(pool) for pool in pools)))
    order = np.argsort(key, kind="stable")
    _, first = np.unique(key[order], return_index=True)
    groups = np.split(load[order], first[1:]) if len(load) else []
    measured = [group[group >= 0] for group in groups]
    told = [np.quantile(one, [0.5, 0.75, 0.95]) if len(one) else [None] * 3 for one in measured]
    firsts = order[first]
    names = ("page_type", "country_code", "device", "connection")
    return pa.table(
        {
            "month": pa.array(months[firsts].astype("datetime64[M]").astype("datetime64[D]")),
            **{
                name: pick(pool, part[firsts])
                for name, pool, part in zip(names, pools, index, strict=True)
            },
            "view_count": pa.array([len(group) for group in groups], pa.int64()),
            "measured_count": pa.array([len(one) for one in measured], pa.int64()),
            "p50_ms": pa.array([one[0] for one in told], pa.float64()),
            "p75_ms": pa.array([one[1] for one in told], pa.float64()),
            "p95_ms": pa.array([one[2] for one in told], pa.float64()),
        }
    )
