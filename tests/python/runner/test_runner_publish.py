"""Publishing: atomic, only what was audited, whatever kills it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from publishkit import TABLES, Warehouse, child, relation

from ingestion.errors import BadInput
from runner.errors import AuditFailed, BuildFailed
from runner.fingerprint import fingerprint
from runner.project import code_hash
from runner.publish import publish
from runner.versions import all_versions, current_version, require_current, require_whole


def test_version_is_complete_compact_and_described(warehouse: Warehouse) -> None:
    done = warehouse.publish(1)

    names = sorted(path.name for path in done.version.path.iterdir())
    assert names == ["manifest.json", "parquet", "wellspring.duckdb"]
    manifest = json.loads((done.version.path / "manifest.json").read_text())
    assert [(table["name"], table["rows"]) for table in manifest["tables"]] == [
        ("core.odd", 2000),
        ("core.even", 2000),
    ]
    for file in manifest["files"]:
        assert (done.version.path / file["path"]).stat().st_size == file["bytes"]
    parquet = done.version.path / "parquet" / "core" / "odd.parquet"
    assert duckdb.sql(f"select count(*) from '{parquet}'").fetchall() == [(2000,)]
    codecs = duckdb.sql(f"select distinct compression from parquet_metadata('{parquet}')")
    assert codecs.fetchall() == [("ZSTD",)]


def test_view_is_published_as_a_table(warehouse: Warehouse) -> None:
    warehouse.write(1)
    warehouse.audit(names=("seen",))

    done = publish(warehouse.settings, warehouse.history, warehouse.begin(), [relation("seen")])

    with closing(duckdb.connect(str(done.version.database), read_only=True)) as connection:
        found = connection.execute(
            "select table_type from information_schema.tables where table_name = 'seen'"
        ).fetchall()
    assert found == [("BASE TABLE",)]


def test_same_content_is_not_published_again_whatever_its_order(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)
    with closing(duckdb.connect(str(warehouse.settings.warehouse_path))) as connection:
        connection.execute(
            "create or replace table core.odd as from core.odd order by position desc"
        )
    warehouse.audit()
    second = warehouse.publish()
    third = warehouse.publish(2)

    assert second.unchanged
    assert second.version == first.version
    assert second.tables == first.tables
    assert not third.unchanged
    assert [t.checksum for t in first.tables] != [t.checksum for t in third.tables]


def _change_even(warehouse: Warehouse) -> None:
    with closing(duckdb.connect(str(warehouse.settings.warehouse_path))) as connection:
        connection.execute("update core.even set n = 9")
    warehouse.audit()


def test_a_table_that_did_not_change_is_taken_over_as_bytes(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)
    _change_even(warehouse)
    second = warehouse.publish()

    assert first.tables[0].checksum == second.tables[0].checksum
    assert second.tables[0].from_version == second.version.name, "this audit vouches for it"
    require_whole(second.version)
    require_whole(first.version)
    paths = [(done.version.path / "parquet" / "core") for done in (first, second)]
    assert paths[0].joinpath("odd.parquet").samefile(paths[1] / "odd.parquet")
    assert not paths[0].joinpath("even.parquet").samefile(paths[1] / "even.parquet")
    for done, expected in ((first, 1), (second, 9)):
        with closing(duckdb.connect(str(done.version.database), read_only=True)) as connection:
            assert connection.execute("select distinct n from core.odd").fetchall() == [(1,)]
            assert connection.execute("select distinct n from core.even").fetchall() == [
                (expected,)
            ]
            comments = connection.execute(
                "select distinct comment from duckdb_columns() where "
                "column_name = 'n' and database_name <> 'system'"
            )
            assert comments.fetchall() == [("A number.",)]  # fmt: skip


def test_killed_while_it_takes_over_it_begins_again(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)
    _change_even(warehouse)

    done = child(warehouse, "publish", failpoint="publish.base_copied")

    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert current_version(warehouse.settings) == first.version
    assert child(warehouse, "publish").returncode == 0
    assert warehouse.read() == (1, 9)


@pytest.mark.parametrize("part", ["wellspring.duckdb", "parquet/core/odd.parquet"])
def test_damage_is_not_handed_on(warehouse: Warehouse, part: str) -> None:
    first = warehouse.publish(1)
    file = first.version.path / part
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    _change_even(warehouse)

    second = warehouse.publish()

    require_whole(second.version)
    assert not (second.version.path / part).samefile(file)
    with closing(duckdb.connect(str(second.version.database), read_only=True)) as connection:
        assert connection.execute("select sum(n) from core.odd").fetchall() == [(2000,)]


def test_a_table_that_is_no_longer_public_is_not_taken_over(warehouse: Warehouse) -> None:
    warehouse.publish(1)
    again = publish(warehouse.settings, warehouse.history, warehouse.begin(), TABLES[:1])

    with closing(duckdb.connect(str(again.version.database), read_only=True)) as connection:
        found = connection.execute("select table_name from duckdb_tables()").fetchall()
    assert found == [("odd",)]


def test_new_description_makes_a_new_version(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)
    described = [replace(TABLES[0], description="One row per other number."), TABLES[1]]

    second = publish(warehouse.settings, warehouse.history, warehouse.begin(), described)

    assert second.version != first.version


def test_damaged_version_is_made_again(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)
    first.version.database.write_bytes(b"")

    second = warehouse.publish()

    assert not second.unchanged
    assert warehouse.read() == (1, 1)


def test_fingerprint_is_of_content_not_of_looking(warehouse: Warehouse) -> None:
    path = warehouse.settings.warehouse_path
    assert fingerprint(path) is None
    warehouse.write(1)
    before = fingerprint(path)
    assert before is not None
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("select sum(n) from core.odd").fetchall()
        connection.execute("create schema if not exists core")
    assert fingerprint(path) == before
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("update core.odd set n = 7 where position = 5")
        connection.execute("update core.odd set n = 1 where position = 5")
    assert fingerprint(path) != before


def test_changes_left_in_the_log_are_not_vouched_for(warehouse: Warehouse) -> None:
    warehouse.write(1)
    warehouse.audit()
    script = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); "
        "c.execute('update core.odd set n = 8'); os._exit(9)"
    )
    path = str(warehouse.settings.warehouse_path)
    subprocess.run([sys.executable, "-c", script, path], timeout=60)

    with pytest.raises(AuditFailed, match="not audited since it last changed"):
        warehouse.publish()


def test_nothing_is_published_without_a_passed_audit(warehouse: Warehouse) -> None:
    warehouse.write(1)
    with pytest.raises(AuditFailed, match="not audited"):
        warehouse.publish()
    warehouse.audit()
    warehouse.audit(passed=False)
    with pytest.raises(AuditFailed, match="last audit of the warehouse failed"):
        warehouse.publish()
    assert current_version(warehouse.settings) is None


def test_table_not_audited_is_carried_over(warehouse: Warehouse) -> None:
    first = warehouse.publish(1)
    warehouse.write(2)
    warehouse.audit(names=("odd",))

    second = warehouse.publish()

    assert warehouse.read() == (2, 1)
    assert second.carried_over == ("core.even",)
    assert {t.name: t.from_version for t in second.tables} == {
        "core.odd": second.version.name,
        "core.even": first.version.name,
    }


def test_public_model_that_was_never_built_is_named(warehouse: Warehouse) -> None:
    warehouse.write(1)
    warehouse.audit(names=("odd", "ghost"))

    with pytest.raises(BuildFailed, match=r"core\.ghost is public but not in the warehouse"):
        publish(
            warehouse.settings,
            warehouse.history,
            warehouse.begin(),
            [relation("odd"), relation("ghost")],
        )
    assert list(warehouse.settings.published_dir.iterdir()) == []


def test_old_versions_go_but_never_the_current_one(warehouse: Warehouse) -> None:
    made = [warehouse.publish(number).version.name for number in range(5)]

    assert [version.name for version in all_versions(warehouse.settings)] == made[-3:]
    removed = warehouse.history.rows(
        "select version from published_versions where removed_at is not null"
    )
    assert {row["version"] for row in removed} == set(made[:2])


def test_open_reader_keeps_its_version_after_it_was_removed(warehouse: Warehouse) -> None:
    first = warehouse.publish(0)
    with closing(duckdb.connect(str(first.version.database), read_only=True)) as reader:
        for number in range(1, 5):
            warehouse.publish(number)
        assert not first.version.path.exists()
        assert reader.execute("select max(n), count(*) from core.odd").fetchall() == [(0, 2000)]


def test_nothing_published_is_told(warehouse: Warehouse) -> None:
    with pytest.raises(BadInput, match="nothing is published yet"):
        require_current(warehouse.settings)


def test_readers_meet_whole_versions_only(warehouse: Warehouse) -> None:
    warehouse.publish(0)
    stop, faults, seen = threading.Event(), [], set()

    def look() -> None:
        while not stop.is_set():
            try:
                odd, even = warehouse.read()
                seen.add(odd)
                if odd != even:
                    faults.append(f"mixture: {odd} and {even}")
            except Exception as error:
                faults.append(repr(error))

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 9):
        warehouse.publish(number)
    stop.set()
    for reader in readers:
        reader.join(30)

    assert faults == []
    assert len(seen) > 1


def test_publish_that_meets_a_full_disk_leaves_no_trace(warehouse: Warehouse) -> None:
    warehouse.publish(1)
    warehouse.write(2)
    warehouse.audit()
    before = sorted(warehouse.settings.published_dir.iterdir())

    done = child(warehouse, "limit")

    assert "DiskFull" in done.stdout, done.stdout + done.stderr
    assert sorted(warehouse.settings.published_dir.iterdir()) == before
    assert warehouse.read() == (1, 1)


POINTS = {
    "first table copied": ("runner.publish", "_copy_table", 1),
    "second table copied": ("runner.publish", "_copy_table", 2),
    "Parquet written": ("runner.publish", "_write_parquet", 1),
    "manifest written": ("runner.publish", "_write_manifest", 1),
    "noted in the history": ("runner.history", "History.add_version", 1),
    "folder renamed": ("runner.publish", "_seal", 1),
    "link swapped": ("runner.publications", "make_current", 1),
    "publication noted": ("runner.history", "History.mark_published", 2),
    "one surplus version removed": ("runner.publications", "remove", 1),
    "manifest of a surplus version removed": ("pathlib", "Path.unlink", 2),
}


@pytest.mark.parametrize("point", POINTS)
def test_kill_leaves_a_whole_version_and_the_next_publish_clears_up(
    warehouse: Warehouse, point: str
) -> None:
    for number in (1, 2, 3):
        warehouse.publish(number)
    warehouse.write(4)
    warehouse.audit()

    done = child(warehouse, "kill", *map(str, POINTS[point]))

    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert warehouse.read() in ((3, 3), (4, 4))
    again = warehouse.publish()
    assert warehouse.read() == (4, 4)
    assert current_version(warehouse.settings) == again.version
    left = {path.name for path in warehouse.settings.published_dir.iterdir()}
    assert left == {"current"} | {v.name for v in all_versions(warehouse.settings)}
    assert len(left) == 4
    unclear = warehouse.history.rows(
        "select version from published_versions where published_at is null and removed_at is null"
    )
    assert unclear == []


MANIFEST = {
    "metadata": {"project_name": "shop"},
    "nodes": {"model.shop.a": {"raw_code": "select 1", "config": {}, "created_at": 1.0}},
    "sources": {"source.shop.s.t": {"identifier": "t"}},
    "macros": {"macro.shop.m": {"package_name": "shop", "macro_sql": "lower(x)"}},
}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"created_at": 2.0, "compiled_code": "select 1"}, True),
        ({"raw_code": "select 2"}, False),
        ({"config": {"severity": "warn"}}, False),
        ({"columns": {"n": {"meta": {"rules": []}}}}, False),
    ],
)
def test_code_is_what_people_write(tmp_path: Path, change: dict[str, object], same: bool) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    before = code_hash(MANIFEST, tmp_path)
    node = MANIFEST["nodes"]["model.shop.a"] | change
    changed = MANIFEST | {"nodes": {"model.shop.a": node}}

    assert before is not None
    assert (code_hash(changed, tmp_path) == before) is same
    (tmp_path / "dbt_project.yml").write_text("name: shop\nvars: {limit: 2}\n")
    assert code_hash(MANIFEST, tmp_path) != before


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("select current_date", False),
        ("select now()", False),
        ("where at < '{{ run_started_at }}'", False),
        ("order by random ()", False),
        ("select '{{ env_var('HOME') }}'", False),
        ("to_utc_timestamp(at, current_timezone())", True),
        ("select known, is_random, current_dates from today", True),
    ],
)
def test_code_that_asks_for_time_or_chance_is_never_settled(
    tmp_path: Path, text: str, settled: bool
) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    node = {"raw_code": text}
    macro = {"package_name": "shop", "macro_sql": text}

    for part in ({"nodes": {"model.shop.a": node}}, {"macros": {"macro.shop.m": macro}}):
        assert (code_hash(MANIFEST | part, tmp_path) is not None) is settled
