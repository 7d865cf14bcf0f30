"""Compaction: fewer files, the same rows, whoever reads landing, through kills and damage.

A database with two tables, changed between nine loads (rows new, changed, deleted, a column added,
a column retyped), and a folder of files; landing is compacted and compared with what it was.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import warm
from databases_by_hand import add_orders, change_orders
from files_kit import Lab
from sources_kit import declared, rows_of, run, settings_in

from ingestion import landing
from ingestion.compact import Compacted, compact
from ingestion.compacted import pack_files
from ingestion.delta import Delta
from ingestion.errors import BadInput
from ingestion.load import load
from ingestion.settings import Settings
from ingestion.verify import verify_landing
from ingestion.warehouse import connect

SMALL = 16_000_000
TABLES = {
    "orders": {"primary_key": "id", "deletes": "sweep"},
    "notes": {"primary_key": "note_id"},
}
CHILD = """
import sys
sys.path.insert(0, {kit!r})
from pathlib import Path
from sources_kit import declared, settings_in
from ingestion.compact import compact
compact([declared("database", {tables!r}, "shop")], settings_in(Path({folder!r})), smaller_than={small})
"""  # noqa: E501 - one call of a child process


class Shop:
    """A database source that was extracted again and again."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.database = folder / "shop.db"
        self.settings: Settings = settings_in(folder)
        self.declaration: Any = declared("database", TABLES, "shop")
        monkeypatch.setenv("CONNECTIONS__SHOP__URL", f"sqlite:///{self.database}")

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def extract(self) -> dict[str, int]:
        return rows_of(run(self.declaration, self.settings))

    def compact(self, smaller_than: int = SMALL) -> dict[str, Compacted]:
        done = compact([self.declaration], self.settings, smaller_than=smaller_than)
        return {folder.table: folder for folder in done}

    def folder_of(self, table: str) -> Path:
        return self.settings.landing_dir / "shop" / table

    def listed(self, table: str) -> list[tuple[str, str]]:
        files = landing.landed_files(self.settings, "shop", table)
        return [(file.file, file.load_id) for file in files]

    def faults(self, checksums: bool = True) -> list[str]:
        with closing(connect(self.settings, read_only=True)) as connection:
            found = verify_landing(
                connection, [self.declaration], self.settings, checksums=checksums
            )
        return [str(fault) for fault in found]

    def loaded_anew(self) -> dict[str, Any]:
        """Raw tables and the ledger as landing gives them to an empty warehouse."""
        other = self.folder / "other"
        shutil.rmtree(other, ignore_errors=True)
        other.mkdir()
        (other / "landing").symlink_to(self.settings.landing_dir)
        settings = replace(self.settings, data_dir=other)
        result = load([self.declaration], settings)
        return {**dump(settings), "refused": sorted(map(str, result.refused))}


def dump(settings: Settings) -> dict[str, Any]:
    """Every table with its columns and its rows, sorted."""
    found = {}
    with closing(duckdb.connect(str(settings.warehouse_path), read_only=True)) as connection:
        tables = connection.execute(
            "select table_schema, table_name from information_schema.tables order by all"
        ).fetchall()
        for schema, table in tables:
            described = connection.execute(f"describe {schema}.{table}").fetchall()
            columns = [row[:2] for row in described if row[0] != "loaded_at"]
            names = ", ".join(f'"{name}"' for name, _ in columns)
            asked = f"select {names} from {schema}.{table} order by all"
            rows = connection.execute(asked).fetchall()
            found[f"{schema}.{table}"] = (columns, rows)
    return found


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path, monkeypatch)
    add_orders(shop.database, (1, "a"), (2, "b"), (3, "it's"))
    shop.sql("create table notes (note_id integer primary key, text text, weight integer)")
    shop.extract()
    for number in range(4, 9):
        add_orders(shop.database, (number, "x"), (2, f"b{number}"))
        if number % 2:
            shop.sql(f"insert into notes values ({number}, null, {number})")
        shop.extract()
    shop.sql("delete from orders where id = 3", "alter table orders add column rank integer")
    shop.extract()
    change_orders(shop.database, "update orders set rank = ? where id = ?", (1, 1), (2, 5))
    shop.sql("insert into notes values (100, 'late', 'heavy')")
    shop.extract()
    add_orders(shop.database, (3, "back"))
    shop.extract()
    return shop


