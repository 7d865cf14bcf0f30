"""Figures of each column: how many, how different, between what, in which form.

area -> one pass for all columns -> a sample of different values a column -> `patterns.judge` ->
one pass that proves what the texts mean, and counts problems -> `ColumnProfile`

The sample of different values is drawn by hash, so it is the same each time; `references` looks for
it in other tables. Left out: keys and references, which are verified on all rows elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ingestion.evolution import quoted
from runner.discover import patterns
from runner.discover.areas import Area
from runner.discover.model import Behind, Bin, ColumnProfile, Frequent, Personal, Problem
from runner.discover.words import is_deleted_name, is_prose_name, personal_by_name, unit_of

if TYPE_CHECKING:
    import duckdb

# Columns with so many different values at most are counted value by value.
FEW = 1000
_SHOWN = 10
_SAMPLE = 20_000
_BINS = 10
_LONGEST_SHOWN = 80
_PROSE = 50
_NUMERIC = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$|DECIMAL|DOUBLE$|FLOAT$)")
_TEMPORAL = ("DATE", "TIMESTAMP", "TIME")
# What UTF-8 looks like that was read as Latin-1 or cp1252.
_MOJIBAKE = (
    "Ã[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
    "|â€|Â[\u00a0-\u00bf]"
)
_PLACEHOLDER_NUMBERS = ("-1", "-9", "-99", "-999", "-9999", "999", "9999", "99999", "999999")


@dataclass
class Sampled:
    """Different values of a column.

    Attributes:
        values: The values as texts.
        rows: Rows of each.
        is_complete: Whether these are all.
    """

    values: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    is_complete: bool = False


def is_text(kind: str) -> bool:
    """Whether a type of DuckDB holds texts."""
    return kind == "VARCHAR"


def is_nested(kind: str) -> bool:
    """Whether a type of DuckDB holds other values or bytes."""
    return kind.endswith("[]") or kind.startswith(("STRUCT", "MAP", "BLOB", "JSON", "UNION"))


def is_number(kind: str) -> bool:
    """Whether a type of DuckDB holds numbers."""
    return bool(_NUMERIC.match(kind))


def is_time(kind: str) -> bool:
    """Whether a type of DuckDB holds dates or times."""
    return kind.startswith(_TEMPORAL)


def profile_columns(
    connection: duckdb.DuckDBPyConnection, area: Area, sample: int | None
) -> tuple[list[ColumnProfile], dict[str, Sampled]]:
    """Profiles the columns of an area.

    Args:
        connection: The warehouse.
        area: The area.
        sample: Rows that figures are made of at most; None for all.

    Returns:
        The profiles, and the different values that were looked at, by column.
    """
    origin = area.sql
    is_part = sample is not None and area.rows > sample
    if sample is not None and is_part:
        origin = f"(select * from {area.sql} where {area.place} % {area.rows // sample + 1} = 0)"
    figures = _figures(connection, origin, area)
    if is_part:
        _count_all(connection, area, figures)
    sampled = {
        name: _values(connection, origin, name, figures[name], is_part)
        for name, kind in area.columns.items()
        if not is_nested(kind)
    }
    few_rows = _few_rows(connection, area, figures, sampled)
    behinds, units = _meanings(area, sampled)
    proofs = _prove(connection, origin, behinds, units, figures, sampled)
    columns = []
    for name, kind in area.columns.items():
        found = sampled.get(name, Sampled())
        columns.append(
            _column(area, name, kind, figures[name], found, few_rows, proofs.get(name), units)
        )
    return columns, sampled


def _figures(
    connection: duckdb.DuckDBPyConnection, origin: str, area: Area
) -> dict[str, dict[str, Any]]:
    """Counts of all columns in one pass."""
    asked: list[tuple[str, str, str]] = []
    for name, kind in area.columns.items():
        column = quoted(name)
        asked.append((name, "filled", f"count({column})"))
        if is_nested(kind):
            continue
        asked.append((name, "distinct", f"approx_count_distinct({column})"))
        asked += [(name, end, f"{end}({column})::varchar") for end in ("min", "max")]
        if is_text(kind):
            asked += [
                (name, "shortest", f"min(length({column}))"),
                (name, "longest", f"max(length({column}))"),
                (name, "mean", f"avg(length({column}))"),
                (name, "empty", f"count(*) filter (where {column} = '')"),
                (name, "blanks", f"count(*) filter (where {column} <> trim({column}))"),
                (name, "wide", f"count(*) filter (where strlen({column}) <> length({column}))"),
            ]
    row = connection.execute(
        f"select count(*), {', '.join(sql for _, _, sql in asked)} from {origin}"
    ).fetchone()
    assert row is not None
    figures: dict[str, dict[str, Any]] = {name: {"rows": row[0]} for name in area.columns}
    for (name, what, _), value in zip(asked, row[1:], strict=True):
        figures[name][what] = value
    for known in figures.values():
        known["seen"] = known["filled"]
    return figures


def _count_all(
    connection: duckdb.DuckDBPyConnection, area: Area, figures: Mapping[str, dict[str, Any]]
) -> None:
    """What is counted on all rows even where the rest is asked of a part: keys depend on it."""
    names = [name for name, kind in area.columns.items() if not is_nested(kind)]
    asked = ", ".join(
        f"count({quoted(name)}), approx_count_distinct({quoted(name)})" for name in names
    )
    row = connection.execute(f"select {asked or 1} from {area.sql}").fetchone()
    assert row is not None
    for place, name in enumerate(names):
        filled, distinct = row[2 * place : 2 * place + 2]
        figures[name].update(rows=area.rows, filled=filled, distinct=distinct)


def _values(
    connection: duckdb.DuckDBPyConnection,
    origin: str,
    name: str,
    figures: Mapping[str, Any],
    is_part: bool,
) -> Sampled:
    """All different values of a column, most frequent first, or a sample of them drawn by hash."""
    column, distinct = quoted(name), figures["distinct"]
    if not figures["filled"]:
        return Sampled(is_complete=True)
    complete = distinct <= FEW
    few = "" if complete else f" and hash({column}) < {int(2**64 * min(1, 1.3 * FEW / distinct))}"
    order = "count(*) desc, 1" if complete else f"hash({column})"
    # The estimate may be too low, so twice as many are let through.
    rows = connection.execute(
        f"select {column}::varchar, count(*) from {origin} where {column} is not null{few} "
        f"group by {column} order by {order} limit {2 * FEW if complete else FEW}"
    ).fetchall()
    values, counts = [str(row[0]) for row in rows], [int(row[1]) for row in rows]
    return Sampled(values, counts, complete and not is_part and len(rows) < 2 * FEW)


def _few_rows(
    connection: duckdb.DuckDBPyConnection,
    area: Area,
    figures: Mapping[str, Mapping[str, Any]],
    sampled: Mapping[str, Sampled],
) -> dict[str, dict[str, Any]]:
    """Frequent values and histograms of columns with many values, from a sample of the rows."""
    many = [name for name, found in sampled.items() if not found.is_complete]
    bars = [
        name
        for name, kind in area.columns.items()
        if (is_number(kind) or is_time(kind)) and figures[name].get("filled")
    ]
    if not many and not bars:
        return {}
    columns = ", ".join(quoted(name) for name in dict.fromkeys([*many, *bars]))
    connection.execute(
        f"create or replace temp table discover_rows as select {columns} from {area.sql} "
        f"where {area.place} % {area.rows // _SAMPLE + 1} = 0"
    )
    found: dict[str, dict[str, Any]] = {name: {} for name in {*many, *bars}}
    for name in many:
        found[name]["frequent"] = connection.execute(
            f"select {quoted(name)}::varchar, count(*) as n from discover_rows where "
            f"{quoted(name)} is not null group by 1 having n > 1 order by 2 desc, 1 limit {_SHOWN}"
        ).fetchall()
    for name in bars:
        found[name]["bins"] = _bins(connection, name, area.columns[name])
    return found


def _bins(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> tuple[Bin, ...]:
    """Equally wide ranges between the smallest and the largest value of the sample."""
    column = quoted(name)
    value = f"epoch({column}::timestamp)" if is_time(kind) else f"{column}::double"
    if kind.startswith("TIME") and not kind.startswith("TIMESTAMP"):
        return ()
    row = connection.execute(
        f"select min({value}), max({value}) from discover_rows where isfinite({value})"
    ).fetchone()
    if row is None or row[0] is None or row[0] == row[1]:
        return ()
    low, width = float(row[0]), (float(row[1]) - float(row[0])) / _BINS
    counts = dict(
        connection.execute(
            f"select least(floor(({value} - {low!r}) / {width!r})::int, {_BINS - 1}), count(*) "
            f"from discover_rows where isfinite({value}) group by 1"
        ).fetchall()
    )
    edges = [low + width * place for place in range(_BINS + 1)]
    told = [_edge(edge, kind) for edge in edges]
    return tuple(Bin(told[i], told[i + 1], counts.get(i, 0)) for i in range(_BINS))


def _edge(value: float, kind: str) -> str:
    if not is_time(kind):
        return f"{value:.6g}"
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    return moment.strftime("%Y-%m-%d" if kind == "DATE" else "%Y-%m-%dT%H:%M:%S")


def _meanings(
    area: Area, sampled: Mapping[str, Sampled]
) -> tuple[dict[str, Behind], dict[str, str]]:
    """What texts mean, and the units of measure of columns."""
    behinds, units = {}, {}
    for name, kind in area.columns.items():
        units[name] = unit_of(name) if not is_nested(kind) else ""
        if not is_text(kind) or not sampled[name].values:
            continue
        behind = patterns.judge(sampled[name].values, name)
        if behind is None:
            units[name] = ""
            continue
        behinds[name] = behind
        if behind.kind in ("integer", "decimal"):
            kept = [v.strip() for v in sampled[name].values if not patterns.is_placeholder(v)]
            units[name] = patterns.without_unit([v for v in kept if v])[1] or units[name]
        else:
            units[name] = ""
    return behinds, units


def _prove(
    connection: duckdb.DuckDBPyConnection,
    origin: str,
    behinds: Mapping[str, Behind],
    units: Mapping[str, str],
    figures: Mapping[str, dict[str, Any]],
    sampled: Mapping[str, Sampled],
) -> dict[str, Behind]:
    """Asks all rows whether texts mean what the sample says."""
    proved = {}
    for name, behind in behinds.items():
        column = quoted(name)
        good = patterns.fits(behind, column, units[name])
        # One look at each row; what does not fit is looked at again, and is little.
        of, count = f"{origin} where {column} is not null", "count(*)"
        if sampled[name].is_complete:
            of, count = (
                f'(select {column}, count(*) as "#rows" from {of} group by 1) where true',
                'sum("#rows")',
            )
        rows = connection.execute(
            f"select {column}, {count}, sum({count}) over () from {of} and not "
            f"coalesce({good}, false) group by 1 order by 2 desc, 1 limit {FEW}"
        ).fetchall()
        vain = sum(
            int(n) for value, n, _ in rows if not value.strip() or patterns.is_placeholder(value)
        )
        bad = int(rows[0][2]) if rows else 0
        missed = [value for value, _, _ in rows if value.strip()]
        shown = [_short(value) for value in missed if not patterns.is_placeholder(value)][:5]
        if behind.kind == "decimal":
            behind = _with_scale(connection, origin, name, behind)
        fits = figures[name]["seen"] - bad
        found = replace(behind, fits=fits, misses=bad - vain, missed=tuple(shown))
        if found.fits > found.misses:
            proved[name] = found
    return proved


def _with_scale(
    connection: duckdb.DuckDBPyConnection, origin: str, name: str, behind: Behind
) -> Behind:
    """A decimal with as many digits behind its mark as the longest fraction of all rows."""
    mark = behind.decimal_mark or "."
    row = connection.execute(
        f"select max(length(regexp_extract(split_part({quoted(name)}, '{mark}', 2), '^[0-9]*'))) "
        f"from {origin}"
    ).fetchone()
    longest = row[0] if row is not None and row[0] is not None else 0
    return patterns.with_type(behind, _scale(longest, behind))


def _scale(longest: int, behind: Behind) -> int:
    """Digits behind the mark: those of the sample, or more if a longer fraction is a number's."""
    known = int(behind.data_type.rpartition(" ")[2].rstrip(")"))
    return max(known, longest) if longest <= 18 else known


