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
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anycompany import days, geography, money, products
from anycompany.draws import Bools, Ints
from anycompany.systems.common import (
    HOUR,
    NEVER,
    SKEWED_SECONDS,
    Lines,
    Persons,
    Refunds,
    Sales,
    lines_of,
    outlying,
    per_order,
    until,
)
from anycompany.systems.files import Outbox
from anycompany.text import Column, decimals, join, number, pick, when
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
    items = lines_of(
        world.draws, "marketplace.lines", orders.id, (0.38, 0.26, 0.16, 0.11, 0.06, 0.03)
    )
    product = world.pick_product("marketplace.product", items.id)
    quantity = 1 + world.draws.weighted("marketplace.quantity", items.id, [0.8, 0.14, 0.04, 0.02])
    price = money.local_price(
        world.prices.us_cents(product, orders.day[items.order]), orders.currency[items.order]
    )
    net = quantity * price
    status = _versions(
        world, box, orders, items, (product, quantity, price), per_order(net, items), buyer_valid
    )
    refunds = _refunds(world, box, orders, items, net, status >= 0)
    counts = (status >= 0) & (status != STATUSES.index("CANCELLED"))
    at = items.order[counts[items.order]]
    mask = counts[items.order]
    sales = Sales(
        "APAC",
        orders.id[at],
        orders.day[at],
        orders.country[at],
        geography.CODES,
        product[mask],
        orders.currency[at],
        net[mask],
    )
    return Marketplace(box, orders.buyer, orders.placed, sales, refunds, persons)


def cut_file(world: World) -> int | None:
    """Returns the day whose orders file is unreadable on this day, if there is one."""
    late = world.day - days.FIRST_STATE - _CUT_OFFSET
    return world.day if world.settings.defects > 0 and late >= 0 and late % 10 == 0 else None


def _stamp(seconds: Ints, missing: Bools | None = None) -> Any:
    column = pa.array(seconds).cast(pa.timestamp("s")).cast(pa.timestamp("us"))
    return (
        column
        if missing is None
        else pc.if_else(pa.array(missing), pa.scalar(None, column.type), column)
    )


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

        delivered = max(first, days.FIRST_STATE)
        late = first - days.FIRST_STATE - _CUT_OFFSET
        was_cut = name == "orders" and world.settings.defects > 0 and late >= 0 and late % 10 == 0
        box.add(_path(name, first), min(delivered + was_cut, world.day), make)


def _buyers(world: World, box: Outbox) -> tuple[Bools, Ints, Persons]:
    draw, plan = world.draws, world.arrivals("marketplace.buyers", 10_000, before=0.4)
    index = np.arange(plan.count(world.day))
    pid = person_of_marketplace(draw, index)
    traits = world.people.traits(pid)
    own = [geography.INDEX[code] for code in COUNTRIES]
    abroad = ~np.isin(traits.country, own)
    country = np.where(
        abroad, np.array(own)[draw.below("marketplace.abroad", index, 5)], traits.country
    )
    place = np.where(abroad, world.people.place_in(country, pid, "marketplace"), traits.place)
    record = world.people.record(traits, "marketplace", country)
    registered = plan.seconds(index)
    changed = np.maximum(registered, days.start_of(0)) + until(
        draw, "marketplace.buyer_at", index, 24, 24 * 700
    )
    again = np.flatnonzero(
        draw.chance("marketplace.buyer_changes", index, 0.2) & (changed < world.cut)
    )
    row = np.concatenate([index, again])
    updated = np.concatenate([registered, changed[again]])
    ids = row * 2 + (np.arange(len(row)) >= len(index))
    kind = world.spoiler.kinds(
        "marketplace.buyers", ids, {"missing": 0.4, "mistyped": 0.3, "wrong_encoding": 0.3}
    )
    kind["wrong_encoding"] &= record.can_mangle[row]
    turned = draw.chance("marketplace.turned", index, 0.12)
    full = when(
        turned, join(record.family, " ", record.given), join(record.given, " ", record.family)
    )
    key, name, code = (
        join("BY", number(row + 1, 7)),
        full.take(pa.array(row)),
        pick(geography.CODES, country[row]),
    )
    mangled = join(record.given, " ", record.mangled_family).take(pa.array(row))
    table = pa.table(
        {
            "buyer_id": key,
            "full_name": when(kind["missing"], None, when(kind["wrong_encoding"], mangled, name)),
            "email": record.email.take(pa.array(row)),
            "phone": record.phone.take(pa.array(row)),
            "country_code": when(kind["mistyped"], "XX", code),
            "city": pick(geography.PLACES.town, place[row]),
            "postal_code": pick(geography.PLACES.postal_code, place[row]),
            "registered_at": _stamp(registered[row]),
            "updated_at": _stamp(updated),
        }
    )
    file = _file_of(days.day_of(updated))
    for defect, column, good in (
        ("missing", "full_name", name),
        ("mistyped", "country_code", code),
        ("wrong_encoding", "full_name", name),
    ):
        _note(world, "buyers", key, updated, file, kind[defect], defect, column, good)
    _files(world, box, "buyers", table, file)
    valid = np.zeros(len(index), dtype=bool)
    np.logical_or.at(valid, row, ~kind["missing"] & ~kind["mistyped"])
    return (
        valid,
        country,
        Persons("marketplace", "buyers", pid[valid], join("BY", number(index[valid] + 1, 7))),
    )


