"""The distributor of LATAM: XML order feeds, zipped by week.

retailers, orders, returns ─> XML records per ISO week ─> zip files of several members; catalogue
and retailers as plain XML

An order is sent once, when its week is over, with the state it has then. It leaves out persons:
retailers are companies.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import days, money, products
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Ints
from anycompany.names import FAMILY, ascii_name
from anycompany.systems.common import (
    HOUR,
    SKEWED_SECONDS,
    Goods,
    Refunds,
    Sales,
    lines_of,
    outlying,
)
from anycompany.systems.files import Outbox, month_of
from anycompany.text import Column, cents, grouped, join, number, pick, when
from anycompany.world import World

COUNTRIES = ["BR", "MX", "CL", "CO", "AR", "EC", "PA"]
PRICE_LIMIT = 6_000_000_00
_CURRENCY = ["BRL", "MXN", "CLP", "COP", "ARS", "USD", "USD"]
_OFFSET = np.array([-3, -6, -4, -5, -3, -5, -5])
_CITIES = ["São Paulo", "Guadalajara", "Santiago", "Medellín", "Córdoba", "Quito", "Panamá"]
_STATUSES = ["confirmed", "shipped", "cancelled"]
_LINES = (0.3, 0.24, 0.18, 0.12, 0.09, 0.07)
_MEMBER = 60
_FEWEST_RETAILERS = 20
_COMMENTS = [
    "<comment/>",
    "<comment>entregar por la mañana</comment>",
    "<comment>urgente</comment>",
]
_REASONS = ["defectuoso", "equivocado", "sin venta", "dañado en transporte"]


@dataclass(frozen=True)
class Distributor:
    """The distributor at the end of a day: its files, and what the truth and the help desk need."""

    outbox: Outbox
    placed: days.Arrivals
    sales: Sales
    refunds: Refunds


@dataclass(frozen=True)
class _Orders:
    id: Ints
    retailer: Ints
    country: Ints
    currency: Ints
    placed: Ints
    day: Ints
    cancelled: Bools
    week: Ints


def build(world: World) -> Distributor:
    """Builds the distributor's files, notes their defects, and keeps what the truth needs."""
    box = Outbox()
    count = max(300, _FEWEST_RETAILERS / world.settings.scale)
    retailers = world.arrivals("distributor.retailers", count, before=0.85)
    _retailers(world, box, retailers)
    _catalog(world, box)
    orders, kind = _orders(world, retailers)
    goods = _goods(world, orders)
    valid = _order_files(world, box, orders, kind, goods)
    refunds = _returns(world, box, orders, goods, valid)
    counts = (valid & ~orders.cancelled)[goods.lines.order]
    at = goods.lines.order[counts]
    sales = Sales(
        region="LATAM",
        order=orders.id[at],
        day=orders.day[at],
        country=orders.country[at],
        countries=COUNTRIES,
        product=goods.product[counts],
        currency=orders.currency[at],
        net=goods.net[counts],
    )
    return Distributor(box, _placed(world), sales, refunds)


def _goods(world: World, orders: _Orders) -> Goods:
    items = lines_of(world.draws, "distributor.lines", orders.id, _LINES)
    product = world.pick_product("distributor.product", items.id)
    pieces = world.draws.unit("distributor.quantity", items.id) ** 2 * 60
    quantity = 1 + pieces.astype(np.int64)
    # Retailers pay a fifth less than list.
    list_price = world.prices.us_cents(product, orders.day[items.order]) * 4 // 5
    price = money.local_price(list_price, orders.currency[items.order])
    return Goods(items, product, quantity, price, np.zeros_like(price), quantity * price)


def _week(day: Ints) -> Ints:
    return (day + 2) // 7


def _sunday(week: Ints) -> Ints:
    return week * 7 + 4


def _label(week: int) -> str:
    year, number_, _ = (days.date_of(0) + timedelta(days=week * 7)).isocalendar()
    return f"{year}-W{number_:02d}"


def _country_of(world: World, retailer: Ints) -> Ints:
    return world.draws.weighted(
        "retailer.country", retailer, [0.35, 0.25, 0.12, 0.12, 0.1, 0.04, 0.02]
    )


def _retailers(world: World, box: Outbox, plan: days.Arrivals) -> None:
    index = np.arange(plan.count(world.day))
    country = _country_of(world, index)
    family = pick(FAMILY.names[100:160], world.draws.below("retailer.name", index, 60))
    plain = pick(
        [ascii_name(name).lower() for name in FAMILY.names[100:160]],
        world.draws.below("retailer.name", index, 60),
    )
    kind = pick(
        ["Comercial", "Distribuidora", "Tiendas", "Electrónica"],
        world.draws.below("retailer.kind", index, 4),
    )
    text = join(
        '<retailer id="R',
        number(index + 1, 4),
        '" name="',
        kind,
        " ",
        family,
        '" country="',
        pick(COUNTRIES, country),
        '" city="',
        pick(_CITIES, country),
        '" tax_id="',
        number(10_000_000 + index * 7_919 % 89_999_999),
        '" contact_email="compras@',
        plain,
        number(index + 1),
        '.example"/>',
    )
    changed = int(days.day_of(plan.seconds(index))[-1])
    content = _document("retailers", text)
    box.add("retailers/retailers.xml", max(changed, days.FIRST_STATE), lambda: content)


