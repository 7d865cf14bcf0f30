"""What an ideal warehouse would show, for tests only.

systems' sales, refunds, tickets, persons + defects ─> sums in whole cents ─> truth/*.parquet

Of what has been delivered by the world's day. It leaves out what no source tells, such as orders
of a week that the distributor has not sent yet.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anycompany import days, field_truth, money, products, truth_games
from anycompany.draws import Ints
from anycompany.systems.common import Persons, Refunds, Sales
from anycompany.systems.files import write
from anycompany.systems.pixelco import Tickets
from anycompany.text import decimals, pick
from anycompany.world import World


def tables(world: World) -> dict[str, pa.Table]:
    """Returns the truth's tables by name; their columns are in the README."""
    systems = (world.shop, world.erp, world.marketplace, world.distributor)
    holders = (world.shop, world.erp, world.marketplace, world.helpdesk, world.pixelco)
    return {
        "sales_daily": sales_daily(world, [system.sales for system in systems]),
        "refunds_daily": refunds_daily(world, [system.refunds for system in systems]),
        "tickets": pa.concat_tables(
            [_tickets(world.helpdesk.tickets), _tickets(world.pixelco.tickets)]
        ),
        "persons": pa.concat_tables([_persons(holder.persons) for holder in holders]),
        "products": _products(world),
        "web_sessions": world.web.sessions,
        "web_page_loads": world.web.loads,
        "documents": world.documents.truth,
        **field_truth.tables(world),
        **truth_games.tables(world),
        # Last: a system notes its defects when it is first asked for.
        "defects": world.log.table(),
    }


def save(world: World, folder: Path) -> None:
    """Writes the truth's tables as Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables(world).items():
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        write(folder / f"{name}.parquet", buffer.getvalue())


def _group(*parts: Ints) -> tuple[list[Ints], Ints]:
    """Returns the distinct combinations of the parts, and for each row which one it is."""
    key = np.zeros(len(parts[0]), dtype=np.int64)
    sizes = [int(part.max(initial=0)) + 1 for part in parts]
    for part, size in zip(parts, sizes, strict=True):
        key = key * size + part
    distinct, row = np.unique(key, return_inverse=True)
    back: list[Ints] = []
    for size in reversed(sizes):
        back.append(distinct % size)
        distinct = distinct // size
    return back[::-1], row


def _sum(values: Ints, row: Ints, count: int) -> Ints:
    total = np.zeros(count, dtype=np.int64)
    np.add.at(total, row, values)
    return total


def _dates(day: Ints) -> pa.Array:
    return pa.array((day + days.EPOCH_DAY).astype(np.int32)).cast(pa.date32())


def sales_daily(world: World, sales: Sequence[Sales]) -> pa.Table:
    """Returns sales by day, region, country, category and currency.

    Args:
        world: Gives the rates and the categories.
        sales: The lines that count, one entry per sales system.
    """
    regions = [one.region for one in sales]
    codes = sorted({code for one in sales for code in one.countries})
    region = np.concatenate([np.full(len(one.net), place) for place, one in enumerate(sales)])
    country = np.concatenate(
        [np.array([codes.index(code) for code in one.countries])[one.country] for one in sales]
    )
    day, product, currency, net, order = (
        np.concatenate([getattr(one, name) for one in sales])
        for name in ("day", "product", "currency", "net", "order")
    )
    usd = money.to_usd(world.rates, net, currency, day)
    category = world.catalogue.category[product]
    (day, region, country, category, currency), row = _group(
        day, region, country, category, currency
    )
    count = len(day)
    # Sorting beats NumPy's hashing of half a million distinct numbers.
    pairs = np.sort(row.astype(np.int64) * 2**32 + order)
    orders = pairs[np.diff(pairs, prepend=-1) != 0]
    return pa.table(
        {
            "sale_date": _dates(day),
            "sales_region": pick(regions, region),
            "country_code": pick(codes, country),
            "category": pick(products.CATEGORIES, category),
            "currency": pick(money.CURRENCIES, currency),
            "net_local": decimals(_sum(net, row, count), 18),
            "net_usd": decimals(_sum(usd, row, count), 18),
            "order_count": pa.array(np.bincount(orders >> 32, minlength=count)),
            "line_count": pa.array(np.bincount(row, minlength=count)),
        }
    )


def refunds_daily(world: World, refunds: Sequence[Refunds]) -> pa.Table:
    """Returns refunds by day, region and currency."""
    region = np.concatenate([np.full(len(one.amount), place) for place, one in enumerate(refunds)])
    day, currency, amount = (
        np.concatenate([getattr(one, name) for one in refunds])
        for name in ("day", "currency", "amount")
    )
    usd = money.to_usd(world.rates, amount, currency, day)
    (day, region, currency), row = _group(day, region, currency)
    count = len(day)
    return pa.table(
        {
            "refund_date": _dates(day),
            "sales_region": pick([one.region for one in refunds], region),
            "currency": pick(money.CURRENCIES, currency),
            "amount_local": decimals(_sum(amount, row, count), 18),
            "amount_usd": decimals(_sum(usd, row, count), 18),
            "refund_count": pa.array(np.bincount(row, minlength=count)),
        }
    )


def _nullable(values: Ints) -> pa.Array:
    return pa.array(values, mask=values < 0)


def _tickets(tickets: Tickets) -> pa.Table:
    count = len(tickets.created)
    return pa.table(
        {
            "desk": pick([tickets.desk], np.zeros(count, dtype=np.int64)),
            "ticket_id": tickets.key,
            "created_date": _dates(days.day_of(tickets.created)),
            "status_group": pick(["open", "solved"], tickets.solved.astype(np.int64)),
            "first_response_minutes": _nullable(tickets.response),
            "resolution_minutes": _nullable(tickets.resolution),
            "satisfaction": pick(
                ["bad", "good", None], np.where(tickets.satisfaction < 0, 2, tickets.satisfaction)
            ),
        }
    )


def _persons(persons: Persons) -> pa.Table:
    same = np.zeros(len(persons.pid), dtype=np.int64)
    columns = [
        pa.array(persons.pid),
        pick([persons.source], same),
        pick([persons.table], same),
        persons.key,
    ]
    return pa.table(columns, names=["person_id", "source", "table_name", "source_key"])


def _products(world: World) -> pa.Table:
    goods = world.catalogue
    codes = {
        "shop": goods.sku,
        "erp": goods.material,
        "marketplace": goods.listing,
        "distributor": goods.code,
    }
    return pa.table(
        {
            "product_number": pa.array(goods.sku * len(codes)),
            "source": pa.array([source for source in codes for _ in goods.sku]),
            "source_code": pa.array([code for own in codes.values() for code in own]),
        }
    )
