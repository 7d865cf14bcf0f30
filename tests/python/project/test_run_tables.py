"""What dbt makes empty and what the runner fills are the same tables, as their sources declare."""

from __future__ import annotations

import re

import duckdb
from warehouses import BuiltProject

from runner import ops
from runner.veracity import observe

TABLES = observe.TABLES | ops.TABLES


def test_tables_of_runs_are_made_declared_and_filled_alike(built_project: BuiltProject) -> None:
    project = built_project.manifest["metadata"]["project_name"]
    macro = built_project.manifest["macros"][f"macro.{project}.create_run_tables"]["macro_sql"]
    made = {
        name: [
            (column.split()[0], str(duckdb.type(column.split()[1])))
            for column in columns.split(",")
        ]
        for name, columns in _listed(macro).items()
    }
    written = {
        name: [(column, str(duckdb.type(kind))) for column, kind in columns.items()]
        for name, columns in TABLES.items()
    }
    declared = {
        source["name"]: [
            (column["name"], str(duckdb.type(column["data_type"])))
            for column in source["columns"].values()
        ]
        for source in built_project.manifest["sources"].values()
        if source["source_name"] == "runs"
    }
    assert made == written
    assert declared == written


def _listed(macro: str) -> dict[str, str]:
    """Columns by table, as text, of the macro with its moments and joined lines resolved."""
    text = macro.replace('" ~ moment ~ "', "timestamp")
    text = re.sub(r'"\s*~ "', "", text)
    return dict(re.findall(r'"(\w+)": "([^"]+)"', text))
