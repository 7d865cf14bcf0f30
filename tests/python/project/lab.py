"""A small dbt project with this project's macros and tests, for trying them on rows made by hand.

macros/, generic tests, dbt_project.yml, profiles.yml ─> copy ─┬─> dbt in-process ─> DuckDB
                                        models made by a test ─┘

The copy has its own warehouse, so a test may break it. What the project's own models make of real
data is not tried here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import yaml

PROJECT = Path(__file__).resolve().parents[3]

RAW_COLUMNS = {
    "_file": "varchar",
    "_row": "bigint",
    "_load_id": "varchar",
    "_extracted_at": "timestamp",
    "_deleted": "boolean",
}


class Lab:
    """A dbt project below `folder`, and its warehouse.

    Attributes:
        folder: the project's root.
        data: its data folder.
        results: for a test to keep what dbt answered.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.results: dict[str, tuple[str, str]] = {}
        for name in ("macros", "tests/dbt/generic"):
            shutil.copytree(PROJECT / name, folder / name)
        for name in ("dbt_project.yml", "profiles.yml"):
            shutil.copy(PROJECT / name, folder / name)
        self.warehouse.parent.mkdir(parents=True)

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that dbt writes."""
        return self.data / "warehouse" / "wellspring.duckdb"

    def write(self, path: str, text: str) -> None:
        """Write a file of the project, its folders made as needed."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def raw(self, table: str, columns: Mapping[str, str], rows: list[dict[str, Any]]) -> None:
        """Replace the raw table `raw_lab.<table>`; a row needs only the columns that matter.

        `_row` counts up, `_file` is `<table>.parquet`, `_load_id` is 1 and `_deleted` false,
        unless a row says otherwise.
        """
        names = {**columns, **RAW_COLUMNS}
        declared = ", ".join(f"{name} {kind}" for name, kind in names.items())
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute("create schema if not exists raw_lab")
            connection.execute(f"create or replace table raw_lab.{table} ({declared})")
            for number, row in enumerate(rows, start=1):
                usual = {
                    "_file": f"{table}.parquet",
                    "_row": number,
                    "_load_id": "1",
                    "_deleted": False,
                }
                full = usual | row
                connection.execute(
                    f"insert into raw_lab.{table} ({', '.join(full)})"
                    f" values ({', '.join('?' for _ in full)})",
                    list(full.values()),
                )

    def declare(self, *tables: str) -> None:
        """Declare raw tables as dbt's source `lab`."""
        source = {
            "name": "lab",
            "schema": "raw_lab",
            "tables": [{"name": table} for table in tables],
        }
        self.write(
            "models/staging/lab/_lab__sources.yml",
            yaml.safe_dump({"sources": [source]}, sort_keys=False),
        )

    def stage(
        self,
        name: str,
        table: str,
        select: str,
        *,
        staging: Mapping[str, Any],
        rules: Mapping[str, list[Any]] | None = None,
        refers_to: tuple[str, ...] = (),
        config: Mapping[str, Any] | None = None,
        columns: list[dict[str, Any]] | None = None,
    ) -> None:
        """Write a staging model that reads one raw table, and its YAML."""
        head = "".join(f"{{{{ refers_to('{other}') }}}}\n" for other in refers_to)
        self.write(
            f"models/staging/lab/{name}.sql",
            f"{head}with source as (select * from {{{{ source('lab', '{table}') }}}}),\n"
            f"cleaned as (select {select}, _file, _row, _load_id, _deleted,\n"
            "{{ raw_record('source') }} as _record from source)\nselect * from cleaned\n",
        )
        described = columns or [
            {"name": column, "config": {"meta": {"rules": listed}}}
            for column, listed in (rules or {}).items()
        ]
        model = {
            "name": name,
            "config": {"meta": {"staging": dict(staging)}, **(config or {})},
            "columns": described,
        }
        self.write(
            f"models/staging/lab/{name}.yml", yaml.safe_dump({"models": [model]}, sort_keys=False)
        )

    def dbt(self, *arguments: str) -> dict[str, tuple[str, str]]:
        """Run dbt in-process.

        Returns:
            Per node (by name) its status and message; empty if dbt stopped before any node, in
            which case the reason is under the name `dbt`.
        """
        from dbt.cli.main import dbtRunner

        where = ["--project-dir", str(self.folder), "--profiles-dir", str(self.folder)]
        where += ["--target-path", str(self.folder / "target"), "--log-path", str(self.data)]
        with mock.patch.dict(os.environ, {"WELLSPRING_DATA": str(self.data)}):
            outcome = dbtRunner().invoke(["--quiet", *arguments, *where])
        if outcome.exception is not None:
            return {"dbt": ("error", str(outcome.exception))}
        results = getattr(outcome.result, "results", None) or []
        return {
            result.node.name: (str(result.status), str(result.message or "")) for result in results
        }

    def execute(self, sql: str) -> None:
        """Run a statement on the warehouse, which dbt keeps open in this process."""
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute(sql)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Answer a query on the warehouse."""
        with duckdb.connect(str(self.warehouse)) as connection:
            return connection.execute(sql).fetchall()
