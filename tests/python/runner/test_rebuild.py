"""Rebuild: the same warehouse from landing alone, in one step, or the former one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from keeping_kit import content, good, killed, sums
from toyshop import Call, ToyShop


def grown(shop: ToyShop, call: Call) -> dict:
    """A shop with a second load of each source; what its warehouse holds then."""
    shop.add_toys((2, "robot", "grey"), (3, "kite", "red"))
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,3,7.50\n")
    good(call(shop, "run", "--quiet"))
    return content(shop)


def test_a_rebuilt_warehouse_is_the_former_one(shop: ToyShop, call: Call) -> None:
    before, current = grown(shop, call), shop.current
    answer = good(call(shop, "rebuild"))
    assert content(shop) == before
    assert shop.current == current, "the same tables are not published again"
    assert not (shop.data / "state" / "rebuild").exists()
    assert "nothing has changed" in answer.out + answer.err
    told = good(call(shop, "run"))
    assert "same code and same rows" in told.out + told.err


def test_after_a_restore_it_is_made_from_landing_alone(
    shop: ToyShop, call: Call, tmp_path: Path
) -> None:
    before, published = content(shop), sums(shop.published)
    good(call(shop, "backup", str(tmp_path)))
    shutil.rmtree(shop.data)
    good(call(shop, "restore", str(tmp_path)))
    good(call(shop, "rebuild", "--quiet"))
    assert content(shop) == before
    good(call(shop, "extract", "load", "--quiet"))
    assert content(shop) == before, "nothing is landed or loaded a second time"
    assert {name.partition("/")[2] for name in sums(shop.published)} == {
        name.partition("/")[2] for name in published
    }


def test_without_publishing_readers_keep_their_version(shop: ToyShop, call: Call) -> None:
    before = shop.current
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,7.50\n")
    good(call(shop, "extract"))
    good(call(shop, "rebuild", "--no-publish"))
    assert shop.current == before
    assert len(content(shop)['"sales"."fct_sales"'][1]) == 4


def test_a_rebuild_that_fails_leaves_the_former_warehouse(shop: ToyShop, call: Call) -> None:
    before = sums(shop.data / "warehouse")
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,-7.50\n")
    good(call(shop, "extract"))
    answer = call(shop, "rebuild")
    assert answer.code == 2
    assert sums(shop.data / "warehouse") == before
    made = shop.data / "state" / "rebuild" / "warehouse" / "wellspring.duckdb"
    assert made.is_file(), "it can be looked at"


def test_rows_that_landing_lost_are_not_given_up(shop: ToyShop, call: Call) -> None:
    before = sums(shop.data / "warehouse")
    (original,) = (shop.data / "landing" / "till").rglob("originals/*")
    original.unlink()
    answer = call(shop, "rebuild")
    assert answer.code == 6
    assert "wellspring restore" in answer.out + answer.err
    assert original.name in answer.out + answer.err
    assert sums(shop.data / "warehouse") == before


def test_a_killed_rebuild_leaves_a_whole_warehouse(shop: ToyShop, call: Call) -> None:
    before = content(shop)
    for point in ("rebuild.before_swap", "rebuild.after_swap"):
        killed(shop, point, "rebuild", "--no-publish")
        assert content(shop) == before
    good(call(shop, "rebuild", "--no-publish", "--quiet"))
    assert content(shop) == before
    assert not (shop.data / "state" / "rebuild").exists()


def test_a_damaged_warehouse_is_made_anew(shop: ToyShop, call: Call) -> None:
    before = content(shop)
    path = shop.data / "warehouse" / "wellspring.duckdb"
    path.write_bytes(b"\0" * path.stat().st_size)
    path.with_name(f"{path.name}.wal").write_bytes(b"left over")
    assert call(shop, "load").code == 6
    good(call(shop, "rebuild", "--quiet"))
    assert content(shop) == before


def test_a_warehouse_that_is_open_elsewhere_is_not_pulled_away(shop: ToyShop, call: Call) -> None:
    path = shop.data / "warehouse" / "wellspring.duckdb"
    script = f"import duckdb; c = duckdb.connect({str(path)!r}, read_only=True); print(); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline(), "it has the warehouse open"
            assert call(shop, "rebuild").code == 5
        finally:
            reader.communicate(b"\n", timeout=30)
