"""What is lost, cut, doubled or changed in landing or in the ledger is noticed, and named.

An SQLite database and a folder of files are extracted and loaded; then one thing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from databases_by_hand import add_orders
from files_kit import Lab
from sources_kit import declared, run, settings_in

from ingestion import landing
from ingestion.load import LoadResult, load
from ingestion.settings import Settings
from ingestion.verify import LandingFault, verify_landing
from ingestion.warehouse import connect


class Shop:
    """A database source with two loads: three orders, then one more and one changed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = folder / "shop.db"
        self.settings: Settings = settings_in(folder)
        self.declaration: Any = declared("database", {"orders": {"primary_key": "id"}}, "shop")
        monkeypatch.setenv("CONNECTIONS__SHOP__URL", f"sqlite:///{self.database}")
        add_orders(self.database, (1, "a"), (2, "b"), (3, "c"))
        self.extract()

    def extract(self) -> None:
        assert run(self.declaration, self.settings).error is None

    def load(self) -> LoadResult:
        return load([self.declaration], self.settings)

    def faults(self, *, checksums: bool = False) -> list[LandingFault]:
        connection = connect(self.settings, read_only=True)
        try:
            return verify_landing(
                connection, [self.declaration], self.settings, checksums=checksums
            )
        finally:
            connection.close()

    def landed(self, table: str = "orders") -> list[Path]:
        return [file.path for file in landing.landed_files(self.settings, "shop", table)]

    def execute(self, sql: str) -> None:
        with duckdb.connect(str(self.settings.warehouse_path)) as connection:
            connection.execute(sql)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.settings.warehouse_path), read_only=True) as connection:
            return connection.execute(sql).fetchall()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


@pytest.fixture
def loaded(shop: Shop) -> Shop:
    shop.load()
    add_orders(shop.database, (3, "changed"), (4, "d"))
    shop.extract()
    shop.load()
    assert shop.faults(checksums=True) == []
    return shop


def drop_row(path: Path) -> None:
    """Writes a Parquet file again without its last row."""
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 1), path)


def double_row(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def test_the_ledger_tells_what_was_read_and_landed(loaded: Shop) -> None:
    found = loaded.query(
        "select table_name, rows_read, rows_landed, rows_deleted, status from ledger.loads "
        "order by load_id"
    )
    assert found == [("orders", 3, 3, 0, "loaded"), ("orders", 4, 2, 0, "loaded")]


@pytest.mark.parametrize("damage", [drop_row, double_row, cut, Path.unlink])
def test_a_load_that_did_not_arrive_whole_is_refused_and_the_next_one_loads(
    shop: Shop, damage: Callable[[Path], None]
) -> None:
    (first,) = shop.landed()
    kept = first.read_bytes()
    add_orders(shop.database, (4, "d"))
    shop.extract()
    damage(first)

    result = shop.load()

    assert [(t.table, t.rows) for t in result.tables] == [("orders", 1)]
    assert result.error is not None
    assert result.error.exit_code == 6
    assert "shop.orders: load" in str(result.error)
    assert "Restore landing from a backup" in result.error.hint
    assert shop.query("select status from ledger.loads order by load_id") == [
        ("refused",),
        ("loaded",),
    ]
    assert any("refused" in str(fault) for fault in shop.faults())

    first.write_bytes(kept)
    assert shop.load().rows == 3
    assert shop.load().rows == 0
    assert shop.faults(checksums=True) == []


def test_what_is_refused_is_told_once_in_the_ledger(shop: Shop) -> None:
    drop_row(shop.landed()[0])
    assert shop.load().error is not None
    before = shop.settings.warehouse_path.read_bytes()
    assert shop.load().error is not None, "it is told until somebody decides"
    assert shop.settings.warehouse_path.read_bytes() == before


def test_without_a_backup_the_mark_goes_and_the_rows_land_again(shop: Shop) -> None:
    drop_row(shop.landed()[0])
    assert shop.load().error is not None
    for mark in (shop.settings.landing_dir / "shop" / "_dlt_loads").iterdir():
        mark.unlink()
    shop.extract()
    result = shop.load()
    assert (result.rows, result.error) == (3, None)
    assert shop.faults() == []


def test_loads_from_before_counts_were_noted_are_loaded_and_sound(shop: Shop) -> None:
    for file in shop.landed(landing.COUNTS_TABLE):
        file.unlink()
    assert shop.load().rows == 3
    assert shop.faults(checksums=True) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (drop_row, "bytes, it had"),
        (cut, "bytes, it had"),
        (Path.unlink, "it is missing"),
    ],
)
def test_damage_to_a_loaded_file_is_named(
    loaded: Shop, damage: Callable[[Path], None], told: str
) -> None:
    file = loaded.landed()[0]
    damage(file)
    (fault,) = loaded.faults()
    assert (fault.source, fault.table) == ("shop", "orders")
    assert fault.file.endswith(file.name)
    assert told in fault.problem


