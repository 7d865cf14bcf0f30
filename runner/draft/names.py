"""What drafted models and columns are called.

table -> entity, in singular and plural -> model names; column and what it holds -> its name there

Names follow the house style: `<entity>_id`, `is_`, `<event>_at`, `<event>_date`, the unit at the
end. Left out: whether a name is a good one, which is a person's to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

from runner.discover.words import KEY_WORDS, singular, tokens, unit_of, word_set

_LAYER_WORDS = ("tbl", "t", "stg", "raw", "dim", "fact", "fct", "vw")
# Alone, these say nothing of whose they are.
_BARE = word_set(
    "id name type kind status title description code number no nr date value key label "
    "comment comments note notes reason category class amount total"
)
_KEY_BARE = word_set("id key no nr number code num")
_FLAG_ENDS = ("_flag", "_yn", "_ind", "_indicator", "_bool")
_FLAG_STARTS = ("is_", "has_", "was_", "can_", "should_", "are_")
_MOMENT_ENDS = (
    *("_date_time", "_datetime", "_timestamp", "_epoch_ms", "_epoch", "_ms", "_date", "_time"),
    *("_ts", "_on", "_dt", "_utc"),
)
_UNIT_ENDS = {"%": "pct", "°C": "celsius", "°F": "fahrenheit", "B": "bytes"}


@cache
def keywords() -> frozenset[str]:
    """Words that some engine or the linter takes for SQL, so that no alias may be one."""
    text = Path(__file__).with_name("keywords.txt").read_text(encoding="utf-8")
    return frozenset(text.split())


def plural(word: str) -> str:
    """The plural of a name, by its last word; always with an `s` at its end."""
    if word.endswith("s") and singular(word) != word:
        return word
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    return word + "s"


def entity_of(table: str, taken: Collection[str] = ()) -> str:
    """What one row of a table is called: `invoice_lines` -> `invoice_line`.

    Args:
        table: Name of the raw table.
        taken: Names that other tables of the source have.
    """
    words = [word for word in table.lower().split("_") if word]
    while len(words) > 1 and words[0] in _LAYER_WORDS:
        words = words[1:]
    words[-1] = singular(words[-1])
    entity = "_".join(words)
    return unused(entity, taken)


def unused(name: str, taken: Collection[str]) -> str:
    """The name, or with a number behind it the first that is free."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def column_name(
    raw: str,
    entity: str,
    holds: str,
    unit: str,
    taken: Collection[str],
    others: Collection[str] = (),
) -> str:
    """The name of a column in staging.

    Args:
        raw: Its name in raw.
        entity: What a row is.
        holds: key, boolean, date, timestamp, number or anything else.
        unit: The unit of a number; empty if none is known.
        taken: Names of the columns before it.
        others: Names in raw of the table's other columns, which most of them keep.
    """
    name = re.sub(r"[^a-z0-9]+", "_", raw.lower()).strip("_") or "column"
    if name[0].isdigit():
        name = f"{entity}_{name}"
    if name in _BARE:
        name = f"{entity}_id" if holds == "key" and name in _KEY_BARE else f"{entity}_{name}"
    if holds == "boolean":
        name = _flag(name)
    elif holds == "timestamp":
        name = _moment(name, entity)
    elif holds == "date":
        name = _day(name, entity)
    elif holds == "number":
        name = _measured(name, unit)
    if name in keywords():
        name = f"{entity}_{name}"
    if name != raw and name in others:
        name = f"{entity}_row_{raw}"
    return unused(name, taken)


def _flag(name: str) -> str:
    for end in _FLAG_ENDS:
        name = name.removesuffix(end) or name
    return name if name.startswith(_FLAG_STARTS[:2]) else f"is_{_without(name, _FLAG_STARTS[2:])}"


def _without(name: str, starts: tuple[str, ...]) -> str:
    for start in starts:
        name = name.removeprefix(start) or name
    return name


def _moment(name: str, entity: str) -> str:
    if name.endswith("_at"):
        return name
    if name in ("at", "when", "time", "datetime", "timestamp", "ts", "dt"):
        return f"{entity}_at"
    for end in _MOMENT_ENDS:
        if name.endswith(end) and len(name) > len(end):
            return name[: -len(end)] + "_at"
    return f"{name}_at"


def _day(name: str, entity: str) -> str:
    if name.endswith("_date"):
        return name
    if name in ("day", "date", "on", "dt"):
        return f"{entity}_date"
    for end in ("_on", "_day", "_dt", "_datum", "_at"):
        if name.endswith(end) and len(name) > len(end):
            return name[: -len(end)] + "_date"
    return f"{name}_date"


def _measured(name: str, unit: str) -> str:
    if not unit or unit_of(name) == unit:
        return name
    end = _UNIT_ENDS.get(unit, unit.lower())
    if not re.fullmatch(r"[a-z][a-z0-9]*", end) or end in tokens(name):
        return name
    return f"{name}_{end}"


def foreign_key(columns: tuple[str, ...], entity: str, entity_key: str, is_self: bool) -> str:
    """The name of the surrogate key that refers to an entity: that entity's key, or with a role.

    Args:
        columns: The staging columns that refer.
        entity: What is referred to.
        entity_key: Its surrogate key.
        is_self: Whether it is a row of the same table, whose own key has the plain name.
    """
    if len(columns) > 1:
        role = []
    else:
        words = columns[0].split("_")
        while len(words) > 1 and words[-1] in KEY_WORDS:
            words = words[:-1]
        aim = entity.split("_")
        role = words[: -len(aim)] if words[-len(aim) :] == aim else words
        if role == words and len(words) == 1 and words[0] in KEY_WORDS:
            role = []
    if is_self and not role:
        role = ["parent"]
    return "_".join([*role, entity_key])
