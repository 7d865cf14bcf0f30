"""What an ideal warehouse would show about the online game, for tests only.

valid events, purchases, readings ─> days of players, active players, cohorts, minutes of servers,
incidents ─> truth/game_*.parquet

Of what has been published by the world's day.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anycompany import days
from anycompany.draws import Bools, Ints
from anycompany.systems import game_servers
from anycompany.systems.game import Game, player_name
from anycompany.systems.game_servers import Readings
from anycompany.text import pick
from anycompany.world import World

_SPAN = np.int64(4_096)  # more days than the company has
_RETENTION_DAYS = (1, 7, 30)
_MERGED_MINUTES = 5
_OUTAGE_MINUTES = 4
_CPU, _TICK, _ERRORS = 900, 500, 10


def tables(world: World) -> dict[str, pa.Table]:
    """Returns the game's tables by name; their columns are in the README."""
    played = _PlayerDays(world.game)
    return {
        "game_player_days": played.table(),
        "game_active_players": played.active(),
        "game_cohorts": played.cohorts(),
        "game_server_minutes": _minutes(world.game.readings),
        "game_incidents": _incidents(world.game.readings),
    }


def _dates(day: Ints) -> pa.Array:
    return pa.array((day + days.EPOCH_DAY).astype(np.int32)).cast(pa.date32())


