"""Avro messages: three ways in which a record travels, told apart by declaration.

`avro_schema: reading.avsc`      -> the record alone, by that schema
`avro_schema: reading-{id}.avsc` -> a zero byte and the schema's number before it (Confluent's way)
no `avro_schema`                 -> an Avro file of one record, which brings its schema along

Left out: asking a registry for schemas, so that landing depends on no other server: what a stream's
schemas are stands beside its declaration.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingestion.errors import BadInput, first_line
from ingestion.formats import avrofile
from ingestion.lander.decoding import Undecodable

_ID = "{id}"
_FRAME = 5


def prepare_avro(schema: str | None, project: Path) -> Callable[[bytes], bytes]:
    """What decodes one message.

    Args:
        schema: File of the schema below the project; with `{id}` in its name, one of several.
        project: The project's root.

    Raises:
        BadInput: There is no such file, or it holds no schema.
    """
    if schema is None:
        return _text_of(_in_container)
    if _ID in schema:
        return _text_of(_Framed(schema, project))
    parsed = avrofile.read_schema(project / schema)
    return _text_of(lambda message: _alone(message, parsed))


def _text_of(record: Callable[[bytes], Any]) -> Callable[[bytes], bytes]:
    def decode(message: bytes) -> bytes:
        try:
            return avrofile.json_of(record(message)).encode()
        except avrofile.FAULTS as error:
            raise Undecodable(f"no Avro record of this schema: {first_line(error)}") from error
        except BadInput as error:
            raise Undecodable(error.message) from error

    return decode


def _alone(message: bytes, schema: Any) -> Any:
    import fastavro

    stream = io.BytesIO(message)
    record = fastavro.schemaless_reader(stream, schema, None)
    rest = len(message) - stream.tell()
    if rest:
        raise Undecodable(f"{rest} bytes follow the record: it was written by another schema")
    return record


def _in_container(message: bytes) -> Any:
    if not message.startswith(avrofile.MAGIC):
        raise Undecodable("it is no Avro file, and no `avro_schema` is declared")
    records = avrofile.records_of(message)
    if len(records) != 1:
        raise Undecodable(f"an Avro file of {len(records)} records, expected one")
    return records[0]


class _Framed:
    """Records with the number of their schema before them."""

    def __init__(self, pattern: str, project: Path) -> None:
        self._pattern, self._project = pattern, project
        self._schemas: dict[int, Any] = {}
        path = project / pattern
        if not any(path.parent.glob(path.name.replace(_ID, "*"))):
            raise BadInput(
                "no schema has such a name",
                file=path,
                hint="Put the file of each schema there, with its number in place of {id}.",
            )

    def __call__(self, message: bytes) -> Any:
        if len(message) < _FRAME or message[0] != 0:
            raise Undecodable("the number of a schema does not stand before it")
        number = int.from_bytes(message[1:_FRAME], "big")
        if number not in self._schemas:
            path = self._project / self._pattern.replace(_ID, str(number))
            if not path.exists():
                raise Undecodable(f"there is no {path.name} for its schema, {number}")
            self._schemas[number] = avrofile.read_schema(path)
        return _alone(message[_FRAME:], self._schemas[number])