def _column(
    area: Area,
    name: str,
    kind: str,
    figures: Mapping[str, Any],
    sampled: Sampled,
    few_rows: Mapping[str, Mapping[str, Any]],
    behind: Behind | None,
    units: Mapping[str, str],
) -> ColumnProfile:
    rows, filled = figures["rows"], figures["filled"]
    personal = _personal(area, name, kind, behind, sampled)
    beside = few_rows.get(name, {})
    counted = sampled.is_complete
    frequent = (
        zip(sampled.values, sampled.rows, strict=True) if counted else beside.get("frequent", ())
    )
    shown = [Frequent(_short(str(value)), n) for value, n in frequent][:_SHOWN]
    texts = is_text(kind)
    mean = figures.get("mean")
    # Prose and documents may hold anything about anyone, and no single one tells much.
    prose = (mean or 0) > _PROSE or (texts and is_prose_name(name))
    hidden = personal is not None or prose or (behind and behind.kind == "json")
    if hidden and behind is not None:
        behind = replace(behind, missed=())
    return ColumnProfile(
        name=name,
        data_type=kind,
        nulls=rows - filled,
        null_share=round((rows - filled) / rows, 6) if rows else 0.0,
        distinct=len(sampled.values) if counted else min(figures.get("distinct", 0), filled),
        is_distinct_exact=counted,
        minimum=None if hidden else _end(figures.get("min")),
        maximum=None if hidden else _end(figures.get("max")),
        shortest=figures.get("shortest"),
        longest=figures.get("longest"),
        mean_length=round(mean, 1) if mean is not None else None,
        frequent=() if hidden else tuple(shown),
        is_frequent_exact=counted,
        histogram=() if hidden else beside.get("bins", ()),
        shapes=patterns.shapes(sampled.values) if texts and sampled.values else (),
        behind=behind,
        unit=units.get(name, ""),
        personal=personal,
        problems=tuple(_problems(kind, figures, sampled, behind, bool(hidden))),
        is_deleted_flag=is_deleted_name(name),
    )


