"""Each house rule finds its breach in a hand-made manifest, and says which file and what to do."""

from __future__ import annotations

import copy
from typing import Any

import checks
import pytest

GOOD_SQL = """with orders as (
    select * from {{ ref("stg_crm__orders") }}
),

summed as (
    select sum(amount) as amount
    from orders
)

select * from summed"""


def model(path: str, *parents: str, **more: Any) -> dict[str, Any]:
    """One model's node as dbt writes it, in order unless `more` says otherwise."""
    name = path.rsplit("/", 1)[-1].removesuffix(".sql")
    return {
        "unique_id": f"model.demo.{name}",
        "resource_type": "model",
        "package_name": "demo",
        "name": name,
        "original_file_path": path,
        "patch_path": f"demo://{path.removesuffix('.sql')}.yml",
        "raw_code": GOOD_SQL,
        "description": "One row per order.",
        "columns": {"amount": {"description": "What it cost."}},
        "config": {"access": "public", "group": "sales"},
        "contract": {"enforced": True},
        "depends_on": {"nodes": list(parents)},
        **more,
    }


def key_test(owner: str, name: str, column: str = "order_key") -> dict[str, Any]:
    """One generic test's node."""
    return {
        "unique_id": f"test.demo.{name}_{owner}_{column}",
        "resource_type": "test",
        "package_name": "demo",
        "name": f"{name}_{owner}_{column}",
        "original_file_path": f"{owner}.yml",
        "attached_node": f"model.demo.{owner}",
        "test_metadata": {"name": name, "kwargs": {"column_name": column}},
        "depends_on": {"nodes": [f"model.demo.{owner}"]},
    }


def manifest() -> dict[str, Any]:
    """A project of three models that breaks no rule."""
    models = [
        model("models/staging/crm/stg_crm__orders.sql", "source.demo.crm.orders"),
        model("models/intermediate/sales/int_orders_summed.sql", "model.demo.stg_crm__orders"),
        model("models/marts/sales/fct_orders.sql", "model.demo.int_orders_summed"),
    ]
    tests = [key_test(node["name"], kind) for node in models for kind in ("unique", "not_null")]
    source = {
        "unique_id": "source.demo.crm.orders",
        "resource_type": "source",
        "package_name": "demo",
        "source_name": "crm",
        "name": "orders",
        "original_file_path": "models/staging/crm/_crm__sources.yml",
        "description": "One row per order.",
        "columns": {},
    }
    exposure = {
        "unique_id": "exposure.demo.dashboard",
        "resource_type": "exposure",
        "package_name": "demo",
        "name": "dashboard",
        "original_file_path": "models/marts/sales/_sales__exposures.yml",
        "description": "What the heads of sales look at.",
        "owner": {"name": "Sales", "email": "sales@example.com"},
        "depends_on": {"nodes": ["model.demo.fct_orders"]},
    }
    unit_test = {
        "package_name": "demo",
        "name": "fct_orders_sums_lines",
        "original_file_path": "models/marts/sales/fct_orders.yml",
        "description": "Two lines make one sum.",
        "model": "fct_orders",
        "depends_on": {"nodes": ["model.demo.fct_orders"]},
    }
    return {
        "metadata": {"project_name": "demo"},
        "nodes": {node["unique_id"]: node for node in [*models, *tests]},
        "sources": {source["unique_id"]: source},
        "exposures": {exposure["unique_id"]: exposure},
        "unit_tests": {"unit_test.demo.fct_orders": unit_test},
        "groups": {},
        "macros": {},
    }


def with_model(path: str, *parents: str, **more: Any) -> dict[str, Any]:
    """The good project with one more model, or with one replaced."""
    changed = manifest()
    node = model(path, *parents, **more)
    changed["nodes"][node["unique_id"]] = node
    return changed


@pytest.mark.parametrize("rule", checks.BY_MANIFEST, ids=lambda rule: rule.__name__)
def test_a_project_in_order_breaks_no_rule(rule: Any) -> None:
    assert rule(manifest()) == []


FCT = "models/marts/sales/fct_orders.sql"
INT = "models/intermediate/sales/int_orders_summed.sql"

