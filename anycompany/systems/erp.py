"""The ERP of EMEA: CSV files as a German exporter writes them.

customers, orders, lines, credit notes ─> rows per delivery day ─> monthly files (history), nightly
files (since), re-sent corrections

`;`, decimal comma, dd.mm.yyyy, CRLF; UTF-8 up to 2025-12, cp1252 from then on; a column renamed in
2025-10. It leaves out any technical timestamp but CHANGED_ON, as such exports do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from anycompany import days, geography, money, products
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Ints
from anycompany.names import ascii_name
from anycompany.people import Traits
from anycompany.systems.common import (
    HOUR,
    Goods,
    Lines,
    Persons,
    Refunds,
    Sales,
    lines_of,
    outlying,
)
from anycompany.systems.files import Outbox, month_of
from anycompany.systems.shop import street
from anycompany.text import Column, cents, join, lines, number, or_empty, pick, quoted, when
from anycompany.world import World, person_of_erp

COUNTRIES = ["DE", "FR", "GB", "CH", "PL", "SE", "ES", "IT", "NL", "AE", "ZA"]
PRICE_LIMIT = 15_000_00
DUMPS = [180, 364, days.FIRST_STATE]
_RENAMED_FROM = 273
_CP1252_FROM = 365
_DRIFT_FROM = 455
_JUNE = month_of(days.FIRST_STATE)
_JUNE_RESENT = days.FIRST_STATE + 3
_UNKNOWN = 9_000_000
_FIRST_ORDER = 45_000_000
_CUSTOMER_DEFECTS = {
    "missing": 0.25,
    "mistyped": 0.25,
    "wrong_encoding": 0.2,
    "outdated": 0.15,
    "duplicated": 0.15,
}
_ORDER_DEFECTS = {
    "missing": 0.18,
    "mistyped": 0.2,
    "orphaned": 0.15,
    "skewed_clock": 0.12,
    "inconsistent": 0.12,
    "late": 0.11,
    "duplicated": 0.12,
}
_LINE_DEFECTS = {
    "missing": 0.2,
    "mistyped": 0.25,
    "outlying": 0.25,
    "orphaned": 0.15,
    "duplicated": 0.15,
}
_DATES = days.texts("%d.%m.%Y", -1100, days.LAST + 400)
_SHIFT = 1100


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
    seen: Bools
    file: Ints
    version_day: Ints
    resent: Bools


def build(world: World) -> Erp:
    """Builds the ERP's files, notes their defects, and keeps what the truth needs."""
    box = Outbox()
    customers, persons = _customers(world, box)
    _materials(world, box)
    orders, kinds = _orders(world, customers.country)
    goods = _goods(world, orders)
    valid = _order_file(world, box, orders, kinds, goods.totals, customers.valid)
    line_valid = _line_file(world, box, orders, goods, valid)
    refunds = _credit_notes(world, box, orders, goods, valid)
    # An order is only known to be cancelled in a file sent at least a day after it.
    cancelled = orders.cancelled & (orders.version_day - orders.day >= 1)
    counts = line_valid & ~cancelled[goods.lines.order]
    at = goods.lines.order[counts]
    sales = Sales(
        region="EMEA",
        order=orders.id[at],
        day=orders.day[at],
        country=orders.country[at],
        countries=geography.CODES,
        product=goods.product[counts],
        currency=orders.currency[at],
        net=goods.net[counts],
    )
    second = days.start_of(orders.day) + 12 * HOUR
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


@dataclass
class _Customers:
    """Customers as every dump tells them; `valid` grows with each dump that has a good row."""

    index: Ints
    country: Ints
    created: Ints
    changed: Ints
    moves: Bools
    can_mangle: Bools
    text: dict[str, Column]
    valid: Bools

    def touched(self, day: int) -> Ints:
        """Returns the day of each customer's last change up to a day."""
        return np.where(self.moves & (self.changed <= day), self.changed, self.created)


