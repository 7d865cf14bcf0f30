"""The staging materialization gives every raw row one outcome, and the right one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Lab

ORDER = {"order_id": "integer", "buyer": "varchar", "total": "varchar", "updated_at": "timestamp"}
ORDER_SQL = (
    "order_id, nullif(buyer, '') as buyer, try_cast(total as decimal(12, 2)) as total, updated_at"
)
ORDER_RULES = {
    "buyer": [{"required": True}],
    "total": [{"required": True}, {"typed_from": "total"}, {"between": [0, 1000]}],
}
NEWEST = {"key": ["order_id"], "version_order": ["updated_at"]}
DAY_1, DAY_2, DAY_3 = "2026-06-01", "2026-06-02", "2026-06-03"


def order(order_id: int | None, total: str, at: str = DAY_1, **more: object) -> dict[str, object]:
    return {"order_id": order_id, "buyer": "ann", "total": total, "updated_at": at} | more


ORDERS = [
    order(1, "10"),
    order(2, "10"), order(2, "20", DAY_2), order(2, "15", DAY_1, _load_id="2"),
    order(3, "10"), order(3, "10"),
    order(4, "10"), order(4, "5000", DAY_2),
    order(5, "10"), order(5, "10", _load_id="2", _deleted=True),
    order(6, "10"), order(6, "10", _load_id="2", _deleted=True), order(6, "10", _load_id="3"),
    order(7, "many", buyer=""),
    order(None, "10"),
    order(8, "10", buyer="tester"), order(8, "11", DAY_2, buyer="tester"),
    order(9, "-1"), order(9, "-1", _load_id="2", _deleted=True),
    order(10, "", buyer=None),
]  # fmt: skip

LINES = [
    {"order_id": 1, "line": 1}, {"order_id": 1, "line": 2}, {"order_id": 1, "line": None},
    {"order_id": 5, "line": 1},
    {"order_id": 7, "line": 1},
    {"order_id": 8, "line": 1},
    {"order_id": 99, "line": 1},
    {"order_id": None, "line": 1},
]  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.declare("orders", "lines", "notes", "tags")
    lab.raw("orders", ORDER, ORDERS)
    lab.raw("lines", {"order_id": "integer", "line": "integer"}, LINES)
    lab.raw("notes", {"order_id": "integer", "line": "integer", "note_id": "integer"}, [
        {"note_id": 1, "order_id": 1, "line": 1}, {"note_id": 2, "order_id": 1, "line": 7},
        {"note_id": 3, "order_id": 8, "line": 1}, {"note_id": 4, "order_id": None, "line": 1},
    ])  # fmt: skip
    lab.raw("tags", {"tag": "varchar", "kinds": "varchar[]", "first": "date", "last": "date"}, [
        {"tag": "ok", "kinds": ["a"], "first": DAY_1, "last": DAY_2},
        {"tag": "ok2", "kinds": [], "first": DAY_1, "last": None},
        {"tag": "O'Neill", "kinds": None, "first": None, "last": None},
        {"tag": "bad1", "kinds": ["a", "toolong"], "first": DAY_1, "last": DAY_2},
        {"tag": "bad2", "kinds": ["a", None], "first": DAY_2, "last": DAY_1},
        {"tag": "bad3", "kinds": ["a"], "first": "2099-01-01", "last": None},
        {"tag": "no digit", "kinds": ["a"], "first": DAY_1, "last": None},
    ])  # fmt: skip
    tester = {"name": "testers", "where": "buyer = 'tester'", "reason": "our own people"}
    lab.stage("stg_lab__orders", "orders", ORDER_SQL, rules=ORDER_RULES,
              staging={**NEWEST, "filters": [tester]})  # fmt: skip
    lab.stage("stg_lab__lines", "lines", "order_id, line", staging={"key": ["order_id", "line"]},
              rules={"order_id": [
                  {"reference": {"model": "stg_lab__orders", "column": "order_id"}}]},
              refers_to=("stg_lab__orders",))  # fmt: skip
    of_line = {"model": "stg_lab__lines", "columns": {"order_id": "order_id", "line": "line"}}
    lab.stage("stg_lab__notes", "notes", "note_id, order_id, line",
              staging={"key": ["note_id"], "rules": [{"reference": of_line}]},
              refers_to=("stg_lab__lines",))  # fmt: skip
    lab.stage("stg_lab__tags", "tags", "tag, kinds, first, last",
              staging={"key": ["tag"], "rules": [{"check": "last >= first", "name": "ends early"}]},
              rules={"kinds": [{"each": "length(element) < 5", "name": "kinds are too long"}],
                     "first": [{"plausible_time": True}],
                     "tag": [{"matches": "^[a-zO'][a-zN'ei]*"}, {"one_of": [
                         "ok", "ok2", "O'Neill", "bad1", "bad2", "bad3"]}]})  # fmt: skip
    results = lab.dbt("run")
    assert {status for status, _ in results.values()} == {"success"}, results
    return lab


def outcomes(lab: Lab, model: str) -> dict[tuple[str, str | None], int]:
    rows = lab.query(f"select outcome, name, row_count from ledger_outcomes.{model}")
    return {(outcome, name): count for outcome, name, count in rows}


def reasons(lab: Lab, model: str) -> dict[str | None, str]:
    return dict(lab.query(f"select record_key, reasons from quarantine.{model}"))


def test_the_newest_good_version_of_each_key_is_staged(lab: Lab) -> None:
    staged = lab.query("select order_id, total, updated_at from staging.stg_lab__orders order by 1")
    assert [(row[0], int(row[1])) for row in staged] == [
        (1, 10),
        (2, 20),
        (3, 10),
        (4, 10),
        (6, 10),
    ]
    assert str(staged[1][2]).startswith(DAY_2), "a stale version delivered later does not win"


def test_every_row_has_one_outcome_and_counts_add_up(lab: Lab) -> None:
    counts = outcomes(lab, "stg_lab__orders")
    assert counts == {
        ("staged", None): 5,
        ("superseded", "newer_version"): 4,
        ("superseded", "duplicate"): 1,
        ("superseded", "outdated"): 1,
        ("superseded", "deleted"): 3,
        ("filtered", "testers"): 1,
        ("quarantined", None): 5,
    }
    assert sum(counts.values()) == len(ORDERS)
    assert sum(outcomes(lab, "stg_lab__lines").values()) == len(LINES)


def test_reasons_name_every_broken_rule(lab: Lab) -> None:
    assert reasons(lab, "stg_lab__orders") == {
        "4": "total is outside 0 to 1000",
        "7": "buyer is missing; total is unreadable",
        None: "order_id is missing",
        "9": "total is outside 0 to 1000",
        "10": "buyer is missing; total is missing",
    }


def test_the_quarantine_keeps_the_raw_record_and_its_place(lab: Lab) -> None:
    source, table, model, raw, file, row, load = lab.query(
        "select source, table_name, model, raw_record, _file, _row, _load_id"
        " from quarantine.stg_lab__orders where record_key = '7'"
    )[0]
    assert (source, table, model) == ("lab", "orders", "stg_lab__orders")
    assert json.loads(raw)["total"] == "many"
    assert json.loads(raw)["buyer"] == ""
    assert (file, load) == ("orders.parquet", "1")
    assert ORDERS[row - 1]["order_id"] == 7


def test_rows_follow_what_they_refer_to(lab: Lab) -> None:
    assert lab.query("select order_id, line from staging.stg_lab__lines order by 2") == [
        (1, 1), (1, 2),
    ]  # fmt: skip
    assert reasons(lab, "stg_lab__lines") == {
        "1|": "line is missing",
        "7|1": "order_id refers to no row of stg_lab__orders",
        "99|1": "order_id refers to no row of stg_lab__orders",
        "|1": "order_id is missing",
    }
    counts = outcomes(lab, "stg_lab__lines")
    assert counts["filtered", "testers"] == 1, "as the order it belongs to"
    assert counts["filtered", "refers_to_deleted"] == 1


def test_a_reference_may_span_columns(lab: Lab) -> None:
    assert lab.query("select note_id from staging.stg_lab__notes order by 1") == [(1,), (4,)]
    assert reasons(lab, "stg_lab__notes") == {
        "2": "order_id, line refers to no row of stg_lab__lines"
    }
    assert outcomes(lab, "stg_lab__notes")["filtered", "testers"] == 1, "through two references"


def test_rules_of_rows_lists_patterns_and_times(lab: Lab) -> None:
    assert lab.query("select tag from staging.stg_lab__tags order by 1") == [
        ("O'Neill",), ("ok",), ("ok2",),
    ]  # fmt: skip
    assert reasons(lab, "stg_lab__tags") == {
        "bad1": "kinds are too long",
        "bad2": "kinds are too long; ends early",
        "bad3": "first is outside 2020-01-01 to 2027-12-31",
        "no digit": "tag is not one of ok, ok2, O'Neill, bad1, bad2, bad3",
    }


def test_the_table_holds_the_clean_columns_only(lab: Lab) -> None:
    columns = lab.query("select column_name from (describe staging.stg_lab__orders)")
    assert [name for (name,) in columns] == [
        "order_id", "buyer", "total", "updated_at", "_file", "_row",
    ]  # fmt: skip


def test_a_mended_rule_takes_rows_back_in(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.declare("orders")
    lab.raw("orders", ORDER, [order(1, "10"), order(2, "5000")])
    lab.stage("stg_lab__orders", "orders", ORDER_SQL, staging=NEWEST, rules=ORDER_RULES)
    lab.execute("create schema staging")
    lab.execute("create view staging.stg_lab__orders as select 1 as was_a_view")
    assert lab.dbt("run")["stg_lab__orders"][0] == "success"
    assert lab.query("select count(*) from staging.stg_lab__orders") == [(1,)]

    mended = {"total": [{"between": [0, None]}]}
    lab.stage("stg_lab__orders", "orders", ORDER_SQL, staging=NEWEST, rules=mended)
    assert lab.dbt("run", "--full-refresh")["stg_lab__orders"][0] == "success"
    assert lab.query("select count(*) from staging.stg_lab__orders") == [(2,)]
    assert lab.query("select count(*) from quarantine.stg_lab__orders") == [(0,)]

    lab.raw("orders", ORDER, [order(3, "x")])
    broken = ORDER_SQL.replace("try_cast", "cast")
    lab.stage("stg_lab__orders", "orders", broken, staging=NEWEST, rules=mended)
    assert lab.dbt("run")["stg_lab__orders"][0] == "error"
    assert lab.query("select count(*) from staging.stg_lab__orders") == [(2,)], "all or nothing"
    assert outcomes(lab, "stg_lab__orders") == {("staged", None): 2}


TYPED = [
    {"name": "order_id", "data_type": "integer"},
    {"name": "_file", "data_type": "varchar"},
    {"name": "_row", "data_type": "bigint"},
]
MISTAKES = {
    "no_key": ({"staging": {}}, "meta.staging.key is missing"),
    "key_unknown": ({"staging": {"key": ["id"]}}, "meta.staging.key names id; expected one of"),
    "key_text": ({"staging": {"key": "order_id"}}, "meta.staging.key is order_id; expected a list"),
    "order_unknown": (
        {"staging": {"key": ["order_id"], "version_order": ["changed"]}},
        "meta.staging.version_order names changed",
    ),
    "entry_unknown": (
        {"staging": {"key": ["order_id"], "keys": []}},
        "meta.staging.keys is not known",
    ),
    "rule_unknown": (
        {"rules": {"total": [{"betwen": [0, 1]}]}},
        "total.rules holds {'betwen': [0, 1]}; expected one rule of between, check, determined_by",
    ),
    "rule_column": (
        {"rules": {"amount": [{"required": True}]}},
        "amount.rules belongs to no column",
    ),
    "rule_form": ({"rules": {"total": {"required": True}}}, "total.rules is"),
    "rule_text": ({"rules": {"total": ["required"]}}, "total.rules holds required"),
    "between": ({"rules": {"total": [{"between": [1]}]}}, "total.rules between is [1]; expected"),
    "one_of": ({"rules": {"total": [{"one_of": "a"}]}}, "total.rules one_of is a; expected a list"),
    "required": ({"rules": {"total": [{"required": False}]}}, "total.rules required is False"),
    "typed_from": ({"rules": {"total": [{"typed_from": 3}]}}, "total.rules typed_from is 3"),
    "matches": ({"rules": {"total": [{"matches": 3}]}}, "total.rules matches is 3"),
    "check": ({"rules": {"total": [{"check": True}]}}, "total.rules check is True"),
    "each": ({"rules": {"total": [{"each": "x > 1"}]}}, "total.rules each is x > 1"),
    "plausible": ({"rules": {"total": [{"plausible_time": 1}]}}, "total.rules plausible_time is 1"),
    "reference": ({"rules": {"total": [{"reference": "a"}]}}, "total.rules reference is a"),
    "filters": (
        {"staging": {"key": ["order_id"], "filters": [{"name": "a"}]}},
        "meta.staging.filters holds {'name': 'a'}; expected each filter with name, where",
    ),
    "no_record": ({"select": "order_id"}, "lacks _record"),
    "contract": (
        {"columns": TYPED, "config": {"contract": {"enforced": True}}},
        "This model has an enforced contract that failed",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    lab = Lab(tmp_path_factory.mktemp("mistakes"))
    lab.declare("orders")
    lab.raw("orders", ORDER, [])
    for name, (mistake, _) in MISTAKES.items():
        wrong = {"staging": {"key": ["order_id"]}, **mistake}
        lab.stage(f"stg_{name}", "orders", wrong.pop("select", ORDER_SQL), **wrong)
        if name == "no_record":
            path = f"models/staging/lab/stg_{name}.sql"
            text = (lab.folder / path).read_text(encoding="utf-8")
            lab.write(path, text.replace(" as _record", " as record"))
    lab.stage("stg_kept", "orders", "order_id", staging={"key": ["order_id"]}, columns=TYPED,
              config={"contract": {"enforced": True}})  # fmt: skip
    return lab.dbt("run")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_model_place_and_remedy(
    mistakes: dict[str, tuple[str, str]], name: str
) -> None:
    status, message = mistakes[f"stg_{name}"]
    assert status == "error"
    assert MISTAKES[name][1] in message
    if name != "contract":
        assert f"stg_{name}: " in message
        assert f"models/staging/lab/stg_{name}.yml" in message


def test_a_contract_that_holds_is_no_mistake(mistakes: dict[str, tuple[str, str]]) -> None:
    assert mistakes["stg_kept"][0] == "success"
