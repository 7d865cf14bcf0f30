"""`wellspring runs`, `runs show`, `runs tests`: what the run history tells people and programs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from toyshop import Call, ToyShop

from runner.history import Attempt, History, Item, Origin

NEVER = "select 1 as one"
ORIGIN = Origin("b" * 40, "5e77", "ada", "loom", 7, "cron")


def history_of(shop: ToyShop) -> History:
    return History(shop.data / "state" / "history.sqlite")


def asked(shop: ToyShop, call: Call, *arguments: str) -> Any:
    answer = call(shop, "runs", *arguments, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_runs_are_listed_newest_first(shop: ToyShop, call: Call) -> None:
    shop.write("tests/dbt/assert_never.sql", NEVER)
    assert call(shop, "audit").code == 2
    runs = asked(shop, call)
    assert [(run["number"], run["status"], run["exit_code"]) for run in runs] == [
        (2, "failed", 2),
        (1, "succeeded", 0),
    ]
    assert runs[1]["rows"] == 5
    assert runs[1]["seconds"] > 0
    assert [run["number"] for run in asked(shop, call, "--failed")] == [2]
    assert [run["number"] for run in asked(shop, call, "--limit", "1")] == [2]
    text = call(shop, "runs").out
    assert text.index(runs[0]["run_id"]) < text.index(runs[1]["run_id"])
    assert "wellspring audit" in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_run_is_shown_by_number_id_or_as_the_last(shop: ToyShop, call: Call) -> None:
    shown = asked(shop, call, "show", "last")
    assert shown == asked(shop, call, "show", "1") == asked(shop, call, "show", shown["run_id"])
    assert [step["step"] for step in shown["steps"]][-2:] == ["publish", "docs"]
    assert shown["tests"] == {"passed": 6, "warned": 0, "failed": 0, "skipped": 0}
    assert {row["table"]: row["rows_loaded"] for row in shown["sources"]} == {
        "stock.toys": 2,
        "till.sales": 3,
    }
    assert shown["versions"][0]["version"] == shown["run_id"] == shop.current
    assert {node["name"]: node["rows"] for node in shown["built"]}["fct_sales"] == 3
    text = call(shop, "runs", "show").out
    for words in ("2 tables, 5 rows", "6 passed", "at its peak", shown["settings_hash"]):
        assert words in text


def test_a_failed_run_tells_what_broke(shop: ToyShop, call: Call) -> None:
    shop.write("tests/dbt/assert_never.sql", NEVER)
    assert call(shop, "audit").code == 2
    shown = asked(shop, call, "show")
    assert [(fault["kind"], fault["name"]) for fault in shown["faults"]] == [
        ("test", "assert_never")
    ]
    text = call(shop, "runs", "show", "2").out
    assert "✗ test assert_never (1 row): Got 1 result" in text
    assert "message    1 test failed: assert_never" in text


def test_a_step_is_compared_with_the_same_work_of_former_runs(shop: ToyShop, call: Call) -> None:
    with closing(history_of(shop)) as history:
        steps = (("ok", 4.0), ("ok", 6.0), ("nothing_new", 0.1), ("ok", 9.0))
        for number, (status, seconds) in enumerate(steps):
            history.start_run(f"r{number}", "wellspring load", "", ORIGIN)
            history.start_step(f"r{number}", 0, "weave")
            history.finish_step(f"r{number}", 0, status, seconds, "")
            history.finish_run(f"r{number}", "succeeded", 0, "")
    assert asked(shop, call, "show", "r3")["steps"][0]["median_seconds"] == 5.0
    assert asked(shop, call, "show", "r2")["steps"][0]["median_seconds"] is None


def test_attempts_and_resumed_runs_are_told(shop: ToyShop, call: Call) -> None:
    with closing(history_of(shop)) as history:
        history.start_run("a", "wellspring run", "", ORIGIN, logical_date="2026-05-01T00:00:00Z")
        history.start_step("a", 0, "extract")
        history.add_attempt("a", Attempt("extract", "till", 1, "2026-05-01", 1, "failed", "slow"))
        history.add_attempt("a", Attempt("extract", "till", 2, "2026-05-02", 1, "ok"))
        history.finish_step("a", 0, "ok", 2.0, "")
        history.measure_step("a", "extract", 1, 2, 3)
        history.finish_run("a", "failed", 4, "down")
        history.start_run("b", "wellspring resume", "", ORIGIN, resumes="a")
        history.finish_run("b", "succeeded", 0, "")
    shown = asked(shop, call, "show", "a")
    assert shown["resumed_by"] == [3]
    assert [attempt["status"] for attempt in shown["attempts"]] == ["failed", "ok"]
    assert shown["steps"][0]["attempts"] == 2
    text = call(shop, "runs", "show", "a").out
    assert "extract till, try 1: failed, slow" in text
    assert "2026-05-01T00:00:00Z" in text
    assert "run 3" in text


def test_tests_are_told_over_time(shop: ToyShop, call: Call) -> None:
    shop.write("tests/dbt/assert_never.sql", NEVER)
    assert call(shop, "audit").code == 2
    tests = asked(shop, call, "tests")["tests"]
    assert (tests[0]["name"], tests[0]["failed"]) == ("assert_never", 1), "those that fail first"
    found = asked(shop, call, "tests", "unique_dim_toys_toy_id")
    assert [(r["number"], r["status"], r["failures"]) for r in found["results"]] == [
        (2, "ok", 0),
        (1, "ok", 0),
    ]
    assert [t["name"] for t in asked(shop, call, "tests", "dim_toys")["tests"]] == [
        "not_null_dim_toys_toy_id",
        "relationships_fct_sales_toy_id__toy_id__ref_dim_toys_",
        "unique_dim_toys_toy_id",
    ]
    assert "passed" in call(shop, "runs", "tests", "unique_dim_toys_toy_id").out


def test_a_killed_run_is_told_as_interrupted(shop: ToyShop, call: Call) -> None:
    with closing(history_of(shop)) as history:
        history.start_run("killed", "wellspring run", "", ORIGIN)
        history.start_step("killed", 0, "extract")
    shown = asked(shop, call, "show")
    assert (shown["status"], shown["steps"][0]["status"]) == ("interrupted", "interrupted")
    assert [run["status"] for run in asked(shop, call, "--failed")] == ["interrupted"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "99"), "Runs have the numbers 1 to 1"),
        (("show", "nonsense"), "there is no run nonsense"),
        (("tests", "no_such_test"), "no audit has asked a test named no_such_test"),
    ],
)
def test_what_is_not_there_is_bad_input(
    shop: ToyShop, call: Call, arguments: tuple[str, ...], said: str
) -> None:
    answer = call(shop, "runs", *arguments)
    assert answer.code == 6
    assert said in answer.err


def test_without_a_history_the_first_run_is_suggested(fresh: ToyShop, call: Call) -> None:
    answer = call(fresh, "runs")
    assert answer.code == 6
    assert "`wellspring run` does a first run" in answer.err
    assert not (fresh.data / "state" / "history.sqlite").exists(), "a question makes no history"


def test_runs_can_be_asked_while_the_history_is_written(shop: ToyShop, call: Call) -> None:
    with closing(history_of(shop)) as history:
        history._connection.execute("begin immediate")
        history._connection.execute("update runs set message = 'busy'")
        assert [run["message"] for run in asked(shop, call)] == [""]
        history._connection.execute("rollback")
        history.add_items("x", "audit", [Item("test", "t", "ok")])
    with closing(sqlite3.connect(shop.data / "state" / "history.sqlite")) as reader:
        assert reader.execute("pragma journal_mode").fetchone() == ("wal",)
