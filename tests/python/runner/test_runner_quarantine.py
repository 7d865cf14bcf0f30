"""Rows set aside are told, shown, handed on and taken back in; a flood of them is not published."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from screenedshop import (
    OWN,
    SALES_SQL,
    SALES_YML,
    checksums,
    make_screened_shop,
    rows,
)
from toyshop import FILES, Call, ToyShop, command

TILL = "models/staging/till/_till__sources.yml"
SALES = "models/staging/till/stg_till__sales.sql"


@pytest.fixture(scope="session")
def screened_workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("screened") / "shop"


@pytest.fixture(scope="session")
def screened_after_run(screened_workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop after one run; never to be changed."""
    done = command(make_screened_shop(screened_workplace), "run", "--quiet")
    assert done.code == 0, done.out + done.err
    kept = tmp_path_factory.mktemp("kept") / "shop"
    ignored = shutil.ignore_patterns("target")
    shutil.copytree(screened_workplace, kept, symlinks=True, ignore=ignored)
    return kept


@pytest.fixture
def screened(screened_workplace: Path, screened_after_run: Path) -> ToyShop:
    for place in screened_workplace.iterdir():
        if place.name != "target":
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    shutil.copytree(
        screened_after_run,
        screened_workplace,
        copy_function=shutil.copy,
        symlinks=True,
        dirs_exist_ok=True,
    )
    return ToyShop(screened_workplace)


# -- list, show, export ------------------------------------------------------------------------


def test_list_counts_rows_records_and_files(screened: ToyShop, call: Call) -> None:
    told = json.loads(call(screened, "quarantine", "list", "--json").out)
    assert told["from"] == f"version {screened.current}"
    assert told["total"] == {"row": 2, "record": 1, "file": 1}
    found = {(row["rule"], row["kind"]): (row["count"], row["share"]) for row in told["rows"]}
    assert found.pop(("too few fields: 2, expected 4", "record")) == (1, 1 / 9)
    (refused,) = [key for key in found if key[1] == "file"]
    assert "not utf-8" in refused[0]
    assert found.pop(refused) == (1, 1 / 3)
    assert found == {
        ("amount is unreadable", "row"): (1, 1 / 9),
        ("amount is outside 0 to 1000", "row"): (1, 1 / 9),
        ("toy_id is missing", "row"): (1, 1 / 9),
    }
    table = call(screened, "quarantine", "list", "--by", "table")
    assert "2 rows, 1 rejected record, 1 refused file" in table.out
    by_file = call(screened, "quarantine", "list", "--by", "file", "--csv").out.splitlines()
    assert [line.split(",")[:4] for line in sorted(by_file)[1:]] == [
        ["till.sales", "sales_1.csv", "record", "1"],
        ["till.sales", "sales_1.csv", "row", "2"],
        ["till.sales", "sales_3.csv", "file", "1"],
    ]


def test_list_keeps_to_the_selection_and_the_time(screened: ToyShop, call: Call) -> None:
    def total(*options: str) -> int:
        answer = call(screened, "quarantine", "list", "--json", *options)
        assert answer.code == 0, answer.err
        return sum(json.loads(answer.out)["total"].values())

    assert total("--select", "rpt_sales_by_colour") == 4
    assert total("--select", "stg_stock__toys") == 0
    assert total("--since", "2020-01-01") == 4
    assert total("--since", "2100-01-01T10:00") == 0
    assert call(screened, "quarantine", "list", "--since", "monday").code == 6
    nothing = call(screened, "quarantine", "list", "--select", "colours")
    assert (nothing.code, "no table is selected" in nothing.err) == (6, True)


def test_list_answers_while_the_warehouse_is_being_written(screened: ToyShop) -> None:
    warehouse = screened.data / "warehouse" / "wellspring.duckdb"
    with duckdb.connect(str(warehouse)):
        assert command(screened, "quarantine", "list").code == 0
        held = command(screened, "quarantine", "list", "--warehouse")
    assert held.code == 5
    assert f"process {os.getpid()}" in held.err


def test_list_shows_no_content_of_a_record(screened: ToyShop, call: Call) -> None:
    told = call(screened, "quarantine", "list", "--json").out
    told += call(screened, "quarantine", "list").out
    assert "lots" not in told
    assert "6;2" not in told


