"""Staging of events adds what new loads bring, and stays what a full rebuild would make."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

COLUMNS = {"event_id": "varchar", "sensor": "varchar", "told_at": "varchar", "value": "varchar"}
CLEAN = (
    "event_id, nullif(sensor, '') as sensor, try_cast(told_at as timestamp) as happened_at,"
    " try_cast(value as integer) as value"
)
STAGING: dict[str, Any] = {
    "events": True,
    "key": ["event_id"],
    "filters": [{"name": "test_device", "where": "sensor = 'test'", "reason": "our own"}],
}
RULES = {
    "event_id": [{"required": True}],
    "value": [{"required": True}, {"typed_from": "value"}, {"between": [0, 100]}],
    "sensor": [{"matches": "^[a-z]+$", "severity": "flag"}],
}
SIDES = ("staging", "quarantine", "rejected", "absent_keys", "ledger_outcomes", "findings")
MODEL = "stg_lab__readings"
LEDGER = (
    "create schema if not exists ledger; create table if not exists ledger.files (source varchar,"
    " table_name varchar, file varchar, load_id varchar, status varchar, rows_loaded bigint,"
    " loaded_at timestamp)"
)


def event(event_id: str | None, value: str = "1", **more: str | bool | None) -> dict[str, Any]:
    return {"event_id": event_id, "sensor": "a", "told_at": "2026-06-01", "value": value} | more


class Feed:
    """Raw rows of a lab that come load by load, with their entry in the ledger."""

    def __init__(self, folder: Path, **staging: Any) -> None:
        self.lab = Lab(folder)
        self.lab.declare("readings")
        self.lab.raw("readings", COLUMNS, [])
        self.lab.execute(LEDGER)
        self.loads = 0
        self.stage(**staging)

    def stage(self, select: str = CLEAN, rules: Any = None, **staging: Any) -> None:
        given = RULES if rules is None else rules
        self.lab.stage(MODEL, "readings", select, staging=STAGING | staging, rules=given)

    def bring(self, *rows: dict[str, Any]) -> str:
        """A further load, as one file."""
        self.loads += 1
        load_id = f"17900000{self.loads:02}.5"
        for number, row in enumerate(rows, 1):
            full = {"_file": f"r/{load_id}", "_row": number, "_load_id": load_id}
            full |= {"_deleted": False} | row
            values = ", ".join("null" if v is None else f"'{v}'" for v in full.values())
            self.lab.execute(f"insert into raw_lab.readings ({', '.join(full)}) values ({values})")
        self.enter(load_id, len(rows))
        return load_id

    def enter(self, load_id: str, rows: int) -> None:
        self.lab.execute(
            f"insert into ledger.files values ('lab', 'readings', 'r/{load_id}', '{load_id}',"
            f" 'loaded', {rows}, now()::timestamp)"
        )

    def run(self, *arguments: str) -> None:
        results = self.lab.dbt("run", *arguments)
        assert {status for status, _ in results.values()} == {"success"}, results

    def state(self) -> dict[str, list[str]]:
        """All that staging made, as sorted rows; the account by file, summed."""
        found = {}
        for side in SIDES:
            rows = self.lab.query(f"select * from {side}.{MODEL}")
            found[side] = sorted(map(repr, rows))
        return found

    @property
    def generation(self) -> int:
        return int(self.lab.query(f"select generation from marks.{MODEL}")[0][0])

    def outcomes(self) -> dict[tuple[str, str | None], int]:
        rows = self.lab.query(
            f"select outcome, name, sum(row_count) from ledger_outcomes.{MODEL} group by all"
        )
        return {(outcome, name): int(count) for outcome, name, count in rows}

    def check(self) -> None:
        """A rebuild makes the same."""
        grown = self.state()
        generation = self.generation
        self.run("--full-refresh")
        assert self.state() == grown
        assert self.generation == generation + 1
        (raw,) = self.lab.query("select count(*) from raw_lab.readings")[0]
        assert sum(self.outcomes().values()) == raw


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(tmp_path)


def test_the_first_version_of_a_key_stays(feed: Feed) -> None:
    feed.bring(event("a", "1"), event("a", "2"), event("b"), event("b"), event("t", sensor="test"))
    feed.run()
    feed.bring(event("a", "1"), event("a", "3"), event("c", "x"), event("t"), event("d"))
    feed.bring()
    feed.run()
    assert feed.generation == 1, "it was added to, not rebuilt"
    staged = feed.lab.query(f"select event_id, value, _load_id from staging.{MODEL} order by 1")
    assert staged == [("a", 1, "1790000001.5"), ("b", 1, "1790000001.5"), ("d", 1, "1790000002.5")]
    assert feed.outcomes() == {
        ("staged", None): 3,
        ("superseded", "duplicate"): 2,
        ("superseded", "later_version"): 3,
        ("filtered", "test_device"): 1,
        ("quarantined", None): 1,
    }
    assert feed.lab.query(f"select load_id from marks.{MODEL}") == [("1790000003.5",)]
    found = feed.lab.query(
        f"select record_key, defect, treatment from findings.{MODEL} order by all"
    )
    assert found.count(("a", "inconsistent", "superseded")) == 2
    assert found.count(("a", "duplicated", "superseded")) == 1
    feed.check()


def random_rows(chance: random.Random) -> list[dict[str, Any]]:
    return [
        event(
            chance.choice([*"abcdefghijklmnopqrstuvwxyz", None]),
            chance.choice(["1", "1", "2", "x", "-5", ""]),
            sensor=chance.choice(["a", "a", "test", "B7", ""]),
            told_at=f"2026-06-{chance.randint(1, 28):02}",
        )
        for _ in range(chance.randint(0, 8))
    ]


@pytest.mark.parametrize(
    "more",
    [{}, {"event_time": "happened_at", "drop_after": "10 days", "repeats_within": "30 days"}],
)
def test_many_loads_equal_a_rebuild(tmp_path: Path, more: dict[str, str]) -> None:
    feed, chance = Feed(tmp_path, **more), random.Random(7)
    for _ in range(6):
        for _ in range(chance.randint(1, 3)):
            feed.bring(*random_rows(chance))
        feed.run()
    assert feed.generation == 1
    if more:
        assert feed.outcomes()["filtered", "too_late"] > 0
    feed.check()


def test_it_is_rebuilt_where_what_was_staged_may_be_otherwise(feed: Feed) -> None:
    first = feed.bring(event("a"), event("b"))
    feed.run()
    feed.run()
    assert feed.generation == 1

    feed.lab.execute("update ledger.files set loaded_at = loaded_at + interval 1 second")
    feed.run()
    assert feed.generation == 2, "a file was read again"

    feed.lab.execute(f"delete from raw_lab.readings where _load_id = '{first}'")
    feed.lab.execute("delete from ledger.files")
    feed.run()
    assert feed.generation == 3, "a file has expired"
    assert feed.outcomes() == {}

    feed.lab.execute("alter table raw_lab.readings add column more varchar")
    feed.run()
    assert feed.generation == 4, "raw records have one more field"

    feed.stage(rules={})
    feed.run()
    assert feed.generation == 5, "a rule was changed"

    feed.bring(event("c"))
    feed.run()
    assert feed.generation == 5
    feed.enter("1780000000.5", 0)
    feed.run()
    assert feed.generation == 6, "an older load was loaded late"
    feed.lab.execute(f"drop table findings.{MODEL}")
    feed.run()
    assert feed.generation == 7, "a part was lost"
    feed.check()


def test_what_is_there_is_asked_of_the_warehouse(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that lists a schema shows the others one that dbt knows, with no table yet."""
    feed.lab.write(
        "models/intermediate/seen.sql",
        "{{ config(materialized='incremental', unique_key='event_id') }}\n"
        "select event_id, _load_id from {{ ref('stg_lab__readings') }}"
        " where {{ is_new('stg_lab__readings') }}",
    )
    feed.bring(event("a"))
    feed.run()

    def known(*_: object) -> bool:
        return True

    monkeypatch.setattr("dbt.adapters.base.impl.BaseAdapter._schema_is_cached", known)
    feed.bring(event("b"))
    feed.run()
    assert feed.generation == 1
    assert feed.lab.query("select generation from marks.seen") == [(1,)]
    feed.run("--full-refresh")
    (files,) = feed.lab.query(f"select files from marks.{MODEL}")
    assert files[0] is not None, "the ledger was not looked at"