def _note(
    world: World,
    table: str,
    key: Column,
    version: Ints,
    file: Ints,
    mask: Bools,
    defect: str,
    column: str | None,
    good: Column | None = None,
) -> None:
    at = pa.array(np.flatnonzero(mask))
    origin = pa.array([_path(table, first) for first in file[mask]], type=pa.string())
    world.log.add(
        f"marketplace.{table}",
        key.take(at),
        defect,
        column,
        version_at=version[mask],
        good=None if good is None else good.take(at),
        origin=origin,
    )


def _listings(world: World, box: Outbox) -> None:
    goods, index = world.catalogue, np.arange(products.COUNT)
    at, changed = [index], [np.zeros(products.COUNT, dtype=np.int64)]
    for later in range(1, world.day + 1):
        moved = index[world.prices.changed_on(index, np.full(products.COUNT, later)) == later]
        at.append(moved)
        changed.append(np.full(len(moved), later))
    row, day = np.concatenate(at), np.concatenate(changed)
    yen = np.full(len(row), money.INDEX["JPY"])
    spoilt = world.spoiler.kinds("marketplace.listings", row, {"inconsistent": 1.0})["inconsistent"]
    title = join(pick(goods.name, row), " (Import)")
    key, updated = pick(goods.listing, row), days.start_of(day) + 6 * HOUR
    table = pa.table(
        {
            "listing_id": key,
            "seller_sku": pick([sku.lower().replace("-", "") for sku in goods.sku], row),
            "gtin": pick(["0" + ean for ean in goods.ean], row),
            "title": when(spoilt, "Sample listing", title),
            "category": pick(products.LISTING_CATEGORIES, goods.category[row]),
            "price": decimals(money.local_price(world.prices.us_cents(row, day), yen)),
            "currency": pick(["JPY"], np.zeros(len(row), dtype=np.int64)),
            "updated_at": _stamp(updated),
        }
    )
    file = _file_of(day)
    _note(world, "listings", key, updated, file, spoilt, "inconsistent", "title", title)
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


def _nested(
    world: World, orders: _Orders, items: Lines, values: tuple[Ints, Ints, Ints]
) -> tuple[Any, Bools]:
    """Returns the items as a list column, one list per order, and which orders have a wild item."""
    product, quantity, price = values
    spoilt = world.spoiler.kinds("marketplace.items", items.id, {"outlying": 1.0})["outlying"]
    spoilt &= world.draws.chance("marketplace.items.few", items.id, 0.4)
    wild_quantity, wild_price = outlying(
        world.draws, "marketplace.wild", items.id, spoilt, price, PRICE_LIMIT
    )
    fields = [
        pa.array(items.number.astype(np.int32)),
        pick(world.catalogue.listing, product),
        pa.array(np.where(wild_quantity, quantity * 1000, quantity).astype(np.int32)),
        decimals(np.where(wild_price, price * 1000, price)),
    ]
    offsets = pa.array(np.append(items.starts, len(items.order)).astype(np.int32))
    nested = pa.ListArray.from_arrays(
        offsets, pa.StructArray.from_arrays(fields, ["line", "listing_id", "quantity", "price"])
    )
    bad = np.zeros(len(orders.id), dtype=bool)
    bad[items.order[spoilt]] = True
    return nested, bad