def test_show_marks_the_field_at_fault(screened: ToyShop, call: Call) -> None:
    told = call(screened, "quarantine", "show", "till.sales", "--key", "4").out
    assert "sales_1.csv, row 4" in told
    assert "✗ amount is unreadable" in told
    assert "▸ amount" in told
    assert told.count("▸") == 1
    told = call(screened, "quarantine", "show", "stg_till__sales", "--rule", "toy_id").out
    assert "▸ article  (missing)" in told
    assert "1 of 1 shown" in told
    assert "2 of 4 shown" in call(screened, "quarantine", "show", "till.sales", "--limit", "2").out
    assert "nothing of that kind" in call(screened, "quarantine", "show", "stock.toys").out
    shown = call(screened, "quarantine", "show", "till.sales", "--json", "--limit", "1")
    assert len(json.loads(shown.out)) == 1
    wrong = call(screened, "quarantine", "show", "till.sale")
    assert wrong.code == 6
    assert "till.sales" in wrong.err


def test_export_writes_what_the_owner_needs(screened: ToyShop, call: Call, tmp_path: Path) -> None:
    for suffix in ("csv", "ndjson", "parquet"):
        path = tmp_path / f"bad.{suffix}"
        done = call(screened, "quarantine", "export", "--to", str(path))
        assert done.code == 0, done.err
        assert "4 written" in done.out
    with (tmp_path / "bad.csv").open(encoding="utf-8-sig", newline="") as file:
        found = {row["record_key"] or row["kind"]: row for row in csv.DictReader(file)}
    assert found["5"]["reasons"] == "toy_id is missing; amount is outside 0 to 1000"
    assert (found["4"]["file"], found["4"]["place"]) == ("sales_1.csv", "4")
    assert (found["4"]["amount"], found["4"]["clerk"]) == ("lots", "Bo")
    assert found["record"]["raw_text"] == "6;2"
    lines = (tmp_path / "bad.ndjson").read_text(encoding="utf-8").splitlines()
    (fourth,) = [row for row in map(json.loads, lines) if row["record_key"] == "4"]
    assert fourth["record"]["amount"] == "lots"
    assert pq.read_table(tmp_path / "bad.parquet").num_rows == 4
    assert list(tmp_path.glob(".*")) == []
    assert call(screened, "quarantine", "export", "--to", str(tmp_path / "x.txt")).code == 6
    assert call(screened, "quarantine", "export", "--to", str(tmp_path / "no" / "x.csv")).code == 6


# -- replay ------------------------------------------------------------------------------------


def as_if_never_wrong(shop: ToyShop, call: Call) -> dict[str, object]:
    """What the mended project makes of the same landing in an empty warehouse."""
    shutil.rmtree(shop.data / "warehouse")
    done = call(shop, "load", "build", "--quiet")
    assert done.code == 0, done.err
    return checksums(shop)


def marts(shop: ToyShop) -> list[list[tuple[object, ...]]]:
    return [
        rows(shop, "from sales.fct_sales order by sale_id"),
        rows(shop, "from sales.rpt_sales_by_colour order by all"),
    ]


def test_a_mended_declaration_takes_rows_in(screened: ToyShop, call: Call) -> None:
    right = marts(screened)
    before = screened.current
    screened.write(TILL, OWN[TILL].replace('delimiter: ";"', 'delimiter: ","'))
    shutil.rmtree(screened.data / "warehouse")
    flooded = call(screened, "load", "build", "audit", "publish", "--quiet")
    assert flooded.code == 2
    assert "assert_quarantine_stays_within_limits" in flooded.err
    assert "table_name=till.sales" in flooded.err
    assert "at most 50.0 % of the rows of a load may be bad, bad_rows=9" in flooded.err
    assert "look=wellspring quarantine show till.sales --load" in flooded.err
    assert marts(screened) != right

    screened.write(TILL, OWN[TILL].replace('";"}', '";"}, encodings: [utf-8, cp1252]'))
    planned = call(screened, "quarantine", "replay", "--dry-run", "--select", "stg_till__sales")
    assert "till.sales: sales_1.csv" in planned.out
    assert "till.sales: sales_3.csv (0 rows, 0 rejected): it was refused" in planned.out
    assert "sales.fct_sales" in planned.out
    assert "stg_stock__toys" not in planned.out
    done = call(screened, "quarantine", "replay", "--select", "stg_till__sales", "--json", "-q")
    assert done.code == 0, done.out + done.err
    told = json.loads(done.out)
    assert {file["cause"] for file in told["files"]} == {"declaration", "refused"}
    assert told["staged"] == [{"table": "till.sales", "before": 0, "after": 5}]
    assert told["remaining"] == {"row": 3, "record": 1, "file": 0}
    assert marts(screened) == right
    assert screened.current != before
    assert rows(screened, "select sum(replay_count) from books.loaded_files") == [(3,)]
    replayed = checksums(screened)
    assert replayed == as_if_never_wrong(screened, call)


