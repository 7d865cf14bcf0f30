"""Staging SQL that reads a renamed column: its new name, and the old one for what was there before.

model -> parts that read the raw table -> each mention of the old name -> `coalesce(new, old)`

The model's own columns keep their names, so nothing below it changes. Only mentions of the raw
column are touched: not aliases, not comments, not columns of later parts that bear the same name.
"""

from __future__ import annotations

import re
from functools import cache

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/|\{#.*?#\}", re.DOTALL)
_PART = re.compile(r"(?:^|[\s,])(\w+)\s+as\s+\(", re.IGNORECASE)
_STAR = re.compile(r"^\s*select\s+\*\s+from\b", re.IGNORECASE)


def with_fallback(text: str, old: str, new: str) -> str:
    """The model's text with `coalesce(new, old)` where it read `old` from the raw table.

    Args:
        text: The model as written, with Jinja.
        old: Name of the column before.
        new: Its name since.
    """
    if re.search(rf"coalesce\(\s*(\w+\.)?{re.escape(new)}\s*,", text):
        return text
    masked = _COMMENTS.sub(lambda found: " " * len(found.group()), text)
    mention = re.compile(
        rf"(?<![\w.$\"])(?P<table>\w+\.)?(?P<name>\"{re.escape(old)}\"|{re.escape(old)})(?![\w(.\"])",
        re.IGNORECASE,
    )
    is_word = old.lower() in _reserved()
    edits = [
        (found.start(), found.end(), _read(masked, found, new))
        for start, end in _raw_parts(masked)
        for found in mention.finditer(masked, start, end)
        if not re.search(r"\bas\s+$", masked[: found.start()], re.IGNORECASE)
        # By itself it is what SQL means by it.
        and (not is_word or found["table"] or found["name"].startswith('"'))
    ]
    for start, end, written in reversed(edits):
        text = text[:start] + written + text[end:]
    return text


@cache
def _reserved() -> frozenset[str]:
    """Words that name a column only behind its table or in quotes."""
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute(
            "select keyword_name from duckdb_keywords() where keyword_category = 'reserved'"
        )
        return frozenset(row[0] for row in found.fetchall())


def _read(text: str, found: re.Match[str], new: str) -> str:
    """What stands for one mention; an item of a select list keeps its name."""
    table, old = found.group("table") or "", found.group("name")
    if not table and new.lower() in _reserved():
        new = f'"{new}"'
    written = f"coalesce({table}{new}, {table}{old})"
    before = re.search(r"(,|\bselect(\s+distinct)?)\s*$", text[: found.start()], re.IGNORECASE)
    after = re.match(r"\s*(,|\bfrom\b)", text[found.end() :], re.IGNORECASE)
    is_item = before and after and _depth(text, found.start()) == 0
    return f"{written} as {old}" if is_item else written


def _depth(text: str, place: int) -> int:
    """Brackets that are open since the select list that a place lies in began."""
    began = 0
    for found in re.finditer(r"\bselect\b", text[:place], re.IGNORECASE):
        began = found.end()
    part = text[began:place]
    return part.count("(") - part.count(")")


def _raw_parts(text: str) -> list[tuple[int, int]]:
    """Places of the parts of a query that read the raw table: all of it if it has no parts."""
    parts = _parts(text)
    if not parts:
        return [(0, len(text))]
    passed = {
        name
        for name, (start, end) in parts.items()
        if _STAR.match(text[start:end]) and "source(" in text[start:end]
    }
    found = []
    for start, end in parts.values():
        body = text[start:end]
        reads = any(re.search(rf"\b(?:from|join)\s+{name}\b", body, re.I) for name in passed)
        if (reads or "source(" in body) and not _STAR.match(body):
            found.append((start, end))
    return found or [(max(end for _, end in parts.values()), len(text))]


def _parts(text: str) -> dict[str, tuple[int, int]]:
    """Places of what stands in the brackets of each common table expression."""
    found: dict[str, tuple[int, int]] = {}
    place = 0
    if not re.match(r"\s*(\{\{.*?\}\}\s*)*with\b", text, re.IGNORECASE | re.DOTALL):
        return found
    while part := _PART.search(text, place):
        end, depth = part.end(), 1
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found[part.group(1)] = (part.end(), end - 1)
        place = end
    return found
