"""The marketplace of APAC: typed Parquet files in a folder per date.

orders and their lives ─> one row per status ─> months in history, days since; items nested

`ordered_at` is local time without a zone; a status change is a new row of the same order in a
later file. It leaves out
sellers: AnyCompany is the only one.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anycompany import days, geography, money, products
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Ints
from anycompany.people import Traits
from anycompany.systems.common import (
    HOUR,
    NEVER,
    SKEWED_SECONDS,
    Goods,
    Persons,
    Refunds,
    Sales,
    lines_of,
    outlying,
    until,
)
from anycompany.systems.files import Outbox
from anycompany.text import Column, cents, decimals, join, number, pick, when
from anycompany.world import World, person_of_marketplace

COUNTRIES = ["JP", "AU", "IN", "KR", "SG"]
STATUSES = ["PLACED", "SHIPPED", "DELIVERED", "CANCELLED"]
PRICE_LIMIT = 2_000_000_00
_ZONES = [
    "Asia/Tokyo",
    "Australia/Sydney",
    "Asia/Kolkata",
    "Asia/Seoul",
    "Asia/Singapore",
    "Australia/Perth",
]
_DRIFT_FROM = 485
_CUT_OFFSET = 4
_VERSIONS = 4
_STALE_DAYS = 8
_UNKNOWN = 9_000_000
_REASONS = ["damaged", "wrong item", "late", "no longer needed"]
_ORDER_DEFECTS = {
    "missing": 0.18,
    "mistyped": 0.18,
    "orphaned": 0.1,
    "skewed_clock": 0.14,
    "inconsistent": 0.1,
    "duplicated": 0.1,
    "outdated": 0.1,
    "late": 0.1,
}


@dataclass(frozen=True)
class Marketplace:
    """The marketplace at the end of a day: its files, and what the truth and the help desk need."""

    outbox: Outbox
    order_buyer: Ints
    order_second: Ints
    sales: Sales
    refunds: Refunds
    persons: Persons


@dataclass(frozen=True)
class _Orders:
    id: Ints
    buyer: Ints
    placed: Ints
    day: Ints
    country: Ints
    currency: Ints
    zone: Ints
    moments: Ints
    statuses: Ints


def build(world: World) -> Marketplace:
    """Builds the marketplace's files, notes their defects, and keeps what the truth needs."""
    box = Outbox()
    buyer_valid, country, persons = _buyers(world, box)
    _listings(world, box)
    orders = _orders(world, country)
    goods = _goods(world, orders)
    status = _versions(world, box, orders, goods, buyer_valid)
    refunds = _refunds(world, box, orders, goods, status >= 0)
    counts = ((status >= 0) & (status != STATUSES.index("CANCELLED")))[goods.lines.order]
    at = goods.lines.order[counts]
    sales = Sales(
        region="APAC",
        order=orders.id[at],
        day=orders.day[at],
        country=orders.country[at],
        countries=geography.CODES,
        product=goods.product[counts],
        currency=orders.currency[at],
        net=goods.net[counts],
    )
    return Marketplace(box, orders.buyer, orders.placed, sales, refunds, persons)


def _goods(world: World, orders: _Orders) -> Goods:
    draw = world.draws
    items = lines_of(draw, "marketplace.lines", orders.id, (0.38, 0.26, 0.16, 0.11, 0.06, 0.03))
    product = world.pick_product("marketplace.product", items.id)
    quantity = 1 + draw.weighted("marketplace.quantity", items.id, [0.8, 0.14, 0.04, 0.02])
    list_price = world.prices.us_cents(product, orders.day[items.order])
    price = money.local_price(list_price, orders.currency[items.order])
    return Goods(items, product, quantity, price, np.zeros_like(price), quantity * price)


def _cuts(world: World, day: int) -> bool:
    late = day - days.FIRST_STATE - _CUT_OFFSET
    return world.settings.defects > 0 and late >= 0 and late % 10 == 0


def cut_file(world: World) -> int | None:
    """Returns the day whose orders file is unreadable on this day, if there is one."""
    return world.day if _cuts(world, world.day) else None


def _stamp(seconds: Ints) -> Any:
    return pa.array(seconds).cast(pa.timestamp("s")).cast(pa.timestamp("us"))


def _file_of(day: Ints) -> Ints:
    starts = days.month_starts()
    month = starts[np.searchsorted(starts, np.maximum(day, 0), side="right") - 1]
    return np.where(day <= days.FIRST_STATE, month, day)


