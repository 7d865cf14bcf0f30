"""Measures of staging tables and marts, taken at every run and kept beyond the warehouse.

warehouse -> one query a table -> `Measured` values -> run history -> `changes` by day

Rows, missing values, distinct values, sums and newest times, of every column: one pass over a table
gives all of them. They are kept as totals; what is judged is how they change from day to day, since
a total that only grows hides a day without rows. Left out: what is unusual; `anomalies` knows.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ingestion.errors import SettingsError

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

    from ingestion.settings import Settings
    from runner.history import History
    from runner.veracity.watches import Watch

DAY = timedelta(days=1)
# Slots that are looked back on; the spread is taken of the last 90.
SLOTS = 120
_NUMBER = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL\([^)]*\)|DOUBLE|FLOAT|REAL)$")
_TIME = re.compile(r"^(DATE|TIMESTAMP[A-Z_ ]*)$")
_NESTED = re.compile(r"\[|^(STRUCT|MAP|UNION|BLOB|JSON)")
# Estimates err by a tenth: of more distinct values they tell nothing that is worth their time.
_MOST_DISTINCT = 1_000
# Tests of uniqueness tell more about a key, for less.
_KEY = re.compile(r"(^|_)(id|key)$")
# The sum of such a column means nothing.
_NAME = re.compile(r"(^|_)(id|key|no|number|code|row|year|month|day)$")


@dataclass(frozen=True)
class Measured:
    """One value of a table or column.

    Attributes:
        relation: Schema and name of the table.
        column: Name of the column; empty for the table itself.
        measure: rows (count), null_share (0 to 1), distinct (estimated count), sum (unit of the
            column) or newest (hours since 1970, UTC).
        value: The value.
    """

    relation: str
    column: str
    measure: str
    value: float


def measure(
    connection: duckdb.DuckDBPyConnection,
    tables: Sequence[Watch],
    former: Mapping[tuple[str, str, str], float] | None = None,
) -> list[Measured]:
    """Measures tables, with one query each; those that do not exist are passed over.

    Args:
        connection: The warehouse.
        tables: What to measure.
        former: Values of the last run by relation, column and measure: where a column had very many
            distinct values they are not counted again.

    Returns:
        Values in order of tables and columns.
    """
    former = former or {}
    found: list[Measured] = []
    columns = _columns(connection)
    for table in tables:
        described = columns.get((table.schema, table.name))
        if described:
            asked = [
                (column, name, sql)
                for column, kind in described
                for name, sql in _asked(column, kind)
                if name != "distinct"
                or former.get((table.relation, column, name), 0) <= _MOST_DISTINCT
            ]
            found += _measure_table(connection, table, asked)
    return found


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], list[tuple[str, str]]]:
    found = connection.execute(
        "select schema_name, table_name, column_name, data_type from duckdb_columns() "
        "where not internal and database_name = current_database() order by column_index"
    ).fetchall()
    listed = defaultdict(list)
    for schema, table, column, kind in found:
        listed[schema, table].append((column, kind))
    return listed


def _measure_table(
    connection: duckdb.DuckDBPyConnection, table: Watch, asked: Sequence[tuple[str, str, str]]
) -> list[Measured]:
    wanted = ", ".join(["count(*)", *(sql for _, _, sql in asked)])
    row = connection.execute(f'select {wanted} from "{table.schema}"."{table.name}"').fetchone()
    assert row is not None
    found = [Measured(table.relation, "", "rows", float(row[0]))]
    for (column, name, _), value in zip(asked, row[1:], strict=True):
        if value is not None and math.isfinite(value):
            found.append(Measured(table.relation, column, name, float(value)))
    return found


def _asked(column: str, kind: str) -> list[tuple[str, str]]:
    """Name and SQL of each measure of a column; loader metadata tells only how new it is."""
    name = '"' + column.replace('"', '""') + '"'
    is_time = bool(_TIME.match(kind))
    newest = [("newest", f"epoch(max({name})) / 3600")] if is_time else []
    if column.startswith("_"):
        return newest
    asked = [("null_share", f"1 - count({name}) / nullif(count(*), 0)"), *newest]
    if not _NESTED.search(kind) and not _KEY.search(column):
        asked.append(("distinct", f"approx_count_distinct({name})"))
    if _NUMBER.match(kind) and not _NAME.search(column):
        asked.append(("sum", f"sum({name}::double)"))
    return asked


def last_distinct(history: History) -> dict[tuple[str, str, str], float]:
    """The newest count of distinct values of each column, whenever it was taken."""
    found = history.rows(
        "select relation, column_name, measure, value from measured_series "
        "inner join measures using (series) where measure = 'distinct' order by content"
    )
    return {(row["relation"], row["column_name"], row["measure"]): row["value"] for row in found}


def moment_of(settings: Settings, otherwise: datetime | None = None) -> datetime:
    """The moment that a run's measures stand for, UTC: `[measures] as_of`, or now.

    Raises:
        SettingsError: The setting is no time.
    """
    text = settings.measures.as_of.strip()
    if not text:
        return otherwise or datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(
            f"found {text!r}, expected a time such as 2026-06-30T06:00Z",
            key="measures.as_of",
            hint="Mend it, or leave it out: then it is the time of the run.",
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True)
class Changes:
    """How measures changed from slot to slot, up to a run.

    Attributes:
        series: (relation, column, measure) of each column of the arrays.
        values: Changes, one row a slot, oldest first; NaN where a slot has no run.
        before: Values that the newest changes start from, one a series.
        now: Values of the run, one a series.
        days: Length of a slot.
        since: When the values before were measured; None if they never were.
    """

    series: tuple[tuple[str, str, str], ...]
    values: NDArray[np.float64]
    before: NDArray[np.float64]
    now: NDArray[np.float64]
    days: int
    since: datetime | None


def changes(history: History, moment: datetime) -> Changes:
    """Changes of all measures between comparable moments, the newest of them now.

    Runs come at irregular times. Slots end at this run's time of day, and are as many days long as
    it is since the run before that was not of the same day: a Monday after a weekend without runs
    is compared with other stretches of three days. A slot's value is that of the run nearest to its
    end; a slot without one has no value, nor has the next.
    """
    import numpy as np

    runs = history.measured_runs()
    times = [datetime.fromisoformat(run["measured_at"]) for run in runs]
    earlier = [time for time in times if time <= moment - DAY / 2]
    since = earlier[-1] if earlier else None
    days = max(1, round((moment - since) / DAY)) if since else 1
    ends = [moment - step * days * DAY for step in range(SLOTS, -1, -1)]
    chosen = [_nearest(times, end, days * DAY / 2) for end in ends]
    if chosen:
        # This run; by its time it is not the last where the clock has gone back.
        chosen[-1] = max(range(len(runs)), key=lambda place: runs[place]["number"])
    contents = [None if place is None else runs[place]["content"] for place in chosen]
    series, stored = history.measured_values({c for c in contents if c is not None})
    levels = np.full((len(ends), len(series)), np.nan)
    for slot, content in enumerate(contents):
        if content is not None:
            places, values = stored[content]
            levels[slot, places] = values
    return Changes(series, np.diff(levels, axis=0), levels[-2], levels[-1], days, since)


def _nearest(times: Sequence[datetime], end: datetime, reach: timedelta) -> int | None:
    """Place of the time nearest to an end, if it is no farther than half a slot."""
    place = bisect_left(times, end)
    near = [p for p in (place - 1, place) if 0 <= p < len(times)]
    best = min(near, key=lambda p: abs(times[p] - end), default=None)
    return best if best is not None and abs(times[best] - end) < reach else None


def hours_as_time(hours: float) -> str:
    """A `newest` value for people."""
    moment: Any = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    return f"{moment:%Y-%m-%d %H:%M}"