def _end(value: str | None) -> str | None:
    return None if value is None else _short(value)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


_BY_CONTENT = {"email": "email", "phone": "phone", "ip": "ip", "card": "card", "iban": "iban"}
_IN_TEXT = re.compile(r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}")


def _personal(
    area: Area, name: str, kind: str, behind: Behind | None, sampled: Sampled
) -> Personal | None:
    """Personal data by what the values look like and by the column's name."""
    said = personal_by_name(name, area.name) if not is_nested(kind) else ""
    content = _BY_CONTENT.get(behind.kind, "") if behind is not None else ""
    if content and behind is not None:
        share = round(behind.fits / max(1, behind.fits + behind.misses), 4)
        return Personal(content, "content and name" if said == content else "content", share)
    if said == "birth_date" and (
        is_time(kind) or (behind and behind.kind in ("date", "timestamp"))
    ):
        return Personal(said, "content and name")
    if said and is_text(kind) and said != "birth_date":
        return Personal(said, "name")
    if is_text(kind) and sampled.values:
        share = sum(bool(_IN_TEXT.search(v)) for v in sampled.values) / len(sampled.values)
        if share >= 0.02:
            return Personal("text", "content", round(share, 4))
    return None


def _problems(
    kind: str, figures: Mapping[str, Any], sampled: Sampled, behind: Behind | None, hidden: bool
) -> list[Problem]:
    """What staging has to deal with; values of personal columns are not told."""
    found = _placeholders(kind, sampled, behind)
    if behind is not None and behind.misses:
        told = f"cannot be read as {behind.kind}"
        found.append(Problem("misfit", behind.misses, told, behind.missed))
    if behind is not None and behind.is_ambiguous:
        told = {"date": "day and month", "timestamp": "day and month"}.get(
            behind.kind, "mark of the fraction and of thousands"
        )
        found.append(Problem("ambiguous", behind.fits, f"{told} could be the other way round"))
    if figures.get("empty"):
        found.append(Problem("empty", figures["empty"], "the empty text"))
    if figures.get("blanks"):
        found.append(Problem("blanks", figures["blanks"], "blanks before or behind"))
    for form, word, told in (
        (_MOJIBAKE, "mojibake", "UTF-8 that was read in another encoding"),
        ("\ufffd", "replacement", "characters that were lost in decoding"),
    ):
        hits = [
            (value, n)
            for value, n in zip(sampled.values, sampled.rows, strict=True)
            if figures.get("wide") and re.search(form, value)
        ]
        if hits:
            values = () if hidden else tuple(_short(value) for value, _ in hits[:3])
            found.append(Problem(word, sum(n for _, n in hits), told, values))
    return found


