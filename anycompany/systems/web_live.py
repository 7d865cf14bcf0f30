"""The web site as it is visited now: clicks made at the moment at which the server gets them.

numbers of events, the machine's clock ─> visits that go on beside each other ─> events, some late,
twice, out of order, by wrong clocks or cut off ─> lines of a file and what is true of each

What a visit does depends on its number alone, its times on the clock. It leaves out values that are
missing or misspelt, which `web` plants in the past.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa

from anycompany.draws import Bools, Ints
from anycompany.streaming import Batch
from anycompany.systems import events, web
from anycompany.systems.messages import cut_off
from anycompany.text import join, pick
from anycompany.world import World

# So many visits go on at a time; each has so many events.
_AT_ONCE, _LENGTH = 64, 12
# Far above the numbers that the past uses.
_OF_LIVE, _ORDER = 3_000_000_000, 8_000_000
_CRAWLERS = 0.012
_DEFECTS = {"late": 0.3, "duplicated": 0.3, "out_of_order": 0.2, "malformed": 0.05}
_KINDS = [*_DEFECTS, "wrong_clock"]
_WAYS = [*web.VISIT_WAYS, *web.ORDER_WAYS, *web.CRAWLER_WAYS]
_WEIGHTS = [0.85 * share for share in web.VISIT_WEIGHTS]
_WEIGHTS += [0.15 * share for share in web.ORDER_WEIGHTS]
# Who is through with a way begins it again.
_LETTER = np.array(
    [[web.LETTERS.index((way * _LENGTH)[n]) for n in range(_LENGTH)] for way in _WAYS]
)


def path(first: int, now: int) -> str:
    """Returns where a file lies below the site's folder.

    Args:
        first: Number of its first event.
        now: Milliseconds since 1970.
    """
    folder = datetime.fromtimestamp(now / 1_000, UTC).strftime("%Y/%m/%d")
    return str(PurePosixPath(folder) / web.LIVE_FILES.replace("*", f"{first:012d}"))


def batch(world: World, numbers: Ints, now: int) -> Batch:
    """Makes events.

    Args:
        world: The company; its customers and strangers visit the site.
        numbers: Number of each event, never used before.
        now: Milliseconds since 1970.
    """
    made = _events(world, numbers, now)
    malformed = made.kind["malformed"]
    rows = np.arange(len(numbers))
    who = pick(["people", "crawlers"], made.visits.is_crawler[made.visit].astype(np.int64))
    told = [made.kind[name] for name in _KINDS]
    return Batch(
        key=made.key,
        topic=join(who, ".", pick(web.PAGES, made.page), ".", pick(web.EVENTS, made.event)),
        payload=cut_off(web.text_of(world, made, rows), malformed),
        about=web.client_text(made, rows),
        happened=made.told_at,
        again=made.kind["duplicated"],
        defect=pick([*_KINDS, None], np.select(told, list(range(len(told))), len(told))),
    )


def _events(world: World, numbers: Ints, now: int) -> web.Events:
    draw = world.draws
    turn, place = np.divmod(numbers // _AT_ONCE, _LENGTH)
    ident, visit = np.unique(turn * _AT_ONCE + numbers % _AT_ONCE, return_inverse=True)
    visits = _visits(world, ident, now)
    letter = np.stack(visits.letters)[visit, place]
    event, page = np.array(web.EVENT_OF)[letter], np.array(web.PAGE_OF)[letter]
    number = visits.id[visit] * web.MOST_EVENTS + place
    kind = _kinds(world, numbers)
    wait = 50 + draw.below("live.web.wait", numbers, 1_500)
    pause = 20_000 + draw.below("live.web.disorder", numbers, 120_000)
    offline = 3_600_000 + draw.below(
        "live.web.late", numbers, events.LATEST_SECONDS * 1_000 - 3_600_000
    )
    wait = np.where(kind["late"], offline, np.where(kind["out_of_order"], pause, wait))
    received = np.full(len(numbers), now, dtype=np.int64)
    sent = received - 30 - draw.below("live.web.latency", numbers, 400)
    # A clock is wrong for a visit, not for an event.
    wrong = draw.chance("live.web.clock", visits.id, world.settings.defects * 5)
    skew = np.where(wrong, draw.below("live.web.skew", visits.id, 3 * 86_400) - 86_400, 0) * 1_000
    kind["wrong_clock"] = wrong[visit]
    load = web.load_times(world, visits, visit, number, page, received)
    digits = draw.bits("web.event", number).tolist()
    return web.Events(
        visits=visits,
        visit=visit,
        id=number,
        event=event,
        page=page,
        product=np.where((page == 2) | (event == 2), visits.product[visit], -1),
        at=sent - wait,
        sent=sent,
        received=received,
        skew=skew[visit],
        load=np.where(event == 0, load, -1),
        client=visits.client(world)[visit],
        key=pa.array([f"{bits:016x}" for bits in digits], pa.string()),
        kind=kind,
    )


def _kinds(world: World, numbers: Ints) -> dict[str, Bools]:
    spoiler = events.spoiler(world.draws, world.settings.defects)
    kind = spoiler.kinds("live.web", numbers, _DEFECTS)
    none = np.zeros(len(numbers), dtype=bool)
    return kind | dict.fromkeys(("missing", "mistyped", "outlying"), none)


def _visits(world: World, numbers: Ints, now: int) -> web.Visits:
    draw, ident = world.draws, numbers + _OF_LIVE
    known = world.arrivals("shop.customers", 20_000, before=0.4)
    crawler = draw.chance("live.web.crawler", ident, _CRAWLERS)
    customers = draw.chance("live.web.is_known", ident, 0.35) & ~crawler
    strangers = max(int(40_000 * world.settings.scale), 50)
    stranger = web.STRANGERS + draw.below("live.web.stranger", ident, strangers)
    day = np.full(len(ident), world.day)
    visitor = np.where(
        customers, draw.below("live.web.customer", ident, known.known(day)), stranger
    )
    visitor = np.where(crawler, -1 - ident, visitor)
    way = draw.weighted("live.web.way", ident, _WEIGHTS)
    way = np.where(crawler, len(_WAYS) - 1 - draw.below("live.web.crawl", ident, 2), way)
    device = np.where(crawler, 0, draw.weighted("web.device", visitor, [0.38, 0.55, 0.07]))
    consents = draw.chance("web.consents", visitor, 0.62) & ~crawler
    return web.Visits(
        id=ident,
        visitor=visitor,
        begin_ms=np.full(len(ident), now),
        letters=list(_LETTER[way]),
        consents=consents,
        logged_in=consents & customers,
        order=_ORDER + numbers,
        product=world.pick_product("web.product", ident),
        is_crawler=crawler,
        country=web.country_of(world, visitor, customers),
        device=device,
        connection=web.connection_of(world, ident, device),
    )
