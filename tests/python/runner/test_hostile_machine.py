"""Runs on a machine that misbehaves: nothing is lost or doubled, and each message says what to do.

What of this is tried elsewhere is listed in `test_hostile_sources`.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import warm
from toyshop import Answer, Call, ToyShop, surroundings

MORE = "sale_id,toy_id,amount\n4,2,1.50\n"
BLOCK = 262144
HEADERS = 3 * 4096


def sales(shop: ToyShop) -> list[Any]:
    """Published sales."""
    with closing(duckdb.connect(str(shop.published / shop.current / "wellspring.duckdb"))) as db:
        return db.execute("select sale_id, amount from sales.fct_sales order by all").fetchall()


def in_warehouse(shop: ToyShop) -> list[Any]:
    """Everything in raw but for names and times of loads, and what the ledger says of it."""
    place = str(shop.data / "warehouse" / "wellspring.duckdb")
    with closing(duckdb.connect(place, read_only=True)) as db:
        queries = (
            "select toy_id, toy_name, colour, _row from raw_stock.toys order by all",
            "select sale_id, toy_id, amount, _file, _row from raw_till.sales order by all",
            "select source, table_name, origin_name, rows_loaded, status from ledger.files "
            "order by all",
        )
        return [db.execute(sql).fetchall() for sql in queries]


def apart(shop: ToyShop, *arguments: str, **options: Any) -> Answer:
    """Calls `wellspring` in a process of its own, with options of `subprocess.run`."""
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=shop.root,
        env={**surroundings(shop), "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


# -- a disk that fills -------------------------------------------------------------------------


def test_a_disk_that_fills_in_mid_run_leaves_readers_their_version(
    shop: ToyShop, call: Call
) -> None:
    shop.add_sales("sales_2.csv", MORE)
    big = "".join(f"{n},1,{n % 97 + 1}.25\n" for n in range(10, 60_000))
    shop.add_sales("sales_3.csv", f"sale_id,toy_id,amount\n{big}")
    former = shop.current

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))

    full = apart(shop, "run", "--quiet", preexec_fn=small_disk)
    assert full.code == 7, full.out + full.err
    assert "no space left below" in full.out
    assert re.search(r"→ .*(Free|free)", full.out), full.out
    assert shop.current == former
    assert len(sales(shop)) == 3
    assert call(shop, "run", "--quiet").code == 0
    assert len(sales(shop)) == 3 + 1 + 59_990
    assert not [name for name in shop.versions if name.endswith(".tmp")]


# -- a folder that is read-only ----------------------------------------------------------------

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1


def be_bound_by_permissions() -> None:
    """Takes from root, for the program to come, the right to write where nobody may."""
    if os.getuid() == 0 and ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0):
        os._exit(99)


@pytest.mark.parametrize(
    ("folder", "code", "named"),
    [
        ("landing/till", 4, "till"),
        ("published", None, "published"),
        ("state", None, "state"),
    ],
)
def test_a_read_only_folder_is_named_and_nothing_is_lost(
    shop: ToyShop, call: Call, folder: str, code: int | None, named: str
) -> None:
    shop.add_sales("sales_2.csv", MORE)
    former, place = shop.current, shop.data / folder
    places = [path for path in (place, *place.rglob("*")) if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in places}
    for path, mode in modes.items():
        path.chmod(mode & 0o555)
    try:
        refused = apart(shop, "run", "--quiet", preexec_fn=be_bound_by_permissions)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert refused.code not in (0, 70), refused.out
    assert code is None or refused.code == code
    said = refused.out + refused.err
    assert "Traceback" not in said
    assert re.search("not allowed|[Pp]ermission|read-only", said), said
    assert re.search(rf"{named}", said), said
    assert "→" in said, "what to do is not told"
    assert shop.current == former or code == 4
    assert call(shop, "run", "--quiet").code == 0
    assert [row[0] for row in sales(shop)] == [1, 2, 3, 4]


# -- a clock that goes back --------------------------------------------------------------------


def test_runs_and_versions_stay_in_order_when_the_clock_goes_back(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.current
    shop.add_sales("sales_2.csv", MORE)

    class Slow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) - timedelta(days=400)

    with monkeypatch.context() as patch:
        for module in ("runner.history", "runner.versions"):
            patch.setattr(f"{module}.datetime", Slow)
        assert call(shop, "run", "--quiet").code == 0
        second = shop.current
        assert second != first
        assert len(sales(shop)) == 4
        status = call(shop, "status", "--json").out
        assert f'"run_id": "{second}"' in status or second in status
        assert call(shop, "rollback").code == 0
        assert shop.current == first
        # Taken back is taken back: the same content does not come to readers again by itself.
        assert call(shop, "build", "audit", "publish", "--quiet").code == 8
        assert shop.current == first


# -- two runs at once --------------------------------------------------------------------------


def test_of_two_runs_at_once_one_is_refused_and_nothing_is_doubled(
    shop: ToyShop, call: Call
) -> None:
    shop.add_sales("sales_2.csv", MORE)
    environment = {**surroundings(shop), "WELLSPRING__RUN__WAIT_FOR_LOCK": "0s"}
    runs = [
        warm.Popen(
            ["-m", "runner", "run", "--quiet"],
            cwd=shop.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [run.communicate(timeout=300)[0] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes in ([0, 5], [0, 0]), said
    if codes == [0, 5]:
        (refusal,) = [text for run, text in zip(runs, said, strict=True) if run.returncode == 5]
        assert "another run is under way" in refusal
        assert "Wait until it has ended" in refusal
    assert [row[0] for row in sales(shop)] == [1, 2, 3, 4]
    assert len(in_warehouse(shop)[1]) == 4


# -- damaged files -----------------------------------------------------------------------------


def test_a_warehouse_with_overwritten_bytes_is_refused_and_made_again_from_landing(
    shop: ToyShop, call: Call
) -> None:
    warehouse = shop.data / "warehouse" / "wellspring.duckdb"
    expected, former, size = in_warehouse(shop), sales(shop), warehouse.stat().st_size
    with warehouse.open("r+b") as handle:
        handle.seek(HEADERS)
        handle.write(b"\xa5" * (size - HEADERS))
    for command in (("run",), ("build",), ("publish",)):
        refused = call(shop, *command, "--quiet")
        assert refused.code != 0
        assert "Traceback" not in refused.out + refused.err
    refused = call(shop, "load", "--quiet")
    assert refused.code == 6
    assert "the warehouse is damaged" in refused.out
    assert "`wellspring rebuild`" in refused.out
    assert sales(shop) == former
    assert call(shop, "rebuild", "--quiet").code == 0
    assert in_warehouse(shop) == expected
    assert sales(shop) == former


def test_a_damaged_block_is_met_in_the_build_and_told_as_damage(shop: ToyShop, call: Call) -> None:
    big = "".join(f"{n},1,{n * 7919 % 99991 + 1}.25\n" for n in range(10, 120_000))
    shop.add_sales("sales_2.csv", f"sale_id,toy_id,amount\n{big}")
    assert call(shop, "extract", "load", "--quiet").code == 0
    warehouse = shop.data / "warehouse" / "wellspring.duckdb"
    expected = in_warehouse(shop)
    _damage_a_block_of(warehouse, "raw_till.sales")
    refused = call(shop, "build", "--quiet")
    assert refused.code == 6, refused.out
    assert "the warehouse is damaged: " in refused.out
    assert "`wellspring rebuild`" in refused.out
    assert len(sales(shop)) == 3
    assert call(shop, "rebuild", "--quiet").code == 0
    assert in_warehouse(shop) == expected
    assert len(sales(shop)) == 3 + 119_990


def _damage_a_block_of(warehouse: Path, table: str) -> None:
    """Overwrites bytes of a block that only shows when the table is read."""
    with closing(duckdb.connect(str(warehouse), read_only=True)) as db:
        (block,) = db.execute(
            f"select max(block_id) from pragma_storage_info('{table}') "
            "where block_id >= 0 and column_name = 'amount'"
        ).fetchall()[0]
    with warehouse.open("r+b") as handle:
        handle.seek(HEADERS + block * BLOCK + BLOCK // 4)
        handle.write(b"\x5a" * 64)


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_run_history_is_told_and_runs_go_on_without_it(
    shop: ToyShop, call: Call, damage: str
) -> None:
    history = shop.data / "state" / "history.sqlite"
    content = history.read_bytes()
    shop.add_sales("sales_2.csv", MORE)
    middle = len(content) // 2
    history.write_bytes(
        {
            "truncated": content[:middle],
            "overwritten": content[:4096] + b"\xa5" * (len(content) - 4096),
        }[damage]
    )
    refused = call(shop, "run", "--quiet")
    assert refused.code == 1, refused.out
    said = refused.out + refused.err
    assert "the run history cannot be used" in said
    assert "move it away" in said
    assert "Traceback" not in said
    assert len(sales(shop)) == 3
    for path in history.parent.glob("history.sqlite*"):
        shutil.move(path, path.with_name(f"damaged-{path.name}"))
    assert call(shop, "run", "--quiet").code == 0
    assert [row[0] for row in sales(shop)] == [1, 2, 3, 4]
    assert len(in_warehouse(shop)[1]) == 4
    assert call(shop, "run", "--quiet").code == 0
    assert call(shop, "status").code == 0
