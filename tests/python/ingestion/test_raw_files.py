"""Raw rows that are kept as Parquet are the same rows, through crashes, replays and losses too."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import duckdb
import pytest
from files_kit import Lab
from test_crash import child

from ingestion import load, raw_files, stage
from ingestion.replay import replay


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lab, Lab]:
    """Two projects that get the same files, one with tables, one with files."""
    monkeypatch.setattr(stage, "_PIECE_BYTES", 100)
    labs = []
    for raw in ("table", "parquet"):
        lab = Lab(tmp_path / raw)
        lab.drop.mkdir(parents=True)
        lab.tables = {
            "n": {"path": "*.ndjson.gz", "format": "ndjson", "raw": raw},
            "c": {"path": "*.csv", "format": "csv", "raw": raw},
        }
        lab.columns = {"n": {"id": "string", "never_told": "string"}}
        labs.append(lab)
    return labs[0], labs[1]


def deliver(lab: Lab, number: int) -> None:
    lines = [f'{{"id": {number}{i:04d}, "text": "row {i}"}}' for i in range(50)]
    lines[7] = '{"id": 1.10}'
    lines[9] = '{"id": "cut'
    if number > 1:
        lines[20] = '{"id": 5, "later": "a new column"}'
    lab.put(f"{number}.ndjson.gz", gzip.compress("\n".join(lines).encode(), mtime=0), age=number)
    lab.put(f"{number}.csv", f"a,b\n{number},x\n{number},y\n", age=number)


def run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
    return lab.run()


def assert_same(pair: tuple[Lab, Lab]) -> None:
    left, right = pair
    for table in ("n", "c"):
        assert left.types(table) == right.types(table)
        names = sorted(set(left.types(table)) - {"_load_id", "_extracted_at"})
        query = f"select {', '.join(names)} from raw_src.{table} order by _file, _row"
        assert left.query(query) == right.query(query)
    assert left.ledger() == right.ledger()


def test_rows_and_ledger_are_those_of_a_table(
    pair: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        for lab in pair:
            deliver(lab, number)
            result = run(lab, monkeypatch)
            assert {(t.table, t.rows, t.rejected) for t in result.tables} == {
                ("n", 49, 1),
                ("c", 2, 0),
            }
        assert_same(pair)
    assert pair[1].query("select count(*), count(later) from raw_src.n") == [(147, 2)]

    for lab in pair:
        monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
        replay([lab.declaration], lab.settings, files=["*2.ndjson.gz"])
    assert_same(pair)

    # A declaration may change its mind.
    for lab, raw in zip(pair, ("parquet", "table"), strict=True):
        lab.tables = {name: {**ingest, "raw": raw} for name, ingest in lab.tables.items()}
        deliver(lab, 4)
        run(lab, monkeypatch)
    assert_same(pair)


def test_nothing_new_leaves_the_warehouse_as_it_is(
    pair: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lab = pair
    deliver(lab, 1)
    run(lab, monkeypatch)
    before = lab.settings.warehouse_path.read_bytes()
    run(lab, monkeypatch)
    assert lab.settings.warehouse_path.read_bytes() == before


def test_lost_files_are_made_again_from_landing(
    pair: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for lab in pair:
        for number in (1, 2):
            deliver(lab, number)
            run(lab, monkeypatch)
    _, lab = pair
    for path in (lab.settings.raw_dir / "src" / "n").iterdir():
        path.unlink()
        break
    run(lab, monkeypatch)
    assert_same(pair)


def test_many_small_files_become_one(
    pair: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "_SMALL_FILES", 4)
    for number in (1, 2, 3):
        for lab in pair:
            deliver(lab, number)
            run(lab, monkeypatch)
    run(pair[1], monkeypatch)
    assert_same(pair)
    assert len(list((pair[1].settings.raw_dir / "src" / "n").iterdir())) < 4


def test_a_killed_load_leaves_all_or_nothing(
    pair: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for lab in pair:
        deliver(lab, 1)
    run(pair[0], monkeypatch)
    lab = pair[1]
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
    assert lab.extract().error is None
    for point, number in (
        ("ingestion.raw_files/RawFiles:_placed", 2),
        ("ingestion.raw_files/RawFiles:show", 4),
        ("ingestion.load/SourceLoader:_loaded", 2),
    ):
        assert child(lab, "load", point, number) == -1
        assert lab.query("select count(*) from raw_src.n") == [(0,)]
        assert lab.query("select count(*) from ledger.files") == [(0,)]
    lab.load()
    assert_same(pair)
    listed = lab.query("select count(distinct piece) from ledger.raw_pieces")
    lab.load()
    present = [path for path in lab.settings.raw_dir.rglob("*") if path.is_file()]
    assert listed == [(len(present),)]


def test_large_text_becomes_files_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_PIECE_BYTES", 100)
    monkeypatch.setattr(load, "_LARGE_TEXT", 2_000)
    labs = Lab(tmp_path / "table"), Lab(tmp_path / "auto")
    for lab, raw in zip(labs, ("table", "auto"), strict=True):
        lab.tables = {
            "n": {"path": "*.ndjson.gz", "raw": raw},
            "c": {"path": "*.csv", "raw": raw},
            "typed": {"path": "*.csv", "raw": raw},
        }
        lab.columns = {"typed": {"a": "integer"}}
    small, large = "a,b\n1,x\n", "a,b\n" + "".join(f'{i},"{i}\n ""x"""\n' for i in range(400))
    for number, content in enumerate((small, large, small)):
        for lab in labs:
            deliver(lab, number)
            lab.put(f"{number}.csv", content, age=number)
            run(lab, monkeypatch)
        assert_same(labs)
        kinds = "select table_name, table_type from information_schema.tables "
        found = dict(labs[1].query(f"{kinds} where table_schema = 'raw_src'"))
        text = "BASE TABLE" if number == 0 else "VIEW"
        assert found == {"n": "BASE TABLE", "c": text, "typed": "BASE TABLE"}


def test_a_fault_in_a_large_csv_file_rejects_its_records_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_PIECE_BYTES", 100)
    lab = Lab(tmp_path)
    lab.tables = {"c": {"path": "*.csv", "format": "csv", "raw": "parquet"}}
    lines = [f"{i},x" for i in range(100)]
    lines[40] = "40,x,more"
    lab.put("c.csv", "a,b\n" + "\n".join(lines))
    result = run(lab, monkeypatch)
    assert [(t.rows, t.rejected) for t in result.tables] == [(99, 1)]
    assert lab.query("select a, _row from raw_src.c where _row in (40, 42)") == [
        ("39", 40),
        ("41", 42),
    ]


def test_large_files_are_read_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise duckdb.OutOfMemoryException("failed to allocate")

    monkeypatch.setattr(stage, "_PIECE_BYTES", 100)
    monkeypatch.setattr(stage.Stager, "_piece", no_room)
    lab = Lab(tmp_path)
    lab.tables = {"c": {"path": "*.csv"}, "n": {"path": "*.ndjson"}}
    lab.put("c.csv", "a,b\n" + "1,x\n" * 100)
    lab.put("n.ndjson", '{"a": 1, "b": "x"}\n' * 100)
    result = run(lab, monkeypatch)
    assert [(t.rows, t.rejected) for t in result.tables] == [(100, 0), (100, 0)]
    assert lab.query("select count(*), max(_row) from raw_src.n where a = '1'") == [(100, 100)]
