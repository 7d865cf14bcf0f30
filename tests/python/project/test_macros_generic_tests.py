"""The project's generic tests fail where they must, pass where they must, and refuse wrong use."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from lab import Lab

SPANS = "valid_from, valid_to from (values {}) as spans (id, valid_from, valid_to)"
NO_END = "cast(null as integer)"

MODELS = {
    "pairs": "select * from (values (1, 1), (1, 2), (2, 1)) as pairs (a, b)",
    "pairs_twice": "select * from (values (1, 1), (1, 2), (1, 1)) as pairs (a, b)",
    "other_pairs": "select * from (values (1, 1), (1, 2), (3, 1)) as pairs (a, b)",
    "with_null": "select * from (values (1, 1), (2, null)) as pairs (a, b)",
    "touching": f"select id, {SPANS.format(f'(1, 1, 5), (1, 5, {NO_END}), (2, 2, 3)')}",
    "overlapping": f"select id, {SPANS.format('(1, 1, 5), (1, 4, 6)')}",
    "two_open": f"select id, {SPANS.format(f'(1, 1, {NO_END}), (1, 4, {NO_END})')}",
    "backwards": f"select id, {SPANS.format('(1, 5, 5)')}",
    "without_beginning": f"select id, {SPANS.format(f'(1, {NO_END}, 5)')}",
    "other_names": "select 1 as id, 1 as since, 2 as until union all select 1, 1, 3",
}

BOTH = {"columns": ["a", "b"]}
BY_ID: dict[str, Any] = {"key": ["id"]}
KEEPS = {"to": "ref('pairs')", "key": ["a", "b"]}

CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("pairs", "unique_combination", BOTH, "pass"),
    ("pairs_twice", "unique_combination", BOTH, "fail"),
    ("pairs", "expression_is_true", {"expression": "a < 3"}, "pass"),
    ("pairs", "expression_is_true", {"expression": "a < 2"}, "fail"),
    ("pairs", "expression_is_true", {"expression": "a < 2", "where": "a = 1"}, "pass"),
    ("with_null", "expression_is_true", {"expression": "b < 2"}, "fail"),
    ("touching", "no_overlap", BY_ID, "pass"),
    ("overlapping", "no_overlap", BY_ID, "fail"),
    ("two_open", "no_overlap", BY_ID, "fail"),
    ("backwards", "no_overlap", BY_ID, "fail"),
    ("without_beginning", "no_overlap", BY_ID, "fail"),
    ("other_names", "no_overlap", {**BY_ID, "valid_from": "since", "valid_to": "until"}, "fail"),
    ("pairs", "row_conservation", KEEPS, "pass"),
    ("pairs_twice", "row_conservation", KEEPS, "fail"),
    ("other_pairs", "row_conservation", KEEPS, "fail"),
    ("other_pairs", "row_conservation", {**KEEPS, "where": "a = 1", "to_where": "a = 1"}, "pass"),
]

MISUSES: list[tuple[str, dict[str, Any], str]] = [
    ("unique_combination", {"columns": ["a"]}, "a list of two columns or more"),
    ("unique_combination", {"columns": "a"}, "a list of two columns or more"),
    ("expression_is_true", {"expression": ""}, "a condition that holds for every row"),
    ("no_overlap", {"key": "a"}, "the list of columns whose intervals"),
    ("row_conservation", {**KEEPS, "key": "a"}, "the list of columns that identify"),
]


def declare(lab: Lab, tests: dict[str, list[dict[str, Any]]]) -> None:
    models = [{"name": name, "data_tests": listed} for name, listed in tests.items()]
    lab.write("models/models.yml", yaml.safe_dump({"models": models}, sort_keys=False))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    tests: dict[str, list[dict[str, Any]]] = {name: [] for name in MODELS}
    for name, sql in MODELS.items():
        lab.write(f"models/{name}.sql", sql)
    for number, (model, test, arguments, _) in enumerate(CASES):
        tests[model].append({test: {"name": f"case_{number}", "arguments": arguments}})
    declare(lab, tests)
    lab.results = lab.dbt("run") | lab.dbt("test")
    return lab


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c[1]}-{c[0]}-{c[3]}" for c in CASES])
def test_a_generic_test_answers_as_described(lab: Lab, number: int) -> None:
    status, message = lab.results[f"case_{number}"]
    assert status == CASES[number][3], message


@pytest.mark.parametrize(("test", "arguments", "expected"), MISUSES)
def test_a_misuse_is_refused_before_anything_runs(
    lab: Lab, test: str, arguments: dict[str, Any], expected: str
) -> None:
    declare(lab, {"pairs": [{test: {"arguments": arguments}}]})
    status, message = lab.dbt("parse")["dbt"]
    assert status == "error"
    assert f"{test} on " in message
    assert expected in message
