"""Tells a run as OpenLineage events while it goes on.

a run begins or ends, a step begins or ends -> `LineageObserver` -> START, COMPLETE, FAIL, ABORT

The run is a job, each step one below it, each model that dbt built one below its step. Datasets are
the source's tables, their folders in landing, the warehouse's tables and those that are published.
dbt tells how long a model took, not when, so models end with their step. Left out: lineage of
columns, which `wellspring explain` tells row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from runner.observers import Ending, Observer
from runner.openlineage.events import (
    VERSION,
    dataset,
    event,
    fields_of,
    job_of,
    output,
    parent_of,
    run_of,
    tested,
    uuid_of,
)
from runner.openlineage.sending import Sender, moment

if TYPE_CHECKING:
    from runner.history import Item
    from runner.machine import Visit
    from runner.steps import Run

_BUILT = ("model", "seed", "snapshot")
_KINDS = {"interrupted": "ABORT", "failed": "FAIL"}
Columns = Mapping[tuple[str, str], list[tuple[str, str]]]


class LineageObserver(Observer):
    """Sends the events of one run.

    Args:
        sender: Where they go.
    """

    name = "openlineage"

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._open: str | None = None
        self._columns: Columns = {}

    def on_begin(self, run: Run) -> None:
        """START of the run."""
        import duckdb

        nominal = run.settings.measures.as_of
        engine = {"name": "DuckDB", "version": duckdb.__version__}
        engine["openlineageAdapterVersion"] = VERSION
        whole = run_of(
            uuid_of(run.run_id),
            nominalTime={"nominalStartTime": nominal} if "T" in nominal else None,
            processing_engine=engine,
        )
        self._sender.send(event("START", moment(), whole, self._job(run)))

    def on_step_begin(self, run: Run, step: str) -> None:
        """START of the step."""
        self._open = step
        self._sender.send(event("START", moment(), *self._step(run, step)))

    def on_step(self, run: Run, step: Visit) -> None:
        """The models that the step built, then COMPLETE or FAIL of the step with its datasets."""
        self._open = None
        items = step.result.items
        if step.name == "build":
            self._columns = _columns(run)
            for item in items:
                if item.kind in _BUILT and item.status in ("ok", "failed"):
                    self._built(run, step.name, item)
        kind = "FAIL" if step.result.status == "failed" else "COMPLETE"
        message = step.result.text if kind == "FAIL" else ""
        inputs, outputs = self._datasets(run, step.name, items)
        whole, job = self._step(run, step.name, message)
        self._sender.send(event(kind, moment(), whole, job, inputs, outputs))

    def on_end(self, run: Run, ending: Ending) -> None:
        """The end of a step that was broken off, and of the run; then waits for the server."""
        kind = _KINDS.get(ending.status, "COMPLETE")
        if self._open is not None:
            whole, job = self._step(run, self._open, ending.message)
            self._sender.send(event(kind, moment(), whole, job))
        error = _error(ending.message) if ending.exit_code else None
        whole = run_of(uuid_of(run.run_id), errorMessage=error)
        self._sender.send(event(kind, moment(), whole, self._job(run)))
        self._sender.finish()

    # -- jobs ----------------------------------------------------------------------------------

    def _namespace(self, run: Run) -> str:
        return run.settings.openlineage.namespace or run.settings.project_dir.name

    def _job(self, run: Run) -> dict[str, Any]:
        from runner.cli.shared import RUN_STEPS

        steps = tuple(run.steps)
        name = "run" if steps == RUN_STEPS else f"run.{'-'.join(steps)}"
        return job_of(self._namespace(run), name, "RUN", sourceCodeLocation=_code(run, None))

    def _step(
        self, run: Run, step: str, message: str = ""
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A step as run and job."""
        root, job = {"runId": uuid_of(run.run_id)}, self._job(run)
        whole = run_of(
            uuid_of(run.run_id, step),
            parent=parent_of(root, job, root["runId"], job),
            errorMessage=_error(message) if message else None,
        )
        return whole, job_of(self._namespace(run), f"step.{step}", "STEP")

    def _built(self, run: Run, step: str, item: Item) -> None:
        """START and end of a model."""
        node = _node(run, item.name, _BUILT)
        if node is None:
            return
        above, step_job = self._step(run, step)
        run_id = uuid_of(run.run_id, step, node.unique_id)
        parent = parent_of(above, step_job, uuid_of(run.run_id), self._job(run))
        place = (self._namespace(run), f"{item.kind}.{node.name}", item.kind.upper())
        began = moment(item.seconds or 0.0)
        whole = run_of(run_id, parent=parent)
        self._sender.send(event("START", began, whole, job_of(*place)))
        is_failed = item.status == "failed"
        code = getattr(node, "compiled_code", None) or node.raw_code
        job = job_of(
            *place,
            sql={"query": code, "dialect": "duckdb"} if code else None,
            sourceCodeLocation=_code(run, node.original_file_path),
        )
        error = _error(item.message) if is_failed else None
        whole = run_of(run_id, parent=parent, errorMessage=error)
        # What another event tells as its output is named here only.
        inputs = [
            found for key in _parents(node) if (found := self._table(run, key, "source." in key))
        ]
        made = self._table(run, node.unique_id)
        outputs = [output(made, item.rows)] if made else []
        kind = "FAIL" if is_failed else "COMPLETE"
        self._sender.send(event(kind, moment(), whole, job, inputs, outputs))

    # -- datasets ------------------------------------------------------------------------------

    def _datasets(
        self, run: Run, step: str, items: Sequence[Item]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if step in ("extract", "load"):
            tables = [item for item in items if item.kind == "table" and item.status != "failed"]
            return self._moved(run, step, tables)
        if step == "audit":
            return list(self._tested(run, items)), []
        if step == "publish":
            return self._published(run, items)
        return [], []

    def _moved(
        self, run: Run, step: str, tables: Iterable[Item]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """From source to landing, or from landing to the raw table."""
        inputs, outputs = [], []
        kinds = {declared.name: declared.kind for declared in run.declarations}
        for item in tables:
            source, _, table = item.name.partition(".")
            landed = dataset("file", str(run.settings.landing_dir / source / table))
            node = _source(run, source, table)
            if step == "extract":
                inputs.append(dataset(f"{kinds.get(source, 'source')}://{source}", table))
                outputs.append(output(landed, item.rows, item.bytes, item.files))
            elif node is not None:
                raw = dataset(_warehouse(run), f"wellspring.{node.schema}.{node.identifier}")
                inputs.append(landed)
                outputs.append(output(raw, item.rows, None, None))
        return inputs, outputs

    def _tested(self, run: Run, items: Iterable[Item]) -> Iterator[dict[str, Any]]:
        """Each tested model with what its tests found; tests of several models stand with each."""
        found: dict[str, list[dict[str, Any]]] = {}
        for item in items:
            node = _node(run, item.name, ("test",)) if item.kind == "test" else None
            if node is None:
                continue
            attached = getattr(node, "attached_node", None)
            for key in [attached] if attached else _parents(node):
                found.setdefault(key, []).append(_assertion(node, item))
        for key in sorted(found):
            table = self._table(run, key, is_told=False)
            if table is not None:
                yield tested(table, found[key])

    def _published(
        self, run: Run, items: Iterable[Item]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if run.published is None:
            return [], []
        inputs, outputs = [], []
        version = run.published.version
        place = f"duckdb://{run.settings.published_dir / 'current'}"
        for item in items:
            if item.kind != "relation":
                continue
            inputs.append(dataset(_warehouse(run), f"wellspring.{item.name}"))
            table = dataset(place, item.name, version={"datasetVersion": version.name})
            outputs.append(output(table, item.rows))
        return inputs, outputs

    def _table(self, run: Run, key: str, is_told: bool = True) -> dict[str, Any] | None:
        """A table of the warehouse by dbt's unique id, with what it looks like or by name only."""
        manifest = run.dbt.project
        node: Any = manifest.nodes.get(key) or manifest.sources.get(key)
        if node is None:
            return None
        name = getattr(node, "identifier", None) or node.alias
        place = f"wellspring.{node.schema}.{name}"
        if not is_told:
            return dataset(_warehouse(run), place)
        texts = {column: info.description for column, info in node.columns.items()}
        columns = [
            (column, kind, texts.get(column))
            for column, kind in self._columns.get((node.schema, name), [])
        ]
        return dataset(
            _warehouse(run),
            place,
            schema=fields_of(columns),
            documentation={"description": node.description} if node.description else None,
        )


def _warehouse(run: Run) -> str:
    return f"duckdb://{run.settings.warehouse_path}"


def _error(message: str) -> dict[str, Any]:
    return {"message": message or "it did not say why", "programmingLanguage": "PYTHON"}


def _code(run: Run, path: str | None) -> dict[str, Any] | None:
    """Where the code lies; None outside git."""
    found = run.history.rows("select git_revision from runs where run_id = ?", (run.run_id,))
    revision = found[0]["git_revision"] if found else None
    if not revision:
        return None
    place = run.settings.project_dir / (path or "dbt_project.yml")
    return {"type": "git", "url": place.as_uri(), "path": path, "version": revision}


def _columns(run: Run) -> Columns:
    """Columns and types of all that is in the warehouse; nothing where it cannot be asked."""
    from ingestion.warehouse import connect

    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    if run.settings.warehouse_path.is_file():
        with closing(connect(run.settings, read_only=True)) as connection:
            rows = connection.execute(
                "select schema_name, table_name, column_name, data_type from duckdb_columns() "
                "where not internal order by schema_name, table_name, column_index"
            ).fetchall()
        for schema, table, column, kind in rows:
            found.setdefault((schema, table), []).append((column, kind))
    return found


def _node(run: Run, name: str, kinds: Sequence[str]) -> Any:
    for node in run.dbt.project.nodes.values():
        if node.name == name and str(node.resource_type) in kinds:
            return node
    return None


def _source(run: Run, source: str, table: str) -> Any:
    for node in run.dbt.project.sources.values():
        if node.source_name == source and node.name == table:
            return node
    return None


def _parents(node: Any) -> list[str]:
    return list(getattr(getattr(node, "depends_on", None), "nodes", ()))


def _assertion(node: Any, item: Item) -> dict[str, Any]:
    metadata = getattr(node, "test_metadata", None)
    severity = str(node.config.severity).lower()
    return {
        "assertion": metadata.name if metadata else "custom_sql",
        "success": item.status == "ok",
        "column": getattr(node, "column_name", None),
        "severity": severity if severity in ("error", "warn") else None,
        "name": item.name,
        "description": node.description or None,
        "actual": None if item.rows is None else str(item.rows),
    }
