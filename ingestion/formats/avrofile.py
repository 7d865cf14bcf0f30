"""Avro: records of messages and of files, as raw keeps them.

bytes + schema -> fastavro -> `json_of` -> the text of one JSON object
object container file -> its own schema -> records -> `TextTable`

Nothing is rounded: decimals and whole numbers keep their digits, floating point numbers the
shortest digits that read back as the same number. Times are ISO 8601, those with a zone in UTC;
`bytes` and `fixed` are Base64; what is not a number (`NaN`, `Infinity`) is a text.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import simplejson

from ingestion.errors import BadInput, first_line
from ingestion.formats.streams import Content, opened
from ingestion.formats.tables import TextTable

MAGIC = b"Obj\x01"
# Whatever stands in the bytes, fastavro may stumble over it in any of these ways.
FAULTS = (EOFError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
_encoder = simplejson.JSONEncoder(
    separators=(",", ":"),
    ensure_ascii=False,
    use_decimal=True,
    allow_nan=False,
    encoding=None,
    default=lambda value: _text(value),
)


def read_schema(path: Path) -> Any:
    """A schema from a file.

    Raises:
        BadInput: There is no such file, or it holds no schema.
    """
    import fastavro

    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        return fastavro.parse_schema(schema)
    except FileNotFoundError:
        raise BadInput("there is no such schema", file=path) from None
    except (OSError, ValueError, TypeError, LookupError, fastavro.schema.SchemaParseException,
            fastavro.schema.UnknownType) as error:  # fmt: skip
        raise BadInput(
            f"it is no Avro schema: {first_line(error)}",
            file=path,
            hint="A schema is one JSON document, as `.avsc` files hold it.",
        ) from error


def json_of(record: Any) -> str:
    """A record as the text of a JSON object.

    Raises:
        BadInput: It is none, or holds what no text can hold.
    """
    if not isinstance(record, Mapping):
        raise BadInput(f"its schema makes a {type(record).__name__}, not a record")
    try:
        return str(_encoder.encode(record))
    except ValueError:
        return str(_encoder.encode(_finite(record)))


def _finite(value: Any) -> Any:
    """The same with a text in place of what is not a number."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def _text(value: Any) -> str:
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise BadInput(f"a value of the type {type(value).__name__} has no text")


def column_text(value: Any) -> str | None:
    """A value of a record as raw keeps it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | list):
        try:
            return str(_encoder.encode(value))
        except ValueError:
            return str(_encoder.encode(_finite(value)))
    if isinstance(value, float):
        finite = _finite(value)
        return finite if isinstance(finite, str) else repr(value)
    return str(value) if isinstance(value, int | Decimal) else _text(value)


def read_file(content: Content, target: Path, **where: Any) -> TextTable:
    """Writes the records of an object container file to `target` as Parquet.

    Args:
        content: The file.
        target: Parquet file to write.
        where: `source`, `table`, `file` for messages.

    Raises:
        BadInput: It is no whole Avro file, or its schema is not one of a record.
    """
    table = TextTable()
    with opened(content) as stream:
        data = stream.read()
    if data:
        schema, records = _container(data)
        for field in schema.get("fields", []) if isinstance(schema, Mapping) else []:
            table.names.setdefault(field["name"])
        for record in records:
            if not isinstance(record, Mapping):
                raise BadInput(f"its records are of the type {type(record).__name__}")
            table.add({key: column_text(value) for key, value in record.items()})
    table.write(target, **where)
    return table


def _container(data: bytes) -> tuple[Any, Iterator[Any]]:
    import fastavro

    try:
        reader = fastavro.reader(io.BytesIO(data))
        return reader.writer_schema, _records(reader)
    except FAULTS as error:
        raise BadInput(f"it is no whole Avro file: {first_line(error)}") from error


def _records(reader: Any) -> Iterator[Any]:
    read = 0
    try:
        for record in reader:
            read += 1
            yield record
    except FAULTS as error:
        raise BadInput(
            f"it is no whole Avro file: behind record {read:,}: {first_line(error)}",
            hint="It was probably cut off: have it sent again.",
        ) from error


def records_of(data: bytes) -> list[Any]:
    """All records of an object container file.

    Raises:
        BadInput: It is no whole Avro file.
    """
    return list(_container(data)[1])
