"""The shop of North America: a PostgreSQL database.

customers, orders and their lives ─> rows as they are at the end of a day ─> COPY (first) or upsert
and delete (later)

Rows are updated in place; orders that stay pending and customers without orders are deleted for
good. It leaves out constraints between tables, because the database of a real shop has lost them
long ago.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import days, geography, money, products
from anycompany.defects import Spoilt
from anycompany.draws import Bools, Ints
from anycompany.systems.common import (
    DAY,
    NEVER,
    SKEWED_SECONDS,
    Goods,
    Lines,
    Persons,
    Refunds,
    Sales,
    lines_of,
    outlying,
    until,
)
from anycompany.text import cents, decimals, iso_utc, join, number, pick, when
from anycompany.world import World, person_of_shop

COUNTRIES = ["US", "CA", "MX"]
STATUSES = ["pending", "paid", "shipped", "delivered", "cancelled", "returned"]
PRICE_LIMIT = 25_000_00
_UNKNOWN = 800_000_000
_CANCELLED, _ABANDONED, _RETURNED = 0, 1, 2
_ORDER_DEFECTS = {
    "missing": 0.16,
    "mistyped": 0.16,
    "orphaned": 0.16,
    "skewed_clock": 0.16,
    "inconsistent": 0.14,
    "late": 0.12,
    "personal_data": 0.1,
}
_NOTES = ["Please ring the bell.", "Leave at the back door.", "Gift, no invoice please.", None]
_REASONS = ["damaged", "not as described", "changed mind", "arrived late"]

DDL = {
    "customers": (
        "customer_id int primary key, first_name text, last_name text, email text, phone "
        "text, birth_date date, country_code char(2), marketing_consent bool, segment text"
    ),
    "addresses": (
        "address_id int primary key, customer_id int, kind text, street text, city text, "
        "postal_code text, state text, country_code char(2)"
    ),
    "products": (
        "product_id int primary key, sku text, ean text, product_name text, category text, "
        "list_price numeric(12,2), currency char(3), is_active bool"
    ),
    "orders": (
        "order_id bigint primary key, order_number text, customer_id int, status text, "
        "currency char(3), country_code char(2), ordered_at timestamptz, total_amount "
        "numeric(12,2), notes text"
    ),
    "order_items": (
        "order_item_id bigint primary key, order_id bigint, line_number int, product_id int, "
        "quantity int, unit_price numeric(12,2), discount_amount numeric(12,2), net_amount "
        "numeric(12,2)"
    ),
    "payments": (
        "payment_id bigint primary key, order_id bigint, method text, status text, amount "
        "numeric(12,2), currency char(3), paid_at timestamptz"
    ),
    "refunds": (
        "refund_id bigint primary key, order_id bigint, order_item_id bigint, amount "
        "numeric(12,2), currency char(3), reason text, refunded_at timestamptz"
    ),
}


@dataclass(frozen=True)
class Rows:
    """Rows of one table at the end of the day.

    Attributes:
        table: As in the database, created_at and updated_at last.
        visible: Epoch second from which each row can be seen.
        updated: Epoch second of its last change.
    """

    table: pa.Table
    visible: Ints
    updated: Ints

    def since(self, second: int) -> pa.Table:
        """Returns the rows that were made or changed from a moment on."""
        return self.table.filter(pa.array((self.visible >= second) | (self.updated >= second)))


@dataclass(frozen=True)
class Shop:
    """The shop at the end of a day.

    Attributes:
        rows: Table name -> rows.
        deleted: Table name -> (ids of deleted rows, when).
        orders: For each customer and moment, the order placed last; see `last_order`.
        sales, refunds, persons: For the truth.
    """

    rows: dict[str, Rows]
    deleted: dict[str, tuple[Ints, Ints]]
    order_customer: Ints
    order_second: Ints
    sales: Sales
    refunds: Refunds
    persons: Persons


@dataclass(frozen=True)
class _Customers:
    index: Ints
    created: Ints
    updated: Ints
    consents: Bools
    is_test: Bools
    deleted_at: Ints
    country: Ints
    valid: Bools


@dataclass(frozen=True)
class _Seen:
    """Of each order: whether it is valid, whether it is in the database, and since when."""

    valid: Bools
    present: Bools
    visible: Ints


@dataclass(frozen=True)
class _Orders:
    index: Ints
    id: Ints
    customer: Ints
    placed: Ints
    day: Ints
    currency: Ints
    path: Ints
    paid: Ints
    shipped: Ints
    delivered: Ints
    closed: Ints
    removed: Ints


def build(world: World) -> Shop:
    """Builds the shop's rows, notes their defects, and keeps what the truth needs."""
    rows: dict[str, Rows] = {}
    customers, persons = _customers(world, rows)
    _addresses(world, rows, customers)
    _products(world, rows)
    orders = _orders(world, customers)
    goods = _goods(world, orders)
    seen = _order_rows(world, rows, customers, orders, goods.totals)
    line_valid = _item_rows(world, rows, orders, goods, seen)
    _stray_items(world, rows, orders)
    _payments(world, rows, orders, goods.totals, seen)
    is_test = customers.is_test[orders.customer]
    refunds = _refunds(world, rows, orders, goods, seen, is_test)
    cancelled = (orders.path == _CANCELLED) & (orders.closed < world.cut)
    counts = line_valid & ~(is_test | cancelled)[goods.lines.order]
    at = goods.lines.order[counts]
    sales = Sales(
        region="NA",
        order=orders.id[at],
        day=orders.day[at],
        country=customers.country[orders.customer[at]],
        countries=geography.CODES,
        product=goods.product[counts],
        currency=orders.currency[at],
        net=goods.net[counts],
    )
    deleted = _deleted(world, customers, orders, goods.lines)
    return Shop(rows, deleted, orders.customer, orders.placed, sales, refunds, persons)


