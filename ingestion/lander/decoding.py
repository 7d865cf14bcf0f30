"""From the bytes of messages to JSON text: what a row's columns are later taken from.

messages of a file -> `Decode`, made once a stream -> payloads, and why some have none

What cannot be decoded is no error: the lander keeps its bytes, and the loader rejects it with the
reason. Left out: which column takes which value, which the loader decides.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingestion.declarations import CsvOptions, StreamEndpoint
from ingestion.errors import BadInput


class Undecodable(ValueError):
    """A message is not what the declaration says; its text is the reason, for people."""


@dataclass
class Decoded:
    """Messages after decoding, in their order.

    Attributes:
        payloads: Each as the text of one JSON object, in UTF-8; None for those with a fault.
        faults: Why a message has no payload, by its position.
    """

    payloads: list[bytes | None]
    faults: dict[int, str] = field(default_factory=dict)


Decode = Callable[[Sequence[bytes]], Decoded]
DecodeOne = Callable[[bytes], bytes]


def prepare_decoding(endpoint: StreamEndpoint, project: Path) -> Decode:
    """What decodes the messages of a stream, many at a time.

    Args:
        endpoint: The stream's declaration.
        project: The project's root, where files of schemas lie.

    Raises:
        BadInput: The declaration names a file that is not there or holds no schema.
    """
    match endpoint.format:
        case "json":
            return decode_json
        case "avro":
            from ingestion.lander.avro import prepare_avro

            return one_by_one(prepare_avro(endpoint.avro_schema, project))
        case "csv":
            return one_by_one(_csv_decoder(endpoint.csv))
        case "text":
            return one_by_one(_text_object)


def one_by_one(decode: DecodeOne) -> Decode:
    """A decoder of single messages as one of many; it raises `Undecodable`."""

    def decode_all(messages: Sequence[bytes]) -> Decoded:
        decoded = Decoded([])
        for position, message in enumerate(messages):
            try:
                decoded.payloads.append(decode(message))
            except Undecodable as fault:
                decoded.payloads.append(None)
                decoded.faults[position] = str(fault)
        return decoded

    return decode_all


def decode_json(messages: Sequence[bytes]) -> Decoded:
    """Messages that are JSON objects already: they are kept byte for byte."""
    import orjson

    try:
        # Nearly always they all are: nothing of Python's is done for each but to read it.
        whole = set(map(type, map(orjson.loads, messages))) <= {dict}
    except orjson.JSONDecodeError:
        whole = False
    return Decoded(list(messages)) if whole else one_by_one(_json_object)(messages)


def _json_object(message: bytes) -> bytes:
    import orjson

    from ingestion.formats.jsonfile import record_of

    try:
        if type(orjson.loads(message)) is dict:
            return message
    except orjson.JSONDecodeError:
        # It is stricter than files are read: a number may be longer than a machine counts.
        pass
    try:
        record_of(message.decode())
    except UnicodeDecodeError as error:
        raise Undecodable(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
    except BadInput as error:
        raise Undecodable(error.message) from error
    return message


def _text(message: bytes) -> str:
    try:
        return message.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Undecodable(f"it is not UTF-8: {error.reason} at byte {error.start}") from error


def _text_object(message: bytes) -> bytes:
    """The whole message as the column `text`."""
    import orjson

    return orjson.dumps({"text": _text(message)})


def _csv_decoder(options: CsvOptions) -> DecodeOne:
    """Decodes messages that are one record each, whose columns are declared."""
    import orjson

    from ingestion.formats.csvfile import Tokeniser, fitted

    # A message has no lines before its record, and no header.
    tokeniser = Tokeniser(options.model_copy(update={"skip_lines": 0, "header": False}))
    nulls = set(options.null_values)

    def decode(message: bytes) -> bytes:
        # Its own line ends only: what else Python takes for one belongs to a field.
        records = list(tokeniser.records(io.StringIO(_text(message), newline="")))
        if len(records) != 1:
            raise Undecodable(f"{len(records)} CSV records, expected one")
        values, reason = fitted(records[0], len(options.columns))
        if values is None:
            raise Undecodable(reason)
        pairs = zip(options.columns, values, strict=True)
        return orjson.dumps({name: None if value in nulls else value for name, value in pairs})

    return decode