def _customers(world: World, box: Outbox) -> tuple[_Customers, Persons]:
    draw, plan = world.draws, world.arrivals("erp.customers", 12_000, before=0.4)
    index = np.arange(plan.count(world.day))
    pid = person_of_erp(draw, index)
    traits = world.people.traits(pid)
    own = np.array([geography.INDEX[code] for code in COUNTRIES])
    abroad = ~np.isin(traits.country, own)
    country = np.where(abroad, own[draw.below("erp.abroad", index, 4)], traits.country)
    created = days.day_of(plan.seconds(index))
    customers = _Customers(
        index=index,
        country=country,
        created=created,
        changed=np.maximum(created, 0) + 1 + draw.below("erp.moves_on", index, 500),
        moves=draw.chance("erp.changes", index, 0.25),
        can_mangle=np.zeros(len(index), dtype=bool),
        text={},
        valid=np.zeros(len(index), dtype=bool),
    )
    _tell(world, customers, traits, abroad)
    for day in _dump_days(world):
        _dump(world, box, customers, day)
    valid = customers.valid
    key = customers.text["key"].filter(pa.array(valid))
    return customers, Persons("erp", "customers", pid[valid], key)


def _tell(world: World, customers: _Customers, traits: Traits, abroad: Bools) -> None:
    """Fills in what the ERP knows of each customer as text."""
    pid, country = traits.pid, customers.country
    place = np.where(abroad, world.people.place_in(country, pid, "erp"), traits.place)
    record = world.people.record(traits, "erp", country)
    given = _cp1252(record.given)
    home = np.where((pid >> 2) % 50 == 1, pid - 4, pid)
    customers.can_mangle = record.can_mangle
    customers.text = {
        "key": join("E", number(customers.index + 1, 7)),
        "name": join(_cp1252(record.family), ", ", given),
        "mangled": join(record.mangled_family, ", ", given),
        "email": or_empty(record.email),
        "phone": or_empty(record.phone),
        "street": street(world, home),
        "postal": pick(geography.PLACES.postal_code, place),
        "city": _cp1252(pick(geography.PLACES.town, place)),
        "country": pick(geography.ALPHA3, country),
        "birth": when(record.has_birth, pick(_BIRTHS, record.birth - _FIRST_BIRTH), ""),
    }


def _dump_days(world: World) -> list[int]:
    history = [day for day in DUMPS if day <= world.day]
    return history + list(range(days.FIRST_STATE + 1, world.day + 1))


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


