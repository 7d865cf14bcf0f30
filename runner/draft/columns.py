"""One raw column as a staging model has it: expression, type, name, rules, evidence.

profile of a raw column -> how it is read (`_reading`) -> its name -> rules and tests that the data
speak for -> `Column`

What a value cannot be read as rejects its row, so that nothing becomes null in silence; what the
data merely show so far (filled, one of some words, never negative) flags. What could be read in two
ways, and identifiers, stay text. Left out: the texts of the files, which `staging` writes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from runner.discover.model import Behind, ColumnProfile, TableProfile
from runner.discover.profile import is_nested, is_number, is_text, is_time
from runner.discover.words import has_key_word, is_measure, is_prose_name
from runner.draft.names import column_name, keywords
from runner.yaml_scalar import scalar

GROUPS = ("ids", "strings", "numerics", "booleans", "dates", "timestamps", "nested")
# What few rows show is chance.
_ENOUGH_ROWS = 30
_MOST_WORDS = 10
_LONGEST_WORD = 40
_ROWS_PER_WORD = 20
_UNSHARED = {
    "HUGEINT": "decimal(38, 0)",
    "UHUGEINT": "decimal(38, 0)",
    "UBIGINT": "decimal(20, 0)",
    "UINTEGER": "bigint",
    "USMALLINT": "integer",
    "UTINYINT": "smallint",
    "UUID": "string",
    "TIME": "string",
    "TIME WITH TIME ZONE": "string",
    "INTERVAL": "string",
    "BIT": "string",
}
_FORMATS = {
    "%Y": "yyyy", "%m": "MM", "%b": "MMM", "%B": "MMMM", "%d": "dd",
    "%H": "HH", "%M": "mm", "%S": "ss",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How a raw column is read.

    Attributes:
        expression: SQL or a macro call; the raw column alone if it is taken as it is.
        data_type: Type of the result, as contracts name it; empty for nested values.
        group: One of `GROUPS`.
        holds: What `column_name` is told.
        is_typed: Whether a value may be unreadable.
        missing: Texts that stand for no value.
        told: What to know about the reading, for its description.
        unit: Unit of a number.
        checks: Conditions that reject a row, with what a broken one says.
    """

    expression: str
    data_type: str
    group: str
    holds: str = ""
    is_typed: bool = False
    missing: tuple[str, ...] = ()
    told: str = ""
    unit: str = ""
    checks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of a drafted model.

    Attributes:
        raw: Its name in raw.
        name: Its name in staging.
        reading: How it is read.
        description: What was measured, in words.
        pii: Kind of personal data; empty if none.
        rules: Row rules as YAML, each with the evidence for it.
        words: The values that it takes; empty if they are not known.
        seen: How many rows it was seen in, in words.
        profile: What discovery tells about it.
    """

    raw: str
    name: str
    reading: Reading
    description: str
    pii: str
    rules: tuple[str, ...]
    words: tuple[str, ...]
    seen: str
    profile: ColumnProfile

    @property
    def is_nested(self) -> bool:
        """Whether it holds lists or objects, which marts leave out."""
        return not self.reading.data_type


def draft_column(
    profile: ColumnProfile,
    table: TableProfile,
    entity: str,
    refers: Collection[str],
    is_midnight: bool,
    taken: Collection[str],
) -> Column:
    """Drafts a column.

    Args:
        profile: What discovery tells about it.
        table: Its table.
        entity: What a row is.
        refers: Raw columns that refer to another table.
        is_midnight: Whether all of its times are the beginning of a day.
        taken: Names of columns before it.
    """
    key = table.primary_key.columns if table.primary_key else table.declared_key
    is_id = profile.name in key or profile.name in refers
    reading = _reading(profile, source_column(profile.name, table), is_id, is_midnight)
    if is_id:
        reading = replace(reading, group="ids", holds=_held(reading, profile.name in key, key))
    others = {column.name for column in table.columns} - {profile.name}
    name = column_name(profile.name, entity, reading.holds, reading.unit, taken, others)
    reading = replace(
        reading, checks=tuple((c.format(name=name), t.format(name=name)) for c, t in reading.checks)
    )
    words = _words(profile, reading, table) if not is_id else ()
    filled = table.rows - profile.nulls - _vain(profile, reading)
    different = _count(profile, reading)
    return Column(
        raw=profile.name,
        name=name,
        reading=reading,
        description=_description(profile, table, reading, words),
        pii=profile.personal.kind if profile.personal else "",
        rules=tuple(_rules(profile, table, reading, name, words, is_id, filled)),
        words=words,
        seen=f"{filled:,} of {table.rows:,} rows have a value, {different} different",
        profile=profile,
    )


def _held(reading: Reading, is_key: bool, key: Collection[str]) -> str:
    if reading.holds in ("date", "timestamp"):
        return reading.holds
    return "key" if is_key and len(key) == 1 else ""


def _empty(reading: Reading) -> tuple[str, ...]:
    """The kinds of problems that mean there is no value; text keeps its words: `Na` is sodium."""
    return ("empty",) if reading.data_type == "string" else ("placeholder", "empty")


def _vain(profile: ColumnProfile, reading: Reading) -> int:
    """Rows that have no value as the column is read."""
    return sum(p.rows for p in profile.problems if p.kind in _empty(reading))


def _count(profile: ColumnProfile, reading: Reading) -> str:
    """Different values, without those that stand for none."""
    kinds = _empty(reading)
    vain = sum(len(p.values) or 1 for p in profile.problems if p.kind in kinds)
    count = max(0, profile.distinct - vain)
    return f"{count:,}" if profile.is_distinct_exact else f"about {count:,}"


def import_of(table: TableProfile) -> str:
    """The CTE of a table's raw rows: `source`, unless that would be taken for a column of them."""
    return "loaded" if any(column.name == "source" for column in table.columns) else "source"


