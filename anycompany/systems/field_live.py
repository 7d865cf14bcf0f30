"""Devices and cards as they are used now: messages made at the moment at which they are sent.

numbers of events, the machine's clock ─> measurements of devices, card payments; some late,
repeated, out of order, by wrong clocks or cut off ─> messages and what is true of each

What an event is about depends on its number alone, its times on the clock. It leaves out attacks
and chargebacks, which `card_payments` plants in the past.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany.draws import Bools, Ints
from anycompany.streaming import Batch
from anycompany.systems import card_payments, devices, events
from anycompany.systems.messages import as_json, cut_off
from anycompany.text import Column, cents, join, json_text, number, pick
from anycompany.world import World

# Far above the numbers that the past uses.
_SEQUENCE = 1_000_000_000
_TRANSACTION = 900_000_000
_DEFECTS = {
    "late": 0.3,
    "duplicated": 0.3,
    "out_of_order": 0.2,
    "wrong_clock": 0.15,
    "malformed": 0.05,
}


@dataclass(frozen=True)
class _Moments:
    """When events happen, and what is wrong with each."""

    happened: Ints
    offset: Ints
    kind: dict[str, Bools]

    @property
    def defect(self) -> Column:
        index = np.zeros(len(self.happened), dtype=np.int64)
        for place, mask in enumerate(self.kind.values(), 1):
            index[mask] = place
        return pick([None, *self.kind], index)


def _moments(world: World, name: str, numbers: Ints, now: int) -> _Moments:
    draw = world.draws
    kind = events.spoiler(draw, world.settings.defects).kinds(f"live.{name}", numbers, _DEFECTS)
    delay = 3_600 + draw.below(f"live.{name}.late", numbers, events.LATEST_SECONDS - 3_600)
    pause = 20 + draw.below(f"live.{name}.disorder", numbers, 120)
    ago = np.where(kind["late"], delay, np.where(kind["out_of_order"], pause, 0))
    minutes = 1 + draw.below(f"live.{name}.clock", numbers, 15)
    offset = np.where(kind["wrong_clock"], minutes * 60, 0)
    return _Moments(now - ago * 1_000, offset, kind)


def measurements(world: World, numbers: Ints, now: int) -> Batch:
    """Makes measurements of devices.

    Args:
        world: The company; its devices are in use.
        numbers: Number of each event, never used before.
        now: Milliseconds since 1970.
    """
    draw, at = world.draws, _moments(world, "devices", numbers, now)
    device = draw.below("live.device", numbers, world.devices.count)
    name, sequence = devices.name_of(device), number(_SEQUENCE + numbers)
    whole, rest = np.divmod(380 + draw.below("live.warmth", numbers, 100), 10)
    payload = as_json(
        {
            "device_id": json_text(name),
            "sequence": sequence,
            "device_time": json_text(_iso(at.happened + at.offset * 1_000)),
            "clock_offset_s": number(at.offset),
            "firmware": json_text(pick([devices.FIRMWARE[-1][0]], numbers * 0)),
            "temperature_c": join(number(whole), ".", number(rest)),
            "fan_rpm": number(1_700 + draw.below("live.fan", numbers, 200)),
            "battery_pct": number(20 + draw.below("live.charge", numbers, 80)),
            "error_code": "null",
            "uptime_s": number(numbers % 10_000),
        }
    )
    return Batch(
        key=join(name, "-", sequence),
        topic=join("devices/", name, "/telemetry"),
        payload=cut_off(payload, at.kind["malformed"]),
        about=name,
        happened=at.happened,
        again=at.kind["duplicated"],
        defect=at.defect,
    )


def payments(world: World, numbers: Ints, now: int) -> Batch:
    """Makes card payments of honest people.

    Args:
        world: The company; its customers pay.
        numbers: Number of each event, never used before.
        now: Milliseconds since 1970.
    """
    draw, at = world.draws, _moments(world, "cards", numbers, now)
    card = draw.below("live.card", numbers, max(int(900 * world.settings.scale), 60))
    country, currency, latitude, longitude = card_payments.PLACES[0]
    usd = 1_000 + draw.below("live.paid", numbers, 9_000)
    key = card_payments.key_of(_TRANSACTION + numbers)
    # A till keeps its clock right: only its messages come late.
    payload = as_json(
        {
            "transaction_id": json_text(key),
            "card_token": json_text(card_payments.token_of(card)),
            "customer_id": json_text(number(card + 1)),
            "merchant": '"game_store"',
            "order_number": "null",
            "amount": cents(usd),
            "currency": f'"{currency}"',
            "amount_usd": cents(usd),
            "country": f'"{country}"',
            "latitude": f"{latitude / 1_000}",
            "longitude": f"{longitude / 1_000}",
            "device_fingerprint": json_text(join("fp", number(card * 4, 9))),
            "entry_mode": '"contactless"',
            "decision": '"approved"',
            "occurred_at": json_text(_iso(at.happened)),
        }
    )
    return Batch(
        key=key,
        topic=pick(["cards.transactions"], numbers * 0),
        payload=cut_off(payload, at.kind["malformed"]),
        about=card_payments.token_of(card),
        happened=at.happened,
        again=at.kind["duplicated"],
        defect=at.defect,
    )


def _iso(moment: Ints) -> Column:
    text = pc.cast(pa.array(moment).cast(pa.timestamp("ms")), pa.string())
    return join(pc.utf8_replace_slice(text, 10, 11, "T"), "Z")
