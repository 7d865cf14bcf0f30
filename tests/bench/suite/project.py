"""A small project of one source, as a user would set it up: nothing but what has to be said.

format, place of the files -> dbt_project.yml, profiles.yml, a source's YAML -> `extract`, `load`
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from suite.kit import ROOT

if TYPE_CHECKING:
    from ingestion.declarations import SourceDeclaration
    from ingestion.settings import Settings

_DBT_PROJECT = """
    name: bench
    version: "1.0.0"
    profile: bench
    flags: {send_anonymous_usage_stats: false}
    model-paths: [models]
    macro-paths: [macros]
"""
_PROFILES = """
    bench:
      target: duckdb
      outputs:
        duckdb:
          type: duckdb
          path: "{{ env_var('WELLSPRING_DATA', 'data') }}/warehouse/wellspring.duckdb"
          threads: 2
          plugins: [{module: ingestion.dbt_plugin}]
          settings: {TimeZone: UTC, preserve_insertion_order: false}
"""
_SCHEMAS = """
    {% macro generate_schema_name(custom_schema_name, node) -%}
        {{ custom_schema_name or target.schema }}
    {%- endmacro %}
"""
_SOURCE = """
    sources:
      - name: src
        schema: raw_src
        description: What the benchmark reads.
        config:
          meta:
            ingest: %s
        tables:
          - name: items
            description: One row per line item.
            config:
              meta:
                ingest: %s
"""


def make_project(
    root: Path, url: str, source: str, table: str, files: Mapping[str, str] | None = None
) -> Path:
    """Writes a project with a source `src` that has a table `items`.

    Args:
        root: The folder to be; its data folder is `data` in it.
        url: Where the connection leads to.
        source: What the source declares to be ingested, as YAML.
        table: What its table does.
        files: Further files, such as models.

    Returns:
        The folder.
    """
    texts = {
        "dbt_project.yml": _DBT_PROJECT,
        "profiles.yml": _PROFILES,
        "macros/generate_schema_name.sql": _SCHEMAS,
        "models/staging/src/_src__sources.yml": dedent(_SOURCE) % (source, table),
        **(files or {}),
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
    os.environ["CONNECTIONS__SRC__URL"] = url
    os.environ["WELLSPRING_DATA"] = str(root / "data")
    return root


def call(root: Path, *arguments: str) -> None:
    """Runs `wellspring` in a project, as a process of its own.

    Raises:
        CalledProcessError: It did not end with code 0.
    """
    subprocess.run(
        [sys.executable, "-m", "runner", *arguments, "--quiet"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DBT_TARGET_PATH": str(root / "target")},
        check=True,
    )


def settings_of(root: Path, **limits: str) -> Settings:
    """The project's settings, with limits of their own where some are given."""
    from dataclasses import replace

    from ingestion.settings import load_settings

    settings = load_settings(root)
    return replace(settings, limits=replace(settings.limits, **limits))


def declared(kind: str, table: Mapping[str, Any]) -> SourceDeclaration:
    """The declaration that the YAML would give, for what is measured without dbt's part."""
    from ingestion.declarations import (
        DatabaseTable,
        FilesTable,
        SourceDeclaration,
        TableDeclaration,
    )

    models: dict[str, Any] = {"files": FilesTable, "database": DatabaseTable}
    return SourceDeclaration(
        name="src",
        schema="raw_src",
        kind=kind,  # type: ignore[arg-type]  # a kind that the caller knows to be one
        connection="src",
        file="models/staging/src/_src__sources.yml",
        tables=(
            TableDeclaration("items", "source.bench.src.items", models[kind].model_validate(table)),
        ),
    )
