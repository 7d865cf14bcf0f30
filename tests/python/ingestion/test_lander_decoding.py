"""Messages become JSON text without losing a digit, and a fault says what is wrong."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest

from ingestion.declarations import FilesTable, StreamEndpoint
from ingestion.errors import BadInput
from ingestion.formats.preparing import Unit, prepare
from ingestion.lander.decoding import Decode, Decoded, prepare_decoding

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "n", "type": "long"},
        {"name": "label", "type": ["null", "string"], "default": None},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 4},
        },
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "ratio", "type": "double"},
        {"name": "raw", "type": "bytes"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["HOT", "COLD"]}},
        {"name": "parts", "type": {"type": "array", "items": {"type": "map", "values": "double"}}},
    ],
}
RECORD: dict[str, Any] = {
    "n": 9223372036854775807,
    "label": "caf\u00e9 \u2028",
    "price": Decimal("1234567890123456789012345678.1000"),
    "at": dt.datetime(2026, 3, 29, 1, 59, 59, 7, tzinfo=dt.UTC),
    "day": dt.date(1, 1, 1),
    "id": uuid.UUID(int=7),
    "ratio": 0.1,
    "raw": b"\x00\xff",
    "kind": "HOT",
    "parts": [{"x": 1.5}, {}],
}
TEXT = (
    '{"n":9223372036854775807,"label":"caf\u00e9 \u2028","price":1234567890123456789012345678.1000,'
    '"at":"2026-03-29T01:59:59.000007+00:00","day":"0001-01-01",'
    '"id":"00000000-0000-0000-0000-000000000007","ratio":0.1,"raw":"AP8=","kind":"HOT",'
    '"parts":[{"x":1.5},{}]}'
)


def decoder(project: Path, **declared: Any) -> Decode:
    endpoint = StreamEndpoint.model_validate({"from": "x", **declared})
    return prepare_decoding(endpoint, project)


def text_of(decoded: Decoded) -> str:
    assert decoded.faults == {}
    (payload,) = decoded.payloads
    assert payload is not None
    return payload.decode()


def encoded(record: dict[str, Any], schema: dict[str, Any] = SCHEMA) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def container(*records: dict[str, Any], codec: str = "null") -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(SCHEMA), records, codec=codec)
    return out.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "reading.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "reading-3.avsc").write_text(json.dumps(SCHEMA))
    return tmp_path


def test_a_record_alone(project: Path) -> None:
    decode = decoder(project, format="avro", avro_schema="reading.avsc")
    assert text_of(decode([encoded(RECORD)])) == TEXT


def test_a_record_with_the_number_of_its_schema(project: Path) -> None:
    decode = decoder(project, format="avro", avro_schema="reading-{id}.avsc")
    frame = b"\x00" + (3).to_bytes(4, "big")
    assert text_of(decode([frame + encoded(RECORD)])) == TEXT
    decoded = decode([b"\x00" + (7).to_bytes(4, "big") + b"x", b"\x01abcdef", b""])
    assert decoded.payloads == [None] * 3
    assert "no reading-7.avsc for its schema, 7" in decoded.faults[0]
    assert "number of a schema does not stand" in decoded.faults[1]
    assert "number of a schema does not stand" in decoded.faults[2]
    # A schema that is added later is found without a restart.
    (project / "reading-7.avsc").write_text(json.dumps(SCHEMA))
    assert text_of(decode([b"\x00" + (7).to_bytes(4, "big") + encoded(RECORD)])) == TEXT


def test_a_file_of_one_record(project: Path) -> None:
    decode = decoder(project, format="avro")
    assert text_of(decode([container(RECORD, codec="deflate")])) == TEXT
    decoded = decode([container(RECORD, RECORD), encoded(RECORD), container(RECORD)[:-20]])
    assert decoded.payloads == [None] * 3
    assert "2 records, expected one" in decoded.faults[0]
    assert "no Avro file" in decoded.faults[1]
    assert "no whole Avro file" in decoded.faults[2]


def test_every_cut_and_every_surplus_is_a_fault_of_its_message_alone(project: Path) -> None:
    decode = decoder(project, format="avro", avro_schema="reading.avsc")
    whole = encoded(RECORD)
    cut = [whole[:length] for length in range(len(whole))]
    decoded = decode([whole, *cut, whole + b"\x00", whole])
    assert set(decoded.faults) == set(range(1, len(cut) + 2))
    assert "1 bytes follow" in decoded.faults[len(cut) + 1]
    assert decoded.payloads[0] == decoded.payloads[-1] == TEXT.encode()


def test_what_is_no_number_is_text(project: Path) -> None:
    decode = decoder(project, format="avro", avro_schema="reading.avsc")
    record = {**RECORD, "ratio": float("nan"), "parts": [{"x": float("-inf")}]}
    read = json.loads(text_of(decode([encoded(record)])))
    assert (read["ratio"], read["parts"]) == ("NaN", [{"x": "-Infinity"}])


def test_schemas_that_are_missing_or_none(project: Path) -> None:
    with pytest.raises(BadInput, match="no such schema"):
        decoder(project, format="avro", avro_schema="other.avsc")
    with pytest.raises(BadInput, match="no schema has such a name"):
        decoder(project, format="avro", avro_schema="other-{id}.avsc")
    for number, text in enumerate(("{", '{"type": "recor"}', "[]x", '{"type": "record"}')):
        (project / f"bad{number}.avsc").write_text(text)
        with pytest.raises(BadInput, match="it is no Avro schema"):
            decoder(project, format="avro", avro_schema=f"bad{number}.avsc")


def test_csv_records() -> None:
    csv = {"columns": ["n", "text", "price"], "delimiter": ";", "null_values": ["", "NA"]}
    decode = decoder(Path(), format="csv", csv=csv)
    assert text_of(decode([b'007;"a;""b""\r\nc\x0b";1.10\r\n'])) == (
        '{"n":"007","text":"a;\\"b\\"\\r\\nc\\u000b","price":"1.10"}'
    )
    assert text_of(decode(["1;\u2028;NA".encode()])) == '{"n":"1","text":"\u2028","price":null}'
    decoded = decode([b"1;2", b"1;2;3\n4;5;6", b'1;"2;3', b"\xff;2;3", b""])
    assert [decoded.faults[n] for n in range(5)] == [
        "too few fields: 2, expected 3",
        "2 CSV records, expected one",
        "a quote that is never closed",
        "it is not UTF-8: invalid start byte at byte 0",
        "0 CSV records, expected one",
    ]


def test_text() -> None:
    decode = decoder(Path(), format="text")
    assert text_of(decode(['say "caf\u00e9"\n'.encode()])) == '{"text":"say \\"caf\u00e9\\"\\n"}'
    decoded = decode([b"a", b"\x80"])
    assert decoded.payloads == [b'{"text":"a"}', None]
    assert decoded.faults == {1: "it is not UTF-8: invalid start byte at byte 0"}


def avro_unit(folder: Path, content: bytes, name: str = "a.avro") -> Unit:
    original = folder / name
    original.write_bytes(content)
    (unit,) = prepare(original, name, FilesTable(path="*"), folder / "prepared")
    return unit


def test_files_of_avro_are_read_like_other_files(tmp_path: Path) -> None:
    other = {**RECORD, "n": 2, "label": None, "ratio": float("inf")}
    unit = avro_unit(tmp_path, container(RECORD, other, codec="deflate"))
    assert (unit.refused, unit.rows, unit.reader) == ("", 2, "parquet")
    first, second = pq.read_table(unit.path).to_pylist()
    assert first == {
        "_row": 1,
        "n": "9223372036854775807",
        "label": "caf\u00e9 \u2028",
        "price": "1234567890123456789012345678.1000",
        "at": "2026-03-29T01:59:59.000007+00:00",
        "day": "0001-01-01",
        "id": "00000000-0000-0000-0000-000000000007",
        "ratio": "0.1",
        "raw": base64.b64encode(RECORD["raw"]).decode(),
        "kind": "HOT",
        "parts": '[{"x":1.5},{}]',
    }
    assert (second["n"], second["label"], second["ratio"]) == ("2", None, "Infinity")


def test_files_of_avro_that_are_empty_cut_or_none(tmp_path: Path) -> None:
    none = avro_unit(tmp_path, container(), "none.avro")
    assert (none.rows, none.columns) == (0, [field["name"] for field in SCHEMA["fields"]])
    assert avro_unit(tmp_path, b"", "empty.avro").rows == 0
    many = container(*[RECORD] * 1000)
    assert "behind record" in avro_unit(tmp_path, many[: len(many) // 2], "cut.avro").refused
    assert "no whole Avro file" in avro_unit(tmp_path, b"PAR1 not avro", "other.avro").refused
