"""The ERP of EMEA: CSV files as a German exporter writes them.

customers, orders, lines, credit notes ─> rows per delivery day ─> monthly files (history), nightly
files (since), re-sent corrections

`;`, decimal comma, dd.mm.yyyy, CRLF; UTF-8 up to 2025-12, cp1252 from then on; a column renamed in
2025-10. It leaves out any technical timestamp but CHANGED_ON, as such exports do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from anycompany import days, geography, money, products
from anycompany.draws import Bools, Ints
from anycompany.names import ascii_name
from anycompany.systems.common import Lines, Persons, Refunds, Sales, lines_of, outlying, per_order
from anycompany.systems.files import Outbox, month_of
from anycompany.systems.shop import street
from anycompany.text import Column, cents, join, lines, number, or_empty, pick, quoted, when
from anycompany.world import World, person_of_erp

COUNTRIES = ["DE", "FR", "GB", "CH", "PL", "SE", "ES", "IT", "NL", "AE", "ZA"]
PRICE_LIMIT = 15_000_00
DUMPS = [180, 364, days.FIRST_STATE]
_RENAMED = (days.date_of(273).strftime("%Y-%m"), 273)
_CP1252_FROM = 365
_DRIFT_FROM = 455
_JUNE = month_of(days.FIRST_STATE)
_JUNE_RESENT = days.FIRST_STATE + 3
_UNKNOWN = 9_000_000
_DATES = days.texts("%d.%m.%Y", -1100, days.LAST + 400)
_SHIFT = 1100
_EMPTY = b""


@dataclass(frozen=True)
class Erp:
    """The ERP at the end of a day: its files, and what the truth and the help desk need."""

    outbox: Outbox
    order_customer: Ints
    order_second: Ints
    sales: Sales
    refunds: Refunds
    persons: Persons


@dataclass(frozen=True)
class _Orders:
    id: Ints
    day: Ints
    customer: Ints
    country: Ints
    currency: Ints
    cancelled: Bools
    delivered: Ints
    file: Ints
    version_day: Ints
    resent: Bools


def build(world: World) -> Erp:
    """Builds the ERP's files, notes their defects, and keeps what the truth needs."""
    box = Outbox()
    customer_valid, country, persons = _customers(world, box)
    _materials(world, box)
    orders, kinds = _orders(world, country)
    items = lines_of(world.draws, "erp.lines", orders.id)
    product, quantity, price, discount, net = _priced(world, orders, items)
    valid = _order_file(world, box, orders, kinds, per_order(net, items), customer_valid)
    seen = orders.delivered <= world.day
    line_valid = _line_file(
        world, box, orders, items, (product, quantity, price, discount, net), valid, seen
    )
    refunds = _credit_notes(world, box, orders, items, net, valid, seen)
    counts = line_valid & ~(orders.cancelled & _may_be_cancelled(orders))[items.order]
    at = items.order[counts]
    sales = Sales(
        "EMEA",
        orders.id[at],
        orders.day[at],
        orders.country[at],
        geography.CODES,
        product[counts],
        orders.currency[at],
        net[counts],
    )
    second = days.start_of(orders.day) + 12 * 3_600
    return Erp(box, orders.customer, second, sales, refunds, persons)


def _date(day: Ints) -> Column:
    return pick(_DATES, day + _SHIFT)


def _file_of(day: Ints) -> Ints:
    """Returns the first day of the file of a delivery: a month in history, a night later."""
    starts = days.month_starts()
    month = starts[np.searchsorted(starts, np.maximum(day, 0), side="right") - 1]
    return np.where(day <= days.FIRST_STATE, month, day)


def _name(table: str, first: int) -> str:
    pattern = "%Y-%m" if first <= days.FIRST_STATE else "%Y-%m-%d"
    return f"{table}/{table}_{days.date_of(first).strftime(pattern)}.csv"


def _encode(text: bytes, first: int) -> bytes:
    return text if first < _CP1252_FROM else text.decode().encode("cp1252", "replace")