def source_column(raw: str, table: TableProfile) -> str:
    """A raw column in SQL: with its CTE where its name alone would be taken for SQL."""
    return f"{import_of(table)}.{raw}" if raw in keywords() else raw


def _reading(profile: ColumnProfile, column: str, is_id: bool, is_midnight: bool) -> Reading:
    kind = profile.data_type
    if is_nested(kind):
        return Reading(column, "", "nested", told="Lists or objects, as the source has them.")
    if is_text(kind):
        return _text_reading(profile, column, is_id)
    if kind == "BOOLEAN":
        return Reading(column, "boolean", "booleans", "boolean")
    if kind == "TIMESTAMP WITH TIME ZONE":
        return Reading(
            f"{{{{ utc_timestamp('{column}') }}}}", "timestamp", "timestamps", "timestamp",
            told="Told with a zone, here in UTC.",
        )  # fmt: skip
    if kind.startswith("TIMESTAMP"):
        return _time_reading(profile, column, is_midnight)
    if kind == "DATE":
        return Reading(column, "date", "dates", "date")
    if kind in _UNSHARED or kind.startswith("ENUM"):
        shared = _UNSHARED.get(kind, "string")
        group = "strings" if shared == "string" else "numerics"
        if shared == "string":
            return Reading(f"cast({column} as string)", shared, group)
        return Reading(f"try_cast({column} as {shared})", shared, group, "number", True)
    if is_number(kind) or is_time(kind):
        shared = re.sub(r",(?=\d)", ", ", kind.lower())
        return Reading(column, shared, "numerics", "number", unit=profile.unit)
    # A type that the house has no use for is still kept, as text.
    return Reading(f"cast({column} as string)", "string", "strings")


def _time_reading(profile: ColumnProfile, column: str, is_midnight: bool) -> Reading:
    if is_midnight and not profile.name.endswith(("_at", "_time", "_timestamp")):
        return Reading(
            f"cast({column} as date)", "date", "dates", "date",
            told="A day: the source has a time of day there that was always midnight.",
            checks=((f"{{name}} = _record.{profile.name}", "{name} has a time of day"),),
        )  # fmt: skip
    exact = profile.data_type == "TIMESTAMP"
    return Reading(
        column if exact else f"cast({column} as timestamp)", "timestamp", "timestamps",
        "timestamp", told="The source tells no zone.",
    )  # fmt: skip


