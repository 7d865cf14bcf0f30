"""One row lost or doubled, in whatever table of the warehouse, is found by a test of the audit.

example warehouse -> copy -> delete or double one row of one table -> the audit's own compiled SQL

Each change is rolled back before the next one. Lookups are left out: they come from files of the
project, and each build loads them anew. What happens to landing is tried in `test_verify`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from warehouses import ExampleWarehouse

LAYERS = {
    "raw": "raw_%",
    "ledger": "ledger",
    "staging": "staging",
    "quarantine": "quarantine",
    "rejected": "rejected",
    "findings": "findings",
    "absent keys": "absent_keys",
    "outcomes": "ledger_outcomes",
    "history": "history",
    "books": "books",
    "intermediate": "intermediate",
    "core": "core",
    "sales": "sales",
    "support": "support",
    "customers": "customers",
}
# Their checks are one text that a macro repeats for each table, so some tables tell for all.
ALIKE = {"staging": 4, "quarantine": 3, "rejected": 5, "findings": 5, "outcomes": 6}
# No test of dbt sees these: they are compared with landing, in `test_verify`.
BY_VERIFY = {"ledger.loads"}
# These say something about rows or keep a log; a build or a run makes them anew, none holds a row.
TELLING = ("books.veracity_", "books.measures", "books.anomalies", "ledger.replays")
DELETE = "delete from {0} where rowid = (select rowid from {0} offset {1} limit 1)"
DOUBLE = "insert into {0} select * from {0} offset {1} limit 1"


class Audit:
    """The data tests of error severity, as compiled when the example was built."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, manifest: Path) -> None:
        self._connection = connection
        nodes = json.loads(manifest.read_text())["nodes"].values()
        tests = [
            node
            for node in nodes
            if node["resource_type"] == "test"
            and node["config"]["severity"].lower() == "error"
            and node.get("compiled_code")
        ]
        # Those that stand alone look at many tables: they are the likeliest to find something.
        self._tests = sorted(tests, key=lambda node: node.get("test_metadata") is not None)
        assert len(tests) > 200

    def is_red(self, relation: str) -> bool:
        """Whether a test that reads the table finds a row."""
        return any(
            self._connection.execute(
                f"select 1 from ({test['compiled_code']}\n) limit 1"
            ).fetchall()
            for test in self._tests
            if relation in test["compiled_code"]
        )


@pytest.fixture(scope="module")
def connection(
    example_warehouse: ExampleWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    # The compiled SQL names the catalog, which DuckDB names after the file.
    copy = tmp_path_factory.mktemp("tampered") / example_warehouse.warehouse.name
    shutil.copy(example_warehouse.warehouse, copy)
    with duckdb.connect(str(copy)) as opened:
        opened.execute("set TimeZone = 'UTC'")
        yield opened


@pytest.mark.parametrize("layer", LAYERS)
def test_one_row_lost_or_doubled_anywhere_turns_the_audit_red(
    example_warehouse: ExampleWarehouse, connection: duckdb.DuckDBPyConnection, layer: str
) -> None:
    audit = Audit(connection, example_warehouse.data_dir / "target" / "manifest.json")
    tables = connection.execute(
        "select schema_name, table_name from duckdb_tables() where schema_name like ? order by all",
        [LAYERS[layer]],
    ).fetchall()
    unnoticed, tried = [], 0
    for schema, table in tables[:: ALIKE.get(layer, 1)]:
        relation = f'"{schema}"."{table}"'
        [(rows,)] = connection.execute(f"select count(*) from {relation}").fetchall()
        name = f"{schema}.{table}"
        if not rows or name in BY_VERIFY or name.startswith(TELLING):
            continue
        for change in (DELETE, DOUBLE):
            connection.execute("begin")
            connection.execute(change.format(relation, rows // 2))
            if not audit.is_red(relation):
                unnoticed.append(f"{change.partition(' ')[0]} {schema}.{table}")
            connection.execute("rollback")
            tried += 1
    assert tried >= 2
    assert unnoticed == []


def test_an_untouched_warehouse_is_not_red(
    example_warehouse: ExampleWarehouse, connection: duckdb.DuckDBPyConnection
) -> None:
    audit = Audit(connection, example_warehouse.data_dir / "target" / "manifest.json")
    assert not audit.is_red('"raw_shop"."orders"')
    assert not audit.is_red('"sales"."fct_orders"')
