"""What staging finds in rows, also in those that it keeps; and the history that it derives."""

from __future__ import annotations

from datetime import datetime

import pytest
from lab import Lab

DAY_1, DAY_2, DAY_3 = "2026-06-01", "2026-06-02", "2026-06-03"
NOTE = {
    "note_id": "integer",
    "author": "varchar",
    "body": "varchar",
    "town": "varchar",
    "zip": "varchar",
    "parts": "integer[]",
    "total": "integer",
    "told": "date",
    "seen_at": "timestamp",
    "parent": "integer",
}
JULY, WEEK = "in/notes_2026-07.csv", "in/notes_2026-W27.csv"


def note(note_id: int, **more: object) -> dict[str, object]:
    return {"note_id": note_id, "seen_at": DAY_1} | more


NOTES = [
    note(1, author="MÃ¼ller", body="fine"),
    note(2, author="Müller", body="mail ann@example.com please"),
    note(3, author="Ångström", body="card 4111 1111 1111 9999"),
    note(4, body="order 4111111 of 2026-07-01 at 12:30"),
    note(5, zip="1", town="Bern"), note(6, zip="1", town="Bern"), note(7, zip="1", town="Brn"),
    note(8, zip="2", town="Chur"), note(9, zip="2", town="Basel"),
    note(10, zip="3", town=None), note(11, zip="3", town="Genf"),
    note(12, parts=[1, 2], total=3), note(13, parts=[1, 2], total=4),
    note(14, parts=[1, -9], total=5),
    note(15, told="2026-06-30", _file=JULY), note(16, told="2026-07-01", _file=JULY),
    note(17, told="2026-06-28", _file=WEEK), note(18, told="2026-06-29", _file=WEEK),
    note(19, seen_at=DAY_3), note(20, _load_id="2"), note(21, seen_at=DAY_3, _load_id="2"),
    note(22, parent=1), note(23, parent=99), note(24, parent=14),
    note(25, body="x"), note(25, body="x"), note(27, author="Ã?lvarez"),
    note(26, seen_at=DAY_2), note(26, seen_at=DAY_1, _load_id="2"),
]  # fmt: skip

PRODUCT = {"product_id": "integer", "price": "integer", "born": "timestamp", "changed": "timestamp"}


def product(price: int, changed: str, load: str, **more: object) -> dict[str, object]:
    row = {"product_id": 1, "price": price, "born": "2026-05-01", "changed": changed}
    return row | {"_load_id": load} | more


# Load ids are seconds since 1970: of 2026-06-01, 06-05, 06-10 and 06-20.
L1, L5, L10, L20 = "1780272000.0", "1780617600.0", "1781049600.0", "1781913600.0"
PRODUCTS = [
    product(10, DAY_1, L1),
    product(30, "2026-06-04", L5),
    product(20, DAY_3, L10), product(30, "2026-06-08", L10),
    product(99, "2026-06-09", L10, product_id=2), product(-1, "2026-06-11", L20, product_id=2),
    product(5, DAY_1, L1, product_id=3), product(5, DAY_1, L10, product_id=3, _deleted=True),
    product(6, DAY_1, L20, product_id=3),
]  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.declare("parents", "notes", "products")
    lab.raw("parents", {"id": "integer", "ok": "boolean"}, [
        {"id": 1, "ok": True}, {"id": 14, "ok": False}])  # fmt: skip
    lab.raw("notes", NOTE, NOTES)
    lab.raw("products", PRODUCT, PRODUCTS)
    lab.stage("stg_lab__parents", "parents", "id, ok", staging={"key": ["id"]},
              rules={"ok": [{"one_of": [True]}]})  # fmt: skip
    lab.stage(
        "stg_lab__notes", "notes", ", ".join(NOTE),
        staging={"key": ["note_id"], "version_order": ["seen_at"]},
        refers_to=("stg_lab__parents",),
        rules={
            "author": [{"encoding": True}],
            "body": [{"no_personal_data": ["email", "card"]}],
            "town": [{"determined_by": "zip"}],
            "parts": [{"each": "element > 0", "name": "a part is negative"}],
            "total": [{"sums": {"list": "parts", "each": "element"}}],
            "told": [{"on_time": r"notes_(\d{4}-(?:W\d{2}|\d{2}))"}],
            "seen_at": [{"in_order": True}],
            "parent": [{"reference": {"model": "stg_lab__parents", "column": "id"}}],
        },
    )  # fmt: skip
    lab.stage("stg_lab__products", "products", "product_id, price, born, changed",
              staging={"key": ["product_id"], "version_order": ["changed"],
                       "history": {"valid_from": "changed", "born": "born"}},
              rules={"price": [{"between": [0, None]}]})  # fmt: skip
    results = lab.dbt("run")
    assert {status for status, _ in results.values()} == {"success"}, results
    return lab


