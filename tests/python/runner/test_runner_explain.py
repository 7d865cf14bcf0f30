"""`wellspring explain` on the toy shop: its answers, and what it says to wrong questions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from toyshop import Call, ToyShop

from ingestion.errors import BadInput
from ingestion.lock import RunLock
from runner.explain.walk import parse_key

LOCKED = 5
BAD_INPUT = 6

RECURSIVE = """
    with recursive counted as (
        select sale_id, toy_id, 1 as number from {{ ref('fct_sales') }}
        union all
        select sale_id, toy_id, number + 1 from counted where number < 2
    )
    select sale_id, toy_id, max(number) as number from counted group by sale_id, toy_id
"""


def levels(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {level["relation"]: level for level in answer["levels"]}


def explained(call: Call, shop: ToyShop, *arguments: str) -> dict[str, Any]:
    answer = call(shop, "explain", *arguments, "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_a_sum_is_explained_by_the_rows_of_the_files(shop: ToyShop, call: Call) -> None:
    found = explained(call, shop, "sales_by_toy", "toy_id=1", "amount", "--rows", "10")
    assert found["value"] == "19.80"
    raw = levels(found)["raw_till.sales"]
    assert [(row["sale_id"], row["amount"]) for row in raw["sample"]] == [
        ("1", "9.90"),
        ("3", "9.90"),
    ]
    [file] = raw["files"]
    assert file["origin_name"] == "sales_1.csv"
    assert file["row_count"] == 2
    assert len(file["sha256"]) == 64
    assert file["loaded_at"]
    assert [
        step["sql"]
        for step in levels(found)["staging.stg_till__sales"]["columns"]["amount"]["expressions"]
    ] == ["CAST(sales.amount AS DECIMAL(12, 2))"]


def test_tests_and_the_run_that_built_it_are_told(shop: ToyShop, call: Call) -> None:
    found = explained(call, shop, "fct_sales", "2")
    assert found["key"] == {"sale_id": 2}
    assert found["built"]["run_id"] == shop.current
    assert found["published_as"] == [shop.current]
    tests = {test["test"]: test["status"] for test in levels(found)["sales.fct_sales"]["tests"]}
    assert tests["unique_fct_sales_sale_id"] == "ok"
    assert tests["assert_amounts_are_positive"] == "ok"


def test_people_get_a_tree(shop: ToyShop, call: Call) -> None:
    answer = call(shop, "explain", "dim_toys", "2", "is_bright")
    assert answer.code == 0, answer.err
    assert "is_bright = True" in answer.out
    assert "colours" in answer.out
    assert "also read, but no part of the value: stg_stock__toys (1 row)" in answer.out
    assert "2 data tests: 2 passed" in answer.out
    with_sql = call(shop, "explain", "dim_toys", "2", "--sql", "--depth", "1")
    assert "left join" in with_sql.out
    assert "not followed further: --depth" in with_sql.out


def test_where_sql_cannot_be_rewritten_it_says_by_column(shop: ToyShop, call: Call) -> None:
    shop.write("models/marts/sales/counted_sales.sql", RECURSIVE)
    assert call(shop, "build", "--select", "counted_sales", "--quiet").code == 0
    found = explained(call, shop, "counted_sales", "sale_id=3", "--rows", "10")
    [edge] = levels(found)["sales.counted_sales"]["made_from"]
    assert edge["how"] == "by column"
    assert "recursive" in edge["note"]
    assert edge["rows"] == 1
    assert [row["sale_id"] for row in levels(found)["raw_till.sales"]["sample"]] == ["3"]


def test_code_that_has_changed_since_is_noticed(shop: ToyShop, call: Call) -> None:
    shop.write(
        "models/marts/sales/fct_sales.sql",
        "select sale_id, toy_id, amount from {{ ref('stg_till__sales') }} where sale_id > 1",
    )
    found = explained(call, shop, "fct_sales", "1")
    [note] = levels(found)["sales.fct_sales"]["notes"]
    assert "makes 0 of these 1 rows" in note


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fct_sale", "1"], "Perhaps: sales.fct_sales"),
        (["fct_sales", "1", "amonut"], "Columns: sale_id, toy_id, amount"),
        (["fct_sales", "4711"], "Near: sale_id="),
        (["fct_sales", "toy_id=1"], "sale_id=1 or sale_id=3"),
        (["fct_sales", "one"], "sale_id is of type BIGINT"),
    ],
)
def test_a_wrong_question_gets_a_helpful_answer(
    shop: ToyShop, call: Call, arguments: list[str], said: str
) -> None:
    answer = call(shop, "explain", *arguments)
    assert answer.code == BAD_INPUT
    assert said in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("text", "single", "expected"),
    [
        ("7", ["sale_id"], {"sale_id": "7"}),
        ("name=red, large,sale_id=7", [], {"name": "red, large", "sale_id": "7"}),
        ("name=", ["sale_id"], {"name": ""}),
        ("a=b", ["name"], {"name": "a=b"}),
    ],
)
def test_keys_are_read(text: str, single: list[str], expected: dict[str, str]) -> None:
    assert parse_key(text, single, {"sale_id": "BIGINT", "name": "VARCHAR"}) == expected


@pytest.mark.parametrize(
    ("text", "single", "said"),
    [
        ("colour=red", ["sale_id"], "there is no column colour"),
        ("red", [], "does not say which column"),
    ],
)
def test_a_key_that_names_no_column_is_refused(text: str, single: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_key(text, single, {"sale_id": "BIGINT", "name": "VARCHAR"})


def test_a_run_under_way_is_not_disturbed(shop: ToyShop, call: Call) -> None:
    with RunLock(shop.data / "state" / "run.lock", "another", "wellspring run"):
        answer = call(shop, "explain", "fct_sales", "1")
    assert answer.code == LOCKED
    assert "another run is under way" in answer.err
