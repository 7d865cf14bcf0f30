"""The run history inside the warehouse, for models that tell of runs.

finished runs in the run history -> schema `runs` (past_runs, past_steps, past_test_results,
past_versions, past_publications) -> views of schema `ops`, published with the rest

Written before dbt builds, and only where something that is built reads it: a run that finds nothing
new leaves the warehouse as it was. So a version tells of the runs before the one that made it. The
tables are replaced as a whole. Left out: the run that is under way, and what is older than a reader
is likely to ask; the run history has more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.history import History

if TYPE_CHECKING:
    from runner.compiled.view import Project

_SCHEMA = "runs"
# Tests are many a run, runs are few.
_RUN_DAYS, _TEST_DAYS, _TEST_RUNS = 400, 60, 100
TABLES = {
    "past_runs": {
        "run_id": "string",
        "run_number": "bigint",
        "command": "string",
        "selection": "string",
        "status": "string",
        "exit_code": "bigint",
        "message": "string",
        "started_at": "timestamp",
        "finished_at": "timestamp",
        "logical_date": "string",
        "resumed_run_id": "string",
        "git_revision": "string",
        "settings_hash": "string",
        "user_name": "string",
        "host_name": "string",
        "started_by": "string",
        "landed_row_count": "bigint",
        "landed_bytes": "bigint",
        "loaded_row_count": "bigint",
        "loaded_bytes": "bigint",
        "peak_memory_bytes": "bigint",
    },
    "past_steps": {
        "run_id": "string",
        "step_number": "bigint",
        "step": "string",
        "status": "string",
        "started_at": "timestamp",
        "duration_seconds": "double",
        "attempt_count": "bigint",
        "row_count": "bigint",
        "size_bytes": "bigint",
        "peak_memory_bytes": "bigint",
        "message": "string",
    },
    "past_test_results": {
        "run_id": "string",
        "test_name": "string",
        "status": "string",
        "failure_count": "bigint",
        "duration_seconds": "double",
        "message": "string",
        "tested_at": "timestamp",
    },
    "past_versions": {
        "version": "string",
        "run_id": "string",
        "sealed_at": "timestamp",
        "published_at": "timestamp",
        "removed_at": "timestamp",
        "table_count": "bigint",
        "row_count": "bigint",
        "size_bytes": "bigint",
        "git_revision": "string",
    },
    "past_publications": {
        "publication_number": "bigint",
        "published_at": "timestamp",
        "version": "string",
        "former_version": "string",
        "action": "string",
        "user_name": "string",
        "host_name": "string",
        "run_id": "string",
    },
}
"""Tables of schema `runs`: column and type, as macro `create_run_tables` makes them for dbt."""

# In the order of the columns above.
_QUERIES = {
    "past_runs": """
        select
            run_id, number, command, selection, status, exit_code, message, started_at,
            finished_at, logical_date, resumes, git_revision, settings_hash, user, host,
            started_by, landed_rows, landed_bytes, loaded_rows, loaded_bytes, peak_memory_bytes
        from runs
        where status <> 'running' and started_at >= ?
        order by number
    """,
    "past_steps": """
        select
            runs.run_id, position, step, steps.status, steps.started_at, seconds, attempts,
            row_count, bytes, steps.peak_memory_bytes, steps.message
        from steps inner join runs on runs.run_id = steps.run_id
        where runs.status <> 'running' and runs.started_at >= ?
        order by runs.number, position
    """,
    # A step that was tried again asked its tests again: the last answer counts.
    # SQLite takes what is not aggregated from the row that has the maximum.
    "past_test_results": f"""
        select run_id, name, status, row_count, seconds, message, recorded_at
        from (
            select step_items.*, max(step_items.rowid) as latest
            from step_items
            where step = 'audit' and kind = 'test' and run_id in (
                select run_id from runs
                where status <> 'running' and started_at >= ? and exists (
                    select 1 from step_items as asked
                    where asked.run_id = runs.run_id and step = 'audit' and kind = 'test'
                )
                order by number desc limit {_TEST_RUNS}
            )
            group by run_id, name
        )
        order by latest
    """,
    "past_versions": """
        select
            version, run_id, sealed_at, published_at, removed_at, table_count, row_count, bytes,
            git_revision
        from published_versions
        where sealed_at >= ?
        order by sealed_at, version
    """,
    "past_publications": """
        select number, at, version, former, action, user, host, run_id
        from publications
        where is_done and at >= ?
        order by number
    """,
}


def tells_of_runs(manifest: Project, models: Iterable[str]) -> bool:
    """Whether one of the models reads what is written here.

    Args:
        manifest: The parsed project.
        models: Unique ids of the models that are to be built.
    """
    ours = {
        key
        for key, source in manifest.sources.items()
        if source.schema == _SCHEMA and source.identifier in TABLES
    }
    above = (manifest.nodes[key].depends_on.nodes for key in models if key in manifest.nodes)
    return any(ours.intersection(nodes) for nodes in above) if ours else False


def write_past(settings: Settings, history: History, moment: datetime | None = None) -> None:
    """Replaces the tables of past runs in the warehouse, in one transaction.

    Args:
        settings: The project's settings.
        history: What to tell of.
        moment: The present; by default the time of the call.

    Raises:
        LockHeld: Another process has the warehouse open.
    """
    from ingestion.warehouse import connect

    present = moment or datetime.now(UTC)
    tables = {name: _arrow(history, name, present) for name in TABLES}
    with closing(connect(settings)) as connection:
        connection.execute("begin")
        connection.execute(f"create schema if not exists {_SCHEMA}")
        for name, table in tables.items():
            columns = ", ".join(f"{column} {kind}" for column, kind in TABLES[name].items())
            # Replaced rather than emptied: an earlier release may have made it otherwise.
            connection.execute(f"create or replace table {_SCHEMA}.{name} ({columns})")
            connection.register("wellspring_past", table)
            connection.execute(f"insert into {_SCHEMA}.{name} select * from wellspring_past")
            connection.unregister("wellspring_past")
        failpoint("build.before_past_runs")
        connection.execute("commit")
    failpoint("build.after_past_runs")


def _arrow(history: History, name: str, present: datetime) -> Any:
    import pyarrow as pa

    days = _TEST_DAYS if name == "past_test_results" else _RUN_DAYS
    rows = history.tuples(_QUERIES[name], [(present - timedelta(days=days)).isoformat()])
    kinds = {
        "string": pa.string(),
        "double": pa.float64(),
        "bigint": pa.int64(),
        "timestamp": pa.timestamp("ms"),
    }
    columns = list(zip(*rows, strict=True)) or [()] * len(TABLES[name])
    return pa.table(
        {
            column: pa.array(_values(kind, values), kinds[kind])
            for (column, kind), values in zip(TABLES[name].items(), columns, strict=True)
        }
    )


def _values(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    """Moments of the history as the warehouse has them: UTC, without saying so."""
    if kind != "timestamp":
        return values
    # What a step did is noted at one moment: most of them are the same.
    known = {v: datetime.fromisoformat(v).replace(tzinfo=None) for v in set(values) if v}
    return [known.get(value) for value in values]