def test_a_mended_mapping_takes_rows_in(screened: ToyShop, call: Call) -> None:
    right = marts(screened)
    wrong = SALES_SQL.replace("try_cast(amount as decimal(12, 2))", "try_cast(amount as bigint)")
    wrong = wrong.replace("try_cast(article as bigint)", "try_cast(clerk as bigint)")
    screened.write(SALES, wrong)
    strict = SALES_YML.replace("[0, 1000]", "[0, 1]").replace("share: 0.5", "share: 1")
    screened.write(SALES.replace(".sql", ".yml"), strict)
    screened.write("seeds/colours.csv", FILES["seeds/colours.csv"].replace("red", "rad"))
    assert call(screened, "build", "audit", "publish", "--quiet").code == 0
    assert marts(screened) != right

    for path in (SALES, SALES.replace(".sql", ".yml")):
        screened.write(path, OWN[path])
    screened.write("seeds/colours.csv", FILES["seeds/colours.csv"])
    done = call(screened, "quarantine", "replay", "--quiet")
    assert done.code == 0, done.out + done.err
    assert "till.sales: 5 staged rows more, 5 now" in done.out
    assert "still set aside: 2 rows, 1 rejected record, 1 refused file" in done.out
    assert marts(screened) == right
    assert checksums(screened) == as_if_never_wrong(screened, call)


def test_nothing_to_replay_is_a_clear_answer(screened: ToyShop, call: Call) -> None:
    before = checksums(screened), screened.current
    planned = call(screened, "quarantine", "replay", "--dry-run")
    assert "sales_3.csv (0 rows, 0 rejected): it was refused" in planned.out
    done = call(screened, "quarantine", "replay", "--quiet")
    assert done.code == 0, done.out + done.err
    assert "nothing to take in" in done.out
    assert (checksums(screened), screened.current) == before
    assert rows(screened, "select count(*) from ledger.replays") == [(0,)]
    unknown = call(screened, "quarantine", "replay", "--file", "sales_7.csv", "--quiet")
    assert unknown.code == 6
    assert "no loaded or refused file is called 'sales_7.csv'" in unknown.err


# -- limits ------------------------------------------------------------------------------------


def test_an_old_flood_stays_red_until_it_is_accepted(screened: ToyShop, call: Call) -> None:
    bad = "".join(f"{number};x;1;Bo\n" for number in range(100, 130))
    screened.add_sales("sales_4.csv", f"sale_id;article;amount;clerk\n{bad}")
    flooded = call(screened, "run", "--quiet")
    assert flooded.code == 2
    assert "bad_rows=30, read_rows=30, bad_pct=100.0" in flooded.err
    assert "most_frequent_reason=toy_id is unreadable" in flooded.err
    good = "".join(f"{number};1;1;Bo\n" for number in range(200, 900))
    screened.add_sales("sales_5.csv", f"sale_id;article;amount;clerk\n{good}")
    assert call(screened, "run", "--quiet").code == 2, "a year of good rows drowns no bad day"
    (load,) = rows(
        screened, "select _load_id from books.loaded_files where origin_name = 'sales_4.csv'"
    )[0]
    screened.write(
        "seeds/quarantine_acceptances.csv",
        "source,table_name,load_id,reason,accepted_by,accepted_on\n"
        f"till,sales,{load},A training till,Ann,2026-11-22\n",
    )
    assert call(screened, "run", "--quiet").code == 0


def test_a_limit_may_be_a_count(screened: ToyShop, call: Call) -> None:
    path = SALES.replace(".sql", ".yml")
    for limits, fault in (
        ("{share: 1, rows: 2}", "at most 2 rows of a load may be bad, bad_rows=3"),
        ("{refused: 0}", "at most 0 files of a load may be refused"),
    ):
        screened.write(path, SALES_YML.replace("{share: 0.5}", limits))
        done = call(screened, "audit", "-s", "assert_quarantine_stays_within_limits", "--quiet")
        assert done.code == 2, done.out + done.err
        assert fault in done.err


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ("{share: 5}", "limits.share is 5; expected a share from 0 to 1"),
        ("{rows: many}", "limits.rows is many; expected a number from 0"),
        ("{rows: 1.5}", "limits.rows is 1.5; expected a whole number"),
        ("{files: 1}", "limits.files is not known; expected one of share, rows, refused"),
    ],
)
def test_a_wrong_limit_is_told(screened: ToyShop, call: Call, limits: str, fault: str) -> None:
    path = SALES.replace(".sql", ".yml")
    screened.write(path, SALES_YML.replace("{share: 0.5}", limits))
    done = call(screened, "build", "--select", "stg_till__sales", "--quiet")
    assert done.code == 1
    assert fault in " ".join(done.err.split())
