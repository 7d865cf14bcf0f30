"""Ingest from a paged API that takes 50 ms a page: waiting side by side, a bare loop and dlt.

pages by number -> each contender's own DuckDB file

The bare loop is what a practised hand would write: eight threads, a page parsed and made Arrow,
inserted as it comes. It keeps no landing, no order, no exact numbers, and tries nothing again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from suite.kit import Benchmark, Case, Contender, Made, Target, folder_bytes
from suite.paged_api import serving

_SIZES = "sizes.json"


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Keeps the sizes for the server."""
    (folder / _SIZES).write_text(json.dumps(dict(sizes)), encoding="utf-8")


@contextmanager
def around(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The server, while the contenders take their turns."""
    sizes = json.loads((folder / _SIZES).read_text(encoding="utf-8"))
    with serving(sizes) as address:
        yield {"url": address, "pages": sizes["pages"]}


def bare(case: Case) -> Made:
    """Eight threads that ask for pages, one thread that loads them."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import local

    import duckdb
    import pyarrow as pa
    import requests

    own, database = local(), case.scratch / "bare.duckdb"

    def page(number: int) -> Any:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        answer = own.session.get(f"{case.options['url']}/things", params={"page": number})
        return pa.Table.from_pylist(answer.json()["things"])

    with case.timed(), duckdb.connect(str(database)) as connection, ThreadPoolExecutor(8) as pool:
        for number, _rows in enumerate(pool.map(page, range(1, case.options["pages"] + 1))):
            verb = "insert into things" if number else "create table things as"
            connection.execute(f"{verb} select * from _rows")
    return _made(database, "things")


def wellspring(case: Case) -> Made:
    """Extract and load in a process that has been warmed up."""
    from ingestion.declarations import (
        RestTable,
        SourceDeclaration,
        TableDeclaration,
    )
    from ingestion.extract import extract, prepare_extraction
    from ingestion.load import load
    from ingestion.rest.declared import RestSource
    from suite.project import make_project, settings_of

    root = make_project(case.scratch / "project", str(case.options["url"]), "{}", "{}")
    settings = settings_of(root)
    paginator = {"type": "page", "total_path": "pages"}
    rest = {"path": "/things", "records": "things", "paginator": paginator}
    table = RestTable.model_validate({"primary_key": ["id"], "rest": rest})
    source = SourceDeclaration(
        name="src",
        schema="raw_src",
        kind="rest",
        connection="src",
        file="models/staging/src/_src__sources.yml",
        tables=(TableDeclaration("things", "source.bench.src.things", table),),
        rest=RestSource.model_validate({}),
    )
    prepare_extraction(settings)
    import dlt.sources.helpers.rest_client
    import dlt.sources.rest_api.config_setup  # noqa: F401  # imported before the clock starts, as for the others

    with case.timed("extract"):
        (result,) = extract([source], settings)
    assert result.error is None, result.error
    with case.timed("load"):
        loaded = load([source], settings)
    assert loaded.error is None, loaded.error
    return _made(settings.warehouse_path, "raw_src.things", settings.landing_dir)


def dlt_defaults(case: Case) -> Made:
    """dlt's rest_api source on its defaults, into DuckDB."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    database = case.scratch / "dlt.duckdb"
    paginator = {"type": "page_number", "base_page": 1, "total_path": "pages"}
    endpoint = {"path": "things", "data_selector": "things", "paginator": paginator}
    with case.timed():
        source = rest_api_source(
            {
                "client": {"base_url": f"{case.options['url']}/"},
                "resources": [{"name": "things", "endpoint": endpoint}],  # type: ignore[list-item]  # dlt's TypedDict
            }
        )
        pipeline = dlt.pipeline(
            "defaults",
            destination=dlt.destinations.duckdb(str(database)),
            dataset_name="raw",
            pipelines_dir=str(case.scratch / "pipelines"),
        )
        pipeline.run(source).raise_on_failed_jobs()
    return _made(database, "raw.things")


def _made(database: Path, table: str, *more: Path) -> Made:
    """Number of records, and what their keys, quantities and prices add up to."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        found = connection.execute(
            "select count(*), sum(id::bigint), sum(quantity::bigint), "
            f"sum(price::decimal(12, 2)) from {table}"
        ).fetchone()
    assert found is not None
    size = sum(folder_bytes(place) for place in (database, *more))
    return Made(found[0], "-".join(str(value) for value in found[1:]), size)


_HERE = "suite/cases/rest.py"
BENCHMARKS = (
    Benchmark(
        name="ingest-rest",
        title="a paged API of 50 ms a page to a raw table",
        baseline="bare loop of 8",
        contenders=(
            Contender("bare loop of 8", f"{_HERE}:bare"),
            Contender("wellspring", f"{_HERE}:wellspring"),
            Contender("dlt defaults", f"{_HERE}:dlt_defaults"),
        ),
        prepare=prepare,
        around=around,
        sizes={"pages": 400, "records": 250, "milliseconds": 50},
        quick={"pages": 80, "records": 100, "milliseconds": 50},
        targets=(
            Target("wellspring", "bare loop of 8", speed=0.5, text="acceptance 1"),
            Target("wellspring", "dlt defaults", speed=4, text="acceptance 1"),
        ),
        about="The bare loop keeps no landing, no order and no exact numbers, and tries nothing "
        "again. Wellspring lands the records as sent, checks, books and loads them.",
    ),
)
