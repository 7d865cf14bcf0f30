"""What is missing where nothing should be: days of a table, numbers of a sequence, files.

declared column or source table -> slots or numbers that are there -> those between that are not

No statistics: a declaration says that there is no gap, and each gap is told with its ends. What is
missing after the newest one is a matter of freshness. Left out: values that are there but unusual;
`anomalies` knows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingestion.periods import date_in_name
from runner.veracity.anomalies import Anomaly, next_slot
from runner.veracity.watches import FileWatch, NoGaps, NumberSequence, Watch

if TYPE_CHECKING:
    import duckdb

_SATURDAY = 5
# A gap is told with its ends; of very many the first ones tell enough.
_MOST = 20


def gaps_in(connection: duckdb.DuckDBPyConnection, table: Watch) -> list[Anomaly]:
    """Gaps in the columns of a table that are declared to have none."""
    found: list[Anomaly] = []
    for column, gap in table.no_gaps.items():
        if gap.severity != "off":
            found += _missing_slots(connection, table, column, gap)
    for column, sequence in table.sequences.items():
        if sequence.severity != "off":
            found += _missing_numbers(connection, table, column, sequence)
    return found


def missing_files(
    connection: duckdb.DuckDBPyConnection, files: Sequence[FileWatch]
) -> list[Anomaly]:
    """Files that are due but never came, by the dates in the names of those that did."""
    found: list[Anomaly] = []
    for watch in files:
        if watch.expected.severity == "off":
            continue
        names = connection.execute(
            "select distinct origin_name from ledger.files where source = ? and table_name = ? "
            "and origin_name is not null",
            [watch.source, watch.table],
        ).fetchall()
        every = watch.expected.every
        dates = {day for (name,) in names if (day := date_in_name(name, every))}
        missing = _between(dates, every, lambda day: True)
        for first, last, count in _stretches(missing, every):
            text = f"no file of {watch.source}.{watch.table} for {_span(first, last, every, count)}"
            place = (f"{watch.source}.{watch.table}", "", "file", None, str(first))
            found.append(Anomaly(*place, count, None, None, watch.expected.severity, text))
    return found


def _missing_slots(
    connection: duckdb.DuckDBPyConnection, table: Watch, column: str, gap: NoGaps
) -> list[Anomaly]:
    rows = connection.execute(
        f"select distinct date_trunc('{gap.by}', \"{column}\"::timestamp), {_series(gap.per)} "
        f'from "{table.schema}"."{table.name}" where "{column}" is not null'
    ).fetchall()
    there: dict[str, set[datetime]] = defaultdict(set)
    for slot, name in rows:
        there[name].add(slot)
    since = datetime.combine(gap.since, datetime.min.time()) if gap.since else datetime.min

    def is_due(slot: datetime) -> bool:
        return slot >= since and not (gap.weekdays and slot.weekday() >= _SATURDAY)

    found = []
    for name, slots in sorted(there.items()):
        missing = _between(slots, gap.by, is_due)
        for first, last, count in _stretches(missing, gap.by)[:_MOST]:
            own = f" for {name}" if name else ""
            span = _span(first, last, gap.by, count)
            text = f"{table.relation}.{column} has nothing{own} for {span}"
            known = " ".join(part for part in (name, str(first)) if part)
            place = (table.relation, column, "gap", first, known)
            found.append(Anomaly(*place, count, None, None, gap.severity, text))
    return found


def _series(columns: Sequence[str]) -> str:
    return " || ', ' || ".join(f"coalesce(\"{c}\"::varchar, '')" for c in columns) or "''"


def _missing_numbers(
    connection: duckdb.DuckDBPyConnection, table: Watch, column: str, sequence: NumberSequence
) -> list[Anomaly]:
    text = f'"{column}"::varchar'
    series = _series(sequence.per)
    rows = connection.execute(
        "with numbered as (select distinct "
        f"{series} as series, regexp_replace({text}, '\\d+$', '') as prefix, "
        f"try_cast(regexp_extract({text}, '(\\d+)$', 1) as hugeint) as number "
        f'from "{table.schema}"."{table.name}"), '
        "followed as (select *, lag(number) over (partition by series, prefix order by number) "
        "as former from numbered where number is not null) "
        "select series, prefix, former + 1, number - 1 from followed where number > former + 1 "
        f"order by series, prefix, number limit {_MOST}"
    ).fetchall()
    found = []
    for name, prefix, first, last in rows:
        own = f" for {name}" if name else ""
        span = f"{prefix}{first}" + (f" to {prefix}{last}" if last > first else "")
        told = f"{table.relation}.{column} leaves out {span}{own}"
        known = " ".join(part for part in (name, f"{prefix}{first}") if part)
        place = (table.relation, column, "sequence", None, known)
        count = float(last - first + 1)
        found.append(Anomaly(*place, count, None, None, sequence.severity, told))
    return found


def _between(there: Iterable[Any], grain: str, is_due: Callable[[Any], bool]) -> list[Any]:
    """Slots that are due and missing between the first and the last."""
    known = set(there)
    if not known:
        return []
    missing, slot, last = [], min(known), max(known)
    while slot < last:
        if slot not in known and is_due(slot):
            missing.append(slot)
        slot = next_slot(slot, grain)
    return missing


def _stretches(missing: Sequence[Any], grain: str) -> list[tuple[Any, Any, int]]:
    """Missing slots as stretches: first, last, count."""
    found: list[tuple[Any, Any, int]] = []
    for slot in missing:
        if found and next_slot(found[-1][1], grain) == slot:
            found[-1] = (found[-1][0], slot, found[-1][2] + 1)
        else:
            found.append((slot, slot, 1))
    return found


def _span(first: Any, last: Any, grain: str, count: int) -> str:
    ends = [
        f"{end:%Y-%m-%d %H:%M}" if grain == "hour" else f"{end:%Y-%m-%d}" for end in (first, last)
    ]
    if count == 1:
        return f"the {grain} of {ends[0]}"
    return f"{count} {grain}s, {ends[0]} to {ends[1]}"