def test_an_empty_warehouse_gets_the_same_rows_and_ledger(shop: Shop) -> None:
    before, listed = shop.loaded_anew(), [shop.listed(table) for table in TABLES]
    done = shop.compact()
    assert done["orders"].files_before == 9
    assert done["orders"].files_after == 2, "one for the columns of each time"
    assert done["landed__counts"].files_after == 1
    assert shop.loaded_anew() == before
    assert [shop.listed(table) for table in TABLES] == listed
    assert len(before["ledger.loads"][1]) > 9
    assert before["ledger.schema_changes"][1]
    assert before["refused"] == []


def test_a_frozen_contract_holds_the_same_loads_back(shop: Shop) -> None:
    frozen = {name: {**ingest, "contract": "freeze"} for name, ingest in TABLES.items()}
    shop.declaration = declared("database", frozen, "shop")
    before = shop.loaded_anew()
    assert "rank" in str(before["refused"])
    shop.compact()
    assert shop.loaded_anew() == before


def test_a_warehouse_that_has_them_takes_nothing_again(shop: Shop) -> None:
    load([shop.declaration], shop.settings)
    before = dump(shop.settings)
    shop.compact()
    assert load([shop.declaration], shop.settings).rows == 0
    assert dump(shop.settings) == before
    assert shop.faults() == []


def test_half_loaded_loads_go_on_with_the_rest(shop: Shop) -> None:
    only = declared("database", {"notes": TABLES["notes"]}, "shop")
    load([only], shop.settings)
    shop.compact()
    load([shop.declaration], shop.settings)
    assert {**dump(shop.settings), "refused": []} == shop.loaded_anew()


def test_the_comparison_with_landing_finds_what_it_found(shop: Shop) -> None:
    shop.compact()
    assert shop.extract() == {"orders": 0, "notes": 0}
    with Delta(shop.settings, landing.landed_files(shop.settings, "shop", "orders")) as delta:
        assert not {"_file", "_row", "_load_id"} & set(delta.landed_columns)
    add_orders(shop.database, (2, "new"), (3, "back"))
    shop.sql("delete from orders where id = 8")
    assert shop.extract() == {"orders": 2, "notes": 0}
    load([shop.declaration], shop.settings)
    with closing(duckdb.connect(str(shop.settings.warehouse_path))) as connection:
        last = connection.execute(
            "select id, name, _deleted from raw_shop.orders "
            "where _load_id = (select max(_load_id) from raw_shop.orders) order by id"
        ).fetchall()
    assert last == [(2, "new", False), (8, "x", True)]


def test_compacted_files_and_newer_ones_are_put_together(shop: Shop) -> None:
    shop.compact()
    add_orders(shop.database, (20, "y"))
    shop.extract()
    add_orders(shop.database, (21, "z"))
    shop.extract()
    before = shop.loaded_anew()
    done = shop.compact()
    assert (done["orders"].files_before, done["orders"].files_after) == (4, 2)
    assert shop.loaded_anew() == before
    assert shop.compact()["orders"].parts == 0, "there is nothing left to do"
    for path in pack_files(shop.folder_of("orders")):
        footer = pq.read_metadata(path)
        compression = footer.row_group(0).column(0).compression
        assert (footer.num_row_groups, compression) == (1, "ZSTD")


def test_large_files_stay_as_they_are(shop: Shop) -> None:
    (first, *_) = shop.listed("orders")
    size = (shop.settings.landing_dir / first[0]).stat().st_size
    assert shop.compact(smaller_than=min(size, 200))["orders"].parts == 0
    assert not pack_files(shop.folder_of("orders"))