def found(lab: Lab, defect: str) -> dict[str, str]:
    return dict(
        lab.query(
            "select record_key, treatment from findings.stg_lab__notes"
            f" where defect = '{defect}' order by cast(record_key as integer)"
        )
    )


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        ("wrong_encoding", {"1": "staged", "27": "staged"}),
        ("personal_data", {"2": "staged", "3": "staged"}),
        ("inconsistent", {"7": "staged", "8": "staged", "9": "staged", "13": "staged"}),
        ("outlying", {"14": "quarantined"}),
        ("late", {"15": "staged", "17": "staged", "20": "staged"}),
        ("orphaned", {"23": "quarantined"}),
        ("unresolvable", {"24": "quarantined"}),
        ("duplicated", {"25": "staged"}),
        ("outdated", {}),
    ],
)
def test_each_kind_of_defect_is_found_and_its_treatment_told(
    lab: Lab, defect: str, expected: dict[str, str]
) -> None:
    late_too = {"26": "superseded"} if defect == "late" else {}
    assert found(lab, defect) == expected | late_too


def test_a_flagged_row_is_kept_and_a_rejected_one_is_not(lab: Lab) -> None:
    staged = {key for (key,) in lab.query("select note_id from staging.stg_lab__notes")}
    assert staged == set(range(1, 28)) - {14, 23, 24}
    assert lab.query("select count(*) from quarantine.stg_lab__notes") == [(3,)]
    assert lab.query("select note_id from rejected.stg_lab__notes order by 1") == [
        (14,), (23,), (24,),
    ]  # fmt: skip


def test_history_holds_every_sound_version_without_gap_or_overlap(lab: Lab) -> None:
    rows = lab.query(
        "select product_id, price, valid_from, valid_to, is_current"
        " from history.stg_lab__products order by product_id, valid_from"
    )

    def at(month: int, day: int) -> datetime:
        return datetime(2026, month, day)

    assert rows == [
        # the price of 06-03 came after that of 06-04, which repeats itself on 06-08
        (1, 10, at(5, 1), at(6, 3), False),
        (1, 20, at(6, 3), at(6, 4), False),
        (1, 30, at(6, 4), None, True),
        # a rejected version does not end a sound one
        (2, 99, at(5, 1), None, True),
        # deleted by the load of 06-10, there again with that of 06-20, though it says 06-01
        (3, 5, at(5, 1), at(6, 10), False),
        (3, 6, at(6, 20), None, True),
    ]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"history": "yes"}, "meta.staging.history is yes; expected true, or {valid_from"),
        ({"history": {"from": "born"}}, "meta.staging.history holds from"),
        ({"history": {"born": "birth"}}, "meta.staging.history.born names birth; expected one of"),
    ],
)
def test_a_wrong_history_is_told(
    tmp_path_factory: pytest.TempPathFactory, wrong: dict[str, object], told: str
) -> None:
    lab = Lab(tmp_path_factory.mktemp("wrong"))
    lab.declare("products")
    lab.raw("products", PRODUCT, [])
    lab.stage("stg_lab__products", "products", "product_id, price, born, changed",
              staging={"key": ["product_id"], **wrong})  # fmt: skip
    status, message = lab.dbt("run")["stg_lab__products"]
    assert status == "error"
    assert told in message
