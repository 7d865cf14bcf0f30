"""How the lines of an NDJSON file are written, told by its first ones.

first lines -> keys in their order, quoted or bare, left out or null, blanks -> an SQL expression
that writes a line from its values

A line that is written again from its values as it stands has lost nothing: no key, no digit, no
letter, and none of it is told twice. That is cheaper to ask than for each of these by itself. Lines
that are written otherwise (escapes, other blanks, another order) are no fault; they are looked at
more closely by `ndjsonfile`. Left out: whether a line is JSON at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.evolution import literal
from ingestion.formats.streams import COMPRESSIONS, Content, opened

if TYPE_CHECKING:
    import duckdb

SAFE_KEY = re.compile(r"^[\w .:/@$+-]+$")
_SAMPLED_BYTES, _SAMPLED_LINES = 2 * 2**20, 2_000
# How they are written, fewer of them tell.
_TOLD_LINES = 200
_SUFFIXES = {kind: suffix for suffix, kind in COMPRESSIONS.items()}
# Between members, and between a key and its value.
_BLANKS = ((",", ":"), (", ", ": "), (",", ": "))


@dataclass(frozen=True)
class Member:
    """A key, and how its values are written.

    Attributes:
        key: The key.
        is_quoted: Whether its values are texts.
        is_left_out: Whether lines leave the key out instead of telling NULL.
        may_be_null: Whether some line has no value.
    """

    key: str
    is_quoted: bool
    is_left_out: bool
    may_be_null: bool


@dataclass(frozen=True)
class Layout:
    """What the first lines of a file have in common.

    Attributes:
        keys: All keys that can be columns, in their order.
        members: How lines are written; empty if no way was found that many of them share.
        blanks: What stands between members, and between a key and its value.
    """

    keys: tuple[str, ...]
    members: tuple[Member, ...] = ()
    blanks: tuple[str, str] = (",", ":")

    def line(self, value: Callable[[str], str]) -> str | None:
        """An SQL expression that writes a line from its values; None if no layout was found.

        Args:
            value: Gives the expression for the text of a key's value.
        """
        if not self.members:
            return None
        between, colon = self.blanks
        parts: list[str] = []
        pending = "{"
        for place, member in enumerate(self.members):
            head = f'{between if place else ""}"{member.key}"{colon}'
            text, quote = value(member.key), '"' if member.is_quoted else ""
            if member.is_left_out:
                parts += [literal(pending), _unless_null(text, head + quote, quote)]
                pending = ""
            elif member.may_be_null:
                told = _unless_null(text, quote, quote) if quote else text
                parts += [literal(pending + head), f"coalesce({told}, 'null')"]
                pending = ""
            else:
                # A NULL shortens the line, which then is not the one that was read.
                parts += [literal(pending + head + quote), text]
                pending = quote
        parts.append(literal(pending + "}"))
        return f"concat({', '.join(part for part in parts if part != literal(''))})"


def find_layout(connection: duckdb.DuckDBPyConnection, path: Path, compression: str) -> Layout:
    """Looks at the first lines of a file.

    Args:
        connection: Any connection.
        path: The file, UTF-8.
        compression: As DuckDB names it.
    """
    lines = list(_first_lines(path, compression))
    keys = _ordered(_keys(connection, lines))
    safe = tuple(key for key in keys if SAFE_KEY.match(key))
    records = [found for found in map(_record, lines[:_TOLD_LINES]) if found is not None]
    members = _members(keys, records) if len(safe) == len(keys) else ()
    best = Layout(safe)
    most = len(records) // 2
    for blanks in _BLANKS:
        found = sum(_written(record, blanks) == line for line, record in records)
        if members and found > most:
            best, most = Layout(safe, members, blanks), found
    return best


def _first_lines(path: Path, compression: str) -> Iterator[str]:
    with opened(Content(path, f"lines{_SUFFIXES.get(compression, '')}")) as stream:
        head = b""
        while len(head) < _SAMPLED_BYTES and (part := stream.read(_SAMPLED_BYTES)):
            head += part
    lines = head.split(b"\n")
    # The last one may go on.
    for line in lines[: -1 if len(lines) > 1 else 1][:_SAMPLED_LINES]:
        yield line.rstrip(b"\r").decode("utf-8", "replace")


def _keys(connection: duckdb.DuckDBPyConnection, lines: Sequence[str]) -> list[list[str]]:
    """The keys of each line that is an object, as DuckDB sees them."""
    found = connection.execute(
        "select json_keys(json) from (select try_cast(line as json) as json "
        "from (select unnest(string_split($lines, chr(10))) as line)) "
        "where json is not null and json_type(json) = 'OBJECT'",
        # One text: DuckDB takes long to bind a list.
        {"lines": "\n".join(lines)},
    ).fetchall()
    return [keys for (keys,) in found]


def _ordered(lines: Sequence[Sequence[str]]) -> list[str]:
    """All keys; one that the first lines leave out stands behind its forerunner."""
    ordered: list[str] = []
    for keys in dict.fromkeys(map(tuple, lines)):
        place = 0
        for key in keys:
            if key in ordered:
                place = ordered.index(key) + 1
            else:
                ordered.insert(place, key)
                place += 1
    return ordered


def _record(line: str) -> tuple[str, dict[str, Any]] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return (line, record) if isinstance(record, dict) else None


def _written(record: Mapping[str, Any], blanks: tuple[str, str]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=blanks)


def _members(
    keys: Sequence[str], records: Sequence[tuple[str, Mapping[str, Any]]]
) -> tuple[Member, ...]:
    """How values are mostly written; the first key has to be there."""
    members: list[Member] = []
    for key in keys:
        values = [record[key] for _, record in records if key in record]
        texts = sum(isinstance(value, str) for value in values)
        nulls, missing = values.count(None), len(records) - len(values)
        members.append(
            Member(
                key,
                is_quoted=texts > len(values) - nulls - texts,
                is_left_out=bool(members) and missing > nulls,
                may_be_null=nulls > 0,
            )
        )
    return tuple(members)


def _unless_null(text: str, before: str, behind: str) -> str:
    parts = [literal(before), text, literal(behind)]
    written = ", ".join(part for part in parts if part != literal(""))
    return f"case when {text} is not null then concat({written}) end"