def test_loads_that_are_not_complete_are_left_out(shop: Shop) -> None:
    marks = sorted((shop.folder_of("_dlt_loads")).iterdir())
    marks[-1].unlink()
    listed = shop.listed("orders")
    shop.compact()
    assert shop.listed("orders") == listed
    marks[1].unlink()
    before = shop.loaded_anew()
    add_orders(shop.database, (30, "w"))
    assert shop.extract()["orders"] == 3, "rows of the load that counts no more land again"
    assert shop.compact()["orders"].files_after == 3
    assert len(before["raw_shop.orders"][1]) < len(shop.loaded_anew()["raw_shop.orders"][1])


@pytest.mark.parametrize(
    "point",
    [
        *("compact.before_rename:1", "compact.renamed:1", "compact.file_removed:1"),
        *("compact.file_removed:4", "compact.renamed:2", "compact.file_removed:12"),
        "compact.renamed:1 compact.leftover_removed:1",
    ],
)
def test_killed_anywhere_each_row_counts_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    before = shop.loaded_anew()
    code = CHILD.format(
        kit=str(Path(__file__).parent), tables=TABLES, folder=str(shop.folder), small=SMALL
    )
    for death in point.split():
        monkeypatch.setenv("WELLSPRING_FAILPOINT", death)
        child = warm.run(["-c", code], capture_output=True, text=True)
        assert child.returncode == -9, child.stderr
    monkeypatch.delenv("WELLSPRING_FAILPOINT")
    assert shop.loaded_anew() == before
    shop.compact()
    assert shop.loaded_anew() == before
    assert shop.extract() == {"orders": 0, "notes": 0}
    left = [p for p in shop.folder_of("orders").rglob("*") if p.is_file()]
    assert len(left) == 2


def test_damage_is_noticed_and_never_compacted(shop: Shop) -> None:
    load([shop.declaration], shop.settings)
    path = landing.landed_files(shop.settings, "shop", "orders")[1].path
    whole = path.read_bytes()
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(BadInput, match="other than those that were loaded"):
        shop.compact()
    path.write_bytes(whole)
    shop.compact()
    pack = pack_files(shop.folder_of("orders"))[0]
    good = pack.read_bytes()
    pack.write_bytes(good[:8] + bytes([good[8] ^ 255]) + good[9:])
    assert shop.faults(checksums=False) == []
    assert any("other than those that were compacted" in fault for fault in shop.faults())
    pack.write_bytes(good[:-100])
    assert any("damaged" in fault for fault in shop.faults(checksums=False))
    result = run(shop.declaration, shop.settings)
    assert "damaged" in str(result.error)


def test_rows_of_a_changed_compacted_file_are_not_loaded(shop: Shop) -> None:
    shop.compact()
    pack = pack_files(shop.folder_of("notes"))[0]
    content = bytearray(pack.read_bytes())
    content[8] ^= 255
    pack.write_bytes(bytes(content))
    result = load([shop.declaration], shop.settings)
    assert {refused.table for refused in result.refused} == {"notes"}
    assert "Restore" in result.refused[0].reason
    assert next(t for t in result.tables if t.table == "orders").rows > 0


def test_registers_of_files_are_compacted_and_originals_are_not(lab: Lab) -> None:
    lab.tables = {"t": {"format": "csv", "primary_key": "id", "path": "*.csv"}}
    for number in range(5):
        lab.put(f"{number}.csv", f"id;v\n{number};x\n" if number else "id;v\n1;bad;x\n2;y\n")
        lab.run()
    state, register = lab.state(), lab.register("t")
    originals = sorted((lab.settings.landing_dir / "src" / "t").rglob("*"))
    done = {d.table: d for d in compact([lab.declaration], lab.settings, smaller_than=SMALL)}
    assert (done["t__files"].files_before, done["t__files"].files_after) == (5, 1)
    assert lab.register("t") == register
    assert sorted((lab.settings.landing_dir / "src" / "t").rglob("*")) == originals
    assert lab.run().rows == 0
    shutil.rmtree(lab.settings.warehouse_path.parent)
    lab.load()
    assert lab.state() == state
    lab.put("9.csv", "id;v\n9;x\n")
    assert lab.run().rows == 1
    with closing(connect(lab.settings, read_only=True)) as connection:
        assert verify_landing(connection, [lab.declaration], lab.settings, checksums=True) == []