def test_other_bytes_of_the_same_length_are_found_by_their_checksum(loaded: Shop) -> None:
    file = loaded.landed()[0]
    content = bytearray(file.read_bytes())
    content[20] ^= 1
    file.write_bytes(content)
    assert loaded.faults() == []
    (fault,) = loaded.faults(checksums=True)
    assert "SHA-256" in fault.problem


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("delete from ledger.files where rows_read = 3", "the ledger does not know it"),
        ("insert into ledger.files from ledger.files limit 1", "has it twice"),
        ("delete from ledger.loads where rows_read = 3", "ledger.loads does not have it"),
        ("insert into ledger.loads from ledger.loads limit 1", "has it twice"),
    ],
)
def test_a_changed_ledger_is_told(loaded: Shop, change: str, told: str) -> None:
    loaded.execute(change)
    assert any(told in fault.problem for fault in loaded.faults())


def test_lost_marks_and_counts_are_told(loaded: Shop) -> None:
    loaded.landed(landing.COUNTS_TABLE)[0].unlink()
    assert [f.problem for f in loaded.faults()] == [
        f"the counts of load {min(landing.completed_loads(loaded.settings, 'shop'))} are missing"
    ]
    next((loaded.settings.landing_dir / "shop" / "_dlt_loads").iterdir()).unlink()
    assert any("a rebuild would leave the load out" in f.problem for f in loaded.faults())


def test_what_landed_since_the_last_load_is_no_fault(loaded: Shop) -> None:
    add_orders(loaded.database, (5, "e"))
    loaded.extract()
    assert loaded.faults() == []


def faults_of(lab: Lab, *, checksums: bool = False) -> list[LandingFault]:
    connection = connect(lab.settings, read_only=True)
    try:
        return verify_landing(connection, [lab.declaration], lab.settings, checksums=checksums)
    finally:
        connection.close()


def test_originals_and_registers_of_files_are_compared(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a!b.csv", "n\n1\n2\n")
    lab.put("c.csv", "n\n3\n")
    lab.run()
    lab.put("d.csv", "n\n4\n")
    lab.run()
    assert faults_of(lab, checksums=True) == []
    (original,) = (lab.settings.landing_dir / "src" / "t" / "originals").glob("*a!b.csv")
    before = original.stat()
    original.write_text("n\n1\n3\n")
    os.utime(original, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [f.problem for f in faults_of(lab, checksums=True)] == [
        "its bytes are other than those that were loaded (SHA-256)"
    ]
    original.unlink()
    drop_row(landing.landed_files(lab.settings, "src", "t__files")[0].path)
    problems = [fault.problem for fault in faults_of(lab)]
    assert "it is missing" in problems
    assert any("2 were landed" in problem for problem in problems)


def test_a_register_that_lost_a_line_refuses_its_load(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n2\n")
    lab.put("b.csv", "n\n3\n")
    assert lab.extract().error is None
    drop_row(landing.landed_files(lab.settings, "src", "t__files")[0].path)
    result = lab.load()
    assert result.rows == 0
    assert "2 rows were extracted, landing holds 1" in str(result.error)


def test_a_frozen_contract_holds_back_and_is_no_damage(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "contract": "freeze", "on_refused": "warn"}
    lab.put("a.csv", "n\n1\n")
    lab.run()
    lab.put("b.csv", "n,extra\n1,2\n")
    lab.run()
    assert lab.query("select status from ledger.loads order by load_id") == [
        ("loaded",),
        ("held",),
    ]
    assert faults_of(lab) == []
    lab.tables["t"]["contract"] = "evolve"
    lab.run()
    assert lab.query("select distinct status from ledger.loads") == [("loaded",)]
