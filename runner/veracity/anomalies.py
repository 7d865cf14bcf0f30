"""What is unusual: in this run against former runs, and inside the series of a mart.

run history -> changes by day -> bands ─┐
mart -> slots by time and series -> bands ┴─> `Anomaly`: value, band, severity, a sentence

The band is that of `bands`; here stands what a slot is, which move is too small to be told, and how
it is said. A run that changed nothing is judged too: the rows that did not come are what is
unusual. Left out: gaps, which need no statistics; `gaps` knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import gcd
from typing import TYPE_CHECKING, Any

from runner.veracity.bands import MIN_PAST, WIDTHS, expected_bands
from runner.veracity.measures import Changes, hours_as_time
from runner.veracity.watches import SeriesWatch, Watch

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

WEEK = 7
# Hours repeat by day, days by week; weeks and months are compared with those before them.
SEASONS = {"hour": 24, "day": WEEK, "week": 1, "month": 1}
_SERIES_SLOTS = {"hour": 24 * 28, "day": 200, "week": 104, "month": 60}
# Smallest half-width of a band, by measure: what a measure may move without being told.
_HOURS_NEWEST, _HOURS_NEWEST_STILL = 12.0, 240.0
_SHARE_OF_NEW_ROWS, _ROWS_OF_SHARE = 0.05, 5.0
_DISTINCT_SHARE = 0.15  # the estimate itself errs by a tenth
_STILL_SHARE = 0.01


@dataclass(frozen=True)
class Anomaly:
    """Something unusual.

    Attributes:
        relation: Schema and name of the table, or source and table of files.
        column: Name of the column; empty for the table itself.
        measure: rows, null_share, distinct, sum, newest, series, gap, sequence or file.
        at: The run's moment, or the slot of a series; None where it is no point in time.
        series: Which series of the table; empty if there is but one.
        value: What was found, in the unit of the measure.
        low: Lower edge of the expected band; None for a gap.
        high: Upper edge of the expected band; None for a gap.
        severity: warn or error.
        text: All of it as a sentence.
    """

    relation: str
    column: str
    measure: str
    at: datetime | None
    series: str
    value: float | None
    low: float | None
    high: float | None
    severity: str
    text: str

    @property
    def name(self) -> str:
        """What it is about, the same in each run that meets it again."""
        place = f"{self.relation}.{self.column}" if self.column else self.relation
        own = f" [{self.series}]" if self.series else ""
        moment = f" {self.at:%Y-%m-%d %H:%M}" if self.at and self.measure == "series" else ""
        return f"{place} {self.measure}{own}{moment}"


# -- over runs ---------------------------------------------------------------------------------


def unusual_changes(changes: Changes, tables: Sequence[Watch], moment: datetime) -> list[Anomaly]:
    """Compares how measures changed up to this run with how they changed before.

    Args:
        changes: As `measures.changes` gives them.
        tables: How each table is judged.
        moment: The moment that the run stands for, UTC.

    Returns:
        Anomalies in order of table, column and measure.
    """
    import numpy as np

    known = np.flatnonzero((~np.isnan(changes.values)).any(axis=1))
    if len(known) <= MIN_PAST:
        return []
    changes = replace(changes, values=changes.values[known[0] :])
    season = WEEK // gcd(WEEK, changes.days)
    watched = {table.relation: table for table in tables}
    floors = _floors(changes)
    found = []
    for sensitivity, places in _by_sensitivity(changes, watched).items():
        bands = expected_bands(
            changes.values[:, places], season, WIDTHS[sensitivity], floors[:, places]
        )
        for column in bands.outside[-1].nonzero()[0]:
            place = places[int(column)]
            edges = float(bands.low[-1, column]), float(bands.high[-1, column])
            table = watched[changes.series[place][0]]
            found.append(_unusual_change(changes, place, edges, table, moment))
    return sorted(found, key=lambda a: (a.relation, a.column, a.measure))


def _by_sensitivity(changes: Changes, watched: dict[str, Watch]) -> dict[str, list[int]]:
    """Places of the series to judge, by how narrow their bands are."""
    import numpy as np

    judged: dict[str, list[int]] = defaultdict(list)
    for place, (relation, column, measure) in enumerate(changes.series):
        table = watched.get(relation)
        if table and table.severity(column, measure) != "off" and not np.isnan(changes.now[place]):
            judged[table.sensitivity(column)].append(place)
    return judged


def _floors(changes: Changes) -> NDArray[np.float64]:
    """The smallest half-width of each slot's band, shaped as the changes.

    A count may always move by what chance makes of its usual move. What never moved must move by a
    share of what it is.
    """
    import numpy as np

    values, before = changes.values, np.nan_to_num(changes.before)
    usual = np.nan_to_num(np.abs(values)).max(axis=0, initial=0.0)
    typical = _typical(values)
    still = typical == 0
    at_rows = {s[0]: p for p, s in enumerate(changes.series) if s[2] == "rows"}
    floors = np.zeros(values.shape)
    for place, (relation, _, measure) in enumerate(changes.series):
        level = abs(before[place])
        if measure == "newest":
            floors[:, place] = _HOURS_NEWEST_STILL if still[place] else _HOURS_NEWEST
        elif measure == "null_share":
            rows = at_rows[relation]
            many = max(1.0, before[rows])
            new = np.nan_to_num(np.abs(values[:, rows]))
            floors[:, place] = (_SHARE_OF_NEW_ROWS * new + _ROWS_OF_SHARE) / many
        elif measure == "distinct":
            floors[:, place] = max(_DISTINCT_SHARE * level, 3.0)
        elif measure == "rows":
            floors[:, place] = 3 * np.sqrt(max(1.0, typical[place]))
            floors[:, place] += _STILL_SHARE * level * still[place]
        else:
            floors[:, place] = _STILL_SHARE * (level if still[place] else usual[place])
    return floors


def _typical(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The usual size of each series' former changes; 0 where there is none."""
    import numpy as np

    ordered = np.sort(np.abs(values[:-1]), axis=0)
    known = len(ordered) - np.isnan(ordered).sum(axis=0)
    middle = ordered[np.maximum(known - 1, 0) // 2, np.arange(values.shape[1])]
    return np.asarray(np.nan_to_num(middle))


def _unusual_change(
    changes: Changes, place: int, edges: tuple[float, float], table: Watch, moment: datetime
) -> Anomaly:
    relation, column, measure = changes.series[place]
    before, now = float(changes.before[place]), float(changes.now[place])
    low, high = before + edges[0], before + edges[1]
    what = f"{measure} of {relation}" + (f".{column}" if column else "")
    since = f"{changes.since:%Y-%m-%d %H:%M}" if changes.since else "the run before"
    if measure == "newest":
        told = hours_as_time(before), hours_as_time(now), hours_as_time(low), hours_as_time(high)
    else:
        told = _figure(before), _figure(now), _figure(low), _figure(high)
    text = f"{what} is {told[1]}, was {told[0]} at {since}; expected {told[2]} to {told[3]}"
    severity = table.severity(column, measure)
    return Anomaly(relation, column, measure, moment, "", now, low, high, severity, text)


def _figure(value: float) -> str:
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.4g}"


