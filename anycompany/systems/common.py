"""What the sales systems share: how lines hang on orders, and what they hand to the truth.

orders ─> count of lines ─> line rows (flat, in order) ─> Sales and Refunds for truth.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from anycompany.draws import Bools, Draws, Ints

NEVER = np.int64(2**62)
LINE_WEIGHTS = (0.36, 0.25, 0.17, 0.12, 0.06, 0.04)
SKEWED_SECONDS = 4_073_000_000  # early 2099
HOUR = 3_600
DAY = 86_400


@dataclass(frozen=True)
class Sales:
    """The lines that count as sales, flat.

    Attributes:
        region: Sales region of the system.
        order: A number for each line's order.
        day: Day number (UTC) by which it is reported and converted.
        country: Index into `geography`'s or the system's own list of alpha-2 codes (`countries`).
        countries: Those codes.
        product: Product index.
        currency: Index into `money.CURRENCIES`.
        net: Hundredths of the currency.
    """

    region: str
    order: Ints
    day: Ints
    country: Ints
    countries: list[str]
    product: Ints
    currency: Ints
    net: Ints


@dataclass(frozen=True)
class Refunds:
    """The refunds that count: sales region, day number (UTC), currency's index, hundredths."""

    region: str
    day: Ints
    currency: Ints
    amount: Ints


@dataclass(frozen=True)
class Persons:
    """Records of persons in one table: the person number of each key."""

    source: str
    table: str
    pid: Ints
    key: Any


@dataclass(frozen=True)
class Lines:
    """Lines of orders, flat and in order.

    Attributes:
        order: Position of each line's order.
        number: Line number, from 1.
        id: `(order id) * 10 + number`, stable over time.
        counts: Lines of each order.
        starts: Position of each order's first line.
    """

    order: Ints
    number: Ints
    id: Ints
    counts: Ints
    starts: Ints


@dataclass(frozen=True)
class Goods:
    """What the lines of orders are about; amounts in hundredths of the order's currency.

    Attributes:
        lines: The lines.
        product: Product index.
        quantity: Pieces.
        price: Of one piece.
        discount: As the system states it: an amount, or tenths of a per cent.
        net: What is charged for the line.
    """

    lines: Lines
    product: Ints
    quantity: Ints
    price: Ints
    discount: Ints
    net: Ints

    @property
    def totals(self) -> Ints:
        """Sum of the net amounts of each order."""
        return per_order(self.net, self.lines)


def lines_of(
    draws: Draws, name: str, order_ids: Ints, weights: tuple[float, ...] = LINE_WEIGHTS
) -> Lines:
    """Returns the lines of orders; an order has 1 to `len(weights)` of them."""
    counts = 1 + draws.weighted(name, order_ids, weights)
    ends = np.cumsum(counts)
    starts = ends - counts
    order = np.repeat(np.arange(len(order_ids)), counts)
    line = np.arange(len(order)) - starts[order] + 1
    return Lines(order, line, order_ids[order] * 10 + line, counts, starts)


def per_order(values: Ints, lines: Lines) -> Ints:
    """Returns the sum of a value over the lines of each order."""
    return (
        np.add.reduceat(values, lines.starts) if len(lines.starts) else np.zeros(0, dtype=np.int64)
    )


def until(draws: Draws, name: str, ids: Ints, low: float, high: float) -> Ints:
    """Returns a delay in seconds between `low` and `high` hours for each id."""
    return ((low + draws.unit(name, ids) * (high - low)) * HOUR).astype(np.int64)


def outlying(
    draws: Draws, name: str, ids: Ints, wanted: Bools, price: Ints, limit: int
) -> tuple[Bools, Bools]:
    """Splits outlying lines into those with a wild quantity and those with a wild price.

    A price is only taken times 1000 where that leaves the valid range, `limit` (hundredths).
    """
    wild_price = wanted & draws.chance(name, ids, 0.5) & (price * 1000 > limit)
    return wanted & ~wild_price, wild_price
