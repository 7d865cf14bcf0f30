"""Explanations of the worked example's marts: the rows they name suffice, and none is needless.

A published model's row is explained; then each model on the way is computed once from nothing but
the rows that were named, which must still give the row, and once without them, which must not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import pytest
from warehouses import PROJECT, ExampleWarehouse

from ingestion.settings import load_settings
from ingestion.warehouse import connect
from runner.explain.walk import Explanation, Walk, find_model, key_text
from runner.project import published_relations
from runner.transform import Dbt

ALL_ROWS = 100_000
# More files than these are not listed.
LISTED_FILES = 20
MARTS = [
    "bridge_customer_records",
    "bridge_document_terms",
    "dim_countries",
    "dim_currencies",
    "dim_customers",
    "dim_customers_history",
    "dim_dates",
    "dim_devices",
    "dim_players",
    "dim_products",
    "dim_products_history",
    "dim_regions",
    "fct_card_transactions",
    "fct_chargebacks",
    "fct_device_hours",
    "fct_device_spells",
    "fct_documents",
    "fct_game_purchases",
    "fct_order_lines",
    "fct_orders",
    "fct_page_minutes",
    "fct_page_views",
    "fct_player_days",
    "fct_refunds",
    "fct_risk_alerts",
    "fct_server_minutes",
    "fct_sessions",
    "fct_tickets",
    "rpt_active_players",
    "rpt_alert_quality",
    "rpt_customer_360",
    "rpt_device_health",
    "rpt_firmware_health",
    "rpt_funnel",
    "rpt_page_hours",
    "rpt_page_load_month_over_month",
    "rpt_page_paths",
    "rpt_regional_sales",
    "rpt_retention_cohorts",
    "rpt_server_incidents",
]
# Between them, these are made of every other model.
TAKEN_APART = [
    "dim_currencies",
    "dim_customers",
    "dim_products_history",
    "fct_orders",
    "fct_tickets",
    "rpt_regional_sales",
]
# Made of dates, not of rows.
ROWLESS = {"dim_dates"}


@dataclass(frozen=True)
class Example:
    """The example's warehouse in a copy of its own, its marts compiled."""

    dbt: Dbt
    connection: duckdb.DuckDBPyConnection

    def explain(self, model: str, key: str, column: str | None = None) -> tuple[Walk, Explanation]:
        walk = Walk(self.connection, self.dbt.manifest, ALL_ROWS, None)
        return walk, walk.explain(find_model(self.dbt.manifest, model), key, column)

    def some_key(self, model: str, number: int) -> str:
        """The key of one row of the model; another number means another row."""
        node = find_model(self.dbt.manifest, model)
        walk = Walk(self.connection, self.dbt.manifest, 1, None)
        columns = walk.key_of(f"{node.schema}.{node.alias}")
        row = self.connection.execute(
            f"select {', '.join(columns)} from {node.schema}.{node.alias} "
            f"order by hash({', '.join(columns)}) "
            f"offset (select {number} % count(*) from {node.schema}.{node.alias}) limit 1"
        ).fetchone()
        assert row is not None
        return key_text(dict(zip(columns, row, strict=True)))