# -- inside a mart -----------------------------------------------------------------------------


def unusual_slots(connection: duckdb.DuckDBPyConnection, table: Watch) -> list[Anomaly]:
    """Judges the declared series of a table.

    Args:
        connection: The warehouse.
        table: What is declared of it.

    Returns:
        Anomalies of the newest slots of each series, as many as are declared to be reported. The
        last slot of a series may be incomplete and is not judged.
    """
    found: list[Anomaly] = []
    for series in table.anomalies.series:
        severity = series.severity or table.anomalies.severity
        if severity != "off":
            found += _judged(connection, table, series, severity)
    return found


def _judged(
    connection: duckdb.DuckDBPyConnection, table: Watch, series: SeriesWatch, severity: str
) -> Iterator[Anomaly]:
    import numpy as np

    slots, names, values = read_series(connection, table, series)
    ends = []
    for column in values.T:
        there = np.flatnonzero(~np.isnan(column))
        if series.aggregate == "sum":
            column[there[0] : there[-1]] = np.nan_to_num(column[there[0] : there[-1]])
        column[there[-1]] = np.nan
        ends.append(there[-1])
    width = WIDTHS[series.sensitivity or table.anomalies.sensitivity]
    bands = expected_bands(values, SEASONS[series.grain], width)
    for slot, column in np.argwhere(bands.outside):
        if slot >= ends[column] - series.report:
            edges = float(bands.low[slot, column]), float(bands.high[slot, column])
            value = float(values[slot, column])
            yield _unusual_slot(table, series, names[column], slots[slot], value, edges, severity)