def _dump(world: World, box: Outbox, customers: _Customers, day: int) -> None:
    """Adds the whole dump of a day."""
    size = int(np.searchsorted(customers.created, day, side="right"))
    rows = {name: column.slice(0, size) for name, column in customers.text.items()}
    made, touched = customers.created[:size], customers.touched(day)[:size]
    path = f"customers/customers_{days.date_of(day).isoformat()}.csv"
    ids = customers.index[:size] * 2_000 + day
    kind = world.spoiler.kinds("erp.customers", ids, _CUSTOMER_DEFECTS)
    kind["wrong_encoding"] &= customers.can_mangle[:size]
    kind["outdated"] &= touched > made
    version = days.start_of(np.where(kind["outdated"], made, touched))
    everything = np.ones(size, dtype=bool)
    spoilt = Spoilt(
        world.log,
        "erp.customers",
        rows["key"],
        kind,
        everything,
        version_at=version,
        origin=lambda found: pick([path], found * 0),
    )
    spoilt.note("missing", "NAME1", rows["name"])
    spoilt.note("wrong_encoding", "NAME1", rows["name"])
    spoilt.note("mistyped", "CREATED_ON", _date(made))
    spoilt.note("outdated")
    spoilt.note("duplicated")
    customers.valid[:size] |= spoilt.chain(everything, "CUSTOMER_NO")
    delivered = max(day, days.FIRST_STATE)
    box.add(path, delivered, lambda: _dump_bytes(rows, made, touched, kind, day))


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
    key = pa.array(goods.material)
    world.log.add("erp.materials", key.filter(pa.array(spoilt)), "inconsistent", "LIST_PRICE")
    euro = np.full(products.COUNT, money.INDEX["EUR"])
    for day in _dump_days(world):
        at = np.full(products.COUNT, day)
        price = money.local_price(world.prices.us_cents(index, at), euro)
        text = join(
            key,
            pa.array(stated),
            quoted(pa.array([_abbreviated(name) for name in goods.name])),
            pick(products.ERP_GROUPS, goods.category),
            cents(np.where(spoilt, price * 6 // 5, price), ","),
            "EUR",
            _date(np.maximum(world.prices.changed_on(index, at), -300)),
            sep=";",
        )
        path = f"materials/materials_{days.date_of(day).isoformat()}.csv"
        box.add(path, max(day, days.FIRST_STATE), partial(_material_bytes, text))


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
    kind = world.spoiler.kinds("erp.orders", ident, _ORDER_DEFECTS)
    delivered = day + np.where(kind["late"], 2 + draw.below("erp.late", ident, 4), 0)
    file = _file_of(delivered)
    version_day, resent = _version(world, file)
    mended = resent & draw.chance("erp.mended", ident, 0.5)
    for name in ("missing", "mistyped", "orphaned", "skewed_clock", "inconsistent"):
        kind[name] &= ~mended
    home = np.array([money.INDEX.get(code, 0) for code in geography.CURRENCY])
    orders = _Orders(
        id=ident,
        day=day,
        customer=customer,
        country=country[customer],
        currency=home[country[customer]],
        cancelled=draw.chance("erp.cancelled", ident, 0.04),
        seen=delivered <= world.day,
        file=file,
        version_day=version_day,
        resent=resent,
    )
    return orders, kind


def _goods(world: World, orders: _Orders) -> Goods:
    draw, items = world.draws, lines_of(world.draws, "erp.lines", orders.id)
    product = world.pick_product("erp.product", items.id)
    quantity = 1 + draw.weighted("erp.quantity", items.id, [0.7, 0.18, 0.07, 0.03, 0.02])
    list_price = world.prices.us_cents(product, orders.day[items.order])
    price = money.local_price(list_price, orders.currency[items.order])
    step = draw.weighted("erp.discount", items.id, [0.8, 0.06, 0.05, 0.04, 0.03, 0.02])
    discount = np.array([0, 50, 75, 100, 125, 200])[step]
    net = _net(quantity, price, discount)
    # What a correction mends: some nets are a unit too high in the first version of a file.
    early = (orders.file >= _JUNE) & ~orders.resent
    wrong = early[items.order] & draw.chance("erp.corrected", items.id, 0.02)
    return Goods(items, product, quantity, price, discount, np.where(wrong, net + 100, net))


def _net(quantity: Ints, price: Ints, discount: Ints) -> Ints:
    """Returns quantity times price less a discount in tenths of a per cent, rounded half up."""
    return (2 * quantity * price * (1000 - discount) + 1000) // 2000


def _order_file(
    world: World,
    box: Outbox,
    orders: _Orders,
    kind: dict[str, Bools],
    totals: Ints,
    customer_valid: Bools,
) -> Bools:
    """Adds the orders' files; returns which orders are delivered and valid."""
    key, customer = number(orders.id + _FIRST_ORDER), join("E", number(orders.customer + 1, 7))
    stranger = join("E", number(_UNKNOWN + orders.id % 1_000, 7))
    date = _date(orders.day)
    stated = when(kind["skewed_clock"], "24.01.2099", when(kind["mistyped"], "31.02.2026", date))
    text = join(
        key,
        when(kind["missing"], "", when(kind["orphaned"], stranger, customer)),
        stated,
        pick(money.CURRENCIES, orders.currency),
        pick(geography.ALPHA3, orders.country),
        pick(["A", "B", "C", "X"], _status(orders)),
        cents(np.where(kind["inconsistent"], totals + 1_000, totals), ","),
        sep=";",
    )
    sheet = _Sheet("orders", orders.file, orders.version_day, orders.seen, kind["duplicated"])
    _files(world, box, sheet, _order_layout(world, orders, sheet, text))
    spoilt = sheet.spoilt(world, key, kind)
    spoilt.note("missing", "CUSTOMER_NO", customer)
    spoilt.note("orphaned", "CUSTOMER_NO", customer)
    spoilt.note("mistyped", "ORDER_DATE", date)
    spoilt.note("skewed_clock", "ORDER_DATE", date)
    spoilt.note("inconsistent", "TOTAL_NET", cents(totals, ","))
    spoilt.note("late")
    spoilt.note("duplicated")
    return spoilt.chain(customer_valid[orders.customer], "CUSTOMER_NO")


def _status(orders: _Orders) -> Ints:
    """Returns the status (index) that each order has when its file is sent."""
    age = orders.version_day - orders.day
    status = np.where(age >= 12, 2, np.where(age >= 2, 1, 0))
    return np.where(orders.cancelled & (age >= 1), 3, status)


def _order_layout(world: World, orders: _Orders, sheet: _Sheet, text: Column) -> Layout:
    """Returns header and rows by file: a column more from some month on, unless data is clean."""
    header = "ORDER_NO;CUSTOMER_NO;ORDER_DATE;CURRENCY;COUNTRY;STATUS;TOTAL_NET"
    if world.settings.defects <= 0:
        return lambda first: (header, text)
    channel = pick(["WEB", "PHONE", "FIELD"], world.draws.below("erp.channel", orders.id, 3))
    wide = join(text, ";", channel)
    wider = np.unique(orders.file[orders.seen & (orders.file >= _DRIFT_FROM)])[:1]
    names = sheet.names(wider)
    world.log.add("erp.orders", names, "drifted_schema", "SALES_CHANNEL", origin=names)
    return lambda first: (
        (f"{header};SALES_CHANNEL", wide) if first >= _DRIFT_FROM else (header, text)
    )


Layout = Callable[[int], tuple[str, Column]]


@dataclass(frozen=True)
class _Sheet:
    """Rows of one table and the files they go to.

    Attributes:
        table: Folder and stem of the files.
        file: First day of each row's file.
        version_day: Day on which that file was last sent.
        seen: Whether the row has been delivered.
        twice: Whether it stands there twice.
        cut: First day of the file whose last line is broken off, if one is.
    """

    table: str
    file: Ints
    version_day: Ints
    seen: Bools
    twice: Bools
    cut: int | None = None

    def names(self, firsts: Ints) -> Column:
        """Returns the names of files given by their first days."""
        return pa.array([_name(self.table, first) for first in firsts.tolist()], type=pa.string())

    def spoilt(self, world: World, key: Column, kind: dict[str, Bools]) -> Spoilt:
        """Returns the defects of the rows, to be noted."""
        return Spoilt(
            world.log,
            f"erp.{self.table}",
            key,
            kind,
            self.seen,
            origin=lambda rows: self.names(self.file[rows]),
            copies=self.twice,
        )


def _files(world: World, box: Outbox, sheet: _Sheet, layout: Layout) -> None:
    """Adds one file per delivery."""
    rows = np.flatnonzero(sheet.seen)
    rows = rows[np.argsort(sheet.file[rows], kind="stable")]
    firsts, begins = np.unique(sheet.file[rows], return_index=True)
    ends = np.append(begins[1:], len(rows))
    for first, begin, end in zip(firsts.tolist(), begins.tolist(), ends.tolist(), strict=True):
        mine = rows[begin:end]
        delivered = _delivered(world, sheet.table, first, int(sheet.version_day[mine[0]]))
        make = partial(_csv, layout, np.repeat(mine, 1 + sheet.twice[mine]), first)
        box.add(_name(sheet.table, first), delivered, partial(make, first == sheet.cut))


def _csv(layout: Layout, rows: Ints, first: int, is_cut: bool) -> bytes:
    header, text = layout(first)
    body = header.encode() + b"\r\n" + lines(text.take(pa.array(rows)), "\r\n")
    if is_cut:
        start = body.rstrip(b"\r\n").rfind(b"\n") + 1
        body = body[:start] + b";".join(body[start:].split(b";")[:3])
    return _encode(body, first)


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


def _cut_line(world: World, file: Ints, seen: Bools) -> tuple[int | None, Bools]:
    """Returns which file of order lines is cut today, if one is, and the line that it loses."""
    lost = np.zeros(len(file), dtype=bool)
    if not _cuts(world, world.day):
        return None, lost
    first = int(_file_of(np.array([world.day]))[0])
    last = np.flatnonzero(seen & (file == first))[-1:]
    lost[last] = True
    return (first, lost) if len(last) else (None, lost)


def _line_file(
    world: World, box: Outbox, orders: _Orders, goods: Goods, order_valid: Bools
) -> Bools:
    """Adds the order lines' files; returns which lines are delivered and valid."""
    items, order = goods.lines, goods.lines.order
    kind = _line_kinds(world, orders, items)
    wild_quantity, wild_price = outlying(
        world.draws, "erp.wild", items.id, kind["outlying"], goods.price, PRICE_LIMIT
    )
    wrong_net = kind["mistyped"] & (items.id % 2 == 0)
    wrong_quantity = kind["mistyped"] & ~wrong_net
    order_no = np.where(kind["orphaned"], _UNKNOWN, 0) + orders.id[order] + _FIRST_ORDER
    material, net = pick(world.catalogue.material, goods.product), cents(goods.net, ",")
    quantity = number(np.where(wild_quantity, goods.quantity * 1000, goods.quantity))
    price = np.where(wild_price, goods.price * 1000, goods.price)
    text = join(
        number(order_no),
        number(items.number),
        when(kind["missing"], "", material),
        when(wrong_quantity, "zwei", quantity),
        cents(price, ","),
        _tenths(goods.discount),
        when(wrong_net, "n/a", net),
        sep=";",
    )
    file, seen = orders.file[order], orders.seen[order]
    cut, lost = _cut_line(world, file, seen)
    version_day = orders.version_day[order]
    sheet = _Sheet("order_lines", file, version_day, seen, kind["duplicated"] & ~lost, cut)
    _files(world, box, sheet, lambda first: (_line_header(first), text))
    key = join(number(order_no), "|", number(items.number))
    spoilt = replace(sheet, seen=seen & ~lost).spoilt(world, key, kind)
    sheet.spoilt(world, key, {"truncated": lost}).note("truncated")
    spoilt.note("missing", "MATERIAL_NO", material)
    spoilt.note("mistyped", "LINE_NET", net, wrong_net)
    spoilt.note("mistyped", "QUANTITY", number(goods.quantity), wrong_quantity)
    spoilt.note("outlying", "QUANTITY", number(goods.quantity), wild_quantity)
    spoilt.note("outlying", "NET_PRICE", cents(goods.price, ","), wild_price)
    spoilt.note("orphaned", "ORDER_NO", number(orders.id[order] + _FIRST_ORDER))
    spoilt.note("duplicated")
    return spoilt.chain(order_valid[order], "ORDER_NO")


def _line_header(first: int) -> str:
    price = "NET_PRICE" if first >= _RENAMED_FROM else "UNIT_PRICE"
    return f"ORDER_NO;LINE_NO;MATERIAL_NO;QUANTITY;{price};DISCOUNT_PCT;LINE_NET"


def _line_kinds(world: World, orders: _Orders, items: Lines) -> dict[str, Bools]:
    kind = world.spoiler.kinds("erp.order_lines", items.id, _LINE_DEFECTS)
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
    world: World, box: Outbox, orders: _Orders, goods: Goods, order_valid: Bools
) -> Refunds:
    draw, items = world.draws, goods.lines
    credited = draw.chance("erp.credited", orders.id, 0.06) & ~orders.cancelled & orders.seen
    day = orders.day + 7 + draw.below("erp.credit.day", orders.id, 28)
    at = np.flatnonzero(credited & (day <= world.day))
    ident, day, line = orders.id[at], day[at], items.starts[at]
    # The first line is credited, at its right value: the books know it before the export does.
    amount = _net(goods.quantity[line], goods.price[line], goods.discount[line])
    kind = world.spoiler.kinds("erp.credit_notes", ident, {"missing": 0.5, "mistyped": 0.5})
    key, file = join("GS", number(ident, 7)), _file_of(day)
    text = join(
        key,
        number(ident + _FIRST_ORDER),
        "1",
        when(kind["missing"], "", cents(amount, ",")),
        pick(money.CURRENCIES, orders.currency[at]),
        when(kind["mistyped"], "00.13.2026", _date(day)),
        quoted(pick(_REASONS, draw.below("erp.why", ident, len(_REASONS)))),
        sep=";",
    )
    header = "CREDIT_NO;ORDER_NO;LINE_NO;AMOUNT;CURRENCY;CREDIT_DATE;REASON"
    everything = np.ones(len(at), dtype=bool)
    delivered = np.maximum(file, days.FIRST_STATE)
    sheet = _Sheet("credit_notes", file, delivered, everything, ~everything)
    _files(world, box, sheet, lambda first: (header, text))
    spoilt = sheet.spoilt(world, key, kind)
    spoilt.note("missing", "AMOUNT", cents(amount, ","))
    spoilt.note("mistyped", "CREDIT_DATE", _date(day))
    good = spoilt.chain(order_valid[at], "ORDER_NO")
    return Refunds("EMEA", day[good], orders.currency[at][good], amount[good])