def _document(root: str, records: Column) -> bytes:
    body = "\n".join(records.to_pylist())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root}>\n{body}\n</{root}>\n'.encode()


def _catalog(world: World, box: Outbox) -> None:
    goods, index = world.catalogue, np.arange(products.COUNT)
    known = ~np.isin(index, products.WITHOUT_EAN)
    text = join(
        '<product code="',
        pa.array(goods.code),
        '"',
        when(known, join(' ean="', pa.array(goods.ean), '"'), ""),
        ' title="',
        pa.array(goods.spanish),
        '" family="',
        pick(products.FAMILIES, goods.category),
        '"/>',
    )
    content = _document("catalog", text)
    first = days.FIRST_STATE
    for day in [first] + [day for day in range(first + 1, world.day + 1) if month_of(day) == day]:
        box.add(f"catalog/catalog_{days.date_of(day).strftime('%Y-%m')}.xml", day, lambda: content)


def _placed(world: World) -> days.Arrivals:
    return world.arrivals("distributor.orders", 15_000)


def _orders(world: World, retailers: days.Arrivals) -> tuple[_Orders, dict[str, Bools]]:
    draw, plan = world.draws, _placed(world)
    ident = np.arange(plan.count(world.day)) + 1
    placed = plan.seconds(ident - 1)
    day = days.day_of(placed)
    retailer = draw.below("distributor.retailer", ident, retailers.known(day))
    country = _country_of(world, retailer)
    kind = world.spoiler.kinds(
        "distributor.orders",
        ident,
        {
            "missing": 0.18,
            "mistyped": 0.18,
            "orphaned": 0.14,
            "skewed_clock": 0.14,
            "outlying": 0.12,
            "inconsistent": 0.08,
            "duplicated": 0.08,
            "late": 0.08,
        },
    )
    week = _week(day) + kind["late"]
    currency = np.array([money.INDEX[code] for code in _CURRENCY])[country]
    return _Orders(
        ident,
        retailer,
        country,
        currency,
        placed,
        day,
        draw.chance("distributor.cancelled", ident, 0.04),
        week,
    ), kind


def _local_time(seconds: Ints, hours: Ints) -> Column:
    local = pa.array(seconds + hours * HOUR).cast(pa.timestamp("s")).cast(pa.string())
    date, _, clock = (
        pc.utf8_slice_codeunits(local, *span) for span in ((0, 10), (10, 11), (11, 19))
    )
    return join(date, "T", clock, "-", number(-hours, 2), ":00")


def _order_files(
    world: World, box: Outbox, orders: _Orders, kind: dict[str, Bools], goods: Goods
) -> Bools:
    """Adds the orders' files; returns which orders are delivered and valid."""
    retailer, totals = join("R", number(orders.retailer + 1, 4)), goods.totals
    offset = _OFFSET[orders.country]
    placed = _local_time(orders.placed, offset)
    skewed = _local_time(np.full(len(offset), SKEWED_SECONDS), offset)
    stated = when(kind["mistyped"], "2026-02-30T25:61:00-03:00", placed)
    # A week that is over was shipped, but for the last two days of it.
    status = np.where(_sunday(orders.week) - orders.day >= 2, 1, 0)
    comment = world.draws.weighted("distributor.comment", orders.id, [0.9, 0.06, 0.04])
    key = join("D-", number(orders.id, 6))
    text = join(
        '<order id="',
        key,
        '" retailer="',
        when(kind["missing"], "", when(kind["orphaned"], "R9999", retailer)),
        '" placed="',
        when(kind["skewed_clock"], skewed, stated),
        '" currency="',
        pick(_CURRENCY, orders.country),
        '" country="',
        pick(COUNTRIES, orders.country),
        '" status="',
        pick(_STATUSES, np.where(orders.cancelled, 2, status)),
        '"><lines>',
        _line_elements(world, goods, kind["outlying"]),
        "</lines><total>",
        cents(np.where(kind["inconsistent"], totals + 50_000, totals)),
        "</total>",
        pick(_COMMENTS, comment),
        "</order>",
    )
    seen, twice = _sunday(orders.week) <= world.day, kind["duplicated"]
    _zip_by_week(box, "orders", "order", orders.week, text, seen, twice)
    spoilt = _spoilt(world, "orders", key, kind, seen, orders.week)
    spoilt.note("missing", "retailer", retailer)
    spoilt.note("orphaned", "retailer", retailer)
    spoilt.note("mistyped", "placed", placed)
    spoilt.note("skewed_clock", "placed", placed)
    spoilt.note("outlying", "lines")
    spoilt.note("inconsistent", "total", cents(totals))
    spoilt.note("duplicated")
    spoilt.note("late")
    return spoilt.chain(seen, "retailer")