def _version(world: World, first: Ints) -> tuple[Ints, Bools]:
    """Returns for each file the day of its version in force, and whether it is a re-sent one."""
    nightly = first > days.FIRST_STATE
    delivered = np.where(nightly, first, days.FIRST_STATE)
    again = np.where(nightly, first + 2, np.where(first == _JUNE, _JUNE_RESENT, days.LAST + 1))
    again = np.where(nightly & ~world.draws.chance("erp.resend", first, 0.34), days.LAST + 1, again)
    resent = again <= world.day
    return np.where(resent, again, delivered), resent


def _customers(world: World, box: Outbox) -> tuple[Bools, Ints, Persons]:
    draw, plan = world.draws, world.arrivals("erp.customers", 12_000, before=0.4)
    index = np.arange(plan.count(world.day))
    pid = person_of_erp(draw, index)
    traits = world.people.traits(pid)
    abroad = ~np.isin(traits.country, [geography.INDEX[code] for code in COUNTRIES])
    chosen = np.array([geography.INDEX[code] for code in COUNTRIES])[
        draw.below("erp.abroad", index, 4)
    ]
    country = np.where(abroad, chosen, traits.country)
    place = np.where(abroad, world.people.place_in(country, pid, "erp"), traits.place)
    record = world.people.record(traits, "erp", country)
    created = days.day_of(plan.seconds(index))
    changed = np.maximum(created, 0) + 1 + draw.below("erp.moves_on", index, 500)
    moves = draw.chance("erp.changes", index, 0.25)
    family = _cp1252(record.family)
    given = _cp1252(record.given)
    house = np.where((pid >> 2) % 50 == 1, pid - 4, pid)
    fixed = {
        "key": join("E", number(index + 1, 7)),
        "name": join(family, ", ", given),
        "family": family,
        "mangled": join(record.mangled_family, ", ", given),
        "email": or_empty(record.email),
        "phone": or_empty(record.phone),
        "street": street(world, house),
        "postal": pick(geography.PLACES.postal_code, place),
        "city": _cp1252(pick(geography.PLACES.town, place)),
        "country": pick(geography.ALPHA3, country),
        "birth": when(record.has_birth, pick(_BIRTHS, record.birth - _FIRST_BIRTH), ""),
    }
    valid = np.zeros(len(index), dtype=bool)
    dumps = [day for day in DUMPS if day <= world.day] + list(
        range(days.FIRST_STATE + 1, world.day + 1)
    )
    for day in dumps:
        _dump(
            world,
            box,
            fixed,
            index,
            created,
            np.where(moves & (changed <= day), changed, created),
            record.can_mangle,
            day,
            valid,
        )
    persons = Persons("erp", "customers", pid[valid], fixed["key"].filter(pa.array(valid)))
    return valid, country, persons


_FIRST_BIRTH = days.EPOCH_DAY + (days.date_of(0).replace(year=1948) - days.date_of(0)).days
_BIRTHS = days.texts(
    "%d.%m.%Y", _FIRST_BIRTH - days.EPOCH_DAY, _FIRST_BIRTH - days.EPOCH_DAY + 58 * 365
)


def _cp1252(column: Column) -> Column:
    """Replaces what cp1252 cannot hold (Polish letters, mostly) by plain letters."""
    encoded = column.dictionary_encode()
    plain = [name if _fits(name) else ascii_name(name) for name in encoded.dictionary.to_pylist()]
    return pick(plain, np.asarray(encoded.indices))


def _fits(name: str) -> bool:
    return name.encode("cp1252", "ignore").decode("cp1252") == name


