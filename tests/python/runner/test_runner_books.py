"""`wellspring books`, `wellspring reconcile`, and an audit that finds landing damaged."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from toyshop import Call, ToyShop

ACCOUNTS = """
    select source, table_name, file as _file, load_id as _load_id, rows_read,
        0 as rows_unchanged, 0 as rows_deleted, rows_read as rows_landed, 0 as rows_held,
        rows_rejected, rows_loaded, rows_loaded as rows_staged, 0 as rows_superseded,
        0 as rows_filtered, 0 as rows_quarantined, 0 as rows_unstaged, {difference} as difference
    from {files}
    """
ONE_FILE = (
    "(select 'till' as source, 'sales' as table_name, 'a.csv' as file, '1.5' as load_id, "
    "3 as rows_read, 0 as rows_rejected, 3 as rows_loaded) as files"
)
OUTCOMES = "select 'filtered' as outcome, 'toys_on_loan' as outcome_name, 'stock' as source, "
OUTCOMES += "'toys' as table_name, 4 as row_count"


def keep_books(path: Path, difference: str = "0", files: str = "ledger.files") -> None:
    """Makes the tables that a project's own models would make."""
    accounts = ACCOUNTS.format(difference=difference, files=files)
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema if not exists books")
        connection.execute(f"create or replace table books.accounts as {accounts}")
        connection.execute(f"create or replace table books.row_outcomes as {OUTCOMES}")


def warehouse(shop: ToyShop) -> Path:
    return shop.data / "warehouse" / "wellspring.duckdb"


def landed_toys(shop: ToyShop) -> Path:
    (file,) = (shop.data / "landing" / "stock" / "toys").glob("*.parquet")
    return file


def test_books_show_lines_totals_names_and_where_they_come_from(shop: ToyShop, call: Call) -> None:
    keep_books(warehouse(shop))
    answer = call(shop, "books")
    assert answer.code == 0, answer.err
    for said in ("stock", "till", "all", "quarantined", "filtered: toys_on_loan 4"):
        assert said in answer.out
    assert "read from the warehouse as it is" in answer.out
    assert "rejected" not in answer.out, "columns without any row are left out"

    answer = call(shop, "books", "--by", "file", "--select", "source:till", "--json")
    told = json.loads(answer.out)
    assert (told["balanced"], told["by"], told["total"]["read"]) == (True, "file", 3)
    assert [line["table_name"] for line in told["lines"]] == ["sales"]

    lines = list(csv.DictReader(io.StringIO(call(shop, "books", "--by", "table", "--csv").out)))
    assert [(line["source"], line["read"]) for line in lines] == [("stock", "2"), ("till", "3")]


def test_books_that_do_not_balance_end_as_a_failed_audit(shop: ToyShop, call: Call) -> None:
    keep_books(warehouse(shop), "case when source = 'till' then 1 else 0 end")
    answer = call(shop, "books", "--unbalanced", "--by", "table")
    assert answer.code == 2
    assert "sales" in answer.out
    assert "toys" not in answer.out.partition("all")[0]
    assert "1 row is not accounted for" in answer.err
    assert "--by file --unbalanced" in answer.err
    assert "Traceback" not in answer.err


def test_books_are_read_from_the_published_version_while_a_run_has_the_warehouse(
    shop: ToyShop, call: Call
) -> None:
    assert call(shop, "books").code == 6, "this project keeps no account yet"
    published = (shop.published / "current").resolve() / "wellspring.duckdb"
    keep_books(published, files=ONE_FILE)
    answer = call(shop, "books", "--published")
    assert answer.code == 0, answer.err
    assert f"read from the published version {shop.current}" in answer.out


def test_damaged_landing_fails_the_audit_and_names_the_file(shop: ToyShop, call: Call) -> None:
    before, file = shop.current, landed_toys(shop)
    content = file.read_bytes()
    file.write_bytes(content[:-30])

    for steps in (("run",), ("audit", "publish")):
        answer = call(shop, *steps, "--quiet")
        assert answer.code == 2, answer.out + answer.err
        assert file.name in answer.err
        assert "Restore landing from a backup" in answer.out
        assert "Traceback" not in answer.out + answer.err
    assert shop.current == before
    assert call(shop, "publish").code == 2, "nobody vouches for this warehouse any more"

    file.write_bytes(content)
    assert call(shop, "run", "--quiet").code == 0


def test_a_load_that_did_not_arrive_whole_is_refused_and_nothing_is_published(
    shop: ToyShop, call: Call
) -> None:
    before = shop.current
    shop.add_toys((3, "kite", "red"))
    assert call(shop, "extract", "--quiet").code == 0
    newest = max((shop.data / "landing" / "stock" / "toys").glob("*.parquet"))
    newest.unlink()
    answer = call(shop, "load", "build", "audit", "publish")
    assert answer.code == 2
    assert "1 rows were extracted, no file of them is in landing" in answer.err
    assert shop.current == before


def test_reconcile_tells_each_table_and_keeps_it_in_the_history(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "reconcile")
    assert answer.code == 0, answer.err
    for said in ("stock.toys", "till.sales", "equal"):
        assert said in answer.out

    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    told = json.loads(call(shop, "reconcile", "till", "--json").out)
    assert [(t["table"], t["verdict"], t["not_yet_extracted"]) for t in told] == [
        ("sales", "not yet extracted", 1)
    ]
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as history:
        found = history.execute(
            "select name, status, row_count from step_items where kind = 'comparison' "
            "order by rowid"
        ).fetchall()
    assert found == [
        ("stock.toys", "ok", 2),
        ("till.sales", "ok", 1),
        ("till.sales", "nothing_new", 1),
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_row_that_was_lost_ends_reconcile_as_a_failed_audit(
    shop: ToyShop, call: Call, as_json: bool
) -> None:
    with duckdb.connect(str(warehouse(shop))) as connection:
        connection.execute("delete from raw_stock.toys where toy_id = 2")
    answer = call(shop, "reconcile", *(["--json"] if as_json else []))
    assert answer.code == 2
    assert "missing here 2" in answer.out
    assert "Traceback" not in answer.err
    if as_json:
        assert {t["table"]: t["verdict"] for t in json.loads(answer.out)} == {
            "toys": "different",
            "sales": "equal",
        }


def test_a_source_that_does_not_answer_has_a_code_of_its_own(shop: ToyShop, call: Call) -> None:
    (shop.systems / "stock.sqlite").unlink()
    answer = call(shop, "reconcile")
    assert answer.code == 4
    assert "there is no file" in answer.err
    assert "equal" in answer.out, "the other source is compared all the same"


def test_an_unknown_source_is_told(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "reconcile", "stok")
    assert answer.code == 3
    assert "source:stok" in answer.err