def _text_reading(profile: ColumnProfile, column: str, is_id: bool) -> Reading:
    behind = profile.behind
    as_text = Reading(f"{{{{ non_blank('{column}') }}}}", "string", "strings")
    if behind is None or behind.kind in ("uuid", "email", "url", "ip", "phone", "iban", "card"):
        return as_text
    if behind.kind in ("country", "currency"):
        return as_text
    if behind.kind == "json":
        return replace(as_text, told="JSON.")
    if is_id and behind.kind in ("integer", "decimal", "epoch"):
        return replace(as_text, told="An identifier, so it stays text although it looks like one.")
    if has_key_word(profile.name) and behind.kind == "integer":
        return replace(as_text, told="A number that names something, so it stays text.")
    if behind.is_ambiguous:
        what = "Day and month" if behind.kind in ("date", "timestamp") else "Its decimal mark"
        return replace(
            as_text,
            told=f"{what} could be read in two ways, so it stays text until a person says which.",
        )
    typed = _typed(profile, behind, column)
    if typed is None:
        return replace(as_text, told=f"Written as `{behind.format}`, which no macro reads yet.")
    missing = tuple(
        value for p in profile.problems if p.kind == "placeholder" for value in p.values
    )
    return replace(typed, is_typed=True, missing=missing)


def _typed(profile: ColumnProfile, behind: Behind, column: str) -> Reading | None:
    """How a text is read that means a number, a time or yes and no; None if no macro does."""
    if behind.kind in ("integer", "decimal"):
        return _number(profile, behind, column)
    if behind.kind == "boolean":
        trues = sorted(behind.trues)
        seen = {value.value.strip().lower() for value in profile.frequent}
        falses = sorted(seen - set(trues) - _placeholders(profile))
        call = f"{{{{ boolean_of('{column}', {trues}, {falses}) }}}}"
        return Reading(call, "boolean", "booleans", "boolean")
    if behind.kind == "epoch":
        number = f"whole_number('{column}', 'bigint')"
        moment = number if behind.format == "ms" else f"'1000 * ' ~ {number}"
        call = f"{{{{ timestamp_from_epoch_ms({moment}) }}}}"
        told = "Told as milliseconds since 1970." if behind.format == "ms" else ""
        told = told or "Told as seconds since 1970."
        return Reading(call, "timestamp", "timestamps", "timestamp", told=told)
    if behind.format == "iso":
        zoned = "zone" in behind.data_type
        told = "Told with a zone, here in UTC." if zoned else "The source tells no zone."
        call = f"{{{{ utc_timestamp('{column}') }}}}"
        return Reading(call, "timestamp", "timestamps", "timestamp", told=told)
    form = behind.format
    for code, letters in _FORMATS.items():
        form = form.replace(code, letters)
    if re.search(r"%|[A-Za-z]", re.sub(r"yyyy|M{2,4}|dd|HH|mm|ss", "", form)):
        return None
    macro, group = ("parse_date", "dates") if behind.kind == "date" else ("", "timestamps")
    call = f"{{{{ {macro or 'parse_timestamp'}('{column}', '{form}') }}}}"
    kind = "date" if macro else "timestamp"
    return Reading(call, kind, group, kind, told=f"Written as `{form}`.")


def _placeholders(profile: ColumnProfile) -> set[str]:
    told = {
        v.strip().lower() for p in profile.problems if p.kind == "placeholder" for v in p.values
    }
    return told | {""}


def _number(profile: ColumnProfile, behind: Behind, column: str) -> Reading:
    plain = not behind.thousands_mark and behind.decimal_mark != "," and not _affix(profile, behind)
    if behind.kind == "integer" and plain:
        return Reading(
            f"{{{{ whole_number('{column}', 'bigint') }}}}", "bigint", "numerics", "number",
            unit=profile.unit,
        )  # fmt: skip
    found = re.search(r"decimal\(\d+, (\d+)\)", behind.data_type)
    scale = int(found[1]) if found else 0
    precision = 18 if (profile.longest or 38) <= 15 and scale <= 6 else 38
    options = [f"{precision}", f"{scale}"]
    if behind.decimal_mark == ",":
        options.append("decimal_mark=','")
    if behind.thousands_mark:
        mark = behind.thousands_mark
        options.append(f'thousands_mark="{mark}"' if mark == "'" else f"thousands_mark='{mark}'")
    if _affix(profile, behind):
        options.append(f"unit='{profile.unit}'")
    call = f"{{{{ exact_decimal('{column}', {', '.join(options)}) }}}}"
    return Reading(
        call, f"decimal({precision}, {scale})", "numerics", "number", unit=profile.unit,
    )  # fmt: skip


def _affix(profile: ColumnProfile, behind: Behind) -> bool:
    """Whether the unit stands in the values, not in the column's name alone."""
    if not profile.unit or not profile.shapes:
        return False
    digits = sum(
        share for form, share in profile.shapes if re.fullmatch(r"[-+]?[9.,' {}\d]+", form)
    )
    return digits < 0.5