def _dump(
    world: World,
    box: Outbox,
    fixed: dict[str, Any],
    index: Ints,
    created: Ints,
    changed: Ints,
    can_mangle: Bools,
    day: int,
    valid: Bools,
) -> None:
    size = int(np.searchsorted(created, day, side="right"))
    rows = {name: column.slice(0, size) for name, column in fixed.items()}
    made, touched = created[:size], changed[:size]
    path = f"customers/customers_{days.date_of(day).isoformat()}.csv"
    ids = index[:size] * 2_000 + day
    kind = world.spoiler.kinds(
        "erp.customers",
        ids,
        {
            "missing": 0.25,
            "mistyped": 0.25,
            "wrong_encoding": 0.2,
            "outdated": 0.15,
            "duplicated": 0.15,
        },
    )
    kind["wrong_encoding"] = kind["wrong_encoding"] & can_mangle[:size]
    kind["outdated"] = kind["outdated"] & (touched > made)
    for name, column in (
        ("missing", "NAME1"),
        ("mistyped", "CREATED_ON"),
        ("wrong_encoding", "NAME1"),
        ("outdated", None),
        ("duplicated", None),
    ):
        mask = pa.array(kind[name])
        version = days.start_of(made if name == "outdated" else touched)[kind[name]]
        good = rows["name"].filter(mask) if column == "NAME1" else None
        good = _date(made[kind[name]]) if column == "CREATED_ON" else good
        world.log.add(
            "erp.customers",
            rows["key"].filter(mask),
            name,
            column,
            version_at=version,
            good=good,
            origin=_same(path, int(kind[name].sum())),
        )
    valid[:size] |= ~kind["missing"] & ~kind["mistyped"]
    delivered = max(day, days.FIRST_STATE)
    box.add(path, delivered, lambda: _dump_bytes(rows, made, touched, kind, day))


def _same(text: str, count: int) -> Column:
    return pick([text], np.zeros(count, dtype=np.int64))


def _dump_bytes(
    rows: dict[str, Any], made: Ints, touched: Ints, kind: dict[str, Bools], day: int
) -> bytes:
    header = (
        "CUSTOMER_NO;NAME1;EMAIL;PHONE;STREET;POSTAL_CODE;CITY;COUNTRY;BIRTH_DATE;CREATED_ON;"
        "CHANGED_ON"
    )
    name = when(kind["missing"], "", when(kind["wrong_encoding"], rows["mangled"], rows["name"]))
    front = [
        rows["key"],
        quoted(name),
        rows["email"],
        rows["phone"],
        quoted(rows["street"]),
        rows["postal"],
        quoted(rows["city"]),
        rows["country"],
        rows["birth"],
        when(kind["mistyped"], "31.02.2025", _date(made)),
    ]
    text = join(*front, _date(touched), sep=";")
    older = join(*front, _date(made), sep=";").filter(pa.array(kind["outdated"]))
    text = text.take(pa.array(np.repeat(np.arange(len(made)), 1 + kind["duplicated"])))
    body = header.encode() + b"\r\n" + lines(text, "\r\n") + lines(older, "\r\n")
    return _encode(body, day)


