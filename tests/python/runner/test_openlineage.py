"""OpenLineage events: read back by the standard's own client, in a file and by a server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from toyshop import Call, ToyShop

NEVER = "select 1 as one"
FACETS = {
    "parent": facet_v2.parent_run.ParentRunFacet,
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "nominalTime": facet_v2.nominal_time_run.NominalTimeRunFacet,
    "processing_engine": facet_v2.processing_engine_run.ProcessingEngineRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "sql": facet_v2.sql_job.SQLJobFacet,
    "sourceCodeLocation": facet_v2.source_code_location_job.SourceCodeLocationJobFacet,
    "documentation": facet_v2.documentation_dataset.DocumentationDatasetFacet,
    "schema": facet_v2.schema_dataset.SchemaDatasetFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "outputStatistics": (
        facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    ),
    "dataQualityAssertions": (
        facet_v2.data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet
    ),
}


def read_facets(given: Mapping[str, Any]) -> dict[str, Any]:
    """Facets as the client has them, which refuses names that the standard does not have."""
    found = {}
    for name, content in given.items():
        content = dict(content)
        producer, schema = content.pop("_producer"), content.pop("_schemaURL")
        if name == "parent":
            root = facet_v2.parent_run.Root(
                facet_v2.parent_run.RootRun(**content["root"]["run"]),
                facet_v2.parent_run.RootJob(**content["root"]["job"]),
            )
            run = facet_v2.parent_run.Run(**content["run"])
            job = facet_v2.parent_run.Job(**content["job"])
            content = {"run": run, "job": job, "root": root}
        if name == "schema":
            kind = facet_v2.schema_dataset.SchemaDatasetFacetFields
            content["fields"] = [kind(**one) for one in content["fields"]]
        if name == "dataQualityAssertions":
            check = facet_v2.data_quality_assertions_dataset.Assertion
            content["assertions"] = [check(**one) for one in content["assertions"]]
        found[name] = FACETS[name](**content, producer=producer)
        assert found[name]._schemaURL == schema
    return found


def read_event(text: str) -> RunEvent:
    """An event as the client has it."""
    given = json.loads(text)

    def datasets(kind: Any, own: str) -> list[Any]:
        return [
            kind(
                one["namespace"],
                one["name"],
                facets=read_facets(one["facets"]),
                **{own: read_facets(one.get(own, {}))},
            )
            for one in given[own.removesuffix("Facets") + "s"]
        ]

    found = RunEvent(
        eventType=RunState[given["eventType"]],
        eventTime=given["eventTime"],
        producer=given["producer"],
        run=Run(given["run"]["runId"], read_facets(given["run"]["facets"])),
        job=Job(
            given["job"]["namespace"], given["job"]["name"], read_facets(given["job"]["facets"])
        ),
        inputs=datasets(InputDataset, "inputFacets"),
        outputs=datasets(OutputDataset, "outputFacets"),
    )
    assert found.schemaURL == given["schemaURL"]
    return found


@dataclass
class Lineage:
    """The events of runs of a toy shop."""

    events: list[RunEvent] = field(default_factory=list)

    def of(self, job: str) -> list[RunEvent]:
        return [event for event in self.events if event.job.name == job]

    def kinds(self, job: str) -> list[str]:
        return [event.eventType.name for event in self.of(job)]


@pytest.fixture
def events_file(shop: ToyShop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("WELLSPRING__OPENLINEAGE__FILE", "lineage/events.ndjson")
    path = shop.root / "lineage" / "events.ndjson"

    def read() -> Lineage:
        return Lineage([read_event(line) for line in path.read_text().splitlines()])

    return read


def test_every_run_and_step_has_a_start_and_an_end(
    fresh: ToyShop, call: Call, events_file: Any
) -> None:
    assert call(fresh, "run", "--quiet").code == 0
    lineage = events_file()
    for job in {event.job.name for event in lineage.events}:
        assert lineage.kinds(job) == ["START", "COMPLETE"], job
    whole = lineage.of("run")[0]
    assert lineage.events[0] is whole
    assert lineage.events[-1].run.runId == whole.run.runId
    assert whole.job.facets["jobType"].jobType == "RUN"
    for event in lineage.events[1:-1]:
        assert event.run.facets["parent"].root.run.runId == whole.run.runId
    assert len({event.run.runId for event in lineage.events}) * 2 == len(lineage.events)
    times = [event.eventTime for event in lineage.of("run")]
    assert times == sorted(times)


def test_data_is_followed_from_the_source_to_the_published_table(
    fresh: ToyShop, call: Call, events_file: Any
) -> None:
    assert call(fresh, "run", "--quiet").code == 0
    lineage = events_file()
    extract, load = lineage.of("step.extract")[1], lineage.of("step.load")[1]
    assert {(one.namespace, one.name) for one in extract.inputs} == {
        ("database://stock", "toys"),
        ("files://till", "sales"),
    }
    assert {one.name for one in extract.outputs} == {one.name for one in load.inputs}
    raw = {one.name: one.outputFacets["outputStatistics"].rowCount for one in load.outputs}
    assert raw == {"wellspring.raw_stock.toys": 2, "wellspring.raw_till.sales": 3}
    mart = lineage.of("model.fct_sales")[1]
    assert [one.name for one in mart.inputs] == ["wellspring.staging.stg_till__sales"]
    [made] = mart.outputs
    assert made.name == "wellspring.sales.fct_sales"
    assert made.outputFacets["outputStatistics"].rowCount == 3
    assert made.facets["documentation"].description == "One row per sale."
    fields = {one.name: one.type for one in made.facets["schema"].fields}
    assert fields == {"sale_id": "BIGINT", "toy_id": "BIGINT", "amount": "DECIMAL(12,2)"}
    assert "stg_till__sales" in mart.job.facets["sql"].query
    published = lineage.of("step.publish")[1]
    names = {one.name: one.facets["version"].datasetVersion for one in published.outputs}
    assert names == {"core.dim_toys": fresh.current, "sales.fct_sales": fresh.current}


def test_tests_are_told_as_assertions(shop: ToyShop, call: Call, events_file: Any) -> None:
    shop.write("tests/dbt/assert_never.sql", "select toy_id from {{ ref('dim_toys') }}")
    assert call(shop, "audit").code == 2
    lineage = events_file()
    assert lineage.kinds("step.audit") == ["START", "FAIL"]
    assert lineage.kinds("run.audit") == ["START", "FAIL"]
    assert "assert_never" in lineage.of("run.audit")[1].run.facets["errorMessage"].message
    tables = {one.name: one for one in lineage.of("step.audit")[1].inputs}
    toys = tables["wellspring.core.dim_toys"].inputFacets["dataQualityAssertions"].assertions
    found = {one.name: one for one in toys}
    assert (found["assert_never"].success, found["assert_never"].actual) == (False, "2")
    unique = found["unique_dim_toys_toy_id"]
    assert (unique.assertion, unique.column, unique.success) == ("unique", "toy_id", True)


def test_a_model_that_fails_is_told_with_its_fault(
    shop: ToyShop, call: Call, events_file: Any
) -> None:
    shop.write("models/marts/sales/sales_by_toy.sql", "select nonsense from {{ ref('fct_sales') }}")
    assert call(shop, "build").code == 1
    lineage = events_file()
    assert lineage.kinds("model.sales_by_toy") == ["START", "FAIL"]
    error = lineage.of("model.sales_by_toy")[1].run.facets["errorMessage"]
    assert "nonsense" in error.message
    assert lineage.kinds("model.fct_sales") == ["START", "COMPLETE"]


def test_an_interrupted_run_is_aborted(
    shop: ToyShop, call: Call, events_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("ingestion.load.load", interrupted)
    assert call(shop, "load").code == 130
    lineage = events_file()
    assert lineage.kinds("step.load") == ["START", "ABORT"]
    assert lineage.kinds("run.load") == ["START", "ABORT"]


# -- a server --------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server of events.

    Attributes:
        url: Its address.
        status: What it answers.
        seconds: How long it thinks.
    """

    url: str = ""
    status: int = 201
    seconds: float = 0.0
    bodies: list[str] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)


