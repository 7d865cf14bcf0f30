"""Selection in dbt's language, and `python -m ingestion` from a project's folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest
import warm

from ingestion.declarations import load_declarations
from ingestion.errors import DeclarationError
from ingestion.manifest import parse_project, read_manifest
from ingestion.settings import Settings

SOURCES = """
sources:
  - name: {name}
    schema: raw_{name}
    config:
      meta:
        ingest: {{kind: files, connection: {name}, on_refused: fail}}
    tables:
      - name: orders
        config: {{meta: {{ingest: {{path: "*.{suffix}"}}}}}}
"""
MODELS = {
    "stg_shop__orders": "select * from {{ source('shop', 'orders') }}",
    "stg_desk__orders": "select * from {{ source('desk', 'orders') }}",
    "fct_orders": "select * from {{ ref('stg_shop__orders') }}",
    "rpt_all": "select 1 as n from {{ ref('fct_orders') }}, {{ ref('stg_desk__orders') }}",
}
TESTS = """
models:
  - name: fct_orders
    columns:
      - name: n
        data_tests:
          - relationships: {arguments: {to: ref('stg_desk__orders'), field: n}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "dbt_project.yml").write_text(
        "name: tiny\nprofile: tiny\nflags: {send_anonymous_usage_stats: false}\n"
    )
    (folder / "profiles.yml").write_text(
        "tiny:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n"
        "      path: \"{{ env_var('WELLSPRING_DATA', 'data') }}/warehouse/wellspring.duckdb\"\n"
    )
    models = folder / "models"
    models.mkdir()
    for name, suffix in (("shop", "csv"), ("desk", "json")):
        (models / f"_{name}__sources.yml").write_text(SOURCES.format(name=name, suffix=suffix))
        (folder / name).mkdir()
    for name, sql in MODELS.items():
        (models / f"{name}.sql").write_text(sql)
    (models / "models.yml").write_text(TESTS)
    (folder / ".dlt").mkdir()
    (folder / ".dlt" / "config.toml").write_text(
        '[connections.shop]\nurl = "shop"\n[connections.desk]\nurl = "desk"\n'
    )
    return folder


@pytest.fixture(scope="module")
def parsed(project: Path) -> tuple[Settings, Any]:
    before = dict(os.environ)
    settings = Settings(project, project / "data")
    manifest = parse_project(settings)
    os.environ.clear()
    os.environ.update(before)
    return settings, manifest


@pytest.mark.parametrize(
    ("select", "exclude", "expected"),
    [
        (None, None, {"shop", "desk"}),
        ("fct_orders", None, {"shop"}),
        (["rpt_all"], None, {"shop", "desk"}),
        ("source:desk", None, {"desk"}),
        ("stg_shop__orders+", None, {"shop", "desk"}),
        ("rpt_all", "source:desk", {"shop"}),
        (None, "source:desk rpt_all stg_desk__orders", {"shop"}),
        ("fct_orders source:desk.orders", None, {"shop", "desk"}),
    ],
)
def test_sources_above_a_selection(
    parsed: tuple[Settings, Any], select: Any, exclude: Any, expected: set[str]
) -> None:
    settings, manifest = parsed
    content, sources = read_manifest(settings, select, exclude, manifest)
    assert {source.split(".")[2] for source in sources} == expected
    assert {d.name for d in load_declarations(content, sources)} == expected


def test_a_selection_without_a_match_is_told(parsed: tuple[Settings, Any]) -> None:
    settings, manifest = parsed
    with pytest.raises(DeclarationError, match="nothing in the project matches --select fct_order"):
        read_manifest(settings, "fct_order", None, manifest)


def test_a_project_that_dbt_refuses_is_told_in_dbts_words(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: tiny\nprofile: tiny\n")
    (tmp_path / "profiles.yml").write_text(
        "tiny: {target: dev, outputs: {dev: {type: duckdb, path: x.duckdb}}}\n"
    )
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bad.sql").write_text("select * from {{ ref('nowhere') }}")
    with pytest.raises(DeclarationError, match="nowhere") as caught:
        parse_project(Settings(tmp_path, tmp_path / "data"))
    assert caught.value.exit_code == 3


def test_the_command_extracts_loads_and_ends_with_the_right_code(project: Path) -> None:
    (project / "shop" / "a.csv").write_text("n\n1\n")
    (project / "desk" / "bad.json").write_text("[")

    def ingest(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WELLSPRING")}
        return warm.run(
            ["-m", "ingestion", *arguments],
            capture_output=True,
            text=True,
            cwd=project / "models",
            env=environment,
            timeout=240,
            check=False,
        )

    done = ingest("--select", "fct_orders")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loaded shop.orders: rows=1 files=1" in done.stdout
    assert "desk" not in done.stdout
    done = ingest()
    assert done.returncode == 6, done.stdout + done.stderr
    assert "loaded shop.orders: rows=0 files=0" in done.stdout
    assert "desk.orders: bad.json is refused: it is no valid JSON" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    path = str(project / "data" / "warehouse" / "wellspring.duckdb")
    with duckdb.connect(path, read_only=True) as connection:
        assert connection.sql("select n from raw_shop.orders").fetchall() == [("1",)]
    with (project / "data" / "state" / "run.lock").open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = ingest()
        assert done.returncode == 5
        assert "another run is under way: its owner is not known" in done.stdout
    (project / "wellspring.toml").write_text("[extarct]\n")
    done = ingest()
    assert done.returncode == 3
    assert "Did you mean extract?" in done.stdout