def read_series(
    connection: duckdb.DuckDBPyConnection, table: Watch, series: SeriesWatch
) -> tuple[list[datetime], list[str], NDArray[np.float64]]:
    """Reads the newest slots of a declared series.

    Args:
        connection: The warehouse.
        table: The table.
        series: Which of its series.

    Returns:
        The slots, the names of the series, and their values (slots, series), NaN where there are no
        rows.
    """
    import numpy as np

    value = "count(*)" if series.value == "rows" else f'{series.aggregate}("{series.value}")'
    name = " || ', ' || ".join(f"coalesce(\"{c}\"::varchar, '')" for c in series.by) or "''"
    found = connection.execute(
        f"select date_trunc('{series.grain}', \"{series.time}\"::timestamp) as slot, "
        f"{name} as series, ({value})::double as value "
        f'from "{table.schema}"."{table.name}" where "{series.time}" is not null '
        "group by slot, series having value is not null order by slot, series"
    ).fetchall()
    if not found:
        return [], [], np.empty((0, 0))
    slots = slots_between(found[0][0], found[-1][0], series.grain)[-_SERIES_SLOTS[series.grain] :]
    at = {slot: number for number, slot in enumerate(slots)}
    names = sorted({row[1] for row in found if row[0] in at})
    column = {name: number for number, name in enumerate(names)}
    values = np.full((len(slots), len(names)), np.nan)
    for slot, name, number in found:
        if slot in at:
            values[at[slot], column[name]] = number
    return slots, names, values


def slots_between(first: datetime, last: datetime, grain: str) -> list[datetime]:
    """All slots from one to another, both included."""
    found = [first]
    while found[-1] < last:
        found.append(next_slot(found[-1], grain))
    return found


def next_slot(slot: Any, grain: str) -> Any:
    """The slot after one; dates and times alike."""
    if grain == "month":
        return slot.replace(year=slot.year + slot.month // 12, month=slot.month % 12 + 1)
    return (
        slot
        + {
            "hour": timedelta(hours=1),
            "day": timedelta(days=1),
            "week": timedelta(weeks=1),
        }[grain]
    )


def _unusual_slot(
    table: Watch,
    series: SeriesWatch,
    name: str,
    at: datetime,
    value: float,
    edges: tuple[float, float],
    severity: str,
) -> Anomaly:
    moment: date | str = f"{at:%Y-%m-%d %H:%M}" if series.grain == "hour" else at.date()
    own = f" for {name}" if name else ""
    text = (
        f"{series.value} of {table.relation}{own} is {_figure(value)} in the {series.grain} of "
        f"{moment}; expected {_figure(edges[0])} to {_figure(edges[1])}"
    )
    column = "" if series.value == "rows" else series.value
    place = (table.relation, column, "series", at, name)
    return Anomaly(*place, value, *edges, severity, text)