MISTAKES = {
    "text": ({"events": "yes"}, {}, "meta.staging.events is yes; expected true or false"),
    "history": ({"history": True}, {}, "meta.staging.history is declared, and the model is of"),
    "order": ({"version_order": ["value"]}, {}, "meta.staging.version_order is declared"),
    "usual": ({}, {"value": [{"determined_by": "sensor"}]}, "rule determined_by looks at other"),
    "newest": ({}, {"value": [{"in_order": True}]}, "rule in_order looks at other tables or loads"),
    "no_time": ({"drop_after": "3 days"}, {}, "meta.staging.drop_after has no time to judge by"),
    "time": ({"event_time": "when"}, {}, "meta.staging.event_time is when; expected one of"),
    "span": (
        {"event_time": "happened_at", "drop_after": "soon"}, {},
        "meta.staging.drop_after is soon; expected a number of seconds, minutes",
    ),
    "delivery": ({"delivery": ["topic"]}, {}, "meta.staging.delivery names topic"),
    "alone": ({"events": False, "drop_after": "3 days"}, {}, "belongs to models of events"),
}  # fmt: skip


def test_what_cannot_equal_a_rebuild_is_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.declare("readings")
    lab.raw("readings", COLUMNS, [event("a", _deleted=True)])
    for name, (staging, rules, _) in MISTAKES.items():
        lab.stage(f"stg_{name}", "readings", CLEAN, staging=STAGING | staging, rules=rules)
    lab.stage("stg_gone", "readings", CLEAN, staging=STAGING)
    lab.stage("stg_other", "readings", CLEAN, staging=STAGING, refers_to=("stg_gone",))
    results = lab.dbt("run")
    for name, (_, _, told) in MISTAKES.items():
        assert results[f"stg_{name}"][0] == "error"
        assert told in results[f"stg_{name}"][1]
    assert "its source marks a row as deleted" in results["stg_gone"][1]
    assert results["stg_other"][0] == "skipped"
