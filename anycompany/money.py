"""Cents and exchange rates, in whole numbers so that every sum is exact.

seed ─> walk per currency on business days ─> rate of a day (the last one on or before it) ─> US
cents of an amount

Amounts are int64 hundredths of the currency, rates int64 hundred-millionths of a US dollar per
unit.
"""

from __future__ import annotations

import numpy as np

from anycompany import days
from anycompany.draws import Draws, Ints

# Dollars per unit, about the level of the middle of 2025.
DOLLARS = {
    "USD": 1.0,
    "CAD": 0.73,
    "MXN": 0.053,
    "EUR": 1.14,
    "GBP": 1.34,
    "CHF": 1.22,
    "PLN": 0.267,
    "SEK": 0.104,
    "JPY": 0.0068,
    "AUD": 0.65,
    "INR": 0.0117,
    "KRW": 0.00072,
    "SGD": 0.77,
    "BRL": 0.18,
    "CLP": 0.00105,
    "COP": 0.00024,
    "ARS": 0.00085,
}
CURRENCIES = list(DOLLARS)
INDEX = {code: position for position, code in enumerate(CURRENCIES)}
# Prices in these are told in whole tens: nobody writes 4,999.37 pesos.
WHOLE = {"JPY", "KRW", "CLP", "COP", "ARS", "INR"}
RATE_UNIT = 100_000_000
_DAILY_MOVE = 0.0035


def rates(draws: Draws) -> Ints:
    """Returns the exchange rates.

    Returns:
        Array of shape (currencies, days), in 1e-8 US dollars per unit; a day without a rate of its
        own (weekend) holds the last one before it.
    """
    day = np.arange(days.LAST + 1)
    table = np.empty((len(CURRENCIES), len(day)), dtype=np.int64)
    for row, code in enumerate(CURRENCIES):
        steps = np.clip(draws.normal(f"fx.{code}", day), -3, 3) * _DAILY_MOVE
        walk = np.exp(np.clip(np.cumsum(steps), -0.2, 0.2)) if code != "USD" else np.ones(len(day))
        table[row] = np.rint(DOLLARS[code] * walk * RATE_UNIT).astype(np.int64)
    source = np.maximum.accumulate(np.where(is_business_day(day), day, 0))
    return table[:, source]


def is_business_day(day: Ints) -> np.ndarray:
    """Returns whether each day number falls on Monday to Friday (day 0 is a Wednesday)."""
    return np.asarray((np.asarray(day) + 2) % 7 < 5)


def to_usd(table: Ints, amount: Ints, currency: Ints, day: Ints) -> Ints:
    """Converts amounts to US cents, rounded half away from zero.

    Args:
        table: Rates as `rates` returns them.
        amount: Hundredths of the currency.
        currency: Index into `CURRENCIES` for each amount.
        day: Day number for each amount.

    Returns:
        US cents for each amount.
    """
    product = np.abs(amount) * table[currency, day]
    rounded = (2 * product + RATE_UNIT) // (2 * RATE_UNIT)
    return np.where(amount < 0, -rounded, rounded)


def local_price(us_cents: Ints, currency: Ints) -> Ints:
    """Returns list prices in other currencies, in hundredths, rounded as shops do."""
    per_dollar = np.array([1.0 / DOLLARS[code] for code in CURRENCIES])
    step = np.array([1000 if code in WHOLE else 1 for code in CURRENCIES])[currency]
    steps = np.rint(us_cents * per_dollar[currency] / step).astype(np.int64)
    return np.asarray(np.maximum(steps, 1) * step)
