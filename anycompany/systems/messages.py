"""Messages of a stream in the order in which they are delivered.

rows with a moment of delivery ─> repeats ─> sorted, cut at the company's day ─> topics, payloads

The list of a later day begins with the list of an earlier one. So a feeder needs to remember one
number, how many it has sent, and a message has the same place on every machine. It leaves out how
messages travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany.draws import Bools, Draws, Ints
from anycompany.systems.common import DAY
from anycompany.text import Column, pick, when

_REPEATED_WITHIN = 3_600
_LATE_DAYS = 3


@dataclass(frozen=True)
class Messages:
    """What a stream has delivered by the end of a day, in order.

    Attributes:
        topic: Where each message goes to.
        payload: Its text.
        delivered: Epoch second of its delivery, never falling.
        row: The row that it tells of.
        repeats: Whether it is a repeated delivery of an earlier message.
    """

    topic: Column
    payload: Column
    delivered: Ints
    row: Ints
    repeats: Bools

    def __len__(self) -> int:
        return len(self.delivered)

    def seen(self, count: int) -> Bools:
        """Returns which of `count` rows have been delivered."""
        mask = np.zeros(count, dtype=bool)
        mask[self.row] = True
        return mask


def deliver(
    draws: Draws,
    name: str,
    ids: Ints,
    moments: Ints,
    texts: tuple[Column, Column],
    *,
    twice: Bools,
    cut: int,
) -> Messages:
    """Puts messages in the order of delivery.

    Args:
        draws: The company's draws.
        name: Of the stream; names the draws.
        ids: A stable number for each row, no two alike.
        moments: Epoch second at which each row is delivered.
        texts: Topic and payload of each row; a text alone stands for all.
        twice: Rows that are delivered again within the hour.
        cut: Epoch second from which on nothing has been delivered yet.
    """
    again = np.flatnonzero(twice)
    row = np.concatenate([np.arange(len(ids)), again])
    repeats = np.arange(len(row)) >= len(ids)
    pause = 1 + draws.below(f"{name}/again", ids[again], _REPEATED_WITHIN)
    delivered = np.concatenate([moments, moments[again] + pause])
    order = np.lexsort((repeats, ids[row], delivered))
    order = order[delivered[order] < cut]
    at = pa.array(row[order])
    topic, payload = (
        pick([text], np.zeros(len(order), dtype=np.int64))
        if isinstance(text, str)
        else text.take(at)
        for text in texts
    )
    return Messages(topic, payload, delivered[order], row[order], repeats[order])


def travel(draws: Draws, name: str, ids: Ints, *, late: Bools) -> Ints:
    """Returns the seconds from an event to its delivery: a few, for one in twenty minutes.

    Args:
        draws: The company's draws.
        name: Of the stream; names the draws.
        ids: A stable number for each event.
        late: Events that are delivered one to three days after.
    """
    seconds = draws.below(f"{name}/travel", ids, 4)
    slow = draws.chance(f"{name}/slow", ids, 0.05)
    seconds += np.where(slow, draws.below(f"{name}/slow_by", ids, 2_400), 0)
    days_late = DAY + draws.below(f"{name}/late_by", ids, (_LATE_DAYS - 1) * DAY)
    return np.where(late, days_late, seconds)


def as_json(fields: Mapping[str, Column]) -> Column:
    """Returns one JSON object a row, from fields whose texts are JSON already."""
    parts: list[Column] = []
    for position, (name, text) in enumerate(fields.items()):
        parts += [f'{", " if position else "{"}"{name}": ', text]
    return pc.binary_join_element_wise(*parts, "}", "")


def cut_off(payload: Column, mask: Bools) -> Column:
    """Returns the payloads, of the masked ones only the beginning, which is no JSON.

    Their number is within it: two that are alike would pass for one that is delivered again.
    """
    short = pc.utf8_slice_codeunits(payload, 0, 52)
    return when(mask, short, payload)
