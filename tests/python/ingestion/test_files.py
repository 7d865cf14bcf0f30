"""Files land byte for byte, once for each version, and a bad one hinders no other."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from files_kit import Lab

from ingestion import files, landing
from ingestion.errors import DiskFull, SourceUnreachable


def test_original_bytes_are_kept_and_registered(lab: Lab) -> None:
    lab.tables["orders"] = {"path": "in/**/*.csv"}
    content = "ID;Näme\r\n1;x\r\n".encode("cp1252")
    lab.tables["orders"] |= {"csv": {"delimiter": ";"}, "encodings": ["utf-8", "cp1252"]}
    lab.put("in/2026/orders.csv", content)
    result = lab.extract()
    assert (result.status, result.tables[0].files) == ("ok", 1)
    (row,) = lab.register("orders")
    assert row.sha256 == hashlib.sha256(content).hexdigest()
    assert row.original == f"src/orders/originals/in/2026/{row.sha256[:16]}-orders.csv"
    assert (lab.settings.landing_dir / row.original).read_bytes() == content
    assert (row.origin_name, row.encoding, row.size) == ("in/2026/orders.csv", "cp1252", 14)
    assert row.column_names == ["id", "name"]
    assert (lab.settings.landing_dir / row.read_path).read_text() == "ID;Näme\n1;x\n"


def test_a_second_run_lands_nothing_and_a_touched_file_neither(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    path = lab.put("a.csv", "n\n1\n", age=0)
    lab.extract()
    assert lab.extract().status == "nothing_new"
    os.utime(path)
    assert lab.extract().status == "nothing_new"
    assert lab.extract(full_refresh=True).status == "nothing_new"
    assert len(lab.register("t")) == 1
    assert len(landing.completed_loads(lab.settings, "src")) == 1


def test_only_new_and_changed_files_are_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    for name in ("a", "b", "c"):
        lab.put(f"{name}.csv", f"n\n{name}\n", age=0)
    lab.extract()
    read = []
    whole = files._copied
    monkeypatch.setattr(
        files, "_copied", lambda fs, p, *more: read.append(Path(p).name) or whole(fs, p, *more)
    )
    lab.put("b.csv", "n\nB\n", age=5)
    lab.put("d.csv", "n\nd\n", age=5)
    assert lab.extract().tables[0].files == 2
    assert read == ["b.csv", "d.csv"]


def test_content_that_comes_back_is_a_version_of_its_own(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "primary_key": ["n"]}
    for age, content in enumerate(["n,v\n1,a\n", "n,v\n1,b\n", "n,v\n1,a\n"]):
        lab.put("x.csv", content, age=age)
        lab.run()
    first, second, third = lab.register("t")
    assert first.sha256 == third.sha256 != second.sha256
    assert third.file == first.file.replace("-x.csv", ".2-x.csv")
    assert [row["v"] for row in lab.raw("t")] == ["a", "b", "a"]
    assert lab.query("select count(distinct _file) from raw_src.t") == [(3,)]


def test_the_same_bytes_in_two_places_are_two_files(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*/part.csv"}
    lab.put("day=1/part.csv", "n\n1\n")
    lab.put("day=2/part.csv", "n\n1\n")
    lab.run()
    assert lab.raw("t") == [{"n": "1"}, {"n": "1"}]
    assert lab.query("select count(distinct _file) from raw_src.t") == [(2,)]


def test_a_refused_file_hinders_no_other_and_is_read_again_once_it_can_be(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "on_refused": "warn"}
    lab.put("bad.csv", b"n\n\xe9\n", age=0)
    lab.put("good.csv", "n\n1\n", age=0)
    result = lab.extract()
    assert (result.status, result.tables[0].refused) == ("ok", 1)
    loaded = lab.load()
    assert [(r.origin_name, r.fatal) for r in loaded.refused] == [("bad.csv", False)]
    assert "byte 0xe9 at position 2, line 2" in loaded.refused[0].reason
    assert loaded.error is None
    assert lab.extract().status == "nothing_new"
    assert lab.load().refused == []
    lab.tables["t"]["encodings"] = ["utf-8", "cp1252"]
    lab.run()
    assert {row["n"] for row in lab.raw("t")} == {"1", "é"}
    assert lab.extract().status == "nothing_new"
    assert sorted(entry[1:] for entry in lab.ledger()) == [
        ("bad.csv", 1, 1, 0, "loaded"),
        ("good.csv", 1, 1, 0, "loaded"),
    ]
    (replay,) = lab.query("select cause, status_before, status_after from ledger.replays")
    assert replay == ("declaration", "refused", "loaded")
    state = lab.query("select n, _load_id from raw_src.t order by n")
    lab.settings.warehouse_path.unlink()
    assert lab.load().refused == []
    assert lab.query("select n, _load_id from raw_src.t order by n") == state


def test_members_of_archives_are_named_in_file(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.zip", "on_refused": "warn"}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("one.csv", "n\n1\n2\n")
        archive.writestr("two.csv", b"n\n\xff\n")
        archive.writestr("three.json", '[{"n": 3}]')
    lab.put("week.zip", sink.getvalue())
    lab.run()
    rows = lab.query("select n, _row, regexp_extract(_file, 'week.*') from raw_src.t order by n")
    assert rows == [
        ("1", 1, "week.zip!one.csv"),
        ("2", 2, "week.zip!one.csv"),
        ("3", 1, "week.zip!three.json"),
    ]
    assert [entry[1] for entry in lab.ledger() if entry[5] == "refused"] == ["week.zip!two.csv"]
    lab.tables["t"]["encodings"] = ["latin-1"]
    lab.run()
    assert [row["n"] for row in lab.raw("t")] == ["1", "2", "3", "ÿ"]


def test_an_empty_archive_and_empty_files_are_nothing_to_fail_on(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*"}
    with zipfile.ZipFile(lab.drop / "w.zip", "w"):
        pass
    for name in ("a.csv", "b.json", "c.ndjson", "e.parquet", "f.xlsx"):
        lab.put(name, b"")
    lab.put("g.csv.gz", gzip.compress(b""))
    lab.put("h.csv", "n\n")
    lab.run()
    assert {entry[2:] for entry in lab.ledger()} == {(0, 0, 0, "loaded")}
    assert len(lab.ledger()) == 8
    assert lab.raw("t") == []
    assert "n" in lab.types("t")
    assert lab.extract().status == "nothing_new"


def test_a_file_that_is_still_being_written_is_left_for_the_next_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    path = lab.put("a.csv", "n\n1\n", age=0)
    whole = files._copied

    def grows(*given: Any) -> object:
        done = whole(*given)
        with path.open("a") as handle:
            handle.write("2\n")
        return done

    monkeypatch.setattr(files, "_copied", grows)
    result = lab.extract()
    assert result.status == "nothing_new"
    assert "1 still being written" in result.tables[0].message
    monkeypatch.setattr(files, "_copied", whole)
    lab.run()
    assert [row["n"] for row in lab.raw("t")] == ["1", "2"]
    left = list(lab.settings.landing_dir.rglob("*.part"))
    assert left == []


def test_what_a_killed_run_left_half_done_is_removed_in_time(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    folder = lab.settings.landing_dir / "src" / "t" / "originals"
    folder.mkdir(parents=True)
    old, young = folder / ".old.part", folder / ".young.part"
    old.touch()
    young.touch()
    os.utime(old, (1_767_225_600, 1_767_225_600))
    lab.extract()
    assert (old.exists(), young.exists()) == (False, True)


def test_any_fsspec_url_is_a_place_for_files(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/lake/day/a.csv", b"n\n1\n")
    memory.pipe("/lake/day/b.csv", b"n\n2\n")
    try:
        monkeypatch.setenv("CONNECTIONS__SRC__URL", "memory://lake")
        lab.tables["t"] = {"path": "day/*.csv"}
        lab.run()
        assert [row["n"] for row in lab.raw("t")] == ["1", "2"]
        assert lab.register("t")[0].origin_name == "day/a.csv"
        assert lab.extract().status == "nothing_new"
        memory.pipe("/lake/day/b.csv", b"n\n3\n")
        lab.run()
        assert [row["n"] for row in lab.raw("t")] == ["1", "2", "3"]
    finally:
        memory.rm("/lake", recursive=True)


def test_a_place_that_is_not_there(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.folder / "nowhere"))
    error = lab.extract().error
    assert isinstance(error, SourceUnreachable)
    assert (error.source, error.table) == ("src", "t")
    assert "there is no folder" in str(error)
    monkeypatch.setenv("CONNECTIONS__SRC__URL", "nosuchscheme://u:secretpw@host/x")
    error = lab.extract().error
    assert isinstance(error, SourceUnreachable)
    assert "secretpw" not in str(error)


def test_an_origin_cannot_write_outside_of_its_folder(lab: Lab) -> None:
    assert files._safe_relative("../../etc/./passwd//x") == "etc/passwd/x"
    assert len(files._safe_relative("x" * 300 + ".csv")) == 180


def test_a_full_disk_is_told_and_leaves_nothing_registered(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_copied", full)
    result = lab.extract()
    assert isinstance(result.error, DiskFull)
    assert result.error.exit_code == 7
    assert landing.completed_loads(lab.settings, "src") == []
    monkeypatch.undo()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
    lab.run()
    assert lab.raw("t") == [{"n": "1"}]


def test_originals_without_a_completed_load_do_not_count(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n")
    lab.extract()
    before = lab.register("t")
    # As a crash would leave it: the register landed, dlt did not complete the load.
    (mark,) = (lab.settings.landing_dir / "src" / "_dlt_loads").iterdir()
    mark.unlink()
    shutil.rmtree(lab.settings.state_dir)
    assert lab.register("t") == []
    assert lab.load().rows == 0
    lab.run()
    assert [row.file for row in lab.register("t")] == [row.file for row in before]
    assert lab.raw("t") == [{"n": "1"}]
