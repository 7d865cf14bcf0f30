"""Windows of a car park: late events bring each window to its true value and touch no other."""

from __future__ import annotations

import datetime as dt
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from lab import Lab

from ingestion.settings import load_settings
from runner.transform import Dbt, Selection

COLUMNS = {"passage_id": "varchar", "bay": "varchar", "told_at": "varchar", "fee": "varchar"}
LEDGER = (
    "create schema if not exists ledger; create table if not exists ledger.files (source varchar,"
    " table_name varchar, file varchar, load_id varchar, status varchar, rows_loaded bigint,"
    " loaded_at timestamp)"
)
MODEL = "stg_lab__passages"
HEAD = (
    "{{{{ config(materialized='incremental', incremental_strategy='{strategy}',"
    " unique_key={key}, meta={{'live': {{}}}}) }}}}\n"
)
SUMS = "count(*) as passage_count, sum(fee) as fees, max(_load_id) as _load_id"
MODELS = {
    "quarters": ("delete+insert", ["bay", "window_start"], (
        "select bay, window_start, " + SUMS + " from (\n"
        "{{ events_by_window('stg_lab__passages', 'passed_at', '15 minutes', by=['bay']) }}\n"
        ") as placed group by bay, window_start")),
    "hours": ("delete+insert", ["bay", "window_start"], (
        "select bay, window_start, " + SUMS + " from (\n"
        "{{ events_by_window('stg_lab__passages', 'passed_at', '1 hour', '15 minutes', ['bay'])"
        " }}\n"
        ") as placed group by bay, window_start")),
    "days": ("delete+insert", ["bay", "day"], (
        "with quarters as (select *, cast(window_start as date) as day"
        " from {{ ref('quarters') }})\n"
        "select bay, day, sum(passage_count)::bigint as passage_count, sum(fees) as fees,"
        " max(_load_id) as _load_id from quarters where (bay, day) in"
        " (select (bay, day) from quarters where {{ is_new('quarters') }}) group by bay, day")),
    "stays": ("sessions", ["bay", "session_started_at"], (
        "select bay, session_started_at, max(passed_at) as session_ended_at, " + SUMS + " from (\n"
        "{{ events_by_session('stg_lab__passages', 'passed_at', '10 minutes', by=['bay']) }}\n"
        ") as placed group by bay, session_started_at")),
}  # fmt: skip
Event = tuple[str, dt.datetime, int]
START = dt.datetime(2026, 6, 1)
EPOCH = dt.datetime(2000, 1, 3)


