"""Consoles in the field: a registry in CSV, and what they tell over MQTT.

registry, sessions of use ─> telemetry and online/offline messages, numbered by device ─> gateway:
delivered at once, or stored while its line is down ─> `devices/<id>/telemetry`, `.../status`

A device stamps with its own clock, which may be wrong by minutes; the gateway adds how far it is
off. It leaves out the years before the gateways were installed: telemetry begins two weeks before
the first state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from anycompany import days
from anycompany.defects import DefectLog, Spoilt
from anycompany.draws import Bools, Ints
from anycompany.systems.common import DAY, HOUR, SKEWED_SECONDS
from anycompany.systems.files import Outbox
from anycompany.systems.messages import Messages, as_json, cut_off, deliver, travel
from anycompany.text import Column, grouped, iso_utc, join, json_text, lines, number, pick, when
from anycompany.world import World

FIRST_DAY = days.FIRST_STATE - 13
MODELS = ["Arcade One", "Arcade Duo", "Arcade Mini"]
# Version, and the day from which devices take it over.
FIRMWARE = [
    ("3.1.4", 0),
    ("3.2.0", days.FIRST_STATE - 120),
    ("3.3.0", days.FIRST_STATE - 9),
    ("3.3.1", days.FIRST_STATE + 6),
]
FAILING_FIRMWARE = 2
ERRORS = ["E11", "E23", "E42"]
_COUNT, _FEWEST = 120, 24
_SLOTS = 3
_SLOT_BEGINS = np.array([6, 12, 18])
_EVERY = 900
_OUTAGE_DAYS = 3
_TELEMETRY_DEFECTS = {
    "missing": 0.15,
    "outlying": 0.15,
    "mistyped": 0.1,
    "skewed_clock": 0.1,
    "unregistered": 0.1,
    "malformed": 0.1,
    "duplicated": 0.3,
}
_STATUS_DEFECTS = {"missing": 0.3, "malformed": 0.2, "duplicated": 0.5}


@dataclass(frozen=True)
class Telemetry:
    """The valid measurements that have been delivered, one a row.

    Attributes:
        device: Id as text.
        moment: Epoch second by a right clock.
        firmware: Index into `FIRMWARE`.
        temperature: Tenths of a degree Celsius.
        battery: Per cent.
        failed: Whether it tells an error.
        offset: Seconds that the device's clock is ahead.
    """

    device: Column
    moment: Ints
    firmware: Ints
    temperature: Ints
    battery: Ints
    failed: Bools
    offset: Ints


@dataclass(frozen=True)
class Status:
    """The valid online/offline messages that have been delivered, one a row."""

    device: Ints
    moment: Ints
    online: Bools
    lost: Bools


@dataclass(frozen=True)
class Devices:
    """The devices at the end of a day: registry, messages by table, and what the truth needs."""

    outbox: Outbox
    messages: dict[str, Messages]
    telemetry: Telemetry
    status: Status
    count: int
    log: DefectLog


@dataclass(frozen=True)
class _Sessions:
    """Times of use, in order of device and time; moments in epoch seconds."""

    device: Ints
    id: Ints
    begin: Ints
    counts: Ints
    lost: Bools

    @property
    def end(self) -> Ints:
        """When the device says, or the gateway notices, that it is off."""
        return self.begin + (self.counts - 1) * _EVERY + np.where(self.lost, 300, 200)


@dataclass(frozen=True)
class _Events:
    """Everything that devices tell, in order of device and time.

    Attributes:
        session: Position of the session.
        step: 0 online, then 1 to n for measurements, n + 1 offline.
        sequence: Number within the device, from 1.
        kind: 0 online, 1 measurement, 2 offline.
        moment: Epoch second by a right clock.
        id: A stable number.
    """

    session: Ints
    step: Ints
    sequence: Ints
    kind: Ints
    moment: Ints
    id: Ints


def build(world: World) -> Devices:
    """Builds the registry and the messages, notes their defects, and keeps what the truth needs."""
    plan = world.arrivals(
        "devices.devices", max(_COUNT, _FEWEST / world.settings.scale), before=0.8, even=True
    )
    count = plan.count(world.day)
    box, log = Outbox(), DefectLog()
    for day in range(days.FIRST_STATE, world.day + 1):
        rows = plan.count(day)

        def make(rows: int = rows, day: int = day) -> bytes:
            return _registry(world, plan, np.arange(rows), day)

        box.add(f"registry/devices_{days.date_of(day).isoformat()}.csv", day, make)
    sessions = _sessions(world, plan.seconds(np.arange(count)))
    events = _events(world, sessions)
    held = _delivered(world, events.moment, sessions.device[events.session], events.id)
    telemetry, measured = _telemetry(world, log, sessions, events, held)
    status, told = _status(world, log, sessions, events, held)
    return Devices(box, {"telemetry": measured, "status": told}, telemetry, status, count, log)


def name_of(device: Ints) -> Column:
    """Returns the id of each device as text."""
    return join("DV-", number(device + 1, 6))


def is_hot(device: Ints) -> Bools:
    """Returns which devices are too warm: one in twelve."""
    return np.asarray(device % 12 == 5)


def is_erring(device: Ints) -> Bools:
    """Returns which devices report errors all the time: one in twelve."""
    return np.asarray(device % 12 == 9)


def _model(world: World, device: Ints) -> Ints:
    return world.draws.weighted("devices.model", device, [0.5, 0.3, 0.2])


def _adopted(world: World, device: Ints) -> Ints:
    """Returns the day on which each device (row) takes each firmware (column)."""
    taken = []
    for position, (version, day) in enumerate(FIRMWARE):
        share = 0.5 if position == FAILING_FIRMWARE else 0.85
        willing = world.draws.chance(f"devices.takes.{version}", device, share) | (position == 0)
        lag = world.draws.below(f"devices.lag.{version}", device, 4)
        taken.append(np.where(willing, day + lag * (position > 0), days.LAST + 1))
    return np.stack(taken, axis=1)


def _firmware(world: World, device: Ints, day: Ints) -> Ints:
    known = _adopted(world, device) <= day[:, None]
    position: Ints = len(FIRMWARE) - 1 - np.argmax(known[:, ::-1], axis=1)
    return position


def _registry(world: World, plan: days.Arrivals, device: Ints, day: int) -> bytes:
    """Returns the registry as it stands on the evening of a day."""
    draw, installed = world.draws, days.day_of(plan.seconds(device))
    customers = world.arrivals("shop.customers", 20_000, before=0.4)
    orders = world.arrivals("shop.orders", 75_000)
    place = draw.below("devices.place", device, len(_TOWNS))
    adopted = _adopted(world, device)
    rows, steps = np.nonzero((adopted <= day) & (adopted > installed[:, None] - 1_000))
    versions = [version for version, _ in FIRMWARE]
    since = np.maximum(adopted[rows, steps], installed[rows])
    counts = np.bincount(rows, minlength=len(device))
    history = grouped(
        join(pick(versions, steps), "@", pick(_DATES, since - _EARLIEST)), counts, "|"
    )
    customer = draw.below("devices.customer", device, customers.count(days.FIRST_STATE))
    sold = draw.chance("devices.sold", device, 0.7)
    text = join(
        name_of(device),
        pick(MODELS, _model(world, device)),
        history,
        when(
            sold,
            join(
                "NA-",
                number(1 + draw.below("devices.order", device, orders.count(days.FIRST_STATE)), 7),
            ),
            "",
        ),
        when(sold, number(customer + 1), ""),
        pick(_DATES, installed - _EARLIEST),
        pick([town for town, _ in _TOWNS], place),
        pick([country for _, country in _TOWNS], place),
        sep=",",
    )
    head = (
        "device_id,model,firmware_history,order_number,customer_id,installed_on,site,country_code\n"
    )
    return head.encode() + lines(text)


_TOWNS = [
    ("San Francisco", "US"), ("Chicago", "US"), ("Boston", "US"), ("Toronto", "CA"),
    ("London", "GB"), ("Berlin", "DE"), ("Paris", "FR"), ("Tokyo", "JP"), ("Sydney", "AU"),
]  # fmt: skip
_REGISTRY = [
    "device_id", "model", "firmware_history", "order_number", "customer_id", "installed_on",
    "site", "country_code",
]  # fmt: skip
_EARLIEST = -800
_DATES = days.texts("%Y-%m-%d", _EARLIEST, days.LAST + 60)


def _sessions(world: World, installed: Ints) -> _Sessions:
    """Returns when devices are in use: up to three times a day, never across midnight."""
    draw, span = world.draws, np.arange(FIRST_DAY, world.day + 1)
    device, day, slot = (
        part.ravel()
        for part in np.meshgrid(np.arange(len(installed)), span, np.arange(_SLOTS), indexing="ij")
    )
    ident = (device * 4_096 + day) * 4 + slot
    begin = days.start_of(day) + _SLOT_BEGINS[slot] * HOUR
    begin += draw.below("devices.begin", ident, 90 * 60)
    used = draw.chance("devices.used", ident, 0.6) & (begin > installed[device] + DAY)
    counts = 3 + draw.below("devices.length", ident, 13)
    lost = draw.chance("devices.lost", ident, np.where(is_erring(device), 0.3, 0.03))
    return _Sessions(device[used], ident[used], begin[used], counts[used], lost[used])


def _events(world: World, sessions: _Sessions) -> _Events:
    sizes = sessions.counts + 2
    starts = np.cumsum(sizes) - sizes
    session = np.repeat(np.arange(len(sizes)), sizes)
    step = np.arange(len(session)) - starts[session]
    last = step == sizes[session] - 1
    kind = np.where(step == 0, 0, np.where(last, 2, 1))
    ident = sessions.id[session] * 32 + step
    jitter = world.draws.below("devices.jitter", ident, 90)
    moment = sessions.begin[session] + (step - 1) * _EVERY + jitter + 5
    moment = np.where(kind == 0, sessions.begin[session], moment)
    moment = np.where(kind == 2, sessions.end[session], moment)
    device = sessions.device[session]
    first = np.searchsorted(device, device, side="left")
    return _Events(session, step, np.arange(len(session)) - first + 1, kind, moment, ident)


def _delivered(world: World, moment: Ints, device: Ints, ident: Ints) -> Ints:
    """Returns when each event is delivered: while a line is down, the gateway stores it."""
    draw, day = world.draws, days.day_of(moment)
    nobody = np.zeros(len(ident), dtype=bool)
    delivered = moment + travel(draw, "devices", ident, late=nobody)
    for back in range(_OUTAGE_DAYS + 1):
        outage = device * 4_096 + day - back
        begin = days.start_of(day - back) + draw.below("devices.outage.begin", outage, DAY)
        end = begin + 6 * HOUR + draw.below("devices.outage.length", outage, 66 * HOUR)
        down = draw.chance("devices.outage", outage, 0.02) & (begin <= moment) & (moment < end)
        # What was stored comes back in any order.
        back_at = end + draw.below("devices.outage.back", ident, 600)
        delivered = np.where(down, np.maximum(delivered, back_at), delivered)
    return delivered


def _telemetry(
    world: World, log: DefectLog, sessions: _Sessions, events: _Events, held: Ints
) -> tuple[Telemetry, Messages]:
    draw, at = world.draws, np.flatnonzero(events.kind == 1)
    ident, moment = events.id[at], events.moment[at]
    device = sessions.device[events.session[at]]
    kind = world.spoiler.kinds("devices.telemetry", ident, _TELEMETRY_DEFECTS)
    firmware = _firmware(world, device, days.day_of(moment))
    rate = np.where(firmware == FAILING_FIRMWARE, 0.12, 0.006)
    failed = draw.chance("devices.fails", ident, np.where(is_erring(device), 0.5, rate))
    warmth = np.clip(draw.normal("devices.noise", ident), -3, 3) * 30 + 430
    temperature = (warmth + np.where(is_hot(device), 450, 0)).astype(np.int64)
    skewed = draw.chance("devices.skewed", device, 0.2)
    offset = np.where(skewed, draw.below("devices.skew", device, 1_800) - 900, 0)
    step = events.step[at]
    battery = np.maximum(100 - step * 5 - draw.below("devices.battery", ident, 5), 1)
    own = np.where(kind["skewed_clock"], SKEWED_SECONDS + ident % HOUR, moment + offset)
    unknown = join("DV-9", number(device + 1, 5))
    shown = when(kind["unregistered"], unknown, name_of(device))
    versions = pick([version for version, _ in FIRMWARE], firmware)
    degrees = _tenths(np.where(kind["outlying"], temperature + 9_000, temperature))
    code = pick(ERRORS, draw.below("devices.code", ident, len(ERRORS)))
    payload = as_json(
        {
            "device_id": json_text(shown),
            "sequence": number(events.sequence[at]),
            "device_time": json_text(iso_utc(own)),
            "clock_offset_s": number(offset),
            "firmware": json_text(when(kind["missing"], "", versions)),
            "temperature_c": when(kind["mistyped"], '"hot"', degrees),
            "fan_rpm": number(900 + temperature * 2 + draw.below("devices.fan", ident, 90)),
            "battery_pct": number(battery),
            "error_code": json_text(when(failed, code, None)),
            "uptime_s": number(moment - sessions.begin[events.session[at]]),
        }
    )
    texts = (join("devices/", shown, "/telemetry"), cut_off(payload, kind["malformed"]))
    messages = deliver(
        draw, "devices.telemetry", ident, held[at], texts, twice=kind["duplicated"], cut=world.cut
    )
    good = _note(log, "telemetry", _key(shown, events.sequence[at]), kind, messages, versions)
    telemetry = Telemetry(
        shown.filter(pa.array(good)),
        moment[good],
        firmware[good],
        temperature[good],
        battery[good],
        failed[good],
        offset[good],
    )
    return telemetry, messages


def _tenths(values: Ints) -> Column:
    whole, rest = np.divmod(values, 10)
    return join(number(whole), ".", number(rest))


def _key(device: Column, sequence: Ints) -> Column:
    return join(device, "|", number(sequence))


def _note(
    log: DefectLog,
    table: str,
    key: Column,
    kind: dict[str, Bools],
    messages: Messages,
    missing: Any,
) -> Bools:
    """Notes the defects of one table; returns which of its rows count."""
    shown = messages.seen(len(key))
    spoilt = Spoilt(log, f"devices.{table}", key, kind, shown)
    columns = {
        "missing": "firmware" if table == "telemetry" else "status",
        "outlying": "temperature_c",
        "mistyped": "temperature_c",
        "skewed_clock": "device_time",
        "unregistered": "device_id",
    }
    for name in kind:
        good = missing if name == "missing" else None
        spoilt.note(name, columns.get(name), good)
    return spoilt.chain(np.ones(len(key), dtype=bool), "device_id") & ~kind["malformed"]


def _status(
    world: World, log: DefectLog, sessions: _Sessions, events: _Events, held: Ints
) -> tuple[Status, Messages]:
    at = np.flatnonzero(events.kind != 1)
    ident, moment, session = events.id[at], events.moment[at], events.session[at]
    device, online = sessions.device[session], events.kind[at] == 0
    lost = sessions.lost[session] & ~online
    kind = world.spoiler.kinds("devices.status", ident, _STATUS_DEFECTS)
    says = pick(["offline", "online"], online.astype(np.int64))
    reason = np.where(online, 0, np.where(lost, 2, 1))
    payload = as_json(
        {
            "device_id": json_text(name_of(device)),
            "sequence": number(events.sequence[at]),
            "status": json_text(when(kind["missing"], "", says)),
            "changed_at": json_text(iso_utc(moment)),
            "reason": json_text(pick(["power_on", "power_off", "connection_lost"], reason)),
        }
    )
    topic = join("devices/", name_of(device), "/status")
    messages = deliver(
        world.draws,
        "devices.status",
        ident,
        held[at],
        (topic, cut_off(payload, kind["malformed"])),
        twice=kind["duplicated"],
        cut=world.cut,
    )
    key = _key(name_of(device), events.sequence[at])
    good = _note(log, "status", key, kind, messages, says)
    return Status(device[good], moment[good], online[good], lost[good]), messages
