"""CSV: the header of a file, and the good records of a file that has faulty ones.

lines -> `read_header` -> names of the columns
lines -> `salvage` -> Parquet of the good records + the rejected ones with line and reason

DuckDB reads files without a fault, and means the same by a dialect: a field may be quoted, with
spaces around the quotes; a quote inside an unquoted field is text; empty fields beyond the last
column are ignored; blank lines are no records, except in a file of one column. A faulty record is
given up as its first physical line, and reading goes on with the next one, so that one unclosed
quote cannot swallow what follows.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.declarations import CsvOptions
from ingestion.errors import BadInput
from ingestion.formats.streams import Content, Encoding, has_faulty_bytes, text_lines
from ingestion.formats.tables import TextTable
from ingestion.landing import normalise_columns

# DuckDB's own limit for a record, so that both readers give up at the same length.
LONGEST_RECORD = 2_000_000
# DuckDB's buffers would be four times as large: these take less memory and are no slower.
BUFFER_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Record:
    """A record as it stands in the file.

    Attributes:
        line: 1-based number of its first physical line.
        raw: Its text without the line end.
        values: Its fields; None if it is faulty.
        reason: What is wrong with it; empty if nothing is.
    """

    line: int
    raw: str
    values: list[str] | None
    reason: str = ""


@dataclass(frozen=True)
class Header:
    """What the beginning of a file says.

    Attributes:
        names: Names of the columns as the file or the declaration has them; none if it is empty.
        plain: Whether the header is the first line after the skipped ones, as DuckDB expects.
    """

    names: tuple[str, ...]
    plain: bool


class Tokeniser:
    """Splits lines into records and fields by a declared dialect.

    Args:
        options: The dialect.
    """

    def __init__(self, options: CsvOptions) -> None:
        self._delimiter = options.delimiter
        self._quote = options.quote
        self._comment = options.comment or None
        self._skip = options.skip_lines
        escape = options.escape or options.quote
        if not self._quote:
            return
        quote, escaped = re.escape(self._quote), re.escape(escape)
        inner = (
            f"(?:[^{quote}]|{quote}{quote})*+"
            if escape == self._quote
            else f"(?:{escaped}.|[^{quote}{escaped}])*+"
        )
        self._opening = re.compile(f" *{quote}", re.S)
        self._body = re.compile(f"{inner}", re.S)
        self._after = re.compile(f" *(?:{re.escape(self._delimiter)}|$)")
        self._unescape = (
            re.compile(f"{quote}{quote}") if escape == self._quote else re.compile(f"{escaped}(.)")
        )
        self._doubled = escape == self._quote

    def records(self, lines: Iterator[str]) -> Iterator[Record]:
        """Records of a text; faulty ones bear their reason.

        Comments and skipped lines are left out; a blank line is a record with one empty field.
        """
        waiting: deque[str] = deque()
        number = 0
        source = iter(lines)
        while True:
            line = waiting.popleft() if waiting else next(source, None)
            if line is None:
                return
            number += 1
            if number <= self._skip or (self._comment and line.startswith(self._comment)):
                continue
            text = line.rstrip("\r\n")
            if not self._quote or self._quote not in line:
                yield self._plain(number, text)
                continue
            taken, values, reason = self._quoted(line, waiting, source)
            if reason:
                # Given up as one line: what was looked at beyond it is read again.
                waiting.extendleft(reversed(taken[1:]))
                yield Record(number, text, None, reason)
                continue
            yield Record(number, "".join(taken).rstrip("\r\n"), values)
            number += len(taken) - 1

    def _plain(self, number: int, text: str) -> Record:
        if "\r" in text:
            return Record(number, text, None, "a line end (CR) inside an unquoted field")
        return Record(number, text, text.split(self._delimiter))

    def _quoted(
        self, line: str, waiting: deque[str], source: Iterator[str]
    ) -> tuple[list[str], list[str], str]:
        """Lines taken, fields and the fault of a record that has quotes."""
        taken = [line]
        values: list[str] = []
        position = 0
        while True:
            text = taken[-1]
            opening = self._opening.match(text, position)
            if opening is None:
                end = text.find(self._delimiter, position)
                value = text[position:] if end < 0 else text[position:end]
                if end < 0:
                    value = value.rstrip("\r\n")
                if "\r" in value or "\n" in value:
                    return taken, [], "a line end (CR) inside an unquoted field"
                values.append(value)
                if end < 0:
                    return taken, values, ""
                position = end + 1
                continue
            value, position, reason = self._field(opening.end(), taken, waiting, source)
            if reason:
                return taken, [], reason
            values.append(value)
            text = taken[-1].rstrip("\r\n")
            after = self._after.match(text, position)
            if after is None:
                return taken, [], "text after the closing quote of a field"
            if after.group().strip(" ") == "" and after.end() == len(text):
                return taken, values, ""
            position = after.end()

    def _field(
        self, position: int, taken: list[str], waiting: deque[str], source: Iterator[str]
    ) -> tuple[str, int, str]:
        """Text of a quoted field, where it ends in the last line taken, and its fault."""
        parts: list[str] = []
        length = 0
        while True:
            text = taken[-1]
            body = self._body.match(text, position)
            assert body is not None
            parts.append(body.group())
            length += len(body.group())
            if body.end() < len(text) and text[body.end()] == self._quote:
                return self._plain_text("".join(parts)), body.end() + 1, ""
            if length > LONGEST_RECORD:
                return "", 0, f"a quote that is not closed within {LONGEST_RECORD:,} characters"
            line = waiting.popleft() if waiting else next(source, None)
            if line is None:
                return "", 0, "a quote that is never closed"
            taken.append(line)
            position = 0

    def _plain_text(self, text: str) -> str:
        if self._doubled:
            return text.replace(self._quote * 2, self._quote)
        return self._unescape.sub(r"\1", text)


def read_header(content: Content, encoding: Encoding, options: CsvOptions) -> Header:
    """Names of a file's columns.

    Raises:
        BadInput: The header itself is faulty, or there is none and none is declared.
    """
    if not options.header:
        return Header(tuple(options.columns), plain=True)
    with text_lines(content, encoding) as lines:
        for record in Tokeniser(options).records(lines):
            if record.values is None:
                raise BadInput(f"the header in line {record.line} is faulty: {record.reason}")
            if record.raw.strip() == "":
                continue
            names = options.columns or _named(record.values)
            return Header(tuple(names), plain=record.line == options.skip_lines + 1)
    return Header((), plain=True)


def _named(values: Sequence[str]) -> list[str]:
    """Names of a header; empty ones at its end are left out, as the records' empty fields are."""
    names = list(values)
    while len(names) > 1 and not names[-1].strip():
        names.pop()
    return names


