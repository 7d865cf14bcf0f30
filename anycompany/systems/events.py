"""What the systems that send events share: how a device's clock and a network spoil messages.

events (when they happened) ─> drawn defects ─> messages (when they were sent, in that order) ─>
Feed

An event has a moment of its own; a message about it is sent a moment later, or days later, or
twice, and a wrong clock shifts all that it says of time but for what the receiver adds. It leaves
out what the events are about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anycompany.defects import Spoiler
from anycompany.draws import Bools, Draws, Ints
from anycompany.feeding import Feed
from anycompany.text import Column

# Networks and devices spoil more than people do.
DIRTINESS = 6.0
LATEST_SECONDS = 3 * 86_400
_LATE_FROM = 3_600
_DISORDER_SECONDS = 120


def spoiler(draws: Draws, rate: float) -> Spoiler:
    """Returns what decides which events are spoilt, at a company's share of defects."""
    return Spoiler(draws, min(rate * DIRTINESS, 0.9))


def sent_at(
    draws: Draws, name: str, ids: Ints, happened: Ints, late: Bools, out_of_order: Bools
) -> Ints:
    """Returns the second at which each event is sent: at once, out of order, or days late."""
    pause = draws.below(f"{name}/pause", ids, 3)
    pause = np.where(
        out_of_order, 20 + draws.below(f"{name}/disorder", ids, _DISORDER_SECONDS), pause
    )
    delay = _LATE_FROM + draws.below(f"{name}/late", ids, LATEST_SECONDS - _LATE_FROM)
    return happened + np.where(late, delay, pause)


def again_at(draws: Draws, name: str, ids: Ints, sent: Ints) -> Ints:
    """Returns the second at which each message is sent once more."""
    return sent + 1 + draws.below(f"{name}/again", ids, 6 * 3_600)


@dataclass(frozen=True)
class Messages:
    """Messages of one kind.

    Attributes:
        sent: Epoch second at which each reached the broker.
        number: Tells messages of one second apart; stable over time.
        topic: Subject of each.
        text: Content of each.
        malformed: Whether its end is cut off.
    """

    sent: Ints
    number: Ints
    topic: Column
    text: Column
    malformed: Bools


def feed(
    draws: Draws, stream: str, subjects: tuple[str, ...], kinds: Sequence[Messages], cut: int
) -> Feed:
    """Returns the messages of all kinds that were sent before a moment, in order.

    Args:
        draws: The company's draws.
        stream: Name of the stream.
        subjects: What the stream takes.
        kinds: Messages by kind; kinds may be added at the end only.
        cut: Epoch second.
    """
    sent, number, kind = (
        np.concatenate(parts)
        for parts in (
            [one.sent for one in kinds],
            [one.number for one in kinds],
            [np.full(len(one.sent), at) for at, one in enumerate(kinds)],
        )
    )
    shown = np.flatnonzero(sent < cut)
    order = shown[np.lexsort((number[shown], kind[shown], sent[shown]))].tolist()
    topics = [text for one in kinds for text in one.topic.to_pylist()]
    texts = [text for one in kinds for text in one.text.to_pylist()]
    for at, one in enumerate(kinds):
        offset = sum(len(former.sent) for former in kinds[:at])
        where = np.flatnonzero(one.malformed)
        shares = draws.unit(f"{stream}.{at}.cut_off", one.number[where])
        for position, share in zip(where.tolist(), shares.tolist(), strict=True):
            text = texts[offset + position]
            # Never whole, never empty: the closing bracket is always missing.
            texts[offset + position] = text[: 1 + int(share * (len(text) - 1))]
    return Feed(
        stream, subjects, [topics[at] for at in order], [texts[at].encode() for at in order]
    )
