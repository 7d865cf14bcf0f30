"""`wellspring lineage` on the toy shop: what a column is made of, and what a change reaches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from toyshop import Call, ToyShop

from ingestion.lock import RunLock
from runner.lineage.project import FILE

LOCKED = 5
BAD_INPUT = 6


def told(call: Call, shop: ToyShop, *arguments: str) -> dict[str, Any]:
    answer = call(shop, "lineage", *arguments, "--format", "json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def names(links: list[dict[str, Any]], end: str) -> set[str]:
    return {f"{link[end]['table']}.{link[end]['column']} {link['how']}" for link in links}


def test_a_column_is_followed_in_both_directions(shop: ToyShop, call: Call) -> None:
    found = told(call, shop, "stg_till__sales.amount")
    assert names(found["made_of"], "from") == {"raw_till.sales.amount computed"}
    assert names(found["goes_into"], "to") == {
        "sales.fct_sales.amount unchanged",
        "sales.sales_by_toy.amount computed",
    }
    assert {(part["name"], *part["columns"], part["rows"]) for part in found["affects"]} == {
        ("fct_sales", "amount", False),
        ("sales_by_toy", "amount", False),
    }


def test_a_column_that_decides_about_rows_reaches_all_that_is_made_of_them(
    shop: ToyShop, call: Call
) -> None:
    found = told(call, shop, "till.sales.toy_id", "--down")
    assert "made_of" not in found
    affected = {part["name"]: part for part in found["affects"]}
    assert affected["sales_by_toy"] == {
        "table": "sales.sales_by_toy",
        "name": "sales_by_toy",
        "columns": ["toy_id"],
        "rows": True,
    }
    assert not affected["fct_sales"]["rows"]
    colour = told(call, shop, "stock.toys.colour", "--down")["affects"]
    assert [(part["name"], part["columns"], part["rows"]) for part in colour] == [
        ("stg_stock__toys", ["colour"], False),
        ("dim_toys", [], True),
    ]


def test_a_model_that_cannot_be_followed_may_depend_on_all_that_it_reads(
    shop: ToyShop, call: Call
) -> None:
    shop.write(
        "models/marts/sales/fct_odd.sql",
        "select sale_id! as odd from {{ ref('fct_sales') }}",
    )
    affected = {p["name"]: p for p in told(call, shop, "fct_sales.amount", "--down")["affects"]}
    assert affected["fct_odd"]["rows"]


def test_columns_named_after_words_of_sql_are_followed(shop: ToyShop, call: Call) -> None:
    shop.write(
        "models/marts/sales/fct_odd.sql",
        """
        with sales as (
            select sale_id as "select", amount as "not" from {{ ref('fct_sales') }}
        )
        select sales.select as a, sales.not as b from sales
        """,
    )
    found = told(call, shop, "fct_odd.b")
    assert "sales.fct_sales.amount unchanged" in names(found["made_of"], "from")


def test_seeds_and_metadata_of_loads_take_part(shop: ToyShop, call: Call) -> None:
    found = told(call, shop, "dim_toys.is_bright", "--up")
    assert names(found["made_of"], "from") == {"lookups.colours.is_bright unchanged"}
    staged = told(call, shop, "stg_stock__toys.toy_id", "--up")
    deciding = names(staged["rows_decided_by"], "from")
    assert "raw_stock.toys._load_id filter" in deciding


def test_without_a_warehouse_the_code_alone_tells(fresh: ToyShop, call: Call) -> None:
    found = told(call, fresh, "sales_by_toy.amount", "--up")
    assert "raw_till.sales.amount computed" in names(found["made_of"], "from")


def test_code_that_has_changed_is_read_again_and_nothing_else(shop: ToyShop, call: Call) -> None:
    told(call, shop, "fct_sales")
    kept = shop.data / "state" / FILE
    before = json.loads(kept.read_text())["queries"]
    shop.write(
        "models/marts/sales/fct_sales.sql",
        "select sale_id, toy_id, amount * 2 as amount from {{ ref('stg_till__sales') }}",
    )
    found = told(call, shop, "fct_sales.amount", "--up", "--depth", "1")
    assert names(found["made_of"], "from") == {"staging.stg_till__sales.amount computed"}
    after = json.loads(kept.read_text())["queries"]
    assert len(set(after) - set(before)) == 1


def test_half_a_kept_file_does_no_harm(shop: ToyShop, call: Call) -> None:
    told(call, shop, "fct_sales")
    kept = shop.data / "state" / FILE
    kept.write_text(kept.read_text()[:100])
    assert told(call, shop, "fct_sales.amount", "--up")["made_of"]


def test_people_get_a_tree(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "lineage", "sales_by_toy.amount")
    assert answer.code == 0, answer.err
    assert "fct_sales.amount  computed" in answer.out
    assert "till.sales.amount  computed (source)" in answer.out
    assert "grouping: fct_sales.toy_id" in answer.out
    assert "nothing is made of it" in answer.out
    table = call(shop, "lineage", "fct_sales")
    assert "amount  <- stg_till__sales.amount  -> sales_by_toy.amount" in table.out
    assert "a change of it reaches 1 table" in table.out


def test_a_picture_has_a_box_for_each_table(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "lineage", "sales_by_toy.amount", "--up", "--format", "mermaid")
    assert answer.out.startswith("flowchart LR\n")
    assert answer.out.count("subgraph") == 4
    assert "raw_till_sales__amount -- computed --> staging_stg_till__sales__amount" in answer.out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fct_sale.amount", "Perhaps: fct_sales"),
        ("fct_sales.amuont", "fct_sales has no column amuont"),
        ("", "no table or column"),
    ],
)
def test_a_wrong_name_gets_a_helpful_answer(
    shop: ToyShop, call: Call, name: str, said: str
) -> None:
    answer = call(shop, "lineage", name)
    assert answer.code == BAD_INPUT
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_run_under_way_is_not_disturbed(shop: ToyShop, call: Call) -> None:
    with RunLock(shop.data / "state" / "run.lock", "another", "wellspring run"):
        answer = call(shop, "lineage", "fct_sales")
    assert answer.code == LOCKED


def test_a_name_of_two_tables_is_asked_back(shop: ToyShop, call: Call) -> None:
    shop.write("models/marts/core/toys.sql", "{{ config(alias='fct_sales') }} select 1 as n")
    answer = call(shop, "lineage", "fct_sales")
    assert answer.code == BAD_INPUT
    assert "core.fct_sales, sales.fct_sales" in answer.err