def _words(profile: ColumnProfile, reading: Reading, table: TableProfile) -> tuple[str, ...]:
    """The values of a column that takes few words, if there is evidence enough."""
    if reading.data_type != "string" or profile.personal or is_prose_name(profile.name):
        return ()
    values = sorted({value.value.strip() for value in profile.frequent if value.value.strip()})
    if not profile.is_frequent_exact or profile.distinct > _MOST_WORDS or len(values) < 2:
        return ()
    if max(map(len, values)) > _LONGEST_WORD or table.rows < _ROWS_PER_WORD * profile.distinct:
        return ()
    return tuple(values)


def _rules(
    profile: ColumnProfile,
    table: TableProfile,
    reading: Reading,
    name: str,
    words: tuple[str, ...],
    is_id: bool,
    filled: int,
) -> list[str]:
    rules = []
    if reading.is_typed:
        rules.append(_typed_from(profile, reading))
    for condition, told in reading.checks:
        rules.append(f'{{check: "{condition}", name: {told}, defect: mistyped}}')
    key = table.primary_key.columns if table.primary_key else ()
    # Texts that happen to be filled would make a wallpaper of rules.
    counts = is_id or words or reading.group in ("numerics", "booleans", "dates", "timestamps")
    if filled == table.rows >= _ENOUGH_ROWS and counts and profile.name not in key:
        rules.append("{required: true, severity: flag}")
    if words:
        listed = ", ".join(scalar(word) for word in words)
        rules.append(f"{{one_of: [{listed}], severity: flag}}")
    is_amount = reading.group == "numerics" and not is_id and is_measure(profile.name)
    if is_amount and filled >= _ENOUGH_ROWS and _never_negative(profile):
        rules.append("{between: [0, null], severity: flag}")
    if reading.data_type == "string" and any(p.kind == "mojibake" for p in profile.problems):
        rules.append("{encoding: true}")
    return rules


def _typed_from(profile: ColumnProfile, reading: Reading) -> str:
    if not reading.missing:
        return f"{{typed_from: {profile.name}}}"
    missing = ", ".join(scalar(text) for text in reading.missing)
    return f"{{typed_from: {{column: {profile.name}, missing: [{missing}]}}}}"


def _never_negative(profile: ColumnProfile) -> bool:
    """Whether no value is below zero; of texts, none that was looked at."""
    if is_text(profile.data_type):
        return not any(form.lstrip().startswith("-") for form, _ in profile.shapes)
    try:
        return profile.minimum is not None and float(profile.minimum) >= 0
    except ValueError:
        return False


def _description(
    profile: ColumnProfile, table: TableProfile, reading: Reading, words: tuple[str, ...]
) -> str:
    """What was measured, in words; no value of a column that holds personal data."""
    parts = [_kind_text(profile, reading, words)]
    if reading.told:
        parts.append(reading.told)
    missing = profile.nulls + _vain(profile, reading)
    if missing:
        parts.append(f"Missing in {missing:,} of {table.rows:,} rows.")
    else:
        parts.append("Never missing so far." if table.rows else "No row was there to look at.")
    if profile.personal:
        parts.append(f"Personal data ({profile.personal.kind.replace('_', ' ')}).")
    return " ".join(parts)


_TYPE_TEXT = {
    "date": "Day",
    "timestamp": "Moment",
    "boolean": "Yes or no",
    "string": "Text",
    "bigint": "Whole number",
    "integer": "Whole number",
    "smallint": "Whole number",
    "tinyint": "Whole number",
    "double": "Number",
    "float": "Number",
}


def _kind_text(profile: ColumnProfile, reading: Reading, words: tuple[str, ...]) -> str:
    if not reading.data_type:
        return f"Values of the raw type `{profile.data_type}`."
    text = _TYPE_TEXT.get(reading.data_type, "Number with decimals")
    if words:
        return f"{text}, one of {', '.join(f'`{word}`' for word in words)}."
    different = _count(profile, reading)
    if reading.data_type == "string" and profile.longest is not None:
        return f"{text} of up to {profile.longest:,} characters, {different} different."
    if profile.minimum is not None and not is_text(profile.data_type):
        low, high = profile.minimum, profile.maximum
        if reading.data_type == "date":
            low, high = low[:10], (high or "")[:10]
        return f"{text} from {low} to {high}."
    return f"{text}, {different} different values."