def _stamp(seconds: Ints) -> pa.Array:
    return pa.array(seconds).cast(pa.timestamp("s", "UTC"))


def _keep(
    rows: dict[str, Rows],
    name: str,
    columns: dict[str, Any],
    created: Ints,
    updated: Ints,
    mask: Bools,
    visible: Ints | None = None,
) -> None:
    table = pa.table({**columns, "created_at": _stamp(created), "updated_at": _stamp(updated)})
    seen = created if visible is None else visible
    rows[name] = Rows(table.filter(pa.array(mask)), seen[mask], updated[mask])


def _append(rows: dict[str, Rows], name: str, columns: dict[str, Any], created: Ints) -> None:
    """Adds rows that no rule of the company would have made."""
    old = rows[name]
    table = pa.table({**columns, "created_at": _stamp(created), "updated_at": _stamp(created)})
    whole = pa.concat_tables([old.table, table.cast(old.table.schema)])
    rows[name] = Rows(
        whole, np.concatenate([old.visible, created]), np.concatenate([old.updated, created])
    )


def _customers(world: World, rows: dict[str, Rows]) -> tuple[_Customers, Persons]:
    index = np.arange(world.arrivals("shop.customers", 20_000, before=0.4).count(world.day))
    traits = world.people.traits(person_of_shop(index))
    customers = _accounts(world, traits.country)
    is_test, present = customers.is_test, customers.deleted_at >= world.cut
    record = world.people.record(traits, "shop", traits.country, home=True)
    shares = {"missing": 0.4, "mistyped": 0.3, "wrong_encoding": 0.3}
    kind = world.spoiler.kinds("shop.customers", index, shares)
    kind = {name: mask & ~is_test for name, mask in kind.items()}
    kind["wrong_encoding"] &= record.can_mangle
    key, country = number(index + 1), pick(geography.CODES, traits.country)
    spoilt = Spoilt(world.log, "shop.customers", key, kind, present)
    spoilt.note("missing", "last_name", record.family)
    spoilt.note("mistyped", "country_code", country)
    spoilt.note("wrong_encoding", "last_name", record.family)
    family = when(kind["wrong_encoding"], record.mangled_family, record.family)
    segment = world.draws.weighted("shop.segment", index, [0.85, 0.1, 0.05])
    unborn = pa.scalar(None, pa.date32())
    columns = {
        "customer_id": pa.array((index + 1).astype(np.int32)),
        "first_name": when(is_test, "Test", record.given),
        "last_name": when(kind["missing"], None, when(is_test, "Account", family)),
        "email": when(is_test, join("test", key, "@anycompany.test"), record.email),
        "phone": when(is_test, None, record.phone),
        "birth_date": pc.if_else(
            pa.array(record.has_birth & ~is_test), _date(record.birth), unborn
        ),
        "country_code": when(kind["mistyped"], "ZZ", country),
        "marketing_consent": pa.array(customers.consents),
        "segment": pick(["consumer", "business", "vip"], segment),
    }
    _keep(rows, "customers", columns, customers.created, customers.updated, present)
    valid = spoilt.chain(present, "customer_id")
    person = valid & ~is_test
    persons = Persons("shop", "customers", traits.pid[person], key.filter(pa.array(person)))
    return replace(customers, valid=valid), persons