@contextmanager
def serving() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            time.sleep(told.seconds)
            told.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            told.keys.add(self.headers["Authorization"])
            self.send_response(told.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1/lineage"
        yield told
        server.shutdown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as told:
        monkeypatch.setenv("WELLSPRING__OPENLINEAGE__URL", told.url)
        yield told


def test_a_server_gets_the_events_in_order(
    shop: ToyShop, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE__API_KEY", "kept-to-ourselves")
    answer = call(shop, "load", "audit")
    assert answer.code == 0
    assert "openlineage" not in answer.err
    events = [read_event(body) for body in server.bodies]
    assert events[0].job.name == events[-1].job.name == "run.load-audit"
    assert events[-1].eventType is RunState.COMPLETE
    assert server.keys == {"Bearer kept-to-ourselves"}
    assert "kept-to-ourselves" not in "".join(server.bodies) + answer.err + answer.out


def test_a_server_that_refuses_is_told_once_and_changes_nothing(
    shop: ToyShop, call: Call, server: Server
) -> None:
    server.status = 503
    answer = call(shop, "load", "audit")
    assert answer.code == 0
    told = [line for line in answer.err.splitlines() if "openlineage" in line]
    assert len(told) == 1
    assert "events were not taken by" in told[0]
    assert len(server.bodies) == 3, "a server that is away is not asked for each event"


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_said(
    shop: ToyShop, call: Call, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WELLSPRING__OPENLINEAGE__TIMEOUT_SECONDS", "1")
    assert call(shop, "load").code == 0
    began = time.monotonic()
    assert call(shop, "load").code == 0
    usual = time.monotonic() - began
    server.seconds = 30
    began = time.monotonic()
    answer = call(shop, "load")
    assert answer.code == 0
    assert time.monotonic() - began < usual + 5
    assert "events were not taken by" in answer.err