@pytest.fixture(scope="module")
def example(
    example_warehouse: ExampleWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    folder = tmp_path_factory.mktemp("explained")
    data, target = folder / "data", folder / "target"
    (data / "warehouse").mkdir(parents=True)
    target.mkdir()
    shutil.copy(example_warehouse.warehouse, data / "warehouse" / "wellspring.duckdb")
    parsed = example_warehouse.data_dir / "target" / "partial_parse.msgpack"
    shutil.copy(parsed, target / parsed.name)
    environment = {"WELLSPRING_DATA": str(data), "DBT_TARGET_PATH": str(target)}
    with mock.patch.dict(os.environ, environment):
        settings = replace(load_settings(PROJECT), data_dir=data)
        dbt = Dbt(settings)
        dbt.compile([relation.unique_id for relation in published_relations(dbt.manifest)])
        with closing(connect(settings, read_only=True)) as connection:
            yield Example(dbt, connection)


def test_every_published_mart_is_tried(example: Example) -> None:
    published = {
        relation.name
        for relation in published_relations(example.dbt.manifest)
        if relation.schema not in ("books", "ops")
    }
    assert published == set(MARTS)


@pytest.mark.parametrize("model", MARTS)
def test_a_row_is_followed_by_row_to_what_was_loaded(model: str, example: Example) -> None:
    _, found = example.explain(model, example.some_key(model, 7))
    ways = {edge.how for level in found.levels.values() for edge in level.edges}
    assert ways <= {"by row", "by file"}
    assert [note for level in found.levels.values() for note in level.notes] == []
    ends = [level for level in found.levels.values() if level.kind in ("source", "seed")]
    assert bool(ends) is (model not in ROWLESS)
    for level in ends:
        if level.kind == "source":
            assert all(file["sha256"] for file in level.files)
            if len(level.files) < LISTED_FILES:
                assert sum(file["row_count"] for file in level.files) == level.row_count


@pytest.mark.parametrize("model", TAKEN_APART)
def test_the_rows_suffice_and_none_may_be_missing(
    model: str, example: Example, tmp_path: Path
) -> None:
    walk, found = example.explain(model, example.some_key(model, 3))
    for level in found.levels.values():
        if level.kind != "model" or not any(edge.rows for edge in level.edges):
            continue
        wanted = [tuple(row[name] for name in level.key) for row in level.sample]
        assert set(wanted) <= remade(walk, level, level.sql, "in"), level.name
        assert not set(wanted) & remade(walk, level, level.sql, "not in"), level.name


def remade(walk: Walk, level: Any, sql: str, which: str) -> set[tuple[Any, ...]]:
    """Keys that a model's SQL gives over the contributing rows of its parents, or the others."""
    with duckdb.connect() as scratch:
        scratch.execute("attach ':memory:' as wellspring")
        for edge in level.edges:
            schema = edge.relation.split(".")[0]
            ids = ", ".join(map(str, walk.row_ids(edge.relation))) or "-1"
            rows = walk.connection.execute(
                f"select * from {edge.relation} where rowid {which} ({ids})"
            ).to_arrow_table()
            scratch.execute(f"create schema if not exists wellspring.{schema}")
            scratch.register("rows", rows)
            scratch.execute(f"create table wellspring.{edge.relation} as select * from rows")
            scratch.unregister("rows")
        names = ", ".join(level.key)
        return set(scratch.execute(f"select {names} from ({sql})").fetchall())


def test_a_sum_is_the_sum_of_the_staged_rows(example: Example) -> None:
    totals = example.connection.execute(
        "select regional_sales_key, net_local, line_count from sales.rpt_regional_sales "
        "where sales_region in ('NA', 'EMEA') and line_count between 4 and 12 "
        "order by line_count desc, regional_sales_key limit 2"
    ).fetchall()
    assert len(totals) == 2
    for key, total, lines in totals:
        _, found = example.explain("rpt_regional_sales", key, "net_local")
        staged = [
            row["net_amount"]
            for name in ("stg_shop__order_items", "stg_erp__order_lines")
            for level in found.levels.values()
            if level.name == name
            for row in level.sample
        ]
        assert len(staged) == lines
        assert sum(staged) == total


def test_versions_of_a_key_that_did_not_count_are_shown(example: Example) -> None:
    seen = set()
    for table in ("stg_shop__orders", "stg_erp__order_lines", "stg_shop__customers"):
        for key in repeated_keys(example, table):
            _, found = example.explain(table, key)
            seen |= {version["outcome"] for version in found.root.versions}
            quarantined = [v for v in found.root.versions if v["outcome"] == "quarantined"]
            assert all(version["reasons"] for version in quarantined)
    assert "superseded" in seen


def repeated_keys(example: Example, model: str) -> list[str]:
    """Keys of staged rows that stand several times in raw."""
    node = find_model(example.dbt.manifest, model)
    columns = node.config.meta["staging"]["key"]
    names = ", ".join(columns)
    same = " and ".join(f"staged.{name} = cleaned.{name}" for name in columns)
    rows = example.connection.execute(
        f"select {names} from ({node.compiled_code}) as cleaned "
        f"where exists (select 1 from staging.{model} as staged where {same}) "
        f"group by all having count(*) > 1 order by all limit 10"
    ).fetchall()
    return [key_text(dict(zip(columns, row, strict=True))) for row in rows]