BREACHES = [
    (checks.layering, with_model(FCT, "model.demo.stg_crm__orders"), FCT, "reads staging"),
    (checks.layering, with_model(INT, "source.demo.crm.orders"), INT, "reads source"),
    (checks.layering, with_model("models/misc/x.sql"), "models/misc/x.sql", "lies in no layer"),
    (
        checks.layering,
        with_model("models/marts/support/rpt_x.sql", "model.demo.fct_orders"),
        "models/marts/support/rpt_x.sql",
        "reads marts",
    ),
    (
        checks.naming,
        with_model("models/staging/crm/stg_erp__orders.sql"),
        "models/staging/crm/stg_erp__orders.sql",
        "stg_<source>__<entity>s",
    ),
    (
        checks.naming,
        with_model("models/intermediate/sales/int_orders.sql"),
        "models/intermediate/sales/int_orders.sql",
        "past participle",
    ),
    (
        checks.naming,
        with_model(FCT, patch_path="demo://models/marts/sales/schema.yml"),
        FCT,
        "put its YAML into fct_orders.yml",
    ),
    (
        checks.keys_tested,
        with_model("models/marts/sales/fct_lines.sql"),
        "models/marts/sales/fct_lines.sql",
        "its key is untested",
    ),
    (checks.described, with_model(FCT, description=""), FCT, "has no description"),
    (checks.described, with_model(FCT, description="Orders."), FCT, "One row per"),
    (
        checks.described,
        with_model(FCT, columns={"net_usd": {"description": "The net USD."}}),
        FCT,
        "what column net_usd means",
    ),
    (
        checks.no_orphans,
        with_model("models/intermediate/sales/int_lines_summed.sql"),
        "models/intermediate/sales/int_lines_summed.sql",
        "no model uses it",
    ),
    (checks.contracts, with_model(FCT, contract={"enforced": False}), FCT, "enforce its contract"),
    (
        checks.contracts,
        with_model(FCT, config={"access": "protected", "group": "sales"}),
        FCT,
        "access: public",
    ),
    (checks.contracts, with_model(FCT, config={"access": "public"}), FCT, "has no owner"),
    (checks.lengths, with_model(FCT, raw_code="x\n" * 201), FCT, "split it"),
    (checks.sql_shape, with_model(FCT, raw_code="select 1 as a"), FCT, "end with"),
    (
        checks.sql_shape,
        with_model(FCT, raw_code="{% if true %}" + GOOD_SQL + "{% endif %}\nselect * from x"),
        FCT,
        "control flow",
    ),
    (
        checks.sql_shape,
        with_model(FCT, raw_code="select a from {{ ref('x') }}\nselect * from x"),
        FCT,
        "import CTEs",
    ),
]


@pytest.mark.parametrize(("rule", "broken", "file", "said"), BREACHES)
def test_a_breach_is_found_where_it_is(
    rule: Any, broken: dict[str, Any], file: str, said: str
) -> None:
    told = [str(finding) for finding in rule(broken)]
    assert any(line.startswith(f"{file}: ") and said in line for line in told), told


def test_a_source_that_nobody_stages_is_an_orphan() -> None:
    changed = manifest()
    changed["sources"]["source.demo.crm.notes"] = {
        **changed["sources"]["source.demo.crm.orders"],
        "unique_id": "source.demo.crm.notes",
        "name": "notes",
    }
    [finding] = checks.no_orphans(changed)
    assert "crm.notes" in finding.message


def test_a_foreign_key_without_relationships_is_found() -> None:
    changed = with_model("models/marts/core/dim_products.sql")
    changed["nodes"].update(
        {t["unique_id"]: t for t in [key_test("dim_products", "unique", "product_key")]}
    )
    fact = changed["nodes"]["model.demo.fct_orders"]
    fact["columns"] = {"product_key": {"description": "Which product."}}
    [finding] = checks.foreign_keys_tested(changed)
    assert finding.file == FCT
    assert "relationships" in finding.message


def test_too_few_unit_tests_name_the_models_without() -> None:
    changed = manifest()
    changed["unit_tests"] = {}
    findings = checks.unit_tests(changed)
    assert {finding.file for finding in findings} == {FCT, INT}


def test_an_exposure_needs_someone_to_ask() -> None:
    changed = manifest()
    changed["exposures"]["exposure.demo.dashboard"]["owner"] = {"name": "Sales"}
    [finding] = checks.exposures_owned(changed)
    assert "email" in finding.message


def test_the_same_test_twice_is_found() -> None:
    changed = manifest()
    twin = copy.deepcopy(changed["nodes"]["test.demo.unique_fct_orders_order_key"])
    changed["nodes"]["test.demo.twin"] = {**twin, "unique_id": "test.demo.twin"}
    [finding] = checks.duplicated_tests(changed)
    assert finding.file == FCT


def test_documented_and_built_columns_are_compared_both_ways() -> None:
    built = {
        unique_id: {"columns": {"amount": {}}}
        for unique_id, node in manifest()["nodes"].items()
        if node["resource_type"] == "model"
    }
    assert checks.documented_is_built(manifest(), {"nodes": built}) == []
    built["model.demo.fct_orders"] = {"columns": {"AMOUNT": {}, "extra": {}}}
    [finding] = checks.documented_is_built(manifest(), {"nodes": built})
    assert "extra is built" in finding.message
    built["model.demo.fct_orders"] = {"columns": {}}
    [finding] = checks.documented_is_built(manifest(), {"nodes": built})
    assert "amount is documented" in finding.message