def _accounts(world: World, country: Ints) -> _Customers:
    """Returns when accounts are made, changed and deleted, and which are for tests."""
    draw, plan = world.draws, world.arrivals("shop.customers", 20_000, before=0.4)
    index = np.arange(len(country))
    created = plan.seconds(index)
    from_start = np.maximum(created, days.start_of(0))
    changed = from_start + until(draw, "shop.consent_at", index, 24, 24 * 900)
    reconsiders = draw.chance("shop.reconsiders", index, 0.4) & (changed < world.cut)
    # Only customers who never order leave.
    leaves = (index % 13 == 12) & draw.chance("shop.leaves", index, 0.3)
    left = from_start + until(draw, "shop.leaves_at", index, 24 * 20, 24 * 900)
    return _Customers(
        index=index,
        created=created,
        updated=np.where(reconsiders, changed, created),
        consents=draw.chance("shop.consent", index, 0.55) ^ reconsiders,
        is_test=index % 500 == 7,
        deleted_at=np.where(leaves, left, NEVER),
        country=country,
        valid=np.ones(len(index), dtype=bool),
    )


def _date(epoch_day: Ints) -> pa.Array:
    return pa.array(epoch_day.astype(np.int32)).cast(pa.date32())


def _addresses(world: World, rows: dict[str, Rows], customers: _Customers) -> None:
    draw = world.draws
    ships = np.flatnonzero(draw.chance("shop.ships_elsewhere", customers.index, 0.2))
    owner = np.concatenate([customers.index, ships])
    is_billing = np.arange(len(owner)) < len(customers.index)
    ident = owner * 2 + np.where(is_billing, 1, 2)
    traits = world.people.traits(person_of_shop(owner))
    elsewhere = world.people.place_in(traits.country, owner, "shop.shipping")
    place = np.where(is_billing, traits.place, elsewhere)
    created, present = customers.created[owner], customers.deleted_at[owner] >= world.cut
    kind = world.spoiler.kinds("shop.addresses", ident, {"missing": 1.0})
    postal = pick(geography.PLACES.postal_code, place)
    spoilt = Spoilt(world.log, "shop.addresses", number(ident), kind, present)
    spoilt.note("missing", "postal_code", postal)
    spoilt.chain(customers.valid[owner], "customer_id")
    house = np.where(is_billing, person_household(owner), owner)
    columns = {
        "address_id": pa.array(ident.astype(np.int32)),
        "customer_id": pa.array((owner + 1).astype(np.int32)),
        "kind": when(is_billing, "billing", "shipping"),
        "street": street(world, house),
        "city": pick(geography.PLACES.town, place),
        "postal_code": when(kind["missing"], None, postal),
        "state": pick(geography.PLACES.state, place),
        "country_code": pick(geography.CODES, traits.country),
    }
    _keep(rows, "addresses", columns, created, created, present)


def person_household(customer: Ints) -> Ints:
    """Returns the customer whose household each customer lives in."""
    return np.where(customer % 50 == 1, customer - 1, customer)


def street(world: World, ids: Ints) -> Any:
    """Returns a street and house number for each id."""
    house = number(1 + world.draws.below("street.number", ids, 240))
    return join(
        house,
        " ",
        pick(geography.STREETS, world.draws.below("street", ids, len(geography.STREETS))),
    )


def _products(world: World, rows: dict[str, Rows]) -> None:
    goods, index = world.catalogue, np.arange(products.COUNT)
    created = days.start_of(-400 + index % 300) + 9 * 3_600
    # Prices change in the morning of their day, so the day's own change is in force at its end.
    changed = (
        days.start_of(world.prices.changed_on(index, np.full(products.COUNT, world.day)))
        + 6 * 3_600
    )
    columns = {
        "product_id": pa.array((index + 1).astype(np.int32)),
        "sku": pa.array(goods.sku),
        "ean": pa.array(goods.ean),
        "product_name": pa.array(goods.name),
        "category": pick(products.CATEGORIES, goods.category),
        "list_price": decimals(
            world.prices.us_cents(index, np.full(products.COUNT, world.day)), 12
        ),
        "currency": pick(["USD"], np.zeros(products.COUNT, dtype=np.int64)),
        "is_active": pa.array(index % 29 != 28),
    }
    _keep(
        rows,
        "products",
        columns,
        created,
        np.maximum(changed, created),
        np.ones(products.COUNT, dtype=bool),
    )


