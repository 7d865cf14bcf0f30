"""What OpenLineage events are made of: run, job, datasets and their facets, as plain dictionaries.

values of ours -> functions here -> dictionaries with the names and schema addresses of the standard

Written by hand because an event is a small dictionary, and the client would bring an HTTP stack of
its own; the tests read every event back with the client's classes. Left out: which events a run
has, which `observer` knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import UUID, uuid5

_SPEC = "https://openlineage.io/spec"
# Any fixed value does: run ids of ours are made into the same UUIDs everywhere and always.
_NAMESPACE = UUID("6f1d1c0e-5a55-5c1b-9d6c-0d7a7c2f9b10")
# Facets with the version of their schema.
_FACETS = {
    "parent": "1-2-0/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "nominalTime": "1-0-1/NominalTimeRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "sql": "1-1-0/SQLJobFacet",
    "sourceCodeLocation": "1-1-0/SourceCodeLocationJobFacet",
    "documentation": "1-1-0/DocumentationDatasetFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "dataQualityAssertions": "1-1-0/DataQualityAssertionsDatasetFacet",
}


def _own_version() -> str:
    try:
        return version("wellspring")
    except PackageNotFoundError:
        return "0"


VERSION = _own_version()
PRODUCER = f"urn:wellspring:{VERSION}"


def uuid_of(*parts: str) -> str:
    """The UUID of a run, a step of it, or a model that it built."""
    return str(uuid5(_NAMESPACE, "/".join(parts)))


def facets(**given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Facets by name, each with its producer and schema; those that are None are left out."""
    return {
        name: {
            "_producer": PRODUCER,
            "_schemaURL": f"{_SPEC}/facets/{_address(_FACETS[name])}",
            **{key: value for key, value in content.items() if value is not None},
        }
        for name, content in given.items()
        if content is not None
    }


def _address(facet: str) -> str:
    return f"{facet}.json#/$defs/{facet.rpartition('/')[2]}"


def event(
    kind: str,
    moment: str,
    run: Mapping[str, Any],
    job: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]] = (),
    outputs: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """An event.

    Args:
        kind: START, COMPLETE, FAIL or ABORT.
        moment: When, ISO 8601.
        run: As `run_of` makes it.
        job: As `job_of` makes it.
        inputs: Datasets that were read.
        outputs: Datasets that were written.
    """
    return {
        "eventType": kind,
        "eventTime": moment,
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": run,
        "job": job,
        "inputs": list(inputs),
        "outputs": list(outputs),
    }


def run_of(run_id: str, **given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run with its facets."""
    return {"runId": run_id, "facets": facets(**given)}


def job_of(
    namespace: str, name: str, kind: str, **given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A job with its facets.

    Args:
        namespace: The project.
        name: Its name there.
        kind: RUN, STEP, MODEL, SEED or SNAPSHOT.
        given: Further facets.
    """
    integration = "WELLSPRING" if kind in ("RUN", "STEP") else "DBT"
    own = {"processingType": "BATCH", "integration": integration, "jobType": kind}
    return {"namespace": namespace, "name": name, "facets": facets(jobType=own, **given)}


def parent_of(
    run: Mapping[str, Any], job: Mapping[str, Any], root_run: str, root_job: Mapping[str, Any]
) -> dict[str, Any]:
    """What a run was begun by, and what began all of it."""
    return {
        "run": {"runId": run["runId"]},
        "job": {"namespace": job["namespace"], "name": job["name"]},
        "root": {
            "run": {"runId": root_run},
            "job": {"namespace": root_job["namespace"], "name": root_job["name"]},
        },
    }


def dataset(namespace: str, name: str, **given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A dataset with its facets."""
    return {"namespace": namespace, "name": name, "facets": facets(**given)}


def output(
    found: Mapping[str, Any], rows: int | None, size: int | None = None, files: int | None = None
) -> dict[str, Any]:
    """A dataset that was written, with how much."""
    told = {"rowCount": rows, "size": size, "fileCount": files}
    known = None if rows is size is files is None else told
    return {**found, "outputFacets": facets(outputStatistics=known)}


def tested(found: Mapping[str, Any], assertions: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A dataset that was read to test it, with what the tests found."""
    checks = [{k: v for k, v in check.items() if v is not None} for check in assertions]
    return {**found, "inputFacets": facets(dataQualityAssertions={"assertions": checks})}


def fields_of(columns: Iterable[tuple[str, str | None, str | None]]) -> dict[str, Any] | None:
    """The schema facet of columns, given as name, type and description; None without any."""
    listed = [
        {
            key: value
            for key, value in zip(("name", "type", "description"), column, strict=True)
            if value
        }
        for column in columns
    ]
    return {"fields": listed} if listed else None