def _materials(world: World, box: Outbox) -> None:
    goods, index = world.catalogue, np.arange(products.COUNT)
    stated = [ean.lstrip("0") if position % 2 else ean for position, ean in enumerate(goods.ean)]
    spoilt = world.spoiler.kinds("erp.materials", index, {"inconsistent": 1.0})["inconsistent"]
    world.log.add(
        "erp.materials",
        pa.array(goods.material).filter(pa.array(spoilt)),
        "inconsistent",
        "LIST_PRICE",
    )
    days_sent = [day for day in DUMPS if day <= world.day] + list(
        range(days.FIRST_STATE + 1, world.day + 1)
    )
    for day in days_sent:
        at = np.full(products.COUNT, day)
        euros = money.local_price(
            world.prices.us_cents(index, at), np.full(products.COUNT, money.INDEX["EUR"])
        )
        euros = np.where(spoilt, euros * 6 // 5, euros)
        text = join(
            pa.array(goods.material),
            pa.array(stated),
            quoted(pa.array([_abbreviated(name) for name in goods.name])),
            pick(products.ERP_GROUPS, goods.category),
            cents(euros, ","),
            "EUR",
            _date(np.maximum(world.prices.changed_on(index, at), -300)),
            sep=";",
        )
        path = f"materials/materials_{days.date_of(day).isoformat()}.csv"
        box.add(
            path,
            max(day, days.FIRST_STATE),
            partial(_material_bytes, text),
        )


def _material_bytes(text: Column) -> bytes:
    header = b"MATERIAL_NO;EAN;DESCRIPTION;PRODUCT_GROUP;LIST_PRICE;CURRENCY;CHANGED_ON\r\n"
    return header + lines(text, "\r\n")


def _abbreviated(name: str) -> str:
    short = {
        "WIRELESS CONTROLLER": "WL CTRL",
        "EDITION": "ED",
        "ANNIVERSARY": "ANNIV",
        "BUNDLE": "BDL",
        "EXTENDED": "EXT",
    }
    text = name.upper()
    for word, abbreviation in short.items():
        text = text.replace(word, abbreviation)
    return text


def _orders(world: World, country: Ints) -> tuple[_Orders, dict[str, Bools]]:
    draw, plan = world.draws, world.arrivals("erp.orders", 50_000)
    ident = np.arange(plan.count(world.day)) + 1
    day = days.day_of(plan.seconds(ident - 1))
    known = world.arrivals("erp.customers", 12_000, before=0.4).known(day)
    customer = (draw.unit("erp.order.customer", ident) ** 1.3 * known).astype(np.int64)
    kind = world.spoiler.kinds(
        "erp.orders",
        ident,
        {
            "missing": 0.18,
            "mistyped": 0.2,
            "orphaned": 0.15,
            "skewed_clock": 0.12,
            "inconsistent": 0.12,
            "late": 0.11,
            "duplicated": 0.12,
        },
    )
    delivered = day + np.where(kind["late"], 2 + draw.below("erp.late", ident, 4), 0)
    file = _file_of(delivered)
    version_day, resent = _version(world, file)
    mended = resent & draw.chance("erp.mended", ident, 0.5)
    for name in ("missing", "mistyped", "orphaned", "skewed_clock", "inconsistent"):
        kind[name] = kind[name] & ~mended
    home = np.array([money.INDEX.get(code, 0) for code in geography.CURRENCY])
    return _Orders(
        ident,
        day,
        customer,
        country[customer],
        home[country[customer]],
        draw.chance("erp.cancelled", ident, 0.04),
        delivered,
        file,
        version_day,
        resent,
    ), kind


def _may_be_cancelled(orders: _Orders) -> Bools:
    """An order is only known to be cancelled in a file sent at least a day after it."""
    return orders.version_day - orders.day >= 1


def _priced(world: World, orders: _Orders, items: Lines) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    draw = world.draws
    product = world.pick_product("erp.product", items.id)
    quantity = 1 + draw.weighted("erp.quantity", items.id, [0.7, 0.18, 0.07, 0.03, 0.02])
    price = money.local_price(
        world.prices.us_cents(product, orders.day[items.order]), orders.currency[items.order]
    )
    discount = np.array([0, 50, 75, 100, 125, 200])[
        draw.weighted("erp.discount", items.id, [0.8, 0.06, 0.05, 0.04, 0.03, 0.02])
    ]
    net = (2 * quantity * price * (1000 - discount) + 1000) // 2000
    # What a correction mends: some nets are a unit too high in the first version of a file.
    early = (orders.file >= _JUNE) & ~orders.resent
    wrong = early[items.order] & draw.chance("erp.corrected", items.id, 0.02)
    return product, quantity, price, discount, np.where(wrong, net + 100, net)


def _order_file(
    world: World,
    box: Outbox,
    orders: _Orders,
    kind: dict[str, Bools],
    totals: Ints,
    customer_valid: Bools,
) -> Bools:
    age = orders.version_day - orders.day
    status = np.where(age >= 12, 2, np.where(age >= 2, 1, 0))
    status = np.where(orders.cancelled & (age >= 1), 3, status)
    key, seen = number(orders.id + 45_000_000), orders.delivered <= world.day
    customer = join("E", number(orders.customer + 1, 7))
    stated = join(
        "E",
        number(np.where(kind["orphaned"], _UNKNOWN + orders.id % 1_000, orders.customer + 1), 7),
    )
    total = cents(np.where(kind["inconsistent"], totals + 1_000, totals), ",")
    date = _date(orders.day)
    text = join(
        key,
        when(kind["missing"], "", stated),
        when(kind["skewed_clock"], "24.01.2099", when(kind["mistyped"], "31.02.2026", date)),
        pick(money.CURRENCIES, orders.currency),
        pick(geography.ALPHA3, orders.country),
        pick(["A", "B", "C", "X"], status),
        total,
        sep=";",
    )
    drifted = world.settings.defects > 0
    channel = pick(["WEB", "PHONE", "FIELD"], world.draws.below("erp.channel", orders.id, 3))
    wide = join(text, ";", channel)
    header = "ORDER_NO;CUSTOMER_NO;ORDER_DATE;CURRENCY;COUNTRY;STATUS;TOTAL_NET"

    def layout(first: int) -> tuple[str, Column]:
        return (
            (f"{header};SALES_CHANNEL", wide)
            if drifted and first >= _DRIFT_FROM
            else (header, text)
        )

    _files(world, box, "orders", orders.file, orders.version_day, seen, kind["duplicated"], layout)
    if drifted:
        wider = np.unique(orders.file[seen & (orders.file >= _DRIFT_FROM)])[:1]
        names = pa.array([_name("orders", first) for first in wider.tolist()], type=pa.string())
        world.log.add("erp.orders", names, "drifted_schema", "SALES_CHANNEL", origin=names)
    own = ~kind["missing"] & ~kind["mistyped"] & ~kind["orphaned"] & ~kind["skewed_clock"]
    for name, column, good in (
        ("missing", "CUSTOMER_NO", customer),
        ("orphaned", "CUSTOMER_NO", customer),
        ("mistyped", "ORDER_DATE", date),
        ("skewed_clock", "ORDER_DATE", date),
        ("inconsistent", "TOTAL_NET", number(totals)),
        ("late", None, None),
        ("duplicated", None, None),
    ):
        _note(world, "orders", key, orders.file, kind[name] & seen, name, column, good)
    _note(
        world,
        "orders",
        key,
        orders.file,
        own & seen & ~customer_valid[orders.customer],
        "unresolvable",
        "CUSTOMER_NO",
        None,
        copies=kind["duplicated"],
    )
    return own & seen & customer_valid[orders.customer]


def _note(
    world: World,
    table: str,
    key: Column,
    file: Ints,
    mask: Bools,
    defect: str,
    column: str | None,
    good: Column | None,
    copies: Bools | None = None,
) -> None:
    rows = np.flatnonzero(mask)
    if copies is not None:
        rows = np.repeat(rows, 1 + copies[rows])
    at = pa.array(rows)
    origin = pa.array([_name(table, first) for first in file[rows]], type=pa.string())
    world.log.add(
        f"erp.{table}",
        key.take(at),
        defect,
        column,
        good=None if good is None else good.take(at),
        origin=origin,
    )


def _files(
    world: World,
    box: Outbox,
    table: str,
    file: Ints,
    version_day: Ints,
    seen: Bools,
    twice: Bools,
    layout: Callable[[int], tuple[str, Column]],
    cut: str | None = None,
) -> None:
    """Adds one file per delivery; `cut` names a file whose last line is broken off."""
    rows = np.flatnonzero(seen)
    rows = rows[np.argsort(file[rows], kind="stable")]
    firsts, begins = np.unique(file[rows], return_index=True)
    ends = np.append(begins[1:], len(rows))
    for first, begin, end in zip(firsts.tolist(), begins.tolist(), ends.tolist(), strict=True):
        path = _name(table, first)
        mine = rows[begin:end]

        def make(mine: Ints = mine, first: int = first, path: str = path) -> bytes:
            header, text = layout(first)
            chosen = text.take(pa.array(np.repeat(mine, 1 + twice[mine])))
            body = header.encode() + b"\r\n" + lines(chosen, "\r\n")
            if path == cut:
                start = body.rstrip(b"\r\n").rfind(b"\n") + 1
                body = body[:start] + b";".join(body[start:].split(b";")[:3])
            return _encode(body, first)

        box.add(path, _delivered(world, table, first, int(version_day[mine[0]])), make)


def _delivered(world: World, table: str, first: int, version_day: int) -> int:
    """Returns the day a file was last sent; one that was cut comes again, whole, the day after."""
    cut_on = max(first, days.FIRST_STATE) if first >= _JUNE else -1
    if table == "order_lines" and _cuts(world, cut_on):
        return min(max(version_day, cut_on + 1), world.day)
    return version_day


def _cuts(world: World, day: int) -> bool:
    return (
        world.settings.defects > 0
        and day >= days.FIRST_STATE
        and (day - days.FIRST_STATE) % 10 == 0
    )


def cut_file(world: World) -> int | None:
    """Returns which order_lines file is cut on this day (its first day), if one is."""
    return int(_file_of(np.array([world.day]))[0]) if _cuts(world, world.day) else None


def _line_file(
    world: World,
    box: Outbox,
    orders: _Orders,
    items: Lines,
    values: tuple[Ints, Ints, Ints, Ints, Ints],
    order_valid: Bools,
    order_seen: Bools,
) -> Bools:
    product, quantity, price, discount, net = values
    order, seen, file = items.order, order_seen[items.order], orders.file[items.order]
    kind = _line_kinds(world, orders, items)
    wild_quantity, wild_price = outlying(
        world.draws, "erp.wild", items.id, kind["outlying"], price, PRICE_LIMIT
    )
    mistyped_net = kind["mistyped"] & (items.id % 2 == 0)
    mistyped_quantity = kind["mistyped"] & ~mistyped_net
    key = join(number(orders.id[order] + 45_000_000), "|", number(items.number))
    material = pick(world.catalogue.material, product)
    no = np.where(kind["orphaned"], _UNKNOWN, 0) + orders.id[order] + 45_000_000
    text = join(
        number(no),
        number(items.number),
        when(kind["missing"], "", material),
        when(mistyped_quantity, "zwei", number(np.where(wild_quantity, quantity * 1000, quantity))),
        cents(np.where(wild_price, price * 1000, price), ","),
        _tenths(discount),
        when(mistyped_net, "n/a", cents(net, ",")),
        sep=";",
    )

    def layout(first: int) -> tuple[str, Column]:
        price_name = "NET_PRICE" if first >= _RENAMED[1] else "UNIT_PRICE"
        return f"ORDER_NO;LINE_NO;MATERIAL_NO;QUANTITY;{price_name};DISCOUNT_PCT;LINE_NET", text

    broken = cut_file(world)
    last = (
        np.flatnonzero(seen & (file == broken))
        if broken is not None
        else np.zeros(0, dtype=np.int64)
    )
    cut = _name("order_lines", broken) if broken is not None and len(last) else None
    lost = np.zeros(len(order), dtype=bool)
    if cut:
        lost[last[-1]] = True
        kind = {name: mask & ~lost for name, mask in kind.items()}
        _note(world, "order_lines", key, file, lost, "truncated", None, None)
    _files(
        world,
        box,
        "order_lines",
        file,
        orders.version_day[order],
        seen,
        kind["duplicated"],
        layout,
        cut,
    )
    own = (
        ~kind["missing"] & ~kind["mistyped"] & ~kind["outlying"] & ~kind["orphaned"] & seen & ~lost
    )
    wrong_key = join(number(no), "|", number(items.number))
    for name, mask, column, good in (
        ("missing", kind["missing"], "MATERIAL_NO", material),
        ("mistyped", mistyped_net, "LINE_NET", number(net)),
        ("mistyped", mistyped_quantity, "QUANTITY", number(quantity)),
        ("outlying", wild_quantity, "QUANTITY", number(quantity)),
        ("outlying", wild_price, "NET_PRICE", number(price)),
        ("orphaned", kind["orphaned"], "ORDER_NO", key),
        ("duplicated", kind["duplicated"], None, None),
    ):
        _note(world, "order_lines", wrong_key, file, mask & seen & ~lost, name, column, good)
    _note(
        world,
        "order_lines",
        key,
        file,
        own & ~order_valid[order],
        "unresolvable",
        "ORDER_NO",
        None,
        copies=kind["duplicated"],
    )
    return own & order_valid[order]


def _line_kinds(world: World, orders: _Orders, items: Lines) -> dict[str, Bools]:
    kind = world.spoiler.kinds(
        "erp.order_lines",
        items.id,
        {"missing": 0.2, "mistyped": 0.25, "outlying": 0.25, "orphaned": 0.15, "duplicated": 0.15},
    )
    mended = orders.resent[items.order] & world.draws.chance("erp.mended.line", items.id, 0.5)
    return {name: mask & ~mended if name != "duplicated" else mask for name, mask in kind.items()}


def _tenths(values: Ints) -> Column:
    whole, rest = np.divmod(values, 10)
    return when(rest == 0, number(whole), join(number(whole), ",", number(rest)))


_REASONS = [
    "Beschädigt",
    "Falscher Artikel",
    "Produit défectueux",
    "Rückgabe",
    "Late delivery",
    "Trop cher",
]


def _credit_notes(
    world: World,
    box: Outbox,
    orders: _Orders,
    items: Lines,
    net: Ints,
    order_valid: Bools,
    order_seen: Bools,
) -> Refunds:
    draw = world.draws
    credited = draw.chance("erp.credited", orders.id, 0.06) & ~orders.cancelled & order_seen
    day = orders.day + 7 + draw.below("erp.credit.day", orders.id, 28)
    at = np.flatnonzero(credited & (day <= world.day))
    ident, when_day, first_line = orders.id[at], day[at], items.starts[at]
    amount = net[first_line]
    kind = world.spoiler.kinds("erp.credit_notes", ident, {"missing": 0.5, "mistyped": 0.5})
    key, file = join("GS", number(ident, 7)), _file_of(when_day)
    text = join(
        key,
        number(ident + 45_000_000),
        "1",
        when(kind["missing"], "", cents(amount, ",")),
        pick(money.CURRENCIES, orders.currency[at]),
        when(kind["mistyped"], "00.13.2026", _date(when_day)),
        quoted(pick(_REASONS, draw.below("erp.why", ident, len(_REASONS)))),
        sep=";",
    )
    header = "CREDIT_NO;ORDER_NO;LINE_NO;AMOUNT;CURRENCY;CREDIT_DATE;REASON"
    delivered = np.where(file > days.FIRST_STATE, file, days.FIRST_STATE)
    everywhere = np.ones(len(at), dtype=bool)
    _files(
        world,
        box,
        "credit_notes",
        file,
        delivered,
        everywhere,
        ~everywhere,
        lambda first: (header, text),
    )
    for name, column, good in (
        ("missing", "AMOUNT", number(amount)),
        ("mistyped", "CREDIT_DATE", _date(when_day)),
    ):
        _note(world, "credit_notes", key, file, kind[name], name, column, good)
    own = ~kind["missing"] & ~kind["mistyped"]
    _note(
        world, "credit_notes", key, file, own & ~order_valid[at], "unresolvable", "ORDER_NO", None
    )
    good_row = own & order_valid[at]
    return Refunds("EMEA", when_day[good_row], orders.currency[at][good_row], amount[good_row])