class _PlayerDays:
    """Players' days: those on which a session began, or something was bought or paid back."""

    def __init__(self, game: Game) -> None:
        self._sessions(game)
        bought = game.purchases
        bought_key = bought.player * _SPAN + days.day_of(bought.moment)
        self.key = np.unique(np.concatenate([self._session_key, bought_key]))
        self.player, self.day = self.key // _SPAN, self.key % _SPAN
        at = np.searchsorted(self.key, self._session_key)
        self.sessions = np.bincount(at, minlength=len(self.key))
        self.minutes = np.zeros(len(self.key), dtype=np.int64)
        np.add.at(self.minutes, at, self._session_minutes)
        at, is_refund = np.searchsorted(self.key, bought_key), bought.group == 1
        self.purchases = np.bincount(at[~is_refund], minlength=len(self.key))
        self.paid, self.returned = (
            np.bincount(at[mask], bought.cents[mask], len(self.key)).astype(np.int64)
            for mask in (~is_refund, is_refund)
        )
        self.is_known = np.isin(self.player, self._session_key // _SPAN)

    def _sessions(self, game: Game) -> None:
        seen = game.events
        order = np.lexsort((seen.moment, seen.group))
        group, moment = seen.group[order], seen.moment[order]
        first = np.flatnonzero(np.diff(group, prepend=-1))
        last = np.append(first[1:], len(group)) - 1
        self._session_key = seen.player[order][first] * _SPAN + days.day_of(moment[first])
        self._session_minutes = (moment[last] - moment[first]) // 60

    def table(self) -> pa.Table:
        """Returns one row per player and day."""
        return pa.table(
            {
                "player_id": player_name(self.player),
                "activity_date": _dates(self.day),
                "session_count": pa.array(self.sessions),
                "play_minutes": pa.array(self.minutes),
                "purchase_count": pa.array(self.purchases),
                "purchase_cents": pa.array(self.paid),
                "refund_cents": pa.array(self.returned),
            }
        )

    def _distinct(self, mask: Bools, span: int) -> Ints:
        """Returns for each day how many players had a day of the mask in the `span` days to it."""
        count = np.zeros(int(self.day.max()) + 1, dtype=np.int64)
        player, day = self.player[mask], self.day[mask]
        # A player counts from a day on until `span` days after, or their next such day.
        following = np.append(np.where(np.diff(player) == 0, day[1:], _SPAN), _SPAN)[: len(day)]
        for first, end in zip(day, np.minimum(day + span, following), strict=True):
            count[first:end] += 1
        return count

    def active(self) -> pa.Table:
        """Returns one row per day from the first to the last with an active known player."""
        active = self.sessions > 0
        known = self.is_known
        first, last = int(self.day[active].min()), int(self.day[known].max())
        span = np.arange(first, last + 1)
        joined = np.bincount(self._first_days(), minlength=last + 1)
        cents = np.zeros(last + 1, dtype=np.int64)
        np.add.at(cents, self.day[known], (self.paid - self.returned)[known])
        payers = np.bincount(self.day[known & (self.purchases > 0)], minlength=last + 1)
        counts = {
            f"active_{name}": self._distinct(active, width)
            for name, width in (("day", 1), ("week", 7), ("month", 30))
        }
        padded = {
            name: np.pad(values, (0, max(0, last + 1 - len(values))))[span]
            for name, values in counts.items()
        }
        return pa.table(
            {
                "activity_date": _dates(span),
                **{name: pa.array(values) for name, values in padded.items()},
                "new_players": pa.array(joined[span]),
                "payers": pa.array(payers[span]),
                "revenue_cents": pa.array(cents[span]),
            }
        )

    def _first_days(self) -> Ints:
        key = self.key[self.sessions > 0]
        return np.asarray(key[np.diff(key // _SPAN, prepend=-1) != 0] % _SPAN)

    def cohorts(self) -> pa.Table:
        """Returns one row per day on which players joined."""
        key = self.key[self.sessions > 0]
        is_first = np.diff(key // _SPAN, prepend=-1) != 0
        joined = key[is_first] % _SPAN
        cohort, row = np.unique(joined, return_inverse=True)
        player = key[is_first] // _SPAN
        columns = {
            "cohort_date": _dates(cohort),
            "players": pa.array(np.bincount(row, minlength=len(cohort))),
        }
        last = int((key % _SPAN).max())
        for age in _RETENTION_DAYS:
            back = np.isin(player * _SPAN + joined + age, key)
            counts = np.bincount(row[back], minlength=len(cohort))
            columns[f"day_{age}"] = pa.array(counts, mask=cohort + age > last)
        buys = self.key[self.purchases > 0]
        starts = np.searchsorted(buys, player * _SPAN)
        padded = np.append(buys, np.iinfo(np.int64).max)
        pays = padded[starts] // _SPAN == player
        columns["payers"] = pa.array(np.bincount(row[pays], minlength=len(cohort)))
        return pa.table(columns)


def _at(minute: Ints) -> pa.Array:
    seconds = int(days.start_of(0)) + minute * 60
    return pa.array(seconds).cast(pa.timestamp("s")).cast(pa.timestamp("us"))


def _minutes(one: Readings) -> pa.Table:
    return pa.table(
        {
            "server_id": pick(game_servers.NAMES, one.server),
            "minute_at": _at(one.minute),
            "cpu_tenths": pa.array(one.cpu),
            "players": pa.array(one.players),
            "tick_tenths": pa.array(one.tick),
            "errors": pa.array(one.errors),
            "is_healthy": pa.array(_is_healthy(one)),
        }
    )


def _is_healthy(one: Readings) -> Bools:
    return (one.cpu < _CPU) & (one.tick < _TICK) & (one.errors < _ERRORS)


def _incidents(one: Readings) -> pa.Table:
    """Returns runs of unhealthy minutes, few others within allowed, and times without readings."""
    bad = ~_is_healthy(one)
    server, minute = one.server[bad], one.minute[bad]
    is_new = (np.diff(server, prepend=-1) != 0) | (
        np.diff(minute, prepend=-_SPAN) > _MERGED_MINUTES
    )
    begins = np.flatnonzero(is_new)
    ends = np.append(begins[1:], len(server))[: len(begins)] - 1
    silent_at, silent_until, silent_server = _silences(one)
    count = len(silent_at)
    return pa.table(
        {
            "server_id": pick(game_servers.NAMES, np.concatenate([server[begins], silent_server])),
            "kind": pick(["unhealthy", "outage"], np.repeat([0, 1], [len(begins), count])),
            "started_at": _at(np.concatenate([minute[begins], silent_at])),
            "ended_at": pa.concat_arrays(
                [
                    _at(minute[ends] + 1),
                    pc.if_else(pa.array(silent_until >= 0), _at(silent_until), None),
                ]
            ),
            "unhealthy_minutes": pa.array(
                np.concatenate([ends - begins + 1, np.zeros(count, np.int64)])
            ),
        }
    )


def _silences(one: Readings) -> tuple[Ints, Ints, Ints]:
    """Returns first minute, minute of the next reading (-1 if none) and server of each silence."""
    is_last = np.diff(one.server, append=-1) != 0
    end = int(one.minute.max()) + 1
    following = np.where(is_last, end, np.append(one.minute[1:], end))
    silent = following - one.minute - 1 >= _OUTAGE_MINUTES
    until = np.where(is_last, -1, following)[silent]
    return one.minute[silent] + 1, until, one.server[silent]
