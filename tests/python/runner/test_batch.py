"""Tests asked in few queries come to what `dbt test` comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toyshop import ToyShop

from ingestion.settings import load_settings
from runner.transform import Dbt, NodeResult, Selection

TESTS = {
    "passes": "select 1 as n where false",
    "fails": "select 1 as n union all select 2",
    "fails_once": "select 1 as n",
    "warns": "{{ config(severity='warn') }} select 1 as n",
    "warns_at_last": "{{ config(warn_if='>1', error_if='>3') }} select * from range(3) as r(n)",
    "fails_at_last": "{{ config(warn_if='>1', error_if='>3') }} select * from range(4) as r(n)",
    "stays_below": "{{ config(warn_if='>1', error_if='>3') }} select 1 as n",
    "is_limited": "{{ config(limit=2) }} select * from range(9) as r(n)",
    "adds_up": "{{ config(fail_calc='coalesce(sum(n), 0)') }} select 7 as n",
    "ends_in_a_comment": "select 1 as n where false -- and nothing more",
    "keeps_its_failures": "{{ config(store_failures=true) }} select 3 as n",
    "cannot_be_run": "select no_such_column from {{ ref('fct_sales') }}",
    "divides_by_text": "select cast('x' as integer) as n",
}


def told(results: list[NodeResult]) -> dict[str, NodeResult]:
    """What must be alike: all but the time, and the wording of a database's refusal."""
    return {
        result.unique_id: replace(
            result,
            seconds=0.0,
            message="" if result.failures is None else result.message,
            compiled_path=None,
            compiled_sql=None,
        )
        for result in results
    }


def test_batched_tests_come_to_what_dbt_comes_to(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, sql in TESTS.items():
        path = shop.root / "tests" / "dbt" / f"assert_{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql, encoding="utf-8")
    monkeypatch.chdir(shop.root)
    monkeypatch.setenv("WELLSPRING_DATA", str(shop.data))
    dbt = Dbt(load_settings())
    seen: list[str] = []
    dbt.on_node = lambda done, total, name: seen.append(name)
    batched = told(dbt.test(Selection()))
    names = set(seen)
    by_dbt = ["test", "--exclude-resource-type", "unit_test"]
    one_by_one = told(dbt._results(by_dbt))
    assert batched == one_by_one
    part = Selection(("+fct_sales", "assert_warns"), ("assert_cannot_be_run",))
    asked = told(dbt.test(part))
    assert asked == told(dbt._results([*by_dbt, *part.arguments()]))
    assert 1 < len(asked) < len(batched)
    statuses = {result.name.removeprefix("assert_"): result.status for result in batched.values()}
    assert {name: statuses[name] for name in TESTS} == {
        "passes": "ok",
        "fails": "failed",
        "fails_once": "failed",
        "warns": "warned",
        "warns_at_last": "warned",
        "fails_at_last": "failed",
        "stays_below": "ok",
        "is_limited": "failed",
        "adds_up": "failed",
        "ends_in_a_comment": "ok",
        "keeps_its_failures": "failed",
        "cannot_be_run": "failed",
        "divides_by_text": "failed",
    }
    assert names == {result.name for result in batched.values()}, "progress names every test"
