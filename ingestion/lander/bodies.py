"""The messages in the body of an HTTP POST, each with the bytes that the sender wrote.

body -> unpacked -> one JSON object, an array's elements, or lines -> messages

A body that cannot be taken apart is one message: decoding will tell what is wrong with it, and its
bytes are kept. Left out: what a message means.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator

from ingestion.declarations import StreamEndpoint

_LINES = {
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-lines",
}
_TYPES = {
    "json": ("application/json", *sorted(_LINES)),
    "csv": ("text/csv",),
    "text": ("text/plain",),
    "avro": ("application/avro", "avro/binary", "application/octet-stream"),
}
ENCODINGS = ("identity", "gzip")
_GZIP = 16 + zlib.MAX_WBITS
_BLANK = " \t\r\n"
# Numbers are not looked at: their digits are taken from the text.
_decode = json.JSONDecoder(parse_float=str, parse_int=str).raw_decode


class TooLarge(ValueError):
    """A body is larger than allowed once it is unpacked."""


def accepted_types(endpoint: StreamEndpoint) -> tuple[str, ...]:
    """Content types that a stream takes."""
    return _TYPES[endpoint.format]


def is_accepted(content_type: str, endpoint: StreamEndpoint) -> bool:
    """Whether a stream takes bodies of this type."""
    is_json = content_type.startswith("application/") and content_type.endswith("+json")
    return content_type in accepted_types(endpoint) or (endpoint.format == "json" and is_json)


def unpacked(body: bytes, encoding: str, largest: int) -> bytes:
    """The body without its compression; as it is if it cannot be unpacked.

    Raises:
        TooLarge: It holds more than `largest` bytes.
    """
    if encoding != "gzip":
        return body
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while rest:
            reader = zlib.decompressobj(_GZIP)
            part = reader.decompress(rest, largest - size + 1)
            size += len(part)
            if size > largest:
                raise TooLarge
            if not reader.eof:
                return body
            parts.append(part)
            rest = reader.unused_data
    except zlib.error:
        return body
    return b"".join(parts)


def messages_in(body: bytes, content_type: str, endpoint: StreamEndpoint) -> list[bytes]:
    """The messages of a body, in its order; one of the whole body if it cannot be taken apart."""
    if endpoint.format in ("text", "avro"):
        return [body] if body else []
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [body]
    if endpoint.format == "csv":
        return [record.encode() for record in _records(text, endpoint)]
    if content_type in _LINES:
        return [line.encode() for line in text.split("\n") if line.strip(_BLANK)]
    text = text.strip(_BLANK)
    if not text.startswith("["):
        return [text.encode()] if text else []
    try:
        return [element.encode() for element in _elements(text)]
    except (ValueError, RecursionError):
        return [body]


def _records(text: str, endpoint: StreamEndpoint) -> Iterator[str]:
    from ingestion.formats.csvfile import Tokeniser

    for record in Tokeniser(endpoint.csv).records(io.StringIO(text, newline="")):
        if record.raw.strip():
            yield record.raw


def _elements(text: str) -> Iterator[str]:
    """The elements of a JSON array as they stand in the text.

    Raises:
        ValueError: It is no whole array.
    """
    position = _skipped(text, 1)
    if text[position : position + 1] == "]":
        _expect_end(text, position + 1)
        return
    while True:
        _, end = _decode(text, position)
        yield text[position:end]
        position = _skipped(text, end)
        following = text[position : position + 1]
        position = _skipped(text, position + 1)
        if following == "]":
            _expect_end(text, position)
            return
        if following != ",":
            raise ValueError


def _skipped(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BLANK:
        position += 1
    return position


def _expect_end(text: str, position: int) -> None:
    if _skipped(text, position) != len(text):
        raise ValueError
