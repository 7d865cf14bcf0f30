"""The Dagster definitions load, show what is published with its lineage, and really run."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest
from toyshop import Call, ToyShop

from runner.dagster import STEPS, make_definitions


@pytest.fixture
def definitions(
    shop: ToyShop, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> dg.Definitions:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path_factory.mktemp("dagster")))
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    monkeypatch.setenv("WELLSPRING_DATA", str(shop.data))
    for key, value in shop.environment.items():
        monkeypatch.setenv(key, value)
    return make_definitions(shop.root, cron="30 5 * * *", wait="1m")


def test_run_is_a_job_whose_assets_are_what_was_published(
    definitions: dg.Definitions, shop: ToyShop, call: Call
) -> None:
    graph = definitions.resolve_asset_graph()
    toys, sales = dg.AssetKey(["core", "dim_toys"]), dg.AssetKey(["sales", "fct_sales"])
    assert graph.get(toys).parent_keys == {dg.AssetKey(["stock", "toys"])}
    assert graph.get(sales).parent_keys == {dg.AssetKey(["till", "sales"])}
    schedule = definitions.get_schedule_def("wellspring_schedule")
    assert (schedule.cron_schedule, schedule.job_name) == ("30 5 * * *", "wellspring")

    before = shop.current
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    done = definitions.resolve_job_def("wellspring").execute_in_process()
    assert done.success
    assert shop.current != before
    made = {event.asset_key: event for event in done.get_asset_materialization_events()}
    assert set(made) == {toys, sales}
    metadata = made[sales].materialization.metadata
    assert metadata["dagster/row_count"].value == 4
    assert metadata["version"].value == shop.current


def test_failed_run_is_a_failure_in_dagster_and_publishes_nothing(
    definitions: dg.Definitions, shop: ToyShop
) -> None:
    before = shop.current
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,-1.00\n")
    job = definitions.resolve_job_def("wellspring")
    done = job.execute_in_process(raise_on_error=False)
    assert not done.success
    assert shop.current == before
    assert done.get_asset_materialization_events() == []
    (failure,) = done.get_failed_step_keys()
    data = done.failure_data_for_node(failure)
    assert data is not None
    assert "assert_amounts_are_positive" in str(data.user_failure_data)


def test_each_step_is_an_op(definitions: dg.Definitions, shop: ToyShop) -> None:
    job = definitions.resolve_job_def("wellspring_steps")
    assert [node.name for node in job.nodes_in_topological_order] == list(STEPS)
    shop.add_sales("sales_2.csv", "sale_id,toy_id,amount\n4,1,1.00\n")
    done = job.execute_in_process(op_selection=["extract", "load"])
    assert done.success
    assert [event.node_name for event in done.get_step_success_events()] == ["extract", "load"]
    assert len(list((shop.data / "landing" / "till" / "_dlt_loads").iterdir())) == 2


def test_dagster_loads_the_definitions_from_a_file(
    definitions: dg.Definitions, shop: ToyShop
) -> None:
    shop.write(
        "dagster_project.py",
        "from runner.dagster import make_definitions\n\ndefs = make_definitions()\n",
    )
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-f", "dagster_project.py"],
        cwd=shop.root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
