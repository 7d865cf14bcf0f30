"""JSON documents, and NDJSON files that have faulty lines.

document -> records below a path of keys -> `TextTable`
NDJSON -> one object a line -> `TextTable`; a faulty line is rejected

Every key of a record is a column of text. Numbers keep the digits that stand in the file (`1.10`
stays `1.10`), nested values are JSON text without spaces, null and absent are NULL. A key that
stands twice in one record, and a record that is no object, are faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import simplejson

from ingestion.errors import BadInput
from ingestion.formats.streams import (
    Content,
    Encoding,
    has_faulty_bytes,
    opened,
    text_lines,
)
from ingestion.formats.tables import TextTable


class DuplicateKey(ValueError):
    """An object has one key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise DuplicateKey(f"the key {twice!r} stands twice in one object")
    return found


_decoder = simplejson.JSONDecoder(
    object_pairs_hook=_object,
    # Digits are kept as they stand: neither rounded nor rewritten.
    parse_float=simplejson.RawJSON,
    parse_int=simplejson.RawJSON,
)
_encoder = simplejson.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def text_of(value: Any) -> str | None:
    """A JSON value as raw keeps it."""
    if value is None:
        return None
    if isinstance(value, str):
        return _storable(value)
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, simplejson.RawJSON):
        return str(value.encoded_json)
    return _storable(_encoder.encode(value))


def _storable(text: str) -> str:
    """Lone surrogates are no text; they stay visible as escapes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def read_document(
    content: Content, encoding: Encoding, records: str | None, target: Path, **where: Any
) -> TextTable:
    """Writes the records of a JSON document to `target` as Parquet.

    Args:
        content: The document.
        encoding: How it is encoded.
        records: Dotted path of keys to the array of records; None for a top-level array or object.
        target: Parquet file to write.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: It is no valid JSON, or has nothing at that path.
    """
    with opened(content) as stream:
        text = stream.read().decode(encoding.codec).removeprefix("\ufeff")
    table = TextTable()
    if text.strip(" \t\r\n") != "":
        for record in _records(_parsed(text), records):
            if isinstance(record, Mapping):
                table.add({key: text_of(value) for key, value in record.items()})
            else:
                table.reject(table.position, f"{_kind(record)}, not an object", _raw(record))
    table.write(target, **where)
    return table


def _parsed(text: str) -> Any:
    try:
        value, end = _decoder.raw_decode(text)
    except simplejson.JSONDecodeError as error:
        raise BadInput(
            f"it is no valid JSON: {error.msg}, line {error.lineno} column {error.colno}"
        ) from error
    except DuplicateKey as error:
        raise BadInput(f"it is ambiguous JSON: {error}") from error
    except RecursionError as error:
        raise BadInput("its JSON is nested too deeply") from error
    rest = text[end:].lstrip(" \t\r\n")
    if rest:
        line = text.count("\n", 0, len(text) - len(rest)) + 1
        raise BadInput(
            f"it holds more than one JSON document: the second begins in line {line}",
            hint="If each line is an object of its own, declare `format: ndjson`.",
        )
    return value


def _records(document: Any, path: str | None) -> list[Any]:
    current = document
    for depth, key in enumerate(path.split(".") if path else []):
        before = ".".join((path or "").split(".")[:depth]) or "the top level"
        if not isinstance(current, Mapping):
            raise BadInput(f"`records: {path}`: {before} is {_kind(current)}, not an object")
        if key not in current:
            keys = ", ".join(list(current)[:10]) or "none"
            raise BadInput(
                f"`records: {path}`: there is no key {key!r} at {before}; its keys: {keys}"
            )
        current = current[key]
    if isinstance(current, list):
        return current
    if isinstance(current, Mapping):
        return [current]
    if current is None and path:
        return []
    raise BadInput(f"{_kind(current)} stands where an array of records is expected")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, Mapping) else "a number"


def _raw(value: Any) -> str:
    return str(_encoder.encode(value))


def salvage(content: Content, encoding: Encoding, target: Path, **where: Any) -> TextTable:
    """Reads NDJSON line by line, writes the good records to `target` and rejects the others."""
    table = TextTable()
    with text_lines(content, encoding) as lines:
        for number, line in _filled(lines):
            if not encoding.strict and has_faulty_bytes(line):
                reason = f"bytes that are not {encoding.name}"
                table.reject(number, reason, line.rstrip("\r\n"))
                continue
            try:
                record, end = _decoder.raw_decode(line.strip(" \t\r\n"))
            except (simplejson.JSONDecodeError, DuplicateKey, RecursionError) as error:
                table.reject(number, _reason(error), line.rstrip("\r\n"))
                continue
            if line.strip(" \t\r\n")[end:].strip():
                table.reject(number, "more than one value on the line", line.rstrip("\r\n"))
            elif not isinstance(record, Mapping):
                table.reject(number, f"{_kind(record)}, not an object", line.rstrip("\r\n"))
            else:
                table.add({key: text_of(value) for key, value in record.items()})
    table.write(target, **where)
    return table


def record_of(text: str) -> dict[str, str | None]:
    """The keys of one JSON object with their values as raw keeps them.

    Raises:
        BadInput: It is no valid JSON, no object, has a key twice, or more follows it.
    """
    stripped = text.strip(" \t\r\n")
    try:
        record, end = _decoder.raw_decode(stripped)
    except (simplejson.JSONDecodeError, DuplicateKey, RecursionError) as error:
        raise BadInput(_reason(error)) from error
    if stripped[end:].strip():
        raise BadInput("more than one value")
    if not isinstance(record, Mapping):
        raise BadInput(f"{_kind(record)}, not an object")
    return {key: text_of(value) for key, value in record.items()}


def _filled(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        if line.strip(" \t\r\n"):
            yield number, line


def _reason(error: Exception) -> str:
    if isinstance(error, simplejson.JSONDecodeError):
        return f"no valid JSON: {error.msg}, column {error.colno}"
    if isinstance(error, DuplicateKey):
        return str(error)
    return "nested too deeply"
