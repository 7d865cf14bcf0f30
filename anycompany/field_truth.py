"""What an ideal warehouse would show of devices and card payments, for tests only.

valid messages that have been delivered ─> hours, spells, firmware, health; alerts, disputes ─>
truth/*.parquet

Counted from the rows behind the messages, not from the messages. It leaves out what is still on
its way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany.days import SECONDS
from anycompany.draws import Bools, Ints
from anycompany.systems import card_payments
from anycompany.systems.common import HOUR
from anycompany.systems.devices import FIRMWARE, Devices, Telemetry, name_of
from anycompany.text import pick
from anycompany.world import World

_VERSIONS = [version for version, _ in FIRMWARE]
_HOT = 750
_WINDOW_DAYS = 7
_FEWEST_MESSAGES = 10


def tables(world: World) -> dict[str, pa.Table]:
    """Returns the truth's tables by name; their columns are in the README."""
    devices, payments = world.devices, world.card_payments
    failing = _failing(devices.telemetry)
    return {
        "device_hours": _hours(devices.telemetry),
        "device_spells": _spells(devices),
        "firmware_health": failing,
        "device_health": _health(devices, failing),
        "device_defects": devices.log.table(),
        "card_transactions": _transactions(payments),
        "card_alerts": card_payments.alerts(payments.transactions),
        "card_defects": payments.log.table(),
    }


def _stamp(seconds: Ints) -> pa.Array:
    return pa.array(seconds).cast(pa.timestamp("s")).cast(pa.timestamp("us"))


def _hours(told: Telemetry) -> pa.Table:
    rows = pa.table(
        {
            "device_id": told.device,
            "hour_start": _stamp(told.moment // HOUR * HOUR),
            "failed": told.failed.astype(np.int64),
            "tenths": told.temperature,
            "battery": told.battery,
        }
    )
    counted = rows.group_by(["device_id", "hour_start"]).aggregate(
        [([], "count_all"), ("failed", "sum"), ("tenths", "sum"), ("tenths", "max"),
         ("battery", "min")]
    )  # fmt: skip
    names = {
        "count_all": "message_count",
        "failed_sum": "error_count",
        "tenths_sum": "temperature_sum_tenths",
        "tenths_max": "temperature_max_tenths",
        "battery_min": "battery_min_pct",
    }
    return counted.rename_columns([names.get(name, name) for name in counted.column_names])


def _spells(devices: Devices) -> pa.Table:
    told = devices.status
    order = np.lexsort((told.moment, told.device))
    device, online, moment = told.device[order], told.online[order], told.moment[order]
    other = np.diff(device, prepend=-1) != 0
    begins = np.flatnonzero(other | (np.diff(online.astype(np.int64), prepend=-1) != 0))
    device, online, moment = device[begins], online[begins], moment[begins]
    last = np.append(np.diff(device) != 0, True)[: len(device)]
    ended = np.append(moment[1:], 0)[: len(device)]
    return pa.table(
        {
            "device_id": name_of(device),
            "device_status": pick(["offline", "online"], online.astype(np.int64)),
            "started_at": _stamp(moment),
            "ended_at": pc.if_else(pa.array(last), pa.scalar(None, pa.timestamp("us")),
                                   _stamp(ended)),
        }
    )  # fmt: skip


def _by_device(told: Telemetry, mask: Bools, **columns: Any) -> pa.Table:
    rows = pa.table({"device_id": told.device, **columns}).filter(pa.array(mask))
    keys = [name for name in columns if name == "firmware"]
    counts = [(name, "sum") for name in columns if name not in keys]
    return rows.group_by(["device_id", *keys]).aggregate([([], "count_all"), *counts])


def _failing(told: Telemetry) -> pa.Table:
    """Returns each firmware; one fails if half of its devices err in one message of twenty."""
    everything = np.ones(len(told.moment), dtype=bool)
    rows = _by_device(told, everything, firmware=told.firmware, failed=told.failed.astype(np.int64))
    version = np.asarray(rows["firmware"])
    messages, errors = np.asarray(rows["count_all"]), np.asarray(rows["failed_sum"])
    judged = messages >= _FEWEST_MESSAGES
    errs = judged & (errors * 100 >= messages * 5)
    known = np.unique(version)

    def summed(values: Any) -> Ints:
        return np.array([values[version == one].sum() for one in known], dtype=np.int64)

    return pa.table(
        {
            "firmware": pick(_VERSIONS, known),
            "device_count": summed(np.ones(len(version), dtype=np.int64)),
            "message_count": summed(messages),
            "error_count": summed(errors),
            "is_failing": (summed(errs) * 2 >= summed(judged)) & (summed(judged) > 0),
        }
    )


def _health(devices: Devices, failing: pa.Table) -> pa.Table:
    """Returns the score of each device that told enough in the last seven days."""
    told = devices.telemetry
    since = (told.moment.max(initial=0) // SECONDS - _WINDOW_DAYS + 1) * SECONDS
    recent = told.moment >= since
    rows = _by_device(
        told,
        recent,
        failed=told.failed.astype(np.int64),
        hot=(told.temperature >= _HOT).astype(np.int64),
        off=(np.abs(told.offset) > 300).astype(np.int64),
    )
    keys = rows["device_id"].to_pylist()
    messages, errors, hot, off = (
        np.asarray(rows[name]) for name in ("count_all", "failed_sum", "hot_sum", "off_sum")
    )
    lost_at = devices.status.lost & (devices.status.moment >= since)
    lost = dict(
        zip(*np.unique(name_of(devices.status.device[lost_at]).to_pylist(), return_counts=True),
            strict=True)
    )  # fmt: skip
    bad = {row["firmware"] for row in failing.to_pylist() if row["is_failing"]}
    order = np.argsort(told.moment, kind="stable")
    newest = dict(
        zip(
            told.device.take(pa.array(order)).to_pylist(),
            pick(_VERSIONS, told.firmware[order]).to_pylist(),
            strict=True,
        )
    )
    score = np.full(len(keys), 100)
    score -= np.where(hot * 100 >= messages * 10, 50, 0)
    score -= np.where(
        errors * 100 >= messages * 20, 50, np.where(errors * 100 >= messages * 5, 10, 0)
    )
    score -= np.array([10 if lost.get(key, 0) >= 3 else 0 for key in keys], dtype=np.int64)
    score -= np.array([10 if newest[key] in bad else 0 for key in keys], dtype=np.int64)
    score -= np.where(off > 0, 5, 0)
    return pa.table(
        {
            "device_id": pa.array(keys, pa.string()),
            "message_count": messages,
            "error_count": errors,
            "hot_count": hot,
            "health_score": np.maximum(score, 0),
        }
    ).filter(pa.array(messages >= _FEWEST_MESSAGES))


def _transactions(payments: card_payments.CardPayments) -> pa.Table:
    paid = payments.transactions
    return pa.table(
        {
            "transaction_id": card_payments.key_of(paid.id),
            "card_token": card_payments.token_of(paid.card),
            "amount_usd_cents": paid.usd,
            "fraud_pattern": pick(
                [*card_payments.PATTERNS, None], np.where(paid.pattern < 0, 4, paid.pattern)
            ),
            "is_disputed": np.isin(paid.id, payments.disputed),
        }
    )