def _versions(
    world: World,
    box: Outbox,
    orders: _Orders,
    items: Lines,
    values: tuple[Ints, Ints, Ints],
    totals: Ints,
    buyer_valid: Bools,
) -> Ints:
    """Adds the orders' files; returns each order's status in force, -1 if no row is valid."""
    nested, wild = _nested(world, orders, items, values)
    row, step = np.nonzero(orders.moments < world.cut)
    updated, status = orders.moments[row, step], orders.statuses[row, step]
    ids = orders.id[row] * _VERSIONS + step
    kind = world.spoiler.kinds(
        "marketplace.orders",
        ids,
        {
            "missing": 0.18,
            "mistyped": 0.18,
            "orphaned": 0.1,
            "skewed_clock": 0.14,
            "inconsistent": 0.1,
            "duplicated": 0.1,
            "outdated": 0.1,
            "late": 0.1,
        },
    )
    arrival = days.day_of(updated) + np.where(
        kind["late"], 2 + world.draws.below("marketplace.late", ids, 4), 0
    )
    # A stale copy of a row comes 8 days later, when a newer one has long been delivered.
    stale = (
        kind["outdated"]
        & (step < 2)
        & (days.day_of(orders.moments[row, np.minimum(step + 1, 2)]) < arrival + 8)
    )
    copy = np.flatnonzero(kind["duplicated"] | (stale & (arrival + 8 <= world.day)))
    take = np.concatenate([np.arange(len(row)), copy])
    is_copy = np.arange(len(take)) >= len(row)
    arrival = arrival[take] + np.where(is_copy & kind["outdated"][take], 8, 0)
    file = _file_of(arrival)
    seen = (arrival <= world.day) & (
        file != (cut_file(world) if cut_file(world) is not None else -1)
    )
    table, skewed = (
        _order_table(orders, nested, totals, row, updated, status, kind),
        kind["skewed_clock"],
    )
    kept = np.flatnonzero(arrival <= world.day)
    _files(
        world,
        box,
        "orders",
        table.take(pa.array(take[kept])),
        file[kept],
        lambda part, first: _drift(world, part, first),
    )
    own = ~kind["missing"] & ~kind["mistyped"] & ~kind["orphaned"] & ~skewed & ~wild[row]
    _order_log(
        world, orders, row, step, updated, kind, wild, own, buyer_valid, take, file, seen, is_copy
    )
    good = (own & buyer_valid[orders.buyer[row]])[take] & seen
    latest = np.full(len(orders.id), -1, dtype=np.int64)
    np.maximum.at(latest, row[take[good]], step[take[good]])
    return np.where(latest >= 0, orders.statuses[np.arange(len(latest)), np.maximum(latest, 0)], -1)


def _order_table(
    orders: _Orders,
    nested: Any,
    totals: Ints,
    row: Ints,
    updated: Ints,
    status: Ints,
    kind: dict[str, Bools],
) -> pa.Table:
    local = _local(orders.placed, orders.zone)
    buyer = join("BY", number(np.where(kind["orphaned"], 9_000_000, 0) + orders.buyer[row] + 1, 7))
    return pa.table(
        {
            "order_id": join("MK-", number(orders.id[row], 7)),
            "buyer_id": when(kind["missing"], None, buyer),
            "ordered_at": _stamp(np.where(kind["skewed_clock"], SKEWED_SECONDS, local[row])),
            "time_zone": pick(_ZONES, orders.zone[row]),
            "currency": when(kind["mistyped"], "XXQ", pick(money.CURRENCIES, orders.currency[row])),
            "country_code": pick(geography.CODES, orders.country[row]),
            "status": pick(STATUSES, status),
            "items": nested.take(pa.array(row)),
            "total": decimals(np.where(kind["inconsistent"], totals[row] + 100_000, totals[row])),
            "updated_at": _stamp(updated),
        }
    )