class CarPark:
    """A project of one stream of passages and the windows over it."""

    def __init__(self, folder: Path, **staging: Any) -> None:
        self.lab = Lab(folder)
        self.lab.declare("passages")
        self.lab.raw("passages", COLUMNS, [])
        self.lab.execute(LEDGER)
        self.lab.stage(
            MODEL, "passages",
            "passage_id, bay, try_cast(told_at as timestamp) as passed_at,"
            " try_cast(fee as integer) as fee",
            staging={"events": True, "key": ["passage_id"], "event_time": "passed_at"} | staging,
            rules={"passed_at": [{"required": True}]},
        )  # fmt: skip
        for name, (strategy, key, sql) in MODELS.items():
            self.write(name, strategy, key, sql)
        self.loads = 0
        self.events: dict[str, Event] = {}

    def write(self, name: str, strategy: str, key: list[str], sql: str) -> None:
        head = HEAD.format(strategy=strategy, key=key)
        self.lab.write(f"models/intermediate/{name}.sql", head + sql)

    def bring(self, events: Iterable[tuple[str, Event]]) -> str:
        self.loads += 1
        load_id = f"17900000{self.loads:02}.5"
        rows = 0
        for rows, (key, (bay, at, fee)) in enumerate(events, 1):
            self.events.setdefault(key, (bay, at, fee))
            self.lab.execute(
                f"insert into raw_lab.passages values ('{key}', '{bay}', '{at}', '{fee}',"
                f" 'p/{load_id}', {rows}, '{load_id}', null, false)"
            )
        self.lab.execute(
            f"insert into ledger.files values ('lab', 'passages', 'p/{load_id}', '{load_id}',"
            f" 'loaded', {rows}, now()::timestamp)"
        )
        return load_id

    def run(self, *arguments: str) -> None:
        results = self.lab.dbt("run", *arguments)
        assert {status for status, _ in results.values()} == {"success"}, results

    def rows(self, model: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Values by window, with the place of each row, which changes where it is written."""
        found = self.lab.query(f"select * exclude (_load_id), rowid from intermediate.{model}")
        return {row[:2]: row[2:] for row in found}

    def values(self, model: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        return {window: row[:-1] for window, row in self.rows(model).items()}


def test_a_first_build_tells_how_live_models_are_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    park = CarPark(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WELLSPRING_DATA", str(park.lab.data))
    statements = park.lab.data / "state" / "compiled" / "statements.json"

    def build(number: int) -> Dbt:
        park.bring([(f"{number}", ("a", START + dt.timedelta(hours=number), number))])
        dbt = Dbt(load_settings())
        results = dbt.build(Selection())
        assert {result.status for result in results} == {"ok"}, results
        return dbt

    told = build(0).kept.recordings
    for number in (1, 2):
        assert build(number)._manifest is None, "no dbt is needed"
        assert len(park.rows("quarters")) == number + 1
    statements.unlink()
    for unique_id, ways in build(3).kept.recordings.items():
        assert set(ways) <= set(told[unique_id]), unique_id


def bucket(at: dt.datetime, minutes: int) -> dt.datetime:
    size = dt.timedelta(minutes=minutes)
    return at - (at - EPOCH) % size


def truth(events: Iterable[Event]) -> dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]:
    """What the windows hold, by a program that knows all events."""
    found: dict[str, dict[tuple[Any, ...], list[int]]] = {
        name: defaultdict(list) for name in MODELS
    }
    by_bay: dict[str, list[tuple[dt.datetime, int]]] = defaultdict(list)
    for bay, at, fee in events:
        quarter = bucket(at, 15)
        found["quarters"][bay, quarter].append(fee)
        found["days"][bay, at.date()].append(fee)
        for hops in range(4):
            found["hours"][bay, quarter - dt.timedelta(minutes=15 * hops)].append(fee)
        by_bay[bay].append((at, fee))
    stays: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for bay, passages in by_bay.items():
        started = ended = None
        for at, fee in sorted(passages):
            if ended is None or at - ended > dt.timedelta(minutes=10):
                started = at
                stays[bay, started] = (at, 0, 0)
            _, count, fees = stays[bay, started]
            stays[bay, started] = (at, count + 1, fees + fee)
            ended = at
    sums = {
        name: {window: (len(fees), sum(fees)) for window, fees in windows.items()}
        for name, windows in found.items()
    }
    return {**sums, "stays": stays}


def passages(chance: random.Random, day: int, number: int) -> list[tuple[str, Event]]:
    """Events of a day, some of them up to three days late, some sent again."""
    made = []
    for _ in range(number):
        late = chance.choice([0, 0, 0, 0, 1, 3])
        at = START + dt.timedelta(days=day - late, minutes=chance.randint(0, 1439))
        event = (chance.choice("ab"), at, chance.randint(1, 9))
        made.append((f"{chance.randint(1, 400)}", event))
    return made


def check(park: CarPark) -> None:
    expected = truth(park.events.values())
    for model in MODELS:
        assert park.values(model) == expected[model], model


def test_windows_equal_the_truth_after_late_events(tmp_path: Path) -> None:
    park, chance = CarPark(tmp_path), random.Random(3)
    for day in range(5):
        park.bring(passages(chance, day, 30))
        if day % 2:
            park.bring(passages(chance, day, 10))
        park.run()
        check(park)
    assert {row[0] for row in park.lab.query(
        "select generation from marks.quarters union all select generation from marks.stays"
        " union all select generation from marks.days"
    )} == {1}, "nothing was computed from the beginning"  # fmt: skip

    grown = {model: park.lab.query(f"from intermediate.{model} order by all") for model in MODELS}
    park.run("--full-refresh")
    for model in MODELS:
        assert park.lab.query(f"from intermediate.{model} order by all") == grown[model], model


@pytest.fixture(scope="module")
def park(tmp_path_factory: pytest.TempPathFactory) -> CarPark:
    park = CarPark(tmp_path_factory.mktemp("park"))
    at = START + dt.timedelta(hours=12)
    park.bring([
        ("1", ("a", at, 1)), ("2", ("a", at + dt.timedelta(minutes=18), 2)), ("3", ("b", at, 3)),
        ("4", ("a", at + dt.timedelta(hours=5), 4)),
    ])  # fmt: skip
    park.run()
    return park


def test_a_late_event_changes_its_own_windows_and_no_other(park: CarPark) -> None:
    before = {model: park.rows(model) for model in MODELS}
    late = START + dt.timedelta(hours=12, minutes=9)
    park.bring([("5", ("a", late, 5)), ("1", ("a", late, 9))])
    park.run()
    check(park)
    for model in ("quarters", "hours", "days"):
        rows = park.rows(model)
        changed = {window for window in rows if rows[window] != before[model].get(window)}
        touched = set(truth([("a", late, 5)])[model])
        assert changed == touched, model
    noon = START + dt.timedelta(hours=12)
    stays = park.rows("stays")
    assert ("a", noon) in stays
    assert ("a", noon + dt.timedelta(minutes=18)) not in stays, "it was joined to the former"
    kept = [("b", noon), ("a", noon + dt.timedelta(hours=5))]
    assert [stays[stay] for stay in kept] == [before["stays"][stay] for stay in kept]


def test_a_load_without_rows_is_taken_once(park: CarPark) -> None:
    before = {model: park.rows(model) for model in MODELS}
    load_id = park.bring([])
    park.run()
    assert {model: park.rows(model) for model in MODELS} == before
    assert park.lab.query("select load_id from marks.days") == [(load_id,)]


def test_what_staging_made_anew_is_taken_anew(park: CarPark) -> None:
    park.lab.execute("update raw_lab.passages set fee = '100' where passage_id = '3'")
    park.lab.execute("update ledger.files set loaded_at = loaded_at + interval 1 second")
    park.events["3"] = (*park.events["3"][:2], 100)
    park.run()
    check(park)


def test_changed_code_computes_from_the_beginning(park: CarPark) -> None:
    strategy, key, sql = MODELS["quarters"]
    park.write("quarters", strategy, key, sql.replace("sum(fee)", "sum(fee) * 10"))
    park.run()
    days = truth(park.events.values())["days"]
    tenfold = {window: (count, 10 * fees) for window, (count, fees) in days.items()}
    assert park.values("days") == tenfold
    park.write("quarters", strategy, key, sql)
    park.run()
    check(park)


def test_other_columns_are_no_hindrance(park: CarPark) -> None:
    strategy, key, sql = MODELS["hours"]
    wider = sql.replace("max(_load_id)", "max(fee) as highest_fee, max(_load_id)")
    park.write("hours", strategy, key, wider)
    park.run()
    highest = park.lab.query("select max(highest_fee) from intermediate.hours")
    assert highest == [(max(fee for _, _, fee in park.events.values()),)]
    park.lab.write(
        "models/intermediate/hours.sql",
        "{{ config(materialized='table') }} select 'x' as bay, date '2026-06-01' as window_start,"
        " 0 as passage_count, 0 as fees, '' as _load_id",
    )
    park.run()
    park.write("hours", strategy, key, sql)
    park.run()
    check(park)


def test_events_beyond_the_watermark_are_filtered_by_name(tmp_path: Path) -> None:
    park = CarPark(tmp_path, drop_after="3 days")
    park.bring([("1", ("a", START + dt.timedelta(days=4), 1))])
    park.run()
    park.bring([("2", ("a", START, 5)), ("3", ("a", START + dt.timedelta(days=1), 6))])
    park.run()
    del park.events["2"]
    check(park)
    assert park.lab.query(
        "select outcome, name, sum(row_count) from ledger_outcomes.stg_lab__passages"
        " group by all order by all"
    ) == [("filtered", "too_late", 1), ("staged", None, 2)]


def test_mistakes_are_told(tmp_path: Path) -> None:
    park = CarPark(tmp_path)
    park.bring([])
    park.run()
    days, hours = MODELS["days"], MODELS["hours"]
    park.write("stays", MODELS["stays"][0], ["bay"], MODELS["stays"][2])
    park.write("days", *days[:2], days[2].replace("is_new('quarters')", "is_new('park')"))
    results = park.lab.dbt("run")
    told = "unique_key is ['bay']; expected a list that ends in session_started_at"
    assert told in results["stays"][1]
    told = "is_new names park; expected a staging model of events or an incremental model that it"
    assert told in results["days"][1]
    park.write("hours", *hours[:2], hours[2].replace("'15 minutes'", "'25 minutes'"))
    told = "hop is 25 minutes; expected a size that is a multiple of the hop"
    assert told in park.lab.dbt("run")["dbt"][1]
