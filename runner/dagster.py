"""Wellspring in Dagster: the tables that readers get as assets, the steps as a job, a schedule.

dbt's manifest -> an asset a published table, with its lineage -> `wellspring run` as a process ->
what was published, noted in Dagster

Dagster calls the same commands as a person does, in a process of their own: lock, history, exit
codes and messages are those of any run. The optional extra `dagster` brings what this module needs.
Left out: single models as Dagster's work, because readers get nothing before all of it passed its
audit.
"""

# No `from __future__ import annotations`: Dagster looks at the types of `context` themselves.

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import dagster as dg

from ingestion.settings import Settings, load_settings
from runner.project import parents, published_relations
from runner.transform import Dbt
from runner.versions import current_version

STEPS = ("extract", "load", "build", "audit", "publish", "docs")
_LEVELS = {"error": "error", "warning": "warning"}


def make_definitions(
    project_dir: Path | str | None = None, *, cron: str = "0 6 * * *", wait: str = "1h"
) -> dg.Definitions:
    """What Dagster shows and runs of a project.

    Args:
        project_dir: The project's root; by default it is looked for from here upwards.
        cron: When the schedule runs, in the machine's time zone.
        wait: How long a run waits for another one.

    Returns:
        Assets of the sources and the published tables, the job `wellspring` that makes them, the
        job `wellspring_steps` with an op a step, and the schedule of the first.

    Raises:
        IngestionError: The settings or the project are wrong.
    """
    settings = load_settings(Path(project_dir) if project_dir else None)
    sources, tables = _specs(settings)
    job = dg.define_asset_job("wellspring", selection=[spec.key for spec in tables])
    return dg.Definitions(
        assets=[*sources, _run_asset(settings, tables, wait)],
        jobs=[job, _steps_job(settings, wait)],
        schedules=[dg.ScheduleDefinition("wellspring_schedule", job=job, cron_schedule=cron)],
    )


def _specs(settings: Settings) -> tuple[list[dg.AssetSpec], list[dg.AssetSpec]]:
    """Assets of the source tables, and of what readers get."""
    manifest = Dbt(settings).project
    relations = {r.unique_id: r for r in published_relations(manifest)}
    keys = {key: dg.AssetKey([r.schema, r.name]) for key, r in relations.items()}
    for key, source in manifest.sources.items():
        keys[key] = dg.AssetKey([source.source_name, source.name])

    def above(unique_id: str) -> set[dg.AssetKey]:
        """The nearest assets that a model is made from."""
        found: set[dg.AssetKey] = set()
        for parent in parents(manifest, unique_id):
            if parent in keys:
                found.add(keys[parent])
            elif parent in manifest.nodes:
                found |= above(parent)
        return found

    sources = [
        dg.AssetSpec(keys[key], description=source.description or None, group_name="sources")
        for key, source in manifest.sources.items()
    ]
    tables = [
        dg.AssetSpec(
            keys[key],
            deps=sorted(above(key) - {keys[key]}),
            description=relation.description or None,
            group_name=relation.schema,
            skippable=True,
        )
        for key, relation in relations.items()
    ]
    return sources, tables


def _run_asset(
    settings: Settings, tables: Sequence[dg.AssetSpec], wait: str
) -> dg.AssetsDefinition:
    @dg.multi_asset(name="wellspring_run", specs=tables)
    def wellspring_run(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        """Extracts, loads, builds, audits and publishes."""
        code, summary = _call(settings, ["run", "--wait", wait], context.log)
        yield from _published(settings, summary)
        _require_success(code, summary)

    return wellspring_run


def _published(settings: Settings, summary: dict[str, Any]) -> Iterator[dg.MaterializeResult[Any]]:
    """The tables that stem from this run, which a fault elsewhere did not hold back."""
    version = current_version(settings)
    if version is None or summary.get("published") != version.name:
        return
    for table in version.manifest()["tables"]:
        if table["from_version"] == version.name:
            yield dg.MaterializeResult(
                asset_key=dg.AssetKey(table["name"].split(".", 1)),
                metadata={
                    "dagster/row_count": table["rows"],
                    "version": version.name,
                    "database": dg.MetadataValue.path(str(version.database)),
                },
                data_version=dg.DataVersion(table["checksum"]),
            )


def _steps_job(settings: Settings, wait: str) -> dg.JobDefinition:
    ops = [_step_op(settings, step, wait) for step in STEPS]

    @dg.job(name="wellspring_steps", description="Each step of a run as an op of its own.")
    def wellspring_steps() -> None:
        done = ops[0]()
        for op in ops[1:]:
            done = op(done)

    return wellspring_steps


def _step_op(settings: Settings, step: str, wait: str) -> dg.OpDefinition:
    arguments = [step, *(["--build-only"] if step == "docs" else []), "--wait", wait]

    def work(context: dg.OpExecutionContext) -> None:
        code, summary = _call(settings, arguments, context.log)
        _require_success(code, summary)

    first = step == STEPS[0]
    inputs = {} if first else {"after": dg.In(dg.Nothing)}
    return dg.op(name=step, ins=inputs, out=dg.Out(dg.Nothing))(work)


def _call(
    settings: Settings, arguments: Sequence[str], log: dg.DagsterLogManager
) -> tuple[int, dict[str, Any]]:
    """Calls `wellspring`, hands on what it says, and returns its exit code and its summary."""
    command = [sys.executable, "-m", "runner", *arguments, "--log-format", "json"]
    with subprocess.Popen(
        command,
        cwd=settings.project_dir,
        env={**os.environ, "WELLSPRING_DATA": str(settings.data_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        teller = threading.Thread(target=_tell, args=(process.stderr, log), daemon=True)
        teller.start()
        try:
            said = process.stdout.read()
        except BaseException:
            # Dagster ends us by an exception: the run ends in good order and lets go of the lock.
            process.terminate()
            raise
        teller.join()
    lines = [line for line in said.splitlines() if line.startswith("{")]
    return process.returncode, json.loads(lines[-1]) if lines else {}


def _tell(lines: IO[str], log: dg.DagsterLogManager) -> None:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            log.info(line.rstrip())
            continue
        parts = [event.get(key) for key in ("event", "step", "name", "status", "message")]
        level = _LEVELS.get(event.get("level", ""), "info")
        getattr(log, level)(" ".join(str(part) for part in parts if part))


def _require_success(code: int, summary: dict[str, Any]) -> None:
    if code == 0:
        return
    errors = [f"{e['message']} {e['hint'] or ''}".strip() for e in summary.get("errors", [])]
    raise dg.Failure(
        description="; ".join(errors) or f"wellspring ended with code {code}",
        metadata={"exit_code": code, "run": str(summary.get("run_id", ""))},
        # The run has tried again whatever may pass.
        allow_retries=False,
    )
