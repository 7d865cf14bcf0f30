"""History of a change log: versions and deletions are dated by the source's commits."""

from __future__ import annotations

from datetime import datetime

import pytest
from lab import Lab

ACCOUNT = {"account_id": "integer", "city": "varchar", "_committed_at": "timestamp"}
# Load ids are seconds since 1970: of 2026-06-05 and 06-10.
FIRST, SECOND = "1780617600.0", "1781049600.0"


def change(account_id: int, city: str | None, at: str | None, load: str, **more: object) -> object:
    row = {"account_id": account_id, "city": city, "_load_id": load, **more}
    return {**row, "_committed_at": f"2026-06-{at}" if at else None}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab(tmp_path_factory.mktemp("changes"))
    lab.declare("accounts")
    rows = [
        change(1, "Bern", "01 10:00", FIRST),
        change(1, "Chur", "02 10:00", FIRST),
        # twice in one transaction: what it left holds
        change(1, "Davos", "02 11:00", FIRST),
        change(1, "Genf", "02 11:00", FIRST),
        # deleted and there again at once, then gone
        change(2, "Basel", "01 10:00", FIRST),
        change(2, None, "03 10:00", FIRST, _deleted=True),
        change(2, "Basel", "03 10:00", FIRST),
        change(2, None, "04 10:00", FIRST, _deleted=True),
        # landed before there was a change log
        change(3, "Zug", None, FIRST),
        change(3, "Uri", "09 10:00", SECOND),
    ]
    lab.raw("accounts", ACCOUNT, rows)  # type: ignore[arg-type]  # rows of values of any type
    lab.stage(
        "stg_lab__accounts",
        "accounts",
        "account_id, city, _committed_at",
        staging={"key": ["account_id"], "history": {"valid_from": "_committed_at"}},
    )
    results = lab.dbt("run")
    assert {status for status, _ in results.values()} == {"success"}, results
    return lab


def at(day: int, hour: int) -> datetime:
    return datetime(2026, 6, day, hour)


def test_versions_and_deletions_have_the_time_of_their_commit(lab: Lab) -> None:
    rows = lab.query(
        "select account_id, city, valid_from, valid_to, is_current "
        "from history.stg_lab__accounts order by account_id, valid_from"
    )
    assert rows == [
        (1, "Bern", at(1, 10), at(2, 10), False),
        (1, "Chur", at(2, 10), at(2, 11), False),
        (1, "Genf", at(2, 11), None, True),
        (2, "Basel", at(1, 10), at(4, 10), False),
        (3, "Zug", at(5, 0), at(9, 10), False),
        (3, "Uri", at(9, 10), None, True),
    ]


def test_the_current_state_is_that_of_the_last_commit(lab: Lab) -> None:
    assert lab.query("select account_id, city from staging.stg_lab__accounts order by 1") == [
        (1, "Genf"),
        (3, "Uri"),
    ]