def _orders(world: World, customers: _Customers) -> _Orders:
    draw, plan = world.draws, world.arrivals("shop.orders", 90_000)
    index = np.arange(plan.count(world.day))
    ident, placed = index + 1, plan.seconds(index)
    day = days.day_of(placed)
    known = world.arrivals("shop.customers", 20_000, before=0.4).known(day)
    customer = (draw.unit("shop.order.customer", ident) ** 1.3 * known).astype(np.int64)
    customer -= customer % 13 == 12
    path = draw.weighted("shop.order.path", ident, [0.04, 0.006, 0.03, 0.924])
    lost = (path == _CANCELLED) | (path == _ABANDONED)
    paid = np.where(lost, NEVER, placed + until(draw, "shop.paid", ident, 0.02, 6))
    shipped = np.where(lost, NEVER, paid + until(draw, "shop.shipped", ident, 12, 72))
    delivered = np.where(lost, NEVER, shipped + until(draw, "shop.delivered", ident, 36, 144))
    closed = np.where(
        path == _RETURNED, delivered + until(draw, "shop.returned", ident, 72, 480), NEVER
    )
    closed = np.where(
        path == _CANCELLED, placed + until(draw, "shop.cancelled", ident, 1, 48), closed
    )
    removed = np.where(
        path == _ABANDONED, placed + until(draw, "shop.removed", ident, 120, 290), NEVER
    )
    own = [money.INDEX[geography.CURRENCY[geography.INDEX[code]]] for code in COUNTRIES]
    currency = np.zeros(len(geography.CODES), dtype=np.int64)
    currency[[geography.INDEX[code] for code in COUNTRIES]] = own
    return _Orders(
        index,
        ident,
        customer,
        placed,
        day,
        currency[customers.country[customer]],
        path,
        paid,
        shipped,
        delivered,
        closed,
        removed,
    )


def _goods(world: World, orders: _Orders) -> Goods:
    draw, lines = world.draws, lines_of(world.draws, "shop.lines", orders.id)
    product = world.pick_product("shop.product", lines.id)
    quantity = 1 + draw.weighted("shop.quantity", lines.id, [0.78, 0.15, 0.05, 0.02])
    list_price = world.prices.us_cents(product, orders.day[lines.order])
    price = money.local_price(list_price, orders.currency[lines.order])
    rebate = draw.weighted("shop.discount", lines.id, [0.85, 0.05, 0.05, 0.03, 0.02])
    discount = quantity * price * (rebate * 5) // 100
    return Goods(lines, product, quantity, price, discount, quantity * price - discount)