def _placeholders(kind: str, sampled: Sampled, behind: Behind | None) -> list[Problem]:
    """Values that seem to be written for want of one."""
    pairs = dict(zip(sampled.values, sampled.rows, strict=True))
    codes = behind is not None and behind.kind in ("country", "currency")
    if is_text(kind):
        hits = {v: n for v, n in pairs.items() if patterns.is_placeholder(v)}
        if codes or _are_codes(sampled.values):
            hits = {v: n for v, n in hits.items() if not v.strip().isalpha()}
    elif is_number(kind):
        hits = _odd_numbers(pairs)
    else:
        ends = ("9999-12-31", "1900-01-01", "0001-01-01", "1970-01-01")
        hits = {v: n for v, n in pairs.items() if v.startswith(ends) and n > 1}
    if behind is not None and behind.kind in ("integer", "decimal"):
        hits |= _odd_numbers(pairs)
    if not hits:
        return []
    told = "stands for no value"
    return [Problem("placeholder", sum(hits.values()), told, tuple(sorted(hits))[:5])]


def _are_codes(values: Sequence[str]) -> bool:
    """Whether most texts are two capitals, among which `NA` is one of many."""
    return sum(len(v) == 2 and v.isupper() for v in values) > len(values) / 2


def _odd_numbers(pairs: Mapping[str, int]) -> dict[str, int]:
    """-1 among positive numbers, or 999 far above all others, if it is frequent."""
    numbers = {}
    for text, n in pairs.items():
        try:
            numbers[float(text)] = (text, n)
        except ValueError:
            continue
    total, found = sum(n for _, n in numbers.values()), {}
    for value, (text, n) in numbers.items():
        if text.partition(".")[0] not in _PLACEHOLDER_NUMBERS or n < max(2, total / 100):
            continue
        rest = [other for other in numbers if other != value]
        lonely = min(rest, default=0) >= 0 if value < 0 else max(rest, default=value) * 10 < value
        if rest and lonely:
            found[text] = n
    return found
