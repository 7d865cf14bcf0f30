"""NDJSON: what DuckDB reads in bulk says the same as reading record by record."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from ingestion.declarations import FilesTable
from ingestion.formats.jsonfile import record_of
from ingestion.settings import Settings
from ingestion.stage import DueFile, Stager
from ingestion.warehouse import in_memory

LINES = [
    '{"a":1,"b":"x"}',
    '{"a":1.0,"b":0.1,"c":-0.5,"d":123456.789}',
    '{"a":1.10}',
    '{"a":1e5}',
    '{"a":1.5E+3,"n":{"x":1e2}}',
    '{"a":-0}',
    '{"a":-0.0}',
    '{"a":0.00001}',
    '{"a":0.0001}',
    '{"a":0.001}',
    '{"a":123456789012345678}',
    '{"a":123456789012345678901234567890}',
    '{"a":1234.123456789012}',
    '{"a":12345678.12345678}',
    '{"a":12345678901.12345}',
    '{"a":1.12345678901234567}',
    '{"n":{"price":1.10,"list":[1.0, 2.50]}}',
    '{"n": {"x": 1, "y": [true, null, "z, w"]}, "s": "a: 1.10, b"}',
    r'{"n":{"x":"\u00e9\/\n\t\"\\"},"s":"\u00e9\/\n"}',
    r'{"n":{"x":"\u2028\u0001\u001f\u007f"}}',
    r'{"n":{"x":"\ud83d\ude00"},"s":"\ud83d\ude00"}',
    '{"hash":"3e4e5","uuid":"1e5a0000-0e00-4e10","day":"1998-06-00"}',
    '{"A b":1,"c.d":2,"e\'f":3}',
    '{"a":null,"n":{},"l":[]}',
]


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory, for all of these tests."""
    folder = tmp_path_factory.mktemp("link")
    with in_memory(Settings(project_dir=folder, data_dir=folder / "data")) as connection:
        yield connection


@pytest.mark.parametrize("lines", [[line] for line in LINES] + [LINES[:2], LINES[-4:]])
def test_bulk_reading_keeps_every_digit(
    link: duckdb.DuckDBPyConnection, tmp_path: Path, lines: list[str]
) -> None:
    path = tmp_path / "lines.ndjson"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    size = path.stat().st_size
    options = {"compression": "none", "bom": False, "faulty": None, "bytes": size}
    due = DueFile(
        *("lines", "x/lines.ndjson", path, "1.0", "ndjson", "original", None, size, ""),
        options=options,
    )
    stager = Stager(link, tmp_path / "spool")
    staged = stager.stage([due], FilesTable(path="*", format="ndjson"))
    (relation,) = staged.relations
    found = link.execute(f"select * from ({relation.sql}) order by _row").fetchall()
    names = list(relation.columns)
    stager.close()
    expected = []
    for number, line in enumerate(lines, start=1):
        expected.append((number, record_of(line)))
    assert len(found) == len(expected)
    for row, (number, record) in zip(found, expected, strict=True):
        assert row[len(names) + 1] == number
        values = [value for value in row[: len(names)] if value is not None]
        assert sorted(values) == sorted(v for v in record.values() if v is not None)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_plain_lines_are_not_read_one_by_one(
    link: duckdb.DuckDBPyConnection, tmp_path: Path, compression: str
) -> None:
    content = b'{"id": 1, "price": 1.5, "lines": [{"x": 2}]}\n' * 3
    path = tmp_path / "lines"
    path.write_bytes(gzip.compress(content) if compression == "gzip" else content)
    options = {"compression": compression, "bom": False, "faulty": None}
    due = DueFile(
        *("lines", "x/lines", path, "1.0", "ndjson", "original", None, 1, ""), options=options
    )
    stager = Stager(link, tmp_path / "spool")
    (relation,) = stager.stage([due], FilesTable(path="*", format="ndjson")).relations
    rows = link.execute(f"select * from ({relation.sql}) order by _row").fetchall()
    assert rows[0] == ("1", "1.5", '[{"x":2}]', "x/lines", 1)
    assert len(rows) == 3
    # Salvaged records would lie there.
    assert not (tmp_path / "spool").exists()
    stager.close()
