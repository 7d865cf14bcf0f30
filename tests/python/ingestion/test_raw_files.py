"""Raw rows that are kept as Parquet are the same rows, through crashes, replays and losses too."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from files_kit import Lab
from sources_kit import declared
from sources_kit import run as extract_database
from test_crash import child

from ingestion import load, raw_files, stage
from ingestion.compact import compact
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


def assert_same(pair: tuple[Lab, Lab], tables: tuple[str, ...] = ("n", "c")) -> None:
    left, right = pair
    for table in tables:
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
    monkeypatch.setattr(load, "_LARGE", 2_000)
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


def put_parquet(lab: Lab, name: str, query: str, age: int = 0) -> Path:
    """Delivers what a query gives as Parquet."""
    lab.drop.mkdir(parents=True, exist_ok=True)
    path = lab.drop / name
    with duckdb.connect() as connection:
        connection.execute(f"copy ({query}) to '{path}' (format parquet)")
    return lab.put(name, path.read_bytes(), age=age)


@pytest.fixture
def typed(tmp_path: Path) -> tuple[Lab, Lab]:
    """Two projects that get the same Parquet files, one with a table, one with files."""
    labs = []
    for raw in ("table", "parquet"):
        lab = Lab(tmp_path / raw)
        lab.tables = {"p": {"path": "*.parquet", "raw": raw}}
        lab.columns = {"p": {"id": "integer", "never_told": "date"}}
        labs.append(lab)
    return labs[0], labs[1]


GROWING = (
    """select i::integer as id, (i / 8)::decimal(9, 2) as "Amount (EUR)", i::float as share,
    null::integer as later, {'a': i, 'b': [i]} as nested, time '10:00' as clock
    from range(100) as t(i)""",
    """select i::bigint as id, (i / 8)::decimal(12, 3) as "Amount (EUR)", i::double as share,
    date '2026-01-01' + i::integer as later, 'x' as new, {'a': i, 'b': [i]} as nested
    from range(100) as t(i)""",
    """select 'n' || i as id, 1.5::decimal(9, 2) as "Amount (EUR)", 'much' as share,
    timestamptz '2026-01-01 00:00:00+00' as later, {'b': [i], 'c': null} as nested
    from range(100) as t(i)""",
)


def test_landed_parquet_is_raw_with_the_types_of_a_table(
    typed: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, query in enumerate(GROWING):
        for lab in typed:
            put_parquet(lab, f"{number}.parquet", query, age=number)
            put_parquet(lab, f"{number}_more.parquet", query, age=number)
            (loaded,) = run(lab, monkeypatch).tables
            assert (loaded.files, loaded.rows) == (2, 200)
        assert_same(typed, ("p",))
    left, right = typed
    told = "select column_name, change, old_type, new_type from ledger.schema_changes order by all"
    assert left.query(told) == right.query(told)
    # It is the landed file itself, under a second name.
    linked = {path.stat().st_ino for path in (right.settings.raw_dir / "src" / "p").iterdir()}
    landed = {path.stat().st_ino for path in right.settings.landing_dir.rglob("*.parquet")}
    assert len(linked) == 6
    assert linked <= landed

    for lab in typed:
        monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
        replay([lab.declaration], lab.settings, files=["1*.parquet"])
    assert_same(typed, ("p",))
    for path in list((right.settings.raw_dir / "src" / "p").iterdir())[:2]:
        path.unlink()
    right.load()
    assert_same(typed, ("p",))
    for lab, raw in zip(typed, ("parquet", "table"), strict=True):
        lab.tables = {"p": {**lab.tables["p"], "raw": raw}}
        put_parquet(lab, "last.parquet", GROWING[0], age=9)
        run(lab, monkeypatch)
    assert_same(typed, ("p",))


def test_small_landed_files_become_one_without_changing_a_type(
    typed: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "_SMALL_FILES", 3)
    # A float that is widened first and made text later would have other digits.
    queries = ["0.1::float", "0.1::float", "0.1::float", "0.1::double", "0.1::double", "'x'"]
    for number, value in enumerate(queries):
        for lab in typed:
            query = f"select {number} as id, {value} as v, null::integer as gone"
            if number == 2:
                query += ", 1 as more"
            put_parquet(lab, f"{number}.parquet", query, age=number)
            run(lab, monkeypatch)
    left, right = typed
    assert len(list((right.settings.raw_dir / "src" / "p").iterdir())) < len(queries)
    told = "select id, v, more, gone, _file, _row from raw_src.p order by id"
    assert [row[1] for row in right.query(told)] == ["0.1"] * 5 + ["x"]
    kept = "select id, more, gone, _file, _row from raw_src.p order by id"
    assert left.query(kept) == right.query(kept)
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(right.drop))
    replay([right.declaration], right.settings, files=["1.parquet"])
    assert [row[1] for row in right.query(told)] == ["0.1"] * 5 + ["x"]
    assert left.query(kept) == right.query(kept)


def test_a_damaged_parquet_file_is_refused_as_for_a_table(
    typed: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "select i as id, md5(i::varchar) as text from range(50000) as t(i)"
    for lab in typed:
        lab.tables = {"p": {**lab.tables["p"], "on_refused": "warn"}}
        put_parquet(lab, "whole.parquet", query, age=1)
        damaged = bytearray(put_parquet(lab, "damaged.parquet", query, age=2).read_bytes())
        damaged[1000:400_000] = b"\xff" * 399_000
        lab.put("damaged.parquet", bytes(damaged), age=2)
        assert [file.origin_name for file in run(lab, monkeypatch).refused] == ["damaged.parquet"]
    assert_same(typed, ("p",))
    assert typed[1].query("select count(*) from raw_src.p") == [(50_000,)]


def test_rows_that_do_not_fit_a_contract_are_kept_aside_of_files_too(
    typed: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for lab in typed:
        lab.tables = {"p": {**lab.tables["p"], "contract": "quarantine"}}
        lab.columns = {}
        put_parquet(lab, "1.parquet", "select i as id, i % 2 as v from range(4) as t(i)", age=1)
        run(lab, monkeypatch)
        odd = "select i as id, case when i = 2 then 'x' else '1' end as v from range(4) as t(i)"
        put_parquet(lab, "2.parquet", odd, age=2)
        (told,) = run(lab, monkeypatch).tables
        assert (told.rows, told.rejected) == (3, 1)
    assert_same(typed, ("p",))
    assert typed[0].rejected() == typed[1].rejected()


def test_a_load_killed_between_links_leaves_all_or_nothing(
    typed: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for lab in typed:
        for number in (1, 2):
            put_parquet(lab, f"{number}.parquet", GROWING[number - 1], age=number)
    run(typed[0], monkeypatch)
    lab = typed[1]
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(lab.drop))
    assert lab.extract().error is None
    for point, number in (
        ("ingestion.raw_files/RawFiles:_linked", 2),
        ("ingestion.raw_files/RawFiles:_list", 2),
        ("ingestion.load/SourceLoader:_loaded", 2),
    ):
        assert child(lab, "load", point, number) == -1
        assert lab.query("select count(*) from raw_src.p") == [(0,)]
        assert lab.query("select count(*) from ledger.files") == [(0,)]
    lab.load()
    assert_same(typed, ("p",))
    lab.load()
    assert len(list((lab.settings.raw_dir / "src" / "p").iterdir())) == 2


def test_files_are_copied_where_a_second_name_is_not_to_be_had(
    typed: tuple[Lab, Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    for lab in typed:
        put_parquet(lab, "1.parquet", GROWING[0])
    run(typed[0], monkeypatch)
    monkeypatch.setenv("CONNECTIONS__SRC__URL", str(typed[1].drop))
    assert typed[1].extract().error is None
    monkeypatch.setattr(Path, "hardlink_to", no_links)
    typed[1].load()
    assert_same(typed, ("p",))
    (kept,) = (typed[1].settings.raw_dir / "src" / "p").iterdir()
    assert kept.stat().st_nlink == 1


def test_a_large_table_of_a_database_becomes_files_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labs = Lab(tmp_path / "table"), Lab(tmp_path / "auto")
    monkeypatch.setattr(load, "_LARGE", 20_000)

    def changed(lab: Lab, *statements: str) -> None:
        with closing(sqlite3.connect(lab.folder / "shop.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def loaded(lab: Lab, raw: str) -> Any:
        ingest = {"primary_key": "id", "deletes": "sweep", "raw": raw}
        source = declared("database", {"o": ingest, "s": {"primary_key": "id", "raw": raw}})
        monkeypatch.setenv("CONNECTIONS__SRC__URL", f"sqlite:///{lab.folder / 'shop.db'}")
        extract_database(source, lab.settings)
        result = load.load([replace(source, schema="raw_src")], lab.settings)
        assert result.error is None
        return source

    many = (
        "with recursive t(i) as (select 10 union all select i + 1 from t where i < 5000) "
        "insert into o select i, i * 7919 % 1000 / 100.0, 'n' || (i * 7919) from t"
    )
    steps: tuple[tuple[str, ...], ...] = (
        (
            "create table o (id integer primary key, amount decimal(9, 2), note varchar(80))",
            "create table s (id integer primary key, said varchar(9))",
            "insert into o values (1, 1.5, 'a'), (2, 2.5, null)",
            "insert into s values (1, 'x')",
        ),
        ("delete from o where id = 2",),
        (many,),
        ("delete from o where id in (1, 20)", "update o set note = 'other' where id < 30"),
        ("alter table o add column extra integer", "update o set extra = 1 where id = 40"),
    )
    for number, statements in enumerate(steps):
        for lab, raw in zip(labs, ("table", "auto"), strict=True):
            lab.folder.mkdir(exist_ok=True)
            changed(lab, *statements)
            source = loaded(lab, raw)
        assert_same_rows(labs)
        kinds = "select table_name, table_type from information_schema.tables "
        found = dict(labs[1].query(f"{kinds} where table_schema = 'raw_src'"))
        assert found == {"o": "BASE TABLE" if number < 2 else "VIEW", "s": "BASE TABLE"}
    assert labs[1].query("select count(*) from raw_src.o where _deleted") == [(3,)]
    # What is packed in landing is the same rows from then on, also for a new warehouse.
    for lab in labs:
        compact([source], lab.settings, smaller_than=2**30)
        lab.settings.warehouse_path.unlink()
        loaded(lab, "parquet" if lab is labs[1] else "table")
    assert_same_rows(labs)


def assert_same_rows(labs: tuple[Lab, Lab]) -> None:
    """The same rows but for what tells when and as what they landed."""
    left, right = labs
    for table in ("o", "s"):
        assert left.types(table) == right.types(table)
        names = sorted(set(left.types(table)) - {"_load_id", "_extracted_at", "_file"})
        query = f"select {', '.join(names)}, dense_rank() over (order by _load_id) as load "
        query += f"from raw_src.{table} order by all"
        assert left.query(query) == right.query(query)
        assert right.query(
            f"select count(*) from raw_src.{table} as r where _extracted_at is null "
            "or _file not in (select file from ledger.files)"
        ) == [(0,)]
