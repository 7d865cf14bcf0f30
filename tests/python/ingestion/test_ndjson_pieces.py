"""NDJSON in one pass says the same of every line as reading line by line."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ingestion.errors import BadInput
from ingestion.formats import ndjsonfile
from ingestion.formats.jsonfile import record_of
from ingestion.formats.ndjsonlayout import find_layout
from ingestion.landing import column_mapping

ORIGIN = ndjsonfile.Origin("web/events/a.ndjson.gz", "1781000000.5", datetime(2026, 6, 9, 12, 0, 0))
USUAL = '{"id": 1, "name": "a", "at": "2026-06-01T10:00:00.500Z", "n": null}'
ODD = [
    '{"id": 1.10, "name": "trailing zero"}',
    '{"id": 1e5, "name": "exponent"}',
    '{"id": -0, "name": "zero below zero"}',
    '{"id": 12345678901234567890123, "name": "long"}',
    '{"id": 18446744073709551616, "name": "one too long"}',
    '{"id": 0.5, "name": "fraction"}',
    '{"id": 2, "id": 3}',
    '{"name": "other order", "id": 4}',
    '{"id": 5, "colour": "a key that none had before"}',
    '{"id": 6, "name": "a \\" quote, 1.50 and \\u00e9 and \\n"}',
    '{"id": {"deep":  [1, 2.50, {"x": null}]}, "name": "nested"}',
    '{"id": [1, 2], "name": ""}',
    '{"id": true, "name": "ünï ☃", "n": "null"}',
    '{"id": "\\ud800", "name": "half of a pair"}',
    '{"id": 7} {"id": 8}',
    '{"id": 9, "name": "cut o',
    "[1, 2]",
    "null",
    "5",
    '{"id,name": 1, "at": 2, "n": 3, "x": 4}',
    "{}",
]


def write(folder: Path, lines: list[str], end: str = "\n") -> Path:
    path = folder / "a.ndjson.gz"
    path.write_bytes(gzip.compress((end.join(lines) + end).encode("utf-8")))
    return path


def expected(lines: list[str]) -> tuple[dict[int, dict[str, str]], set[int]]:
    """Values of each record by its line, without NULLs, and the lines that are no record."""
    told, rejected = {}, set()
    for number, line in enumerate(lines, start=1):
        try:
            record = record_of(line)
        except BadInput:
            rejected.add(number)
            continue
        names = column_mapping(list(record))
        told[number] = {names[key]: value for key, value in record.items() if value is not None}
    return told, rejected


def read(piece: ndjsonfile.Piece) -> dict[int, dict[str, Any]]:
    with duckdb.connect() as connection:
        found = connection.execute(ndjsonfile.select_rows(piece.paths, piece.columns))
        names = [column[0] for column in found.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for row in rows:
        assert row.pop("_file") == ORIGIN.file
        assert row.pop("_load_id") == ORIGIN.load_id
        assert row.pop("_extracted_at") == ORIGIN.extracted_at
    numbered = {row.pop("_row"): row for row in rows}
    assert len(numbered) == len(rows)
    return {
        number: {key: value for key, value in row.items() if value is not None}
        for number, row in numbered.items()
    }


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_each_line_is_told_as_if_it_were_read_by_itself(tmp_path: Path, end: str) -> None:
    lines = [USUAL, *(part for odd in ODD for part in (odd, USUAL))]
    told, rejected = expected(lines)
    with duckdb.connect() as connection:
        piece = ndjsonfile.write_piece(
            connection, write(tmp_path, lines, end), "gzip", tmp_path, ORIGIN
        )
    assert read(piece) == told
    assert {one.number for one in piece.rejected} == rejected
    assert all(one.reason for one in piece.rejected)
    assert piece.rows == len(told)
    assert len(rejected) == 6


# Lines that their values nearly make again: each differs from the layout by something that counts.
DECEIVING = [
    '{"k": "a", "n": "5", "t": "x", "o": 1}',
    '{"k": "a", "n": 5, "t": 7, "o": 1}',
    '{"k": "a", "n": 9007199254740993.0, "t": "x"}',
    '{"k": "a", "n": -0, "t": "x"}',
    r'{"k": "a\\", "n": 5, "t": "x"}',
    r'{"k": "a\", "n": 5, "t": "x"}',
    r'{"k": "\u005c", "n": 5, "t": null}',
    r'{"k": "a\", \"n\": 6, \"t\": \"", "n": 5, "t": "x"}',
    '{"k": "a", "n": 5, "n": 5, "t": "x"}',
    '{"k": "a", "n": 5, "t": "x", "o": null}',
    '{"k": "a", "n": [1.0, {"t": "y"}], "t": "x"}',
    '{"k": "null", "n": null, "t": "null"}',
    '{"k": "", "n": true, "t": ""}',
    '{"k":"a","n":5,"t":"x"}',
    '{ "k": "a", "n": 5, "t": "x"}',
    '{"n": 5, "k": "a", "t": "x"}',
    '{"k": null, "n": 5, "t": "x"}',
]


@pytest.mark.parametrize("blanks", [(", ", ": "), (",", ":")], ids=["spaced", "compact"])
def test_a_line_that_is_written_otherwise_loses_nothing(
    tmp_path: Path, blanks: tuple[str, str]
) -> None:
    usual = [
        {"k": "ü ☃", "n": 12, "t": "x"},
        {"k": "b", "n": None, "t": None, "o": 3},
    ]
    plain = [json.dumps(record, ensure_ascii=False, separators=blanks) for record in usual]
    lines = plain * 150 + [part for line in DECEIVING for part in (*plain, line, *plain)]
    told, rejected = expected(lines)
    with duckdb.connect() as connection:
        path = write(tmp_path, lines)
        layout = find_layout(connection, path, "gzip")
        piece = ndjsonfile.write_piece(connection, path, "gzip", tmp_path, ORIGIN)
    assert (layout.keys, layout.blanks) == (("k", "n", "t", "o"), blanks)
    assert [m.is_quoted for m in layout.members] == [True, False, True, False]
    assert read(piece) == told
    assert {one.number for one in piece.rejected} == rejected
    assert piece.rows == len(told)


def test_rows_keep_their_place_however_many_threads_read(tmp_path: Path) -> None:
    lines = [f'{{"id": {number}, "text": "{"x" * 200}"}}' for number in range(60_000)]
    lines[40_000] = '{"id": 40000.0}'
    with duckdb.connect(config={"threads": 4}) as connection:
        piece = ndjsonfile.write_piece(connection, write(tmp_path, lines), "gzip", tmp_path, ORIGIN)
    found = read(piece)
    assert piece.rows == len(found) == len(lines)
    assert found[40_001] == {"id": "40000.0"}
    assert all(row["id"].split(".")[0] == str(number - 1) for number, row in found.items())


@pytest.mark.parametrize("megabytes", [5, 20])
def test_a_line_longer_than_a_buffer_is_read_with_larger_ones(
    tmp_path: Path, megabytes: int
) -> None:
    lines = [f'{{"id": {number}, "text": "{"x" * 100}"}}' for number in range(2_000)]
    lines[1_000] = f'{{"id": 1000, "text": "{"y" * megabytes * 2**20}"}}'
    with duckdb.connect() as connection:
        piece = ndjsonfile.write_piece(connection, write(tmp_path, lines), "gzip", tmp_path, ORIGIN)
    found = read(piece)
    assert piece.rows == len(found) == len(lines)
    assert found[1_001] == {"id": "1000", "text": "y" * megabytes * 2**20}
    assert found[2_000]["id"] == "1999"


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([USUAL, "", USUAL, "{"], id="a blank line"),
        pytest.param(["[1]"] * 5, id="no object"),
        pytest.param(['{"a|b\\"c": 1}'], id="a key that is no name"),
        pytest.param([USUAL] + ['{"id": 1.10}'] * 5_000, id="mostly odd"),
    ],
)
def test_what_is_odd_throughout_is_left_to_the_reader_of_lines(
    tmp_path: Path, lines: list[str]
) -> None:
    with duckdb.connect() as connection, pytest.raises(BadInput, match="record by record"):
        ndjsonfile.write_piece(connection, write(tmp_path, lines), "gzip", tmp_path, ORIGIN)
