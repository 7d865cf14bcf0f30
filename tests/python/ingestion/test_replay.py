"""What was read wrongly is read again: raw and ledger as if it had always been read right."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from files_kit import Lab
from test_crash import books_balance, child

from ingestion.errors import BadInput
from ingestion.load import LoadResult
from ingestion.replay import due_again, replay

RIGHT = {
    "c": {"path": "*.csv", "csv": {"delimiter": ";"}, "encodings": ["utf-8", "cp1252"]},
    "z": {"path": "*.zip", "format": "csv", "csv": {"delimiter": ";"}},
    "j": {"path": "*.json", "records": "rows"},
}
WRONG = {
    "c": {"path": "*.csv", "encodings": ["utf-8"], "encoding_errors": "reject"},
    "z": {"path": "*.zip", "format": "csv"},
    "j": {"path": "*.json"},
}


def again(lab: Lab, *files: str) -> LoadResult:
    return replay([lab.declaration], lab.settings, files=files)


def causes(lab: Lab, *files: str) -> dict[str | None, str]:
    return {f.origin_name: f.cause for f in due_again([lab.declaration], lab.settings, files)}


def archive(**members: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as packed:
        for name, text in members.items():
            packed.writestr(f"{name}.csv", text)
    return sink.getvalue()


@pytest.fixture
def misread(lab: Lab) -> Lab:
    """Two deliveries of three formats, read by declarations that are wrong."""
    lab.tables |= WRONG
    lab.columns["c"] = {"n": "string", "m": "string"}
    lab.put("a.csv", "n;m\n1;Zürich\n2;Genève\n".encode("cp1252"))
    lab.put("b.csv", "n;m\n3;é\n4\n")
    lab.put("w1.zip", archive(mon="n;m\n1;2\n", tue="n;m\n3;4\n"))
    lab.put("a.json", '{"rows": [{"n": 1}, {"n": 2}]}')
    lab.run()
    lab.put("a.csv", "n;m;k\n1;Bâle;x\n".encode("cp1252"), age=60)
    lab.put("w2.zip", archive(wed="n;m;k\n5;6;7\n"))
    lab.run()
    return lab


def rebuilt(lab: Lab) -> list[tuple[Any, ...]]:
    """What loading all of landing into an empty warehouse gives."""
    lab.settings.warehouse_path.unlink()
    lab.load()
    return lab.state()


def test_after_a_mended_declaration_all_is_as_if_it_had_never_been_wrong(misread: Lab) -> None:
    lab = misread
    assert lab.raw("z")[0] == {"n_m": "1;2", "n_m_k": None}
    lab.tables |= RIGHT
    result = lab.load()
    assert (result.rows, result.outdated) == (0, {"src.c": 3, "src.z": 3, "src.j": 1})
    assert set(causes(lab).values()) == {"declaration"}
    result = again(lab)
    assert {(r.table_name, r.cause) for r in result.replays} == {
        (table, "declaration") for table in RIGHT
    }
    assert lab.raw("z")[0] == {"n": "1", "m": "2", "k": None}
    assert {row["m"] for row in lab.raw("c")} == {"Zürich", "Genève", "é", "Bâle"}
    assert [row[2] for row in lab.rejected()] == ["4"]
    state = lab.state()
    assert state == rebuilt(lab)


def test_what_a_replay_changed_is_in_the_ledger(misread: Lab) -> None:
    misread.tables |= RIGHT
    again(misread)
    found = misread.query(
        "select rows_loaded_before, rows_rejected_before, rows_loaded_after, rows_rejected_after, "
        "reading_before <> reading_after from ledger.replays "
        "where table_name = 'c' order by load_id, file desc"
    )
    assert sorted(found) == [(0, 1, 1, 0, True), (0, 2, 2, 0, True), (2, 0, 1, 1, True)]


def test_nothing_to_replay_changes_nothing(misread: Lab) -> None:
    misread.tables |= RIGHT
    again(misread)
    before = misread.query("select * from ledger.files order by all")
    assert causes(misread) == {}
    assert again(misread).replays == []
    assert misread.load().outdated == {}
    assert misread.query("select * from ledger.files order by all") == before


def test_one_file_is_read_again_by_its_name(misread: Lab) -> None:
    misread.tables |= RIGHT
    assert causes(misread, "w1.zip!m*") == {"w1.zip!mon.csv": "asked"}
    result = again(misread, "w1.zip!m*")
    assert [r.rows_loaded_after for r in result.replays] == [1]
    assert books_balance(misread)
    read = misread.query("select n, m, n_m from raw_src.z order by _load_id, _file")
    assert read == [("1", "2", None), (None, None, "3;4"), (None, None, None)]
    with pytest.raises(BadInput, match="no loaded or refused file is called"):
        again(misread, "x.csv")
    with pytest.raises(BadInput, match="for example"):
        causes(misread, "x.csv")


def test_a_refused_file_is_read_again_once_it_is_back(lab: Lab) -> None:
    lab.tables["c"] = {"path": "*.csv", "on_refused": "warn"}
    lab.put("a.csv", "n\n1\n")
    lab.put("b.csv", "n\n2\n")
    lab.extract()
    original = lab.settings.landing_dir / lab.register("c")[0].original
    kept = original.read_bytes()
    original.unlink()
    assert len(lab.load().refused) == 1
    still = again(lab)
    assert (still.replays, [r.origin_name for r in still.refused]) == ([], ["a.csv"])
    original.write_bytes(kept)
    assert lab.load().rows == 0
    assert causes(lab) == {"a.csv": "refused"}
    result = again(lab)
    assert [(r.cause, r.status_after, r.rows_loaded_after) for r in result.replays] == [
        ("refused", "loaded", 1)
    ]
    assert lab.state() == rebuilt(lab)


def test_a_refused_file_keeps_its_place_in_time(lab: Lab) -> None:
    """Otherwise an old delivery would win over a newer version of the same key."""
    lab.tables["c"] = {"path": "*.csv", "on_refused": "warn"}
    lab.put("a.csv", "id,n\n1,é\n".encode("cp1252"))
    lab.run()
    lab.put("b.csv", "id,n\n1,newer\n")
    lab.run()
    lab.tables["c"]["encodings"] = ["utf-8", "cp1252"]
    lab.run()
    assert [row["n"] for row in lab.raw("c")] == ["é", "newer"]


@pytest.mark.parametrize("fault", ["declaration", "landing"])
def test_what_is_loaded_is_never_lost_by_a_replay(misread: Lab, fault: str) -> None:
    misread.tables |= RIGHT
    if fault == "declaration":
        misread.tables["j"] = {"path": "*.json", "records": "row"}
    else:
        (misread.settings.landing_dir / misread.register("j")[0].original).unlink()
    before = misread.state()
    with pytest.raises(BadInput, match="1 loaded file could not be read") as raised:
        again(misread)
    assert "src.j: a.json" in str(raised.value)
    assert misread.state() == before
    assert misread.query("select * from ledger.replays") == []


def test_a_ledger_of_an_earlier_version_gets_its_columns(misread: Lab) -> None:
    import duckdb

    with duckdb.connect(str(misread.settings.warehouse_path)) as connection:
        connection.execute("alter table ledger.files drop column reading")
        connection.execute("drop table ledger.replays")
    assert misread.load().outdated == {}
    misread.tables |= RIGHT
    again(misread)
    assert misread.state() == rebuilt(misread)


def test_killed_at_any_statement_a_source_is_as_before_or_replayed(misread: Lab) -> None:
    lab = misread
    wrong = lab.state()
    warehouse = lab.settings.warehouse_path
    kept = warehouse.read_bytes()
    lab.tables |= RIGHT
    calls = child(lab, "replay", "statement", 10**9)
    right = lab.state()
    for number in sorted({round(calls * share / 5) for share in range(2, 5)} | {calls}):
        warehouse.write_bytes(kept)
        warehouse.with_name("wellspring.duckdb.wal").unlink(missing_ok=True)
        assert child(lab, "replay", "statement", number, after=number % 2 == 0) == -1
        assert books_balance(lab)
        assert lab.state() in (wrong, right), f"killed at statement {number} of {calls}"
        again(lab)
        assert lab.state() == right, f"killed at statement {number} of {calls}"