def _line_elements(world: World, goods: Goods, spoilt: Bools) -> Column:
    """Returns the line elements of each order; the first line of a spoilt order is a wild one."""
    items = goods.lines
    wild = np.zeros(len(items.order), dtype=bool)
    wild[items.starts] = spoilt
    wild_quantity, wild_price = outlying(
        world.draws, "distributor.wild", items.id, wild, goods.price, PRICE_LIMIT
    )
    line = join(
        '<line no="',
        number(items.number),
        '" code="',
        pick(world.catalogue.code, goods.product),
        '" qty="',
        number(np.where(wild_quantity, goods.quantity * 1000, goods.quantity)),
        '" price="',
        cents(np.where(wild_price, goods.price * 1000, goods.price)),
        '" net="',
        cents(goods.net),
        '"/>',
    )
    return grouped(line, items.counts, "")


def _spoilt(
    world: World, table: str, key: Column, kind: dict[str, Bools], shown: Bools, week: Ints
) -> Spoilt:
    def origin(rows: Ints) -> Column:
        names = [f"{table}/{table}_{_label(one)}.zip" for one in week[rows].tolist()]
        return pa.array(names, type=pa.string())

    return Spoilt(world.log, f"distributor.{table}", key, kind, shown, origin=origin)


def _zip_by_week(
    box: Outbox, table: str, record: str, week: Ints, text: Column, seen: Bools, twice: Bools
) -> None:
    rows = np.flatnonzero(seen)
    rows = rows[np.argsort(week[rows], kind="stable")]
    weeks, begins = np.unique(week[rows], return_index=True)
    ends = np.append(begins[1:], len(rows))
    for one, begin, end in zip(weeks.tolist(), begins.tolist(), ends.tolist(), strict=True):
        mine = rows[begin:end]
        mine = np.repeat(mine, 1 + twice[mine])

        def make(mine: Ints = mine, name: str = f"{table}_{_label(one)}") -> bytes:
            return _zip(name, f"{record}s", text.take(pa.array(mine)))

        box.add(
            f"{table}/{table}_{_label(one)}.zip",
            max(int(_sunday(np.array(one))), days.FIRST_STATE),
            make,
        )


def _zip(name: str, root: str, records: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for part, begin in enumerate(range(0, len(records), _MEMBER)):
            # A fixed date inside the archive: the same records must give the same bytes.
            entry = zipfile.ZipInfo(f"{name}_{part + 1}.xml", date_time=(2025, 1, 1, 0, 0, 0))
            archive.writestr(
                entry, _document(root, records.slice(begin, _MEMBER)), zipfile.ZIP_DEFLATED, 1
            )
    return buffer.getvalue()


def _returns(
    world: World, box: Outbox, orders: _Orders, goods: Goods, order_valid: Bools
) -> Refunds:
    draw = world.draws
    day = _sunday(orders.week) + 3 + draw.below("distributor.return.day", orders.id, 30)
    returned = draw.chance("distributor.returned", orders.id, 0.075) & ~orders.cancelled
    at = np.flatnonzero(returned & (_sunday(_week(day)) <= world.day))
    ident, day, line = orders.id[at], day[at], goods.lines.starts[at]
    amount = goods.price[line] * np.maximum(goods.quantity[line] // 4, 1)
    kind = world.spoiler.kinds("distributor.returns", ident, {"missing": 0.5, "mistyped": 0.5})
    key, dates = join("RT-", number(ident, 6)), pick(_DATES, day)
    text = join(
        '<return id="',
        key,
        '" order="D-',
        number(ident, 6),
        '" line="1" amount="',
        when(kind["missing"], "", cents(amount)),
        '" currency="',
        pick(_CURRENCY, orders.country[at]),
        '" date="',
        when(kind["mistyped"], "20261341", dates),
        '" reason="',
        pick(_REASONS, draw.below("distributor.why", ident, len(_REASONS))),
        '"/>',
    )
    week, everything = _week(day), np.ones(len(at), dtype=bool)
    _zip_by_week(box, "returns", "return", week, text, everything, ~everything)
    spoilt = _spoilt(world, "returns", key, kind, everything, week)
    spoilt.note("missing", "amount", cents(amount))
    spoilt.note("mistyped", "date", dates)
    good = spoilt.chain(order_valid[at], "order")
    return Refunds("LATAM", day[good], orders.currency[at][good], amount[good])


_DATES = days.texts("%Y%m%d", 0, days.LAST + 60)