def _drift(world: World, part: pa.Table, first: int) -> pa.Table:
    if world.settings.defects <= 0 or first < _DRIFT_FROM:
        return part
    wrapped = pc.equal(pc.utf8_slice_codeunits(part["order_id"], -1), "7")
    return part.append_column("gift_wrap", wrapped)


def _order_log(
    world: World,
    orders: _Orders,
    row: Ints,
    step: Ints,
    updated: Ints,
    kind: dict[str, Bools],
    wild: Bools,
    own: Bools,
    buyer_valid: Bools,
    take: Ints,
    file: Ints,
    seen: Bools,
    is_copy: Bools,
) -> None:
    key = join("MK-", number(orders.id[row], 7)).take(pa.array(take))
    version = updated[take]
    for defect, column in (
        ("missing", "buyer_id"),
        ("mistyped", "currency"),
        ("orphaned", "buyer_id"),
        ("skewed_clock", "ordered_at"),
        ("inconsistent", "total"),
        ("late", None),
    ):
        _note(
            world,
            "orders",
            key,
            version,
            file,
            kind[defect][take] & seen & ~is_copy,
            defect,
            column,
        )
    for defect in ("duplicated", "outdated"):
        _note(
            world, "orders", key, version, file, kind[defect][take] & seen & is_copy, defect, None
        )
    before = (kind["missing"] | kind["mistyped"] | kind["orphaned"] | kind["skewed_clock"])[take]
    _note(
        world, "orders", key, version, file, wild[row][take] & seen & ~before, "outlying", "items"
    )
    chained = (own & ~buyer_valid[orders.buyer[row]])[take] & seen
    _note(world, "orders", key, version, file, chained, "unresolvable", "buyer_id")
    broken = cut_file(world)
    if broken is not None and (file == broken).any():
        paths = pa.array([_path("orders", broken)])
        world.log.add("marketplace.orders", paths, "truncated", None, origin=paths)
    if world.settings.defects > 0:
        first = np.unique(file[seen & (file >= _DRIFT_FROM)])[:1]
        paths = pa.array([_path("orders", day) for day in first.tolist()], type=pa.string())
        world.log.add("marketplace.orders", paths, "drifted_schema", "gift_wrap", origin=paths)


def _refunds(
    world: World, box: Outbox, orders: _Orders, items: Lines, net: Ints, order_valid: Bools
) -> Refunds:
    draw = world.draws
    moment = orders.moments[:, 2] + until(draw, "marketplace.refund.at", orders.id, 24, 400)
    chosen = (
        draw.chance("marketplace.refunded", orders.id, 0.052)
        & (orders.moments[:, 2] < NEVER)
        & (moment < world.cut)
    )
    at = np.flatnonzero(chosen)
    moment, ident = moment[at], orders.id[at]
    whole = draw.chance("marketplace.refund.whole", ident, 0.5)
    amount = np.where(whole, per_order(net, items)[at], net[items.starts[at]])
    kind = world.spoiler.kinds("marketplace.refunds", ident, {"missing": 0.6, "orphaned": 0.4})
    key, file = join("RF-", number(ident, 7)), _file_of(days.day_of(moment))
    table = pa.table(
        {
            "refund_id": key,
            "order_id": join("MK-", number(ident + np.where(kind["orphaned"], 9_000_000, 0), 7)),
            "line": pc.if_else(
                pa.array(whole), pa.scalar(None, pa.int32()), pa.array(np.ones(len(at), np.int32))
            ),
            "amount": decimals(amount, missing=kind["missing"]),
            "currency": pick(money.CURRENCIES, orders.currency[at]),
            "refunded_at": _stamp(moment),
            "reason": pick(
                ["damaged", "wrong item", "late", "no longer needed"],
                draw.below("marketplace.why", ident, 4),
            ),
        }
    )
    own = ~kind["missing"] & ~kind["orphaned"]
    _note(world, "refunds", key, moment, file, kind["missing"], "missing", "amount", number(amount))
    _note(world, "refunds", key, moment, file, kind["orphaned"], "orphaned", "order_id")
    _note(world, "refunds", key, moment, file, own & ~order_valid[at], "unresolvable", "order_id")
    _files(world, box, "refunds", table, file)
    good = own & order_valid[at]
    return Refunds("APAC", days.day_of(moment[good]), orders.currency[at][good], amount[good])
