"""Measures of runs and what is unusual: from day to day, inside a table, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from toyshop import Call, ToyShop

from ingestion.periods import date_in_name
from runner.history import History, Item, Origin
from runner.veracity.anomalies import Anomaly, unusual_changes, unusual_slots
from runner.veracity.gaps import gaps_in, missing_files
from runner.veracity.measures import changes, measure
from runner.veracity.observe import known_anomalies
from runner.veracity.watches import (
    Anomalies,
    ExpectedFiles,
    FileWatch,
    NoGaps,
    NumberSequence,
    SeriesWatch,
    Watch,
)

START = datetime(2026, 1, 5, 6, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
ORDERS = Watch("model.lab.orders", "main", "orders")


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(History(tmp_path / "history.sqlite")) as opened:
        yield opened


@pytest.fixture
def lab() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as connection:
        yield connection


def note(history: History, moment: datetime, **values: float) -> None:
    """A run measured these: `rows`, or `<measure>_of_<column>` with a double underscore."""
    run_id = f"{moment:%Y%m%dT%H%M%S}"
    history.start_run(run_id, "run", "", Origin(None, "", "me", "here", 1, "sh"))
    measures = []
    for name, value in values.items():
        kind, _, column = name.partition("__")
        measures.append((ORDERS.relation, column, kind, value))
    history.add_measures(run_id, moment, measures)


def judge(history: History, moment: datetime, table: Watch = ORDERS) -> list[Anomaly]:
    return unusual_changes(changes(history, moment), [table], moment)


def daily(history: History, days: int, seed: int = 1) -> tuple[datetime, float]:
    """A table that gets about 1,000 rows each day; returns the last moment and its rows."""
    random = np.random.default_rng(seed)
    rows = 50_000.0
    for day in range(days):
        rows += round(float(random.normal(1_000, 30)))
        # Nobody starts at the same second each day.
        jitter = timedelta(minutes=float(random.uniform(-20, 20)))
        note(history, START + day * DAY + jitter, rows=rows)
    return START + (days - 1) * DAY, rows


# -- over runs ---------------------------------------------------------------------------------


def test_a_usual_day_is_quiet_and_a_day_without_rows_is_told_with_its_band(
    history: History,
) -> None:
    last, rows = daily(history, 30)
    assert judge(history, last) == []

    note(history, last + DAY, rows=rows)

    [found] = judge(history, last + DAY)
    assert (found.relation, found.measure, found.severity) == ("main.orders", "rows", "warn")
    assert found.low is not None
    assert found.high is not None
    assert found.value == rows < rows + 800 < found.low < rows + 1_000 < found.high < rows + 1_200
    assert f"{rows:,.0f}" in found.text


def test_a_run_that_changed_nothing_is_judged_by_the_rows_that_did_not_come(
    history: History,
) -> None:
    last, rows = daily(history, 30)
    history.start_run("late", "run", "", Origin(None, "", "me", "here", 1, "sh"))
    history.repeat_measures("late", last + DAY)
    [found] = judge(history, last + DAY)
    assert found.value == rows


def test_few_runs_are_no_past(history: History) -> None:
    last, rows = daily(history, 9)
    note(history, last + DAY, rows=rows * 100)
    assert judge(history, last + DAY) == []


def test_many_runs_within_a_day_are_no_past_either(history: History) -> None:
    for number in range(40):
        note(history, START + number * timedelta(minutes=5), rows=1_000.0 * number)
    note(history, START + timedelta(hours=4), rows=10_000_000)
    assert judge(history, START + timedelta(hours=4)) == []


def test_a_second_run_of_the_day_is_compared_with_the_day_before(history: History) -> None:
    last, rows = daily(history, 30)
    note(history, last + timedelta(hours=1), rows=rows + 40)
    assert judge(history, last + timedelta(hours=1)) == []
    note(history, last + timedelta(hours=2), rows=rows + 5_000)
    [found] = judge(history, last + timedelta(hours=2))
    assert found.value == rows + 5_000


def test_a_run_whose_clock_went_back_is_judged_by_its_own_rows(history: History) -> None:
    last, rows = daily(history, 30)
    # A clock that was two hours ahead had measured later today already, and all was well then.
    note(history, last + DAY + timedelta(hours=2), rows=rows + 1_000)
    note(history, last + DAY, rows=rows + 90_000)
    (found,) = judge(history, last + DAY)
    assert found.value == rows + 90_000


def test_what_was_known_before_a_killed_run_is_not_new_after_it(history: History) -> None:
    def audited(run_id: str, *names: str, killed: bool = False) -> None:
        history.start_run(run_id, "run", "", Origin(None, "", "me", "here", 1, "sh"))
        history.start_step(run_id, 1, "audit")
        history.add_measures(run_id, START, [])
        if not killed:
            items = [Item("anomaly", name, "warned") for name in names]
            history.add_items(run_id, "audit", items)
            history.finish_step(run_id, 1, "warned", 1.0, "")

    audited("first", "rows of orders")
    audited("second", killed=True)
    assert known_anomalies(history, "second") == {"rows of orders"}
    audited("third", "rows of orders")
    assert known_anomalies(history, "third") == {"rows of orders"}


def test_quiet_weekends_are_usual_and_a_quiet_wednesday_is_not(history: History) -> None:
    random, rows = np.random.default_rng(2), 0.0
    for day in range(70):
        rows += 0 if day % 7 > 4 else round(float(random.normal(1_000, 20)))
        note(history, START + day * DAY, rows=rows)
        if day > 50:
            assert judge(history, START + day * DAY) == []
    monday = START + 70 * DAY
    note(history, monday, rows=rows + 1_000)
    assert judge(history, monday) == []
    note(history, monday + DAY, rows=rows + 1_000)
    assert [found.measure for found in judge(history, monday + DAY)] == ["rows"]


def test_a_monday_after_a_weekend_without_runs_is_compared_with_its_like(
    history: History,
) -> None:
    random, rows = np.random.default_rng(3), 0.0
    for day in range(84):
        rows += round(float(random.normal(1_000, 20)))
        if day % 7 < 5:
            note(history, START + day * DAY, rows=rows)
    monday = START + 84 * DAY
    note(history, monday, rows=rows + 1_000)
    assert judge(history, monday) == []


def test_missing_values_and_a_clock_that_stands_are_told_for_their_column(
    history: History,
) -> None:
    random, rows, hours = np.random.default_rng(4), 100_000.0, 490_000.0
    for day in range(30):
        rows += round(float(random.normal(1_000, 30)))
        hours += 24 + float(random.normal(0, 0.5))
        share = 0.02 + float(random.normal(0, 0.00005))
        values = {"null_share__phone": share, "newest__ordered_at": hours}
        note(history, START + day * DAY, rows=rows, **values)
    moment = START + 30 * DAY
    assert judge(history, moment - DAY) == []
    # All of a day's thousand rows lack the value.
    worse = {"null_share__phone": share * 0.99 + 0.01, "newest__ordered_at": hours}
    note(history, moment, rows=rows + 1_000, **worse)
    assert {(found.column, found.measure) for found in judge(history, moment)} == {
        ("phone", "null_share"),
        ("ordered_at", "newest"),
    }


def test_severity_sensitivity_and_measures_are_those_declared(history: History) -> None:
    last, rows = daily(history, 30)
    note(history, last + DAY, rows=rows)
    for declared, said in [
        (Anomalies(severity="error"), ["error"]),
        (Anomalies(severity="off"), []),
        (Anomalies(measures=("sum",)), []),
    ]:
        table = Watch(ORDERS.unique_id, "main", "orders", declared)
        assert [found.severity for found in judge(history, last + DAY, table)] == said


def test_older_days_keep_their_last_run_and_too_old_ones_go(history: History) -> None:
    for hour in range(0, 24 * 10, 6):
        note(history, START + timedelta(hours=hour), rows=float(hour))
    now = START + 10 * DAY
    history.prune_measures(now, keep_days=8)
    kept = [run["measured_at"][:13] for run in history.measured_runs()]
    assert len([k for k in kept if k.startswith("2026-01-09")]) == 1
    assert len([k for k in kept if k.startswith("2026-01-14")]) == 4
    assert kept[0] >= "2026-01-07"
    [measures] = history.rows("select count(distinct content) as n from measures")
    assert measures["n"] == len(kept)


# -- inside a table ----------------------------------------------------------------------------


def test_a_table_is_measured_column_by_column(lab: duckdb.DuckDBPyConnection) -> None:
    lab.execute(
        "create table orders as select * from (values "
        "(1, 'a', 2.5, timestamp '2026-01-01 12:00', [1]), (2, null, 3.5, null, [2])) "
        "as t(order_id, kind, amount, ordered_at, parts)"
    )
    found = {(v.column, v.measure): v.value for v in measure(lab, [ORDERS])}
    hours = (datetime(2026, 1, 1, 12) - datetime(1970, 1, 1)) / timedelta(hours=1)
    assert found[("", "rows")] == 2
    assert found[("kind", "null_share")] == 0.5
    assert found[("kind", "distinct")] == 1
    assert found[("amount", "sum")] == 6
    assert found[("ordered_at", "newest")] == hours
    assert ("order_id", "sum") not in found
    assert ("parts", "distinct") not in found


def test_an_empty_or_absent_table_is_measured_as_such(lab: duckdb.DuckDBPyConnection) -> None:
    lab.execute("create table orders (order_id bigint, amount double)")
    absent = Watch("model.lab.gone", "main", "gone")
    found = measure(lab, [ORDERS, absent])
    assert [(v.measure, v.value) for v in found if v.measure != "distinct"] == [("rows", 0)]


def sales(lab: duckdb.DuckDBPyConnection, days: int) -> None:
    lab.execute(
        "create table orders as select date '2026-01-05' + day::int as sold_on, region, "
        "1000 + 500 * (day % 7) + hash(day * 31 + ascii(region)) % 40 as usd "
        f"from range({days}) as d(day), (values ('north'), ('south')) as r(region)"
    )


SERIES = Watch(
    ORDERS.unique_id,
    "main",
    "orders",
    Anomalies(series=(SeriesWatch(time="sold_on", value="usd", by=("region",)),)),
)


def test_an_outlier_in_one_series_is_told_for_its_day_and_series(
    lab: duckdb.DuckDBPyConnection,
) -> None:
    sales(lab, 120)
    assert unusual_slots(lab, SERIES) == []
    lab.execute("update orders set usd = 9000 where region = 'south' and sold_on = '2026-05-01'")
    [found] = unusual_slots(lab, SERIES)
    assert (found.series, found.at, found.value) == ("south", datetime(2026, 5, 1), 9000)
    assert found.high is not None
    assert found.high < 4_000
    assert "south" in found.text


def test_a_day_without_rows_counts_nothing_and_the_newest_day_is_not_judged(
    lab: duckdb.DuckDBPyConnection,
) -> None:
    sales(lab, 120)
    lab.execute("delete from orders where region = 'north' and sold_on = '2026-04-30'")
    lab.execute("update orders set usd = 1 where sold_on = (select max(sold_on) from orders)")
    [found] = unusual_slots(lab, SERIES)
    assert (found.series, found.at, found.value) == ("north", datetime(2026, 4, 30), 0)


def test_missing_days_are_told_as_stretches_per_series(lab: duckdb.DuckDBPyConnection) -> None:
    sales(lab, 30)
    lab.execute("delete from orders where sold_on between '2026-01-12' and '2026-01-14'")
    lab.execute("delete from orders where region = 'north' and sold_on = '2026-01-24'")
    for gap, said in [
        (NoGaps(), ["3 days, 2026-01-12 to 2026-01-14"]),
        (
            NoGaps(per=("region",)),
            ["for north for 3 days", "for north for the day of 2026-01-24", "for south for 3 days"],
        ),
        (NoGaps(per=("region",), weekdays=True), ["north for 3 days", "south for 3 days"]),
        (NoGaps(by="week"), []),
        (NoGaps(severity="off"), []),
    ]:
        found = gaps_in(lab, Watch("", "main", "orders", no_gaps={"sold_on": gap}))
        assert len(found) == len(said)
        for anomaly, words in zip(found, said, strict=True):
            assert words in anomaly.text


def test_numbers_left_out_of_a_sequence_are_named(lab: duckdb.DuckDBPyConnection) -> None:
    lab.execute(
        "create table orders as select 'R' || number as receipt, till from (values "
        "(1, 'a'), (2, 'a'), (5, 'a'), (7, 'b'), (8, 'b'), (8, 'b')) as t(number, till)"
    )
    per_till = NumberSequence(per=("till",))
    [found] = gaps_in(lab, Watch("", "main", "orders", sequences={"receipt": per_till}))
    assert "R3 to R4 for a" in found.text
    assert found.value == 2
    [first, second] = gaps_in(
        lab, Watch("", "main", "orders", sequences={"receipt": NumberSequence()})
    )
    assert "R3 to R4" in first.text
    assert "R6" in second.text


@pytest.mark.parametrize(
    ("name", "every", "day"),
    [
        ("orders/orders_2026-03.csv", "month", "2026-03-01"),
        ("orders_2026-W02.zip!orders_2026-W02_3.xml", "week", "2026-01-05"),
        ("date=2026-03-04/part-0.parquet", "day", "2026-03-04"),
        ("2025/x_20260304.csv", "day", "2026-03-04"),
        ("x_20260304.csv", "month", "2026-03-01"),
        ("x_2026-03-04.csv", "week", "2026-03-02"),
        ("x_2026-02-31.csv", "day", None),
        ("catalog.xml", "day", None),
    ],
)
def test_a_file_name_tells_its_day(name: str, every: str, day: str | None) -> None:
    found = date_in_name(name, every)
    assert (found and str(found)) == day


def test_a_file_that_never_came_is_missed(lab: duckdb.DuckDBPyConnection) -> None:
    lab.execute(
        "create schema ledger; create table ledger.files as select 'till' as source, "
        "'sales' as table_name, name as origin_name from (values ('s_2026-01.csv'), "
        "('s_2026-02.csv'), ('s_2026-05.csv'), (null)) as t(name)"
    )
    [found] = missing_files(lab, [FileWatch("till", "sales", ExpectedFiles(every="month"))])
    assert found.text == "no file of till.sales for 2 months, 2026-03-01 to 2026-04-01"


# -- a whole run -------------------------------------------------------------------------------


def remember(shop: ToyShop, days: int, rows_a_day: int) -> None:
    """Gives the toy shop a past in which sales came every day."""
    with closing(History(shop.data / "state" / "history.sqlite")) as history:
        [run] = history.rows("select measured_at from measured_runs")
        moment = datetime.fromisoformat(run["measured_at"])
        for day in range(days, 0, -1):
            run_id = f"past-{day}"
            history.start_run(run_id, "run", "", Origin(None, "", "me", "here", 1, "sh"))
            rows = 1_000_000 - float(day * rows_a_day)
            history.add_measures(
                run_id, moment - day * DAY, [("sales.fct_sales", "", "rows", rows)]
            )


def test_a_run_tells_what_is_unusual_once_and_publishes(shop: ToyShop, call: Call) -> None:
    remember(shop, 30, 10)
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")

    answer = call(shop, "run", "--log-format", "json", "--quiet")

    assert answer.code == 0, answer.err
    result = json.loads(answer.out.splitlines()[-1])
    [found] = result["anomalies"]
    assert found["anomaly"] == "sales.fct_sales rows"
    assert found["is_new"]
    assert found["value"] == 4
    assert 999_000 < found["expected"][0] < found["expected"][1] < 1_001_000
    assert result["published"] == shop.current
    said = [json.loads(line) for line in answer.err.splitlines()]
    assert any(line.get("name") == "sales.fct_sales rows" for line in said)
    with closing(duckdb.connect(str(shop.data / "warehouse" / "wellspring.duckdb"))) as connection:
        [row] = connection.execute(
            "select anomaly, is_new, severity from runs.anomalies"
        ).fetchall()
        assert row == ("sales.fct_sales rows", True, "warn")
        [measured] = connection.execute(
            "select value from runs.measures where relation = 'sales.fct_sales' and "
            "measure = 'rows' order by measured_at desc limit 1"
        ).fetchall()
        assert measured == (4,)

    again = call(shop, "run", "--log-format", "plain")
    assert again.code == 0, again.err
    assert "1 anomaly, 0 new" in again.err
    assert "1 known from the run before" in again.out


def test_an_unusual_value_of_error_severity_fails_the_audit(shop: ToyShop, call: Call) -> None:
    remember(shop, 30, 10)
    before = shop.current
    path = shop.root / "models/marts/sales/fct_sales.yml"
    text = path.read_text().replace(
        "    access: public\n",
        "    access: public\n    config: {meta: {anomalies: {severity: error}}}\n",
        1,
    )
    path.write_text(text)

    answer = call(shop, "run", "--log-format", "plain")

    assert answer.code == 2
    assert shop.current == before
    assert "1 value unusual: sales.fct_sales rows" in answer.err + answer.out
    assert "expected" in answer.out


def test_a_wrong_declaration_is_refused_before_anything_runs(shop: ToyShop, call: Call) -> None:
    path = shop.root / "models/marts/sales/fct_sales.yml"
    text = path.read_text().replace(
        "    access: public\n",
        "    access: public\n    config: {meta: {anomalies: {severity: loud, series: "
        "[{time: sold_on}]}}}\n",
        1,
    )
    path.write_text(text)
    answer = call(shop, "build", "--log-format", "plain")
    assert answer.code == 3
    for said in ("models/marts/sales/fct_sales.yml", "fct_sales", "meta.anomalies.severity"):
        assert said in answer.err
    assert "'loud'" in answer.err


def test_a_moment_that_is_none_is_refused(
    shop: ToyShop, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__MEASURES__AS_OF", "last tuesday")
    answer = call(shop, "audit", "--log-format", "plain")
    assert answer.code == 3
    assert "last tuesday" in answer.err