def _order_rows(
    world: World, rows: dict[str, Rows], customers: _Customers, orders: _Orders, totals: Ints
) -> _Seen:
    ident = orders.id
    kind = world.spoiler.kinds("shop.orders", ident, _ORDER_DEFECTS)
    # A late row must be within the window of its cursor: only rows of the afternoon come late.
    kind["late"] &= orders.placed % DAY >= DAY // 2
    visible = np.where(kind["late"], (orders.placed // DAY + 1) * DAY, orders.placed)
    present = (visible < world.cut) & (orders.removed >= world.cut)
    status, updated = _progress(orders, world.cut)
    currency, says = pick(money.CURRENCIES, orders.currency), pick(STATUSES, status)
    stranger = np.where(kind["orphaned"], _UNKNOWN + ident % 1000, orders.customer + 1)
    skewed = np.where(kind["skewed_clock"], SKEWED_SECONDS + ident, orders.placed)
    columns = {
        "order_id": pa.array(ident),
        "order_number": join("NA-", number(ident, 7)),
        "customer_id": pa.array(stranger.astype(np.int32)),
        "status": when(kind["mistyped"], "shiped", says),
        "currency": when(kind["missing"], None, currency),
        "country_code": pick(geography.CODES, customers.country[orders.customer]),
        "ordered_at": _stamp(skewed),
        "total_amount": decimals(np.where(kind["inconsistent"], totals + 1_000, totals), 12),
        "notes": _notes(world, ident, kind["personal_data"]),
    }
    _keep(rows, "orders", columns, orders.placed, updated, present, visible)
    spoilt = Spoilt(world.log, "shop.orders", number(ident), kind, present)
    spoilt.note("missing", "currency", currency)
    spoilt.note("mistyped", "status", says)
    spoilt.note("orphaned", "customer_id", number(orders.customer + 1))
    spoilt.note("skewed_clock", "ordered_at", iso_utc(orders.placed))
    spoilt.note("inconsistent", "total_amount", cents(totals))
    spoilt.note("late")
    spoilt.note("personal_data", "notes")
    valid = spoilt.chain(customers.valid[orders.customer], "customer_id")
    return _Seen(valid, present, visible)


def _progress(orders: _Orders, cut: int) -> tuple[Ints, Ints]:
    """Returns the status (index) of each order at a moment, and when it came to it."""
    status, updated = np.zeros(len(orders.id), dtype=np.int64), orders.placed.copy()
    ended = np.where(orders.path == _CANCELLED, 4, 5)
    stages = ((orders.paid, 1), (orders.shipped, 2), (orders.delivered, 3), (orders.closed, ended))
    for moment, code in stages:
        happened = moment < cut
        status = np.where(happened, code, status)
        updated = np.where(happened, moment, updated)
    return status, updated


def _notes(world: World, ident: Ints, personal: Bools) -> Any:
    draw = world.draws
    notes = pick(_NOTES, draw.weighted("shop.notes", ident, [0.02, 0.02, 0.02, 0.94]))
    digits = number(1_000 + draw.below("shop.card", ident, 9_000))
    return when(personal, join("Card 4111 1111 1111 ", digits, ", call me."), notes)


def _item_rows(
    world: World, rows: dict[str, Rows], orders: _Orders, goods: Goods, seen: _Seen
) -> Bools:
    lines, order = goods.lines, goods.lines.order
    shares = {"missing": 0.35, "outlying": 0.45, "orphaned": 0.2}
    kind = world.spoiler.kinds("shop.order_items", lines.id, shares)
    wild_quantity, wild_price = outlying(
        world.draws, "shop.wild", lines.id, kind["outlying"], goods.price, PRICE_LIMIT
    )
    product = np.where(kind["orphaned"], _UNKNOWN, goods.product + 1).astype(np.int32)
    quantity = np.where(wild_quantity, goods.quantity * 1000, goods.quantity)
    created = orders.placed[order]
    columns = {
        "order_item_id": pa.array(lines.id),
        "order_id": pa.array(orders.id[order]),
        "line_number": pa.array(lines.number.astype(np.int32)),
        "product_id": pa.array(product, mask=kind["missing"]),
        "quantity": pa.array(quantity.astype(np.int32)),
        "unit_price": decimals(np.where(wild_price, goods.price * 1000, goods.price), 12),
        "discount_amount": decimals(goods.discount, 12),
        "net_amount": decimals(goods.net, 12),
    }
    present = seen.present[order]
    _keep(rows, "order_items", columns, created, created, present, seen.visible[order])
    spoilt = Spoilt(world.log, "shop.order_items", number(lines.id), kind, present)
    spoilt.note("missing", "product_id", number(goods.product + 1))
    spoilt.note("orphaned", "product_id", number(goods.product + 1))
    spoilt.note("outlying", "quantity", number(goods.quantity), wild_quantity)
    spoilt.note("outlying", "unit_price", cents(goods.price), wild_price)
    return spoilt.chain(seen.valid[order], "order_id")


def _stray_items(world: World, rows: dict[str, Rows], orders: _Orders) -> None:
    after = world.spoiler.extra("shop.order_items", len(orders.id), 0.4)
    ident = _UNKNOWN + orders.id[after]
    price = np.full(len(after), 1_999)
    columns = {
        "order_item_id": pa.array(ident),
        "order_id": pa.array(ident),
        "line_number": pa.array(np.ones(len(after), np.int32)),
        "product_id": pa.array((after % products.COUNT + 1).astype(np.int32)),
        "quantity": pa.array(np.ones(len(after), np.int32)),
        "unit_price": decimals(price, 12),
        "discount_amount": decimals(price * 0, 12),
        "net_amount": decimals(price, 12),
    }
    _append(rows, "order_items", columns, orders.placed[after])
    world.log.add("shop.order_items", number(ident), "orphaned", "order_id")


def _payments(
    world: World, rows: dict[str, Rows], orders: _Orders, totals: Ints, seen: _Seen
) -> None:
    draw, cut = world.draws, world.cut
    good = np.flatnonzero(seen.present & (orders.paid < cut))
    bad = good[draw.chance("shop.payment.fails", orders.id[good], 0.05)]
    at = np.concatenate([bad, good])
    failed = np.arange(len(at)) < len(bad)
    ident = orders.id[at] * 10 + np.where(failed, 0, 1)
    paid = np.maximum(orders.paid[at] - np.where(failed, 50, 0), orders.placed[at] + 1)
    captured = ~failed & (orders.shipped[at] < cut)
    refunded = ~failed & (orders.path[at] == _RETURNED) & (orders.closed[at] < cut)
    updated = np.where(refunded, orders.closed[at], np.where(captured, orders.shipped[at], paid))
    status = np.where(failed, 2, np.where(refunded, 3, np.where(captured, 1, 0)))
    method = draw.weighted("shop.method", ident, [0.7, 0.2, 0.06, 0.04])
    shares = {"missing": 0.6, "skewed_clock": 0.4}
    kind = world.spoiler.kinds("shop.payments", ident, shares)
    columns = {
        "payment_id": pa.array(ident),
        "order_id": pa.array(orders.id[at]),
        "method": pick(["card", "paypal", "gift_card", "wire"], method),
        "status": pick(["authorised", "captured", "failed", "refunded"], status),
        "amount": decimals(totals[at], 12, kind["missing"]),
        "currency": pick(money.CURRENCIES, orders.currency[at]),
        "paid_at": _stamp(np.where(kind["skewed_clock"], SKEWED_SECONDS, paid)),
    }
    everything = np.ones(len(at), dtype=bool)
    visible = np.maximum(seen.visible[at], paid)
    _keep(rows, "payments", columns, paid, updated, everything, visible)
    spoilt = Spoilt(world.log, "shop.payments", number(ident), kind, everything)
    spoilt.note("missing", "amount", cents(totals[at]))
    spoilt.note("skewed_clock", "paid_at", iso_utc(paid))
    spoilt.chain(seen.valid[at], "order_id")


def _refunds(
    world: World, rows: dict[str, Rows], orders: _Orders, goods: Goods, seen: _Seen, is_test: Bools
) -> Refunds:
    draw, ident, lines = world.draws, orders.id, goods.lines
    whole = orders.path == _RETURNED
    part = (orders.path > _RETURNED) & draw.chance("shop.refund.partial", ident, 0.04)
    moment = np.where(whole, orders.closed, orders.delivered)
    moment += until(draw, "shop.refund.at", ident, 6, 72)
    at = np.flatnonzero(seen.present & (whole | part) & (moment < world.cut))
    amount = np.where(whole, goods.totals, goods.net[lines.starts])[at]
    moment, full, refund = moment[at], whole[at], ident[at] * 10 + 1
    kind = world.spoiler.kinds("shop.refunds", refund, {"missing": 1.0})
    columns = {
        "refund_id": pa.array(refund),
        "order_id": pa.array(ident[at]),
        "order_item_id": pa.array(lines.id[lines.starts][at], mask=full),
        "amount": decimals(amount, 12, kind["missing"]),
        "currency": pick(money.CURRENCIES, orders.currency[at]),
        "reason": pick(_REASONS, draw.below("shop.why", refund, len(_REASONS))),
        "refunded_at": _stamp(moment),
    }
    everything = np.ones(len(at), dtype=bool)
    _keep(rows, "refunds", columns, moment, moment, everything)
    spoilt = Spoilt(world.log, "shop.refunds", number(refund), kind, everything)
    spoilt.note("missing", "amount", cents(amount))
    good = spoilt.chain(seen.valid[at], "order_id") & ~is_test[at]
    return Refunds("NA", days.day_of(moment[good]), orders.currency[at][good], amount[good])


def _deleted(
    world: World, customers: _Customers, orders: _Orders, items: Lines
) -> dict[str, tuple[Ints, Ints]]:
    left = customers.deleted_at < world.cut
    gone = orders.removed < world.cut
    owner, when_left = customers.index[left], customers.deleted_at[left]
    order_of_item = gone[items.order]
    return {
        "customers": (owner + 1, when_left),
        "addresses": (
            np.concatenate([owner * 2 + 1, owner * 2 + 2]),
            np.concatenate([when_left, when_left]),
        ),
        "orders": (orders.id[gone], orders.removed[gone]),
        "order_items": (items.id[order_of_item], orders.removed[items.order][order_of_item]),
    }
