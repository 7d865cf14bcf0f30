"""The shop of North America: a PostgreSQL database.

customers, orders and their lives ─> rows as they are at the end of a day ─> COPY (first) or upsert
and delete (later)

Rows are updated in place; orders that stay pending and customers without orders are deleted for
good. It leaves out constraints between tables, because the database of a real shop has lost them
long ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import days, geography, money, products
from anycompany.draws import Bools, Ints
from anycompany.systems.common import (
    DAY,
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
from anycompany.text import decimals, join, number, pick, when
from anycompany.world import World, person_of_shop

COUNTRIES = ["US", "CA", "MX"]
STATUSES = ["pending", "paid", "shipped", "delivered", "cancelled", "returned"]
PRICE_LIMIT = 25_000_00
_UNKNOWN = 800_000_000
_CANCELLED, _ABANDONED, _RETURNED = 0, 1, 2

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
    country: Ints
    created: Ints
    is_test: Bools
    valid: Bools
    deleted_at: Ints


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
    items = lines_of(world.draws, "shop.lines", orders.id)
    product, quantity, price, discount = _priced(world, orders, items)
    net = quantity * price - discount
    totals = per_order(net, items)
    valid, present, visible = _order_rows(world, rows, customers, orders, totals)
    line_valid = _item_rows(
        world, rows, orders, items, (product, quantity, price, discount), valid, present, visible
    )
    _payments(world, rows, orders, totals, valid, present, visible)
    is_test = customers.is_test[orders.customer]
    refunds = _refunds(world, rows, orders, items, net, totals, valid, is_test, present)
    counts = line_valid & present[items.order] & ~is_test[items.order]
    cancelled = (orders.path == _CANCELLED) & (orders.closed < world.cut)
    counts &= ~cancelled[items.order]
    at = items.order[counts]
    sales = Sales(
        "NA",
        orders.id[at],
        orders.day[at],
        customers.country[orders.customer[at]],
        geography.CODES,
        product[counts],
        orders.currency[at],
        net[counts],
    )
    return Shop(
        rows,
        _deleted(world, customers, orders, items),
        orders.customer,
        orders.placed,
        sales,
        refunds,
        persons,
    )


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
    draw, plan = world.draws, world.arrivals("shop.customers", 20_000, before=0.4)
    index = np.arange(plan.count(world.day))
    pid, created = person_of_shop(index), plan.seconds(index)
    traits = world.people.traits(pid)
    record = world.people.record(traits, "shop", traits.country, home=True)
    is_test = index % 500 == 7
    consents = draw.chance("shop.consent", index, 0.55)
    changed = np.maximum(created, days.start_of(0)) + until(
        draw, "shop.consent_at", index, 24, 24 * 900
    )
    has_changed = draw.chance("shop.reconsiders", index, 0.4) & (changed < world.cut)
    leaves = (index % 13 == 12) & draw.chance("shop.leaves", index, 0.3)
    left = np.maximum(created, days.start_of(0)) + until(
        draw, "shop.leaves_at", index, 24 * 20, 24 * 900
    )
    deleted_at = np.where(leaves, left, NEVER)
    present = deleted_at >= world.cut
    kind = world.spoiler.kinds(
        "shop.customers", index, {"missing": 0.4, "mistyped": 0.3, "wrong_encoding": 0.3}
    )
    kind = {name: mask & ~is_test & present for name, mask in kind.items()}
    kind["wrong_encoding"] &= record.can_mangle
    key, country = number(index + 1), pick(geography.CODES, traits.country)
    family = when(kind["wrong_encoding"], record.mangled_family, record.family)
    for name, column, good in (
        ("missing", "last_name", record.family),
        ("mistyped", "country_code", country),
        ("wrong_encoding", "last_name", record.family),
    ):
        mask = pa.array(kind[name])
        world.log.add("shop.customers", key.filter(mask), name, column, good=good.filter(mask))
    columns = {
        "customer_id": pa.array((index + 1).astype(np.int32)),
        "first_name": when(is_test, "Test", record.given),
        "last_name": when(kind["missing"], None, when(is_test, "Account", family)),
        "email": when(is_test, join("test", key, "@anycompany.test"), record.email),
        "phone": when(is_test, None, record.phone),
        "birth_date": pc.if_else(
            pa.array(record.has_birth & ~is_test), _date(record.birth), pa.scalar(None, pa.date32())
        ),
        "country_code": when(kind["mistyped"], "ZZ", country),
        "marketing_consent": pa.array(consents ^ has_changed),
        "segment": pick(
            ["consumer", "business", "vip"], draw.weighted("shop.segment", index, [0.85, 0.1, 0.05])
        ),
    }
    _keep(rows, "customers", columns, created, np.where(has_changed, changed, created), present)
    valid = ~kind["missing"] & ~kind["mistyped"]
    good_person = valid & present & ~is_test
    persons = Persons("shop", "customers", pid[good_person], key.filter(pa.array(good_person)))
    return _Customers(index, traits.country, created, is_test, valid, deleted_at), persons


def _date(epoch_day: Ints) -> pa.Array:
    return pa.array(epoch_day.astype(np.int32)).cast(pa.date32())


def _addresses(world: World, rows: dict[str, Rows], customers: _Customers) -> None:
    draw = world.draws
    ships = np.flatnonzero(draw.chance("shop.ships_elsewhere", customers.index, 0.2))
    owner = np.concatenate([customers.index, ships])
    is_billing = np.arange(len(owner)) < len(customers.index)
    ident = owner * 2 + np.where(is_billing, 1, 2)
    traits = world.people.traits(person_of_shop(owner))
    place = np.where(
        is_billing, traits.place, world.people.place_in(traits.country, owner, "shop.shipping")
    )
    created = customers.created[owner]
    kind = world.spoiler.kinds("shop.addresses", ident, {"missing": 1.0})["missing"]
    present = customers.deleted_at[owner] >= world.cut
    kind &= present & customers.valid[owner]
    key = number(ident)
    postal = pick(geography.PLACES.postal_code, place)
    world.log.add(
        "shop.addresses",
        key.filter(pa.array(kind)),
        "missing",
        "postal_code",
        good=postal.filter(pa.array(kind)),
    )
    chained = present & ~customers.valid[owner]
    world.log.add("shop.addresses", key.filter(pa.array(chained)), "unresolvable", "customer_id")
    house = np.where(is_billing, person_household(owner), owner)
    columns = {
        "address_id": pa.array(ident.astype(np.int32)),
        "customer_id": pa.array((owner + 1).astype(np.int32)),
        "kind": when(is_billing, "billing", "shipping"),
        "street": street(world, house),
        "city": pick(geography.PLACES.town, place),
        "postal_code": when(kind, None, postal),
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


def _priced(world: World, orders: _Orders, items: Lines) -> tuple[Ints, Ints, Ints, Ints]:
    draw = world.draws
    product = world.pick_product("shop.product", items.id)
    quantity = 1 + draw.weighted("shop.quantity", items.id, [0.78, 0.15, 0.05, 0.02])
    list_price = world.prices.us_cents(product, orders.day[items.order])
    price = money.local_price(list_price, orders.currency[items.order])
    per_cent = np.array([0, 5, 10, 15, 20])[
        draw.weighted("shop.discount", items.id, [0.85, 0.05, 0.05, 0.03, 0.02])
    ]
    return product, quantity, price, quantity * price * per_cent // 100


def _order_rows(
    world: World, rows: dict[str, Rows], customers: _Customers, orders: _Orders, totals: Ints
) -> tuple[Bools, Bools, Ints]:
    draw, ident, cut = world.draws, orders.id, world.cut
    kind = world.spoiler.kinds(
        "shop.orders",
        ident,
        {
            "missing": 0.16,
            "mistyped": 0.16,
            "orphaned": 0.16,
            "skewed_clock": 0.16,
            "inconsistent": 0.14,
            "late": 0.12,
            "personal_data": 0.1,
        },
    )
    # A late row must be within the window of its cursor: only rows of the afternoon come late.
    kind["late"] &= orders.placed % DAY >= DAY // 2
    visible = np.where(kind["late"], (orders.placed // DAY + 1) * DAY, orders.placed)
    present = (visible < cut) & (orders.removed >= cut)
    status, updated = np.zeros(len(ident), dtype=np.int64), orders.placed.copy()
    for moment, code in (
        (orders.paid, 1),
        (orders.shipped, 2),
        (orders.delivered, 3),
        (orders.closed, np.where(orders.path == _CANCELLED, 4, 5)),
    ):
        happened = moment < cut
        status = np.where(happened, code, status)
        updated = np.where(happened, moment, updated)
    key, currency = number(ident), pick(money.CURRENCIES, orders.currency)
    says = pick(STATUSES, status)
    notes = pick(
        [
            "Please ring the bell.",
            "Leave at the back door.",
            "Gift, no invoice in the parcel.",
            None,
        ],
        draw.weighted("shop.notes", ident, [0.02, 0.02, 0.02, 0.94]),
    )
    card = join(
        "Card 4111 1111 1111 ", number(1_000 + draw.below("shop.card", ident, 9_000)), ", call me."
    )
    columns = {
        "order_id": pa.array(ident),
        "order_number": join("NA-", number(ident, 7)),
        "customer_id": pa.array(
            np.where(kind["orphaned"], _UNKNOWN + ident % 1000, orders.customer + 1).astype(
                np.int32
            )
        ),
        "status": when(kind["mistyped"], "shiped", says),
        "currency": when(kind["missing"], None, currency),
        "country_code": pick(geography.CODES, customers.country[orders.customer]),
        "ordered_at": _stamp(np.where(kind["skewed_clock"], SKEWED_SECONDS + ident, orders.placed)),
        "total_amount": decimals(np.where(kind["inconsistent"], totals + 1_000, totals), 12),
        "notes": when(kind["personal_data"], card, notes),
    }
    _keep(rows, "orders", columns, orders.placed, updated, present, visible)
    good = {
        "missing": ("currency", currency),
        "mistyped": ("status", says),
        "orphaned": ("customer_id", number(orders.customer + 1)),
        "skewed_clock": ("ordered_at", number(orders.placed)),
        "inconsistent": ("total_amount", number(totals)),
        "late": (None, None),
        "personal_data": ("notes", None),
    }
    own = np.ones(len(ident), dtype=bool)
    for name, (column, value) in good.items():
        mask = kind[name] & present
        world.log.add(
            "shop.orders",
            key.filter(pa.array(mask)),
            name,
            column,
            good=None if value is None else value.filter(pa.array(mask)),
        )
        if name in ("missing", "mistyped", "orphaned", "skewed_clock"):
            own &= ~kind[name]
    chained = own & present & ~customers.valid[orders.customer]
    world.log.add("shop.orders", key.filter(pa.array(chained)), "unresolvable", "customer_id")
    return own & customers.valid[orders.customer], present, visible


def _item_rows(
    world: World,
    rows: dict[str, Rows],
    orders: _Orders,
    items: Lines,
    values: tuple[Ints, Ints, Ints, Ints],
    order_valid: Bools,
    present: Bools,
    visible: Ints,
) -> Bools:
    product, quantity, price, discount = values
    order, here = items.order, present[items.order]
    kind = world.spoiler.kinds(
        "shop.order_items", items.id, {"missing": 0.35, "outlying": 0.45, "orphaned": 0.2}
    )
    wild_quantity, wild_price = outlying(
        world.draws, "shop.wild", items.id, kind["outlying"], price, PRICE_LIMIT
    )
    created, key = orders.placed[order], number(items.id)
    columns = {
        "order_item_id": pa.array(items.id),
        "order_id": pa.array(orders.id[order]),
        "line_number": pa.array(items.number.astype(np.int32)),
        "product_id": pc.if_else(
            pa.array(kind["missing"]),
            pa.scalar(None, pa.int32()),
            pa.array(np.where(kind["orphaned"], _UNKNOWN, product + 1).astype(np.int32)),
        ),
        "quantity": pa.array(np.where(wild_quantity, quantity * 1000, quantity).astype(np.int32)),
        "unit_price": decimals(np.where(wild_price, price * 1000, price), 12),
        "discount_amount": decimals(discount, 12),
        "net_amount": decimals(quantity * price - discount, 12),
    }
    _keep(rows, "order_items", columns, created, created, here, visible[order])
    own = ~kind["missing"] & ~kind["outlying"] & ~kind["orphaned"]
    for name, column, mask, good in (
        ("missing", "product_id", kind["missing"], number(product + 1)),
        ("orphaned", "product_id", kind["orphaned"], number(product + 1)),
        ("outlying", "quantity", wild_quantity, number(quantity)),
        ("outlying", "unit_price", wild_price, number(price)),
    ):
        shown = pa.array(mask & here)
        world.log.add("shop.order_items", key.filter(shown), name, column, good=good.filter(shown))
    chained = own & here & ~order_valid[order]
    world.log.add("shop.order_items", key.filter(pa.array(chained)), "unresolvable", "order_id")
    _stray_items(world, rows, orders)
    return own & order_valid[order]


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
    world: World,
    rows: dict[str, Rows],
    orders: _Orders,
    totals: Ints,
    order_valid: Bools,
    present: Bools,
    visible: Ints,
) -> None:
    draw, cut = world.draws, world.cut
    first_fails = draw.chance("shop.payment.fails", orders.id, 0.05)
    good = np.flatnonzero(present & (orders.paid < cut))
    bad = good[first_fails[good]]
    at = np.concatenate([bad, good])
    failed = np.arange(len(at)) < len(bad)
    ident = orders.id[at] * 10 + np.where(failed, 0, 1)
    paid = np.maximum(orders.paid[at] - np.where(failed, 50, 0), orders.placed[at] + 1)
    captured = ~failed & (orders.shipped[at] < cut)
    refunded = ~failed & (orders.path[at] == _RETURNED) & (orders.closed[at] < cut)
    updated = np.where(refunded, orders.closed[at], np.where(captured, orders.shipped[at], paid))
    kind = world.spoiler.kinds("shop.payments", ident, {"missing": 0.6, "skewed_clock": 0.4})
    status = np.where(failed, 2, np.where(refunded, 3, np.where(captured, 1, 0)))
    key = number(ident)
    columns = {
        "payment_id": pa.array(ident),
        "order_id": pa.array(orders.id[at]),
        "method": pick(
            ["card", "paypal", "gift_card", "wire"],
            draw.weighted("shop.method", ident, [0.7, 0.2, 0.06, 0.04]),
        ),
        "status": pick(["authorised", "captured", "failed", "refunded"], status),
        "amount": decimals(totals[at], 12, kind["missing"]),
        "currency": pick(money.CURRENCIES, orders.currency[at]),
        "paid_at": _stamp(np.where(kind["skewed_clock"], SKEWED_SECONDS, paid)),
    }
    _keep(
        rows,
        "payments",
        columns,
        paid,
        updated,
        np.ones(len(at), dtype=bool),
        np.maximum(visible[at], paid),
    )
    for name, column, value in (
        ("missing", "amount", totals[at]),
        ("skewed_clock", "paid_at", paid),
    ):
        mask = kind[name]
        world.log.add(
            "shop.payments", key.filter(pa.array(mask)), name, column, good=number(value[mask])
        )
    chained = ~kind["missing"] & ~kind["skewed_clock"] & ~order_valid[at]
    world.log.add("shop.payments", key.filter(pa.array(chained)), "unresolvable", "order_id")


def _refunds(
    world: World,
    rows: dict[str, Rows],
    orders: _Orders,
    items: Lines,
    net: Ints,
    totals: Ints,
    order_valid: Bools,
    is_test: Bools,
    present: Bools,
) -> Refunds:
    draw, ident = world.draws, orders.id
    whole = orders.path == _RETURNED
    partial = (orders.path > _RETURNED) & draw.chance("shop.refund.partial", ident, 0.04)
    moment = np.where(whole, orders.closed, orders.delivered) + until(
        draw, "shop.refund.at", ident, 6, 72
    )
    at = np.flatnonzero(present & (whole | partial) & (moment < world.cut))
    amount = np.where(whole, totals, net[items.starts])[at]
    moment, full = moment[at], whole[at]
    refund = ident[at] * 10 + 1
    missing = world.spoiler.kinds("shop.refunds", refund, {"missing": 1.0})["missing"]
    key = number(refund)
    columns = {
        "refund_id": pa.array(refund),
        "order_id": pa.array(ident[at]),
        "order_item_id": pc.if_else(
            pa.array(full), pa.scalar(None, pa.int64()), pa.array(items.id[items.starts][at])
        ),
        "amount": decimals(amount, 12, missing),
        "currency": pick(money.CURRENCIES, orders.currency[at]),
        "reason": pick(
            ["damaged", "not as described", "changed mind", "arrived late"],
            draw.below("shop.why", refund, 4),
        ),
        "refunded_at": _stamp(moment),
    }
    _keep(rows, "refunds", columns, moment, moment, np.ones(len(at), dtype=bool))
    world.log.add(
        "shop.refunds",
        key.filter(pa.array(missing)),
        "missing",
        "amount",
        good=number(amount[missing]),
    )
    chained = ~missing & ~order_valid[at]
    world.log.add("shop.refunds", key.filter(pa.array(chained)), "unresolvable", "order_id")
    good = order_valid[at] & ~missing & ~is_test[at]
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
