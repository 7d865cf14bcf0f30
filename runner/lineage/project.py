"""The lineage of this project's columns: dbt compiles it, the warehouse tells what raw holds.

settings -> dbt (parsed, compiled), columns of the warehouse, heads of seeds -> `ColumnGraph`

It is kept by the text of each model below the state folder, so that only what has changed is read
again. A warehouse that is not there yet, or held by a run, is done without: then the declared
columns of the sources are all that is known of them.
"""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.errors import IngestionError
from ingestion.lock import RunLock, lock_path
from ingestion.settings import Settings
from runner.history import new_run_id
from runner.lineage.graph import ColumnGraph, column_graph

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

    from runner.transform import Dbt

FILE = "lineage.json"


def read_project(settings: Settings, command: str) -> ColumnGraph:
    """Does what `project_graph` does, under the run's lock, because dbt compiles meanwhile.

    Args:
        settings: The project's settings.
        command: The command line, shown to whoever is refused meanwhile.

    Raises:
        DeclarationError: dbt refuses the project.
        BuildFailed: A model cannot be compiled.
        LockHeld: A run is under way.
    """
    from runner.transform import Dbt

    with RunLock(lock_path(settings), new_run_id, command):
        return project_graph(settings, Dbt(settings))


def project_graph(settings: Settings, dbt: Dbt) -> ColumnGraph:
    """Reads the lineage of all columns of the project.

    Args:
        settings: The project's settings.
        dbt: The project's dbt; it compiles the models that are not compiled yet.

    Raises:
        DeclarationError: dbt refuses the project.
        BuildFailed: A model cannot be compiled.
        LockHeld: Another process has the warehouse open, so that dbt cannot compile.
    """
    sql = [
        key
        for key, node in dbt.manifest.nodes.items()
        if str(node.resource_type) == "model" and str(node.language) == "sql"
    ]
    # What was just built is compiled.
    dbt.compile([key for key in sql if not dbt.manifest.nodes[key].compiled_code])
    columns = warehouse_columns(settings)
    seeds = _seed_columns(dbt.manifest, settings.project_dir)
    return column_graph(dbt.manifest, columns, seeds, settings.state_dir / FILE)


def warehouse_columns(settings: Settings) -> dict[str, list[str]]:
    """Columns of what the warehouse holds, by full name; nothing if it cannot be opened."""
    from ingestion.warehouse import connect

    if not settings.warehouse_path.is_file():
        return {}
    found: dict[str, list[str]] = {}
    try:
        with closing(connect(settings, read_only=True)) as connection:
            rows = connection.execute(
                "select schema_name || '.' || table_name, column_name from duckdb_columns() "
                "where not internal and database_name = current_database() order by all"
            ).fetchall()
    except IngestionError:
        return {}
    for relation, column in rows:
        found.setdefault(relation.lower(), []).append(column.lower())
    return found


def _seed_columns(manifest: Manifest, project_dir: Path) -> dict[str, list[str]]:
    found = {}
    for key, node in manifest.nodes.items():
        if str(node.resource_type) == "seed":
            path = Path(getattr(node, "root_path", None) or project_dir) / node.original_file_path
            with path.open(newline="", encoding="utf-8-sig") as file:
                found[key] = next(csv.reader(file, delimiter=node.config.delimiter or ","), [])
    return found
