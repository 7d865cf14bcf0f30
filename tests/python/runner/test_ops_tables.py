"""The run history in the warehouse: written where a model reads it, about the runs before."""

from __future__ import annotations

import signal
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import warm
from toyshop import Call, ToyShop, surroundings

from ingestion.failpoints import VARIABLE
from ingestion.settings import Settings
from runner.history import History, Item, Origin
from runner.ops import TABLES, write_past

ORIGIN = Origin(None, "5e77", "ada", "loom", 7, "cron")
SOURCES = {
    "models/ops/_runs__sources.yml": """
        sources:
          - name: runs
            schema: runs
            tables: [{name: past_runs}, {name: past_test_results}]
        """,
    "models/ops/runs.sql": "select run_id, status from {{ source('runs', 'past_runs') }}",
    "models/ops/runs.yml": """
        models:
          - name: runs
            description: One row per run.
            config: {schema: ops, materialized: view, meta: {publish: true}}
        """,
}


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def warehouse(shop: ToyShop) -> Path:
    return shop.data / "warehouse" / "wellspring.duckdb"


def test_a_published_version_tells_of_the_runs_before_it(shop: ToyShop, call: Call) -> None:
    first = shop.current
    for path, text in SOURCES.items():
        shop.write(path, text)
    assert call(shop, "run", "--quiet").code == 0
    published = (shop.published / "current").resolve() / "wellspring.duckdb"
    assert rows(published, "from ops.runs") == [(first, "succeeded")]
    results = rows(warehouse(shop), "select distinct run_id, status from runs.past_test_results")
    assert results == [(first, "ok")]


def test_a_run_without_news_leaves_all_as_it_was(shop: ToyShop, call: Call) -> None:
    for path, text in SOURCES.items():
        shop.write(path, text)
    assert call(shop, "run", "--quiet").code == 0
    version, content = shop.current, warehouse(shop).read_bytes()
    assert call(shop, "run", "--quiet").code == 0
    assert shop.current == version
    assert warehouse(shop).read_bytes() == content


def test_a_project_that_does_not_ask_gets_no_tables(shop: ToyShop, call: Call) -> None:
    assert call(shop, "build").code == 0
    assert rows(warehouse(shop), "from duckdb_tables() where table_name like 'past%'") == []
    for path, text in SOURCES.items():
        shop.write(path, text)
    assert call(shop, "build", "--select", "fct_sales").code == 0
    assert rows(warehouse(shop), "from duckdb_tables() where table_name like 'past%'") == []


@pytest.mark.parametrize("point", ["build.before_past_runs", "build.after_past_runs"])
def test_a_death_while_it_is_written_changes_nothing_that_counts(shop: ToyShop, point: str) -> None:
    for path, text in SOURCES.items():
        shop.write(path, text)
    arguments = ["-m", "runner", "build", "audit", "publish", "--quiet"]
    environment = surroundings(shop)
    died = warm.run(
        arguments, cwd=shop.root, env={**environment, VARIABLE: point}, capture_output=True
    )
    assert died.returncode == -signal.SIGKILL
    done = warm.run(arguments, cwd=shop.root, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    published = (shop.published / "current").resolve() / "wellspring.duckdb"
    told = rows(published, "select status from ops.runs order by run_id")
    assert told == [("succeeded",), ("interrupted",)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path / "data")


def test_what_is_written_is_what_the_history_has(settings: Settings) -> None:
    with closing(History(settings.state_dir / "history.sqlite")) as history:
        history.start_run("a", "wellspring run", "--select x", ORIGIN, logical_date="2026-05-01")
        history.start_step("a", 0, "audit")
        history.add_items("a", "audit", [Item("test", "t", "failed", 3, message="no")])
        history.add_items("a", "audit", [Item("test", "t", "ok", 0), Item("model", "m", "ok")])
        history.finish_step("a", 0, "ok", 1.5, "fine")
        history.measure_step("a", "audit", 1, 2, 3)
        history.add_version("a", 1, 2, 3, None)
        history.finish_run("a", "succeeded", 0, "")
        history.start_run("b", "wellspring run", "", ORIGIN)
        history.start_step("b", 0, "audit")
        write_past(settings, history)
        write_past(settings, history)
    path = settings.warehouse_path
    assert rows(path, "select run_number, run_id, logical_date, exit_code from runs.past_runs") == [
        (1, "a", "2026-05-01", 0)
    ]
    assert rows(path, "select step, duration_seconds, size_bytes from runs.past_steps") == [
        ("audit", 1.5, 2)
    ]
    # a step that was tried twice asked twice
    assert rows(path, "select test_name, status, failure_count from runs.past_test_results") == [
        ("t", "ok", 0)
    ]
    assert rows(path, "select version, published_at, size_bytes from runs.past_versions") == [
        ("a", None, 3)
    ]
    [(started,)] = rows(path, "select started_at from runs.past_runs")
    assert abs((datetime.now(UTC).replace(tzinfo=None) - started).total_seconds()) < 600


def test_what_is_long_past_is_left_out(settings: Settings) -> None:
    with closing(History(settings.state_dir / "history.sqlite")) as history:
        history.start_run("a", "wellspring run", "", ORIGIN)
        history.add_items("a", "audit", [Item("test", "t", "ok")])
        history.finish_run("a", "succeeded", 0, "")
        write_past(settings, history, datetime(2999, 1, 1, tzinfo=UTC))
    for table in TABLES:
        assert rows(settings.warehouse_path, f"from runs.{table}") == []
