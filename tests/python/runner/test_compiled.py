"""Unchanged code is built and tested without dbt, with the same tables and verdicts."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from toyshop import ToyShop

from ingestion.errors import DeclarationError
from ingestion.settings import load_settings
from runner.compiled.key import project_key
from runner.compiled.recording import GIVE_WAY, recorded
from runner.compiled.store import Kept
from runner.compiled.view import View, lasting
from runner.site import build_docs
from runner.transform import Dbt, NodeResult, Selection

MODELS = {
    "models/marts/sales/sale_log.sql": """
        {{ config(materialized='incremental', unique_key='sale_id', schema='sales',
                  on_schema_change='fail', contract={'enforced': true},
                  pre_hook="create table if not exists sales.visits (n integer)",
                  post_hook="insert into sales.visits values (1)") }}
        select sale_id, amount from {{ ref('fct_sales') }}
        {% if is_incremental() %}
        where sale_id > (select max(sale_id) from {{ this }})
        {% endif %}
        """,
    "models/marts/sales/sale_log.yml": """
        models:
          - name: sale_log
            columns:
              - {name: sale_id, data_type: bigint, constraints: [{type: not_null}]}
              - {name: amount, data_type: "decimal(12,2)"}
        """,
    "models/marts/sales/told.sql": """
        {{ config(persist_docs={'relation': true, 'columns': true}) }}
        select sale_id from {{ ref('fct_sales') }}
        """,
    "models/marts/sales/told.yml": """
        models:
          - name: told
            description: One row per sale, as it's told.
            columns: [{name: sale_id, description: Number of the sale.}]
        """,
}


@pytest.fixture
def project(shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> ToyShop:
    """The shop with a model of each kind, and a folder for what is kept that is empty."""
    for path, text in MODELS.items():
        shop.write(path, text)
    monkeypatch.chdir(shop.root)
    for name, value in {**shop.environment, "WELLSPRING_DATA": str(shop.data)}.items():
        monkeypatch.setenv(name, value)
    return shop


def build(**options: Any) -> tuple[dict[str, NodeResult], bool]:
    """Builds as a new run does; returns the results by name, and whether dbt was asked."""
    dbt = Dbt(load_settings())
    results = dbt.build(Selection(), **options)
    assert {result.status for result in results} == {"ok"}, results
    return {result.name: result for result in results}, dbt._manifest is not None


def warehouse(shop: ToyShop) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(shop.data / "warehouse" / "wellspring.duckdb"))


def content(shop: ToyShop) -> dict[str, Any]:
    """Relations with their columns, constraints, comments (but for marks) and rows."""
    with closing(warehouse(shop)) as connection:
        found: dict[str, Any] = {}
        for schema, name, sql, comment in connection.execute(
            "select schema_name, table_name, sql, comment from duckdb_tables() "
            "union all select schema_name, view_name, sql, comment from duckdb_views() "
            "where not internal order by all"
        ).fetchall():
            if schema in ("ledger", "runs"):
                continue
            rows = connection.execute(f'select * from "{schema}"."{name}" order by all').fetchall()
            told = None if (comment or "").startswith("wellspring: ") else comment
            found[f"{schema}.{name}"] = (sql, told, rows)
        found["columns"] = connection.execute(
            "select schema_name, table_name, column_name, comment, is_nullable "
            "from duckdb_columns() where schema_name not in ('ledger', 'runs') order by all"
        ).fetchall()
    return found


def add_sale(shop: ToyShop) -> None:
    """A load brings a sale, as the loader and its ledger would note it."""
    with closing(warehouse(shop)) as connection:
        connection.execute(
            "insert into raw_till.sales by name select * replace ('9' as sale_id, 99 as _row) "
            "from raw_till.sales where sale_id = '1'"
        )
        connection.execute(
            "insert into ledger.files by name select * replace ('new' as file) from ledger.files "
            "where source = 'till'"
        )


def test_what_is_played_equals_what_dbt_builds(project: ToyShop) -> None:
    for full_refresh in (False, True, False):
        build(full_refresh=full_refresh)
    by_dbt: dict[str, Any] = {}
    for full_refresh in (True, False):
        _, asked = build(full_refresh=full_refresh)
        assert not asked, "all that dbt sent is kept"
        played = content(project)
        verdicts = {r.name: r.status for r in Dbt(load_settings()).test(Selection())}
        given = Dbt(load_settings(), parsed=Dbt(load_settings()).manifest)
        assert all(r.status == "ok" for r in given.build(Selection(), full_refresh))
        by_dbt = content(project)
        # The hook counts the builds; all else must be alike.
        played.pop("sales.visits"), by_dbt.pop("sales.visits")
        assert played == by_dbt
        assert verdicts == {r.name: r.status for r in given.test(Selection())}
    assert "as it's told" in by_dbt["sales.told"][1]


def test_a_first_build_tells_how_dbt_would_add_to_what_it_made(project: ToyShop) -> None:
    build()
    assert content(project)["sales.visits"][-1] == [(1,)], "nothing is executed for it"
    assert not (project.data / "state" / "rehearsal").exists()
    statements = project.data / "state" / "compiled" / "statements.json"
    told = json.loads(statements.read_text())["recordings"]
    add_sale(project)
    _, asked = build()
    assert not asked, "the first load after a first build"
    played = content(project)["sales.sale_log"][-1]
    assert 9 in {row[0] for row in played}
    statements.unlink()
    build()
    for key, ways in json.loads(statements.read_text())["recordings"].items():
        assert all(way in told[key] for way in ways), key


def test_telling_it_touches_nothing_outside_and_is_left_to_dbt_then(project: ToyShop) -> None:
    sheet = project.root / "log.csv"
    model = project.root / "models/marts/sales/sale_log.sql"
    hook = f"copy (select * from {{{{ this }}}}) to '{sheet}'"
    model.write_text(model.read_text().replace("insert into sales.visits values (1)", hook))
    build()
    rows = sheet.read_text().splitlines()
    assert len(rows) > 1, "not overwritten from an empty copy"
    environment = dict(os.environ)
    add_sale(project)
    _, asked = build()
    assert asked, "what the copy cannot do is not known"
    assert len(sheet.read_text().splitlines()) == len(rows) + 1
    assert dict(os.environ) == environment


def test_only_what_new_rows_reach_is_built_and_tested_again(project: ToyShop) -> None:
    build()
    Dbt(load_settings()).test(Selection())
    results, asked = build(lazy=True)
    # dbt writes a comment of its own onto one of them, so that it cannot be marked.
    assert {name for name, result in results.items() if not result.unchanged} == {"told"}
    assert not asked
    tests = Dbt(load_settings()).test(Selection(), lazy=True)
    assert all(test.unchanged and test.status == "ok" for test in tests)
    add_sale(project)
    results, _ = build(lazy=True)
    same = {name for name, result in results.items() if result.unchanged}
    assert same == {"colours", "dim_toys", "stg_stock__toys"}
    tests = Dbt(load_settings()).test(Selection(), lazy=True)
    assert {test.name for test in tests if test.unchanged} == {
        "not_null_dim_toys_toy_id",
        "unique_dim_toys_toy_id",
    }
    with closing(warehouse(project)) as connection:
        (rows,) = connection.execute("select count(*) from sales.sale_log").fetchall()[0]
    assert rows == 4


def test_a_selection_of_unchanged_code_is_not_asked_of_dbt_again(project: ToyShop) -> None:
    def work(*select: str) -> tuple[Any, bool]:
        dbt, selection = Dbt(load_settings()), Selection(select, ("sale_log",))
        sources, built = dbt.sources(selection)[1], dbt.build(selection)
        tested = [(result.name, result.status) for result in dbt.test(selection)]
        names = sorted(result.name for result in built)
        return (sources, names, sorted(tested)), dbt._manifest is not None

    build()
    first, asked = work("+fct_sales")
    assert asked
    assert "fct_sales" in first[1]
    assert ("unique_fct_sales_sale_id", "ok") in first[2]
    assert first[0] == {"source.toyshop.till.sales"}
    assert work("+fct_sales") == (first, False)
    assert work("fct_sales")[1], "another selection"
    project.write("models/marts/sales/fct_again.sql", "select 1 as n -- {{ ref('fct_sales') }}")
    wider, asked = work("+fct_sales+")
    assert asked
    assert "fct_again" in wider[1]
    assert work("+fct_sales") == (first, True), "code was changed"
    for _ in range(2):
        with pytest.raises(DeclarationError, match="nothing in the project matches"):
            Dbt(load_settings()).sources(Selection(("no_such_model",)))


def test_a_selection_by_earlier_runs_is_asked_each_time() -> None:
    kept = Kept("key", {"nodes": {}, "sources": {}}, {}, None)
    assert not kept.note_selection('[["model"], ["state:modified+"], []]', ["model.x"])
    for number in range(100):
        assert kept.note_selection(f'[["model"], ["model_{number}"], []]', ["model.x"])
    assert len(kept.selections) < 100
    assert '[["model"], ["model_99"], []]' in kept.selections


def test_a_relation_that_another_has_built_is_built_again(project: ToyShop) -> None:
    build()
    with closing(warehouse(project)) as connection:
        connection.execute("create or replace table sales.fct_sales as select 1 as sale_id")
        connection.execute("delete from sales.sale_log where sale_id = 1")
    results, _ = build(lazy=True)
    built = {name for name, result in results.items() if not result.unchanged}
    assert built == {"fct_sales", "sale_log", "told"}


def test_changed_code_is_built_by_dbt_and_the_rest_is_left(project: ToyShop) -> None:
    build()
    project.write(
        "models/marts/sales/sales_by_toy.sql",
        "select toy_id, count(*) as amount from {{ ref('fct_sales') }} group by toy_id",
    )
    results, asked = build(lazy=True)
    assert asked
    assert not results["sales_by_toy"].unchanged


def test_columns_that_a_source_gains_are_looked_at_by_dbt(project: ToyShop) -> None:
    build()
    with closing(warehouse(project)) as connection:
        connection.execute("alter table raw_till.sales add column till integer")
    assert build()[1]
    assert not build()[1]


def test_pages_of_the_code_are_made_when_code_or_columns_are_others(
    project: ToyShop, tmp_path: Path
) -> None:
    def page() -> tuple[str, bool]:
        dbt = Dbt(load_settings())
        made = build_docs(dbt, tmp_path / "docs").read_text(encoding="utf-8")
        return made, dbt._manifest is not None

    build()
    first, _ = page()
    add_sale(project)
    assert page() == (first, False), "rows change nothing"
    with closing(warehouse(project)) as connection:
        connection.execute("alter table raw_till.sales add column weather varchar")
    gained, asked = page()
    assert asked
    assert "weather" in gained
    assert "weather" not in first
    project.write("models/marts/sales/told.yml", MODELS["models/marts/sales/told.yml"] + "# more")
    assert page()[1], "code was changed"


def test_what_the_warehouse_refuses_is_told_by_dbt(project: ToyShop) -> None:
    build()
    with closing(warehouse(project)) as connection:
        connection.execute("update raw_till.sales set amount = 'much' where sale_id = '1'")
    dbt = Dbt(load_settings())
    results = {result.name: result for result in dbt.build(Selection())}
    assert results["fct_sales"].status == "failed"
    assert "much" in results["fct_sales"].message
    assert results["sales_by_toy"].status == results["sale_log"].status == "skipped"
    assert results["dim_toys"].status == "ok"
    with closing(warehouse(project)) as connection:
        assert connection.execute("select count(*) from sales.fct_sales").fetchall() == [(3,)]


def test_the_key_follows_code_and_the_environment_that_it_reads(
    project: ToyShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings()
    first = project_key(settings)
    assert first == project_key(settings)
    project.write(
        "macros/more.sql", "{% macro more() %}{{ env_var('TOY_MOOD', '') }}{% endmacro %}"
    )
    second = project_key(settings)
    monkeypatch.setenv("TOY_MOOD", "good")
    third = project_key(settings)
    monkeypatch.setenv("UNREAD", "1")
    assert third == project_key(settings)
    assert len({first, second, third}) == 3
    project.write("macros/more.sql", "{% macro more(name) %}{{ env_var(name) }}{% endmacro %}")
    assert project_key(settings) is None, "nobody knows which variables it reads"


def test_a_query_whose_answer_is_unknown_makes_a_node_unfit_to_be_kept() -> None:
    made = ('create table "w"."s"."t" as select 1', None)
    assert recorded('"w"."s"."t"', [("select count(*) from x", None), made], False) is None
    asked = ("select true as is_there", True)
    found = recorded('"w"."s"."t"', [("BEGIN", None), asked, made, ("COMMIT", None)], True)
    assert found is not None
    assert found.answers == (asked,)
    assert found.statements == (GIVE_WAY, made[0])
    cut = ('COPY "w"."s"."t" from ' + "x" * 600 + "...", None)
    assert recorded('"w"."s"."t"', [cut], False) is None


def test_a_view_of_the_project_speaks_as_dbt_does() -> None:
    node = {
        "unique_id": "model.a.b",
        "columns": {"c": {"description": "d"}},
        "config": {"materialized": "table", "meta": {"config": {"x": 1}}},
        "depends_on": {"nodes": ["source.a.c"]},
    }
    threshold = {"warn_after": {"count": None}, "error_after": {"count": 2, "period": "day"}}
    sources = {
        "quiet": {"freshness": {"warn_after": {"count": None}, "error_after": None}},
        "told": {"freshness": threshold},
    }
    view = View(lasting({"nodes": {"model.a.b": node}, "sources": sources}))
    found = view.nodes["model.a.b"]
    assert found.columns["c"].description == "d"
    assert found.config.meta == {"config": {"x": 1}}
    assert found.depends_on.nodes == ["source.a.c"]
    assert getattr(found, "attached_node", None) is None
    assert view.sources["quiet"].freshness is None
    assert view.sources["told"].freshness.error_after.period == "day"


def test_what_is_kept_is_of_this_folder(project: ToyShop) -> None:
    build()
    kept = {path.name for path in Path(os.environ["WELLSPRING_DATA"], "state/compiled").iterdir()}
    assert kept >= {"project.json", "statements.json"}