def _path(table: str, first: int) -> str:
    return f"{table}/date={days.date_of(first).isoformat()}/part-0.parquet"


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _files(
    world: World,
    box: Outbox,
    name: str,
    table: pa.Table,
    file: Ints,
    change: Callable[[pa.Table, int], pa.Table] | None = None,
) -> None:
    """Adds one Parquet file per delivery of the table's rows."""
    order = np.argsort(file, kind="stable")
    table = table.take(pa.array(order))
    firsts, begins = np.unique(file[order], return_index=True)
    ends = np.append(begins[1:], len(order))
    broken = cut_file(world) if name == "orders" else None
    for first, begin, end in zip(firsts.tolist(), begins.tolist(), ends.tolist(), strict=True):

        def make(begin: int = begin, end: int = end, first: int = first) -> bytes:
            part = table.slice(begin, end - begin)
            content = _parquet(part if change is None else change(part, first))
            return content[: len(content) * 3 // 5] if first == broken else content

        # A file that was cut comes again, whole, the day after.
        again = 1 if name == "orders" and _cuts(world, first) else 0
        box.add(_path(name, first), min(max(first, days.FIRST_STATE) + again, world.day), make)


def _buyers(world: World, box: Outbox) -> tuple[Bools, Ints, Persons]:
    draw, plan = world.draws, world.arrivals("marketplace.buyers", 10_000, before=0.4)
    index = np.arange(plan.count(world.day))
    traits = world.people.traits(person_of_marketplace(draw, index))
    own = np.array([geography.INDEX[code] for code in COUNTRIES])
    abroad = ~np.isin(traits.country, own)
    country = np.where(abroad, own[draw.below("marketplace.abroad", index, 5)], traits.country)
    registered = plan.seconds(index)
    changed = np.maximum(registered, days.start_of(0))
    changed += until(draw, "marketplace.buyer_at", index, 24, 24 * 700)
    changes = draw.chance("marketplace.buyer_changes", index, 0.2) & (changed < world.cut)
    again = np.flatnonzero(changes)
    row = np.concatenate([index, again])
    updated = np.concatenate([registered, changed[again]])
    ids = row * 2 + (np.arange(len(row)) >= len(index))
    shares = {"missing": 0.4, "mistyped": 0.3, "wrong_encoding": 0.3}
    kind = world.spoiler.kinds("marketplace.buyers", ids, shares)
    table = _buyer_table(world, traits, country, registered, row, updated, kind)
    file = _file_of(days.day_of(updated))
    everything = np.ones(len(row), dtype=bool)
    spoilt = _spoilt(world, "buyers", table["buyer_id"], kind, everything, updated, file)
    spoilt.note("missing", "full_name")
    spoilt.note("mistyped", "country_code", pick(geography.CODES, country[row]))
    spoilt.note("wrong_encoding", "full_name")
    _files(world, box, "buyers", table, file)
    valid = np.zeros(len(index), dtype=bool)
    np.logical_or.at(valid, row, spoilt.chain(everything, "buyer_id"))
    key = join("BY", number(index[valid] + 1, 7))
    return valid, country, Persons("marketplace", "buyers", traits.pid[valid], key)


def _buyer_table(
    world: World,
    traits: Traits,
    country: Ints,
    registered: Ints,
    row: Ints,
    updated: Ints,
    kind: dict[str, Bools],
) -> pa.Table:
    record = world.people.record(traits, "marketplace", country)
    elsewhere = world.people.place_in(country, traits.pid, "marketplace")
    place = np.where(traits.country == country, traits.place, elsewhere)
    turned = world.draws.chance("marketplace.turned", np.arange(len(country)), 0.12)
    in_order = join(record.given, " ", record.family)
    name = when(turned, join(record.family, " ", record.given), in_order)
    mangled = join(record.given, " ", record.mangled_family)
    kind["wrong_encoding"] &= record.can_mangle[row]
    at = pa.array(row)
    shown = when(kind["wrong_encoding"], mangled.take(at), name.take(at))
    return pa.table(
        {
            "buyer_id": join("BY", number(row + 1, 7)),
            "full_name": when(kind["missing"], None, shown),
            "email": record.email.take(at),
            "phone": record.phone.take(at),
            "country_code": when(kind["mistyped"], "XX", pick(geography.CODES, country[row])),
            "city": pick(geography.PLACES.town, place[row]),
            "postal_code": pick(geography.PLACES.postal_code, place[row]),
            "registered_at": _stamp(registered[row]),
            "updated_at": _stamp(updated),
        }
    )


def _spoilt(
    world: World,
    table: str,
    key: Column,
    kind: dict[str, Bools],
    shown: Bools,
    version: Ints,
    file: Ints,
) -> Spoilt:
    def origin(rows: Ints) -> Column:
        paths = [_path(table, first) for first in file[rows].tolist()]
        return pa.array(paths, type=pa.string())

    plain = key.combine_chunks() if isinstance(key, pa.ChunkedArray) else key
    return Spoilt(world.log, f"marketplace.{table}", plain, kind, shown, version, origin)


def _listings(world: World, box: Outbox) -> None:
    goods, index = world.catalogue, np.arange(products.COUNT)
    at, changed = [index], [np.zeros(products.COUNT, dtype=np.int64)]
    for later in range(1, world.day + 1):
        moved = index[world.prices.changed_on(index, np.full(products.COUNT, later)) == later]
        at.append(moved)
        changed.append(np.full(len(moved), later))
    row, day = np.concatenate(at), np.concatenate(changed)
    yen = np.full(len(row), money.INDEX["JPY"])
    kind = world.spoiler.kinds("marketplace.listings", row, {"inconsistent": 1.0})
    title = join(pick(goods.name, row), " (Import)")
    key, updated = pick(goods.listing, row), days.start_of(day) + 6 * HOUR
    table = pa.table(
        {
            "listing_id": key,
            "seller_sku": pick([sku.lower().replace("-", "") for sku in goods.sku], row),
            "gtin": pick(["0" + ean for ean in goods.ean], row),
            "title": when(kind["inconsistent"], "Sample listing", title),
            "category": pick(products.LISTING_CATEGORIES, goods.category[row]),
            "price": decimals(money.local_price(world.prices.us_cents(row, day), yen)),
            "currency": pick(["JPY"], np.zeros(len(row), dtype=np.int64)),
            "updated_at": _stamp(updated),
        }
    )
    file, everything = _file_of(day), np.ones(len(row), dtype=bool)
    spoilt = _spoilt(world, "listings", key, kind, everything, updated, file)
    spoilt.note("inconsistent", "title", title)
    _files(world, box, "listings", table, file)


def _orders(world: World, country: Ints) -> _Orders:
    draw, plan = world.draws, world.arrivals("marketplace.orders", 60_000)
    ident = np.arange(plan.count(world.day)) + 1
    placed = plan.seconds(ident - 1)
    day = days.day_of(placed)
    known = world.arrivals("marketplace.buyers", 10_000, before=0.4).known(day)
    buyer = (draw.unit("marketplace.order.buyer", ident) ** 1.3 * known).astype(np.int64)
    where = country[buyer]
    own = [geography.INDEX[code] for code in COUNTRIES]
    zone_of = np.zeros(len(geography.CODES), dtype=np.int64)
    zone_of[own] = np.arange(len(own))
    zone = zone_of[where]
    zone = np.where(
        (where == geography.INDEX["AU"]) & draw.chance("marketplace.perth", ident, 0.2), 5, zone
    )
    cancelled = draw.chance("marketplace.cancelled", ident, 0.04)
    shipped = placed + until(draw, "marketplace.shipped", ident, 10, 60)
    delivered = shipped + until(draw, "marketplace.delivered", ident, 24, 120)
    stopped = placed + until(draw, "marketplace.stopped", ident, 1, 20)
    moments = np.stack(
        [placed, np.where(cancelled, stopped, shipped), np.where(cancelled, NEVER, delivered)],
        axis=1,
    )
    statuses = np.stack(
        [np.zeros(len(ident), np.int64), np.where(cancelled, 3, 1), np.full(len(ident), 2)], axis=1
    )
    currency = np.array([money.INDEX.get(code, 0) for code in geography.CURRENCY])[where]
    return _Orders(ident, buyer, placed, day, where, currency, zone, moments, statuses)


def _local(seconds: Ints, zone: Ints) -> Ints:
    """Returns UTC seconds as a clock of the zone shows them; offsets change on the hour only."""
    local = seconds.copy()
    for position, name in enumerate(_ZONES):
        mask = zone == position
        hours, back = np.unique(seconds[mask] // HOUR, return_inverse=True)
        info = ZoneInfo(name)
        shifts = [
            datetime.fromtimestamp(hour * HOUR, UTC).astimezone(info).utcoffset()
            for hour in hours.tolist()
        ]
        offset = np.array(
            [int(shift.total_seconds()) for shift in shifts if shift is not None], dtype=np.int64
        )
        local[mask] = seconds[mask] + offset[back] if len(offset) else seconds[mask]
    return local


def _nested(world: World, goods: Goods) -> tuple[Any, Bools]:
    """Returns the items as a list column, one list per order, and which orders have a wild one."""
    items = goods.lines
    spoilt = world.spoiler.kinds("marketplace.items", items.id, {"outlying": 1.0})["outlying"]
    spoilt &= world.draws.chance("marketplace.items.few", items.id, 0.4)
    wild_quantity, wild_price = outlying(
        world.draws, "marketplace.wild", items.id, spoilt, goods.price, PRICE_LIMIT
    )
    quantity = np.where(wild_quantity, goods.quantity * 1000, goods.quantity)
    fields = {
        "line": pa.array(items.number.astype(np.int32)),
        "listing_id": pick(world.catalogue.listing, goods.product),
        "quantity": pa.array(quantity.astype(np.int32)),
        "price": decimals(np.where(wild_price, goods.price * 1000, goods.price)),
    }
    struct = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    offsets = pa.array(np.append(items.starts, len(items.order)).astype(np.int32))
    bad = np.zeros(len(items.counts), dtype=bool)
    bad[items.order[spoilt]] = True
    return pa.ListArray.from_arrays(offsets, struct), bad


@dataclass(frozen=True)
class _Deliveries:
    """Rows of the orders' files, copies included.

    Attributes:
        order, step: Which version of which order.
        kind: Kind of defect -> rows.
        file: First day of each row's file.
        seen: Whether the row can be read today.
        is_copy: Whether it repeats an earlier row.
    """

    order: Ints
    step: Ints
    kind: dict[str, Bools]
    file: Ints
    seen: Bools
    is_copy: Bools


def _deliveries(world: World, orders: _Orders) -> _Deliveries:
    """Returns every row that has been sent: each version once, some again, some late."""
    order, step = np.nonzero(orders.moments < world.cut)
    ids = orders.id[order] * _VERSIONS + step
    kind = world.spoiler.kinds("marketplace.orders", ids, _ORDER_DEFECTS)
    late = np.where(kind["late"], 2 + world.draws.below("marketplace.late", ids, 4), 0)
    arrival = days.day_of(orders.moments[order, step]) + late
    # A stale copy of a row comes when a newer one has long been delivered.
    newer = days.day_of(orders.moments[order, np.minimum(step + 1, 2)])
    stale = kind["outdated"] & (step < 2) & (newer < arrival + _STALE_DAYS)
    copy = np.flatnonzero(kind["duplicated"] | stale)
    take = np.concatenate([np.arange(len(order)), copy])
    is_copy = np.arange(len(take)) >= len(order)
    arrival = arrival[take] + np.where(is_copy & kind["outdated"][take], _STALE_DAYS, 0)
    sent = arrival <= world.day
    take, is_copy, file = take[sent], is_copy[sent], _file_of(arrival[sent])
    broken = cut_file(world)
    seen = np.ones(len(take), dtype=bool) if broken is None else file != broken
    kind = {name: mask[take] for name, mask in kind.items()}
    return _Deliveries(order[take], step[take], kind, file, seen, is_copy)


def _versions(world: World, box: Outbox, orders: _Orders, goods: Goods, buyer_valid: Bools) -> Ints:
    """Adds the orders' files; returns each order's status in force, -1 if no row is valid."""
    nested, wild = _nested(world, goods)
    sent = _deliveries(world, orders)
    table = _order_table(orders, sent, nested, goods.totals)
    _files(world, box, "orders", table, sent.file, partial(_drift, world))
    kind = {**sent.kind, "outlying": wild[sent.order]}
    version = orders.moments[sent.order, sent.step]
    key = join("MK-", number(orders.id[sent.order], 7))
    spoilt = _spoilt(world, "orders", key, kind, sent.seen, version, sent.file)
    buyer = join("BY", number(orders.buyer[sent.order] + 1, 7))
    spoilt.note("missing", "buyer_id", buyer)
    spoilt.note("orphaned", "buyer_id", buyer)
    spoilt.note("mistyped", "currency", pick(money.CURRENCIES, orders.currency[sent.order]))
    spoilt.note("skewed_clock", "ordered_at")
    spoilt.note(
        "inconsistent",
        "total",
        cents(goods.totals[sent.order]),
        ~sent.is_copy & kind["inconsistent"],
    )
    spoilt.note("late", mask=kind["late"] & ~sent.is_copy)
    spoilt.note("duplicated", mask=kind["duplicated"] & sent.is_copy)
    spoilt.note("outdated", mask=kind["outdated"] & sent.is_copy)
    by_itself = kind["missing"] | kind["mistyped"] | kind["orphaned"] | kind["skewed_clock"]
    spoilt.note("outlying", "items", mask=kind["outlying"] & ~by_itself)
    _note_files(world, sent)
    good = spoilt.chain(buyer_valid[orders.buyer[sent.order]], "buyer_id")
    latest = np.full(len(orders.id), -1, dtype=np.int64)
    np.maximum.at(latest, sent.order[good], sent.step[good])
    status = orders.statuses[np.arange(len(latest)), np.maximum(latest, 0)]
    return np.where(latest >= 0, status, -1)


def _order_table(orders: _Orders, sent: _Deliveries, nested: Any, totals: Ints) -> pa.Table:
    order, kind = sent.order, sent.kind
    local = _local(orders.placed, orders.zone)[order]
    buyer = np.where(kind["orphaned"], _UNKNOWN, 0) + orders.buyer[order] + 1
    total = np.where(kind["inconsistent"], totals[order] + 100_000, totals[order])
    currency = pick(money.CURRENCIES, orders.currency[order])
    return pa.table(
        {
            "order_id": join("MK-", number(orders.id[order], 7)),
            "buyer_id": when(kind["missing"], None, join("BY", number(buyer, 7))),
            "ordered_at": _stamp(np.where(kind["skewed_clock"], SKEWED_SECONDS, local)),
            "time_zone": pick(_ZONES, orders.zone[order]),
            "currency": when(kind["mistyped"], "XXQ", currency),
            "country_code": pick(geography.CODES, orders.country[order]),
            "status": pick(STATUSES, orders.statuses[order, sent.step]),
            "items": nested.take(pa.array(order)),
            "total": decimals(total),
            "updated_at": _stamp(orders.moments[order, sent.step]),
        }
    )


def _drift(world: World, part: pa.Table, first: int) -> pa.Table:
    if world.settings.defects <= 0 or first < _DRIFT_FROM:
        return part
    wrapped = pc.equal(pc.utf8_slice_codeunits(part["order_id"], -1), "7")
    return part.append_column("gift_wrap", wrapped)


def _note_files(world: World, sent: _Deliveries) -> None:
    """Notes the file that cannot be read, and the first one with a column more."""
    broken = cut_file(world)
    if broken is not None and (sent.file == broken).any():
        paths = pa.array([_path("orders", broken)])
        world.log.add("marketplace.orders", paths, "truncated", None, origin=paths)
    if world.settings.defects > 0:
        wider = np.unique(sent.file[sent.seen & (sent.file >= _DRIFT_FROM)])[:1].tolist()
        paths = pa.array([_path("orders", first) for first in wider], type=pa.string())
        world.log.add("marketplace.orders", paths, "drifted_schema", "gift_wrap", origin=paths)


def _refunds(
    world: World, box: Outbox, orders: _Orders, goods: Goods, order_valid: Bools
) -> Refunds:
    draw, ended = world.draws, orders.moments[:, 2]
    moment = ended + until(draw, "marketplace.refund.at", orders.id, 24, 400)
    refunded = draw.chance("marketplace.refunded", orders.id, 0.052) & (ended < NEVER)
    at = np.flatnonzero(refunded & (moment < world.cut))
    moment, ident = moment[at], orders.id[at]
    whole = draw.chance("marketplace.refund.whole", ident, 0.5)
    amount = np.where(whole, goods.totals[at], goods.net[goods.lines.starts[at]])
    kind = world.spoiler.kinds("marketplace.refunds", ident, {"missing": 0.6, "orphaned": 0.4})
    key, file = join("RF-", number(ident, 7)), _file_of(days.day_of(moment))
    parent = join("MK-", number(ident + np.where(kind["orphaned"], _UNKNOWN, 0), 7))
    table = pa.table(
        {
            "refund_id": key,
            "order_id": parent,
            "line": pa.array(np.ones(len(at), np.int32), mask=whole),
            "amount": decimals(amount, missing=kind["missing"]),
            "currency": pick(money.CURRENCIES, orders.currency[at]),
            "refunded_at": _stamp(moment),
            "reason": pick(_REASONS, draw.below("marketplace.why", ident, len(_REASONS))),
        }
    )
    everything = np.ones(len(at), dtype=bool)
    spoilt = _spoilt(world, "refunds", key, kind, everything, moment, file)
    spoilt.note("missing", "amount", cents(amount))
    spoilt.note("orphaned", "order_id", join("MK-", number(ident, 7)))
    _files(world, box, "refunds", table, file)
    good = spoilt.chain(order_valid[at], "order_id")
    return Refunds("APAC", days.day_of(moment[good]), orders.currency[at][good], amount[good])