def salvage(
    content: Content,
    encoding: Encoding,
    options: CsvOptions,
    names: Sequence[str],
    target: Path,
    **where: Any,
) -> TextTable:
    """Reads a faulty file record by record and writes the good ones to `target` as Parquet.

    Args:
        content: The file.
        encoding: How it is encoded.
        options: Its dialect.
        names: Names of its columns, as in the file.
        target: Parquet file to write; rejected records go beside it.
        where: `source`, `table`, `file` for messages.

    Returns:
        What was taken and rejected.
    """
    columns = normalise_columns(names, **where)
    nulls = set(options.null_values)
    table = TextTable(names=dict.fromkeys(columns))
    header_due = options.header
    with text_lines(content, encoding) as lines:
        for record in Tokeniser(options).records(lines):
            if record.raw == "" and (header_due or len(columns) > 1):
                continue
            if header_due:
                header_due = False
                continue
            values, reason = fitted(record, len(columns))
            if not encoding.strict and has_faulty_bytes(record.raw):
                values, reason = None, f"bytes that are not {encoding.name}"
            if values is None:
                table.reject(record.line, reason, record.raw)
                continue
            table.add(
                {
                    name: None if value in nulls else value
                    for name, value in zip(columns, values, strict=True)
                }
            )
    table.write(target, **where)
    return table


def fitted(record: Record, width: int) -> tuple[list[str] | None, str]:
    """The record's fields if they are as many as the columns, else None and the reason."""
    values = record.values
    if values is None:
        return None, record.reason
    while len(values) > width and values[-1] == "":
        values = values[:-1]
    if len(values) != width:
        few = "too few" if len(values) < width else "too many"
        return None, f"{few} fields: {len(values)}, expected {width}"
    return values, ""
