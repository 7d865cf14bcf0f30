"""Looks at a warehouse that was built: measures it, judges it, and writes down what it found.

warehouse -> measures -> run history -> anomalies, gaps ─┐
results of tests and freshness checks ───────────────────┴-> schema `runs` of the warehouse

It belongs to the audit: what it writes is part of what the audit vouches for, and is published with
the rest. Where nothing was built again the warehouse is left as it is, and only the passing of time
is judged. Left out: how scores are made; a model draws them from all this, `veracity` keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.history import History, Item
from runner.transform import NodeResult
from runner.veracity.anomalies import Anomaly, unusual_changes, unusual_slots
from runner.veracity.gaps import gaps_in, missing_files
from runner.veracity.measures import changes, last_distinct, measure, moment_of
from runner.veracity.scores import keep_scores
from runner.veracity.watches import watches

if TYPE_CHECKING:
    import duckdb

    from runner.compiled.view import Project

# Days of measures that readers get; the run history has more.
_PUBLISHED_DAYS = 35
TABLES = {
    "measures": {
        "run_id": "string",
        "measured_at": "timestamp",
        "relation": "string",
        "column_name": "string",
        "measure": "string",
        "value": "double",
    },
    "anomalies": {
        "run_id": "string",
        "anomaly": "string",
        "relation": "string",
        "column_name": "string",
        "measure": "string",
        "series": "string",
        "slot_at": "timestamp",
        "value": "double",
        "expected_low": "double",
        "expected_high": "double",
        "severity": "string",
        "is_new": "boolean",
        "description": "string",
    },
    "checks": {
        "run_id": "string",
        "node": "string",
        "check_kind": "string",
        "check_name": "string",
        "test_type": "string",
        "relation": "string",
        "status": "string",
        "failures": "bigint",
    },
    "veracity_history": {
        "run_id": "string",
        "measured_at": "timestamp",
        "subject_kind": "string",
        "subject": "string",
        "part": "string",
        "score": "double",
    },
}
"""Tables of schema `runs`: column and type, as macro `create_run_tables` makes them for dbt."""


@dataclass(frozen=True)
class Observed:
    """What was unusual.

    Attributes:
        anomalies: All of it.
        known: Names of those that the run before met already.
    """

    anomalies: tuple[Anomaly, ...] = ()
    known: frozenset[str] = frozenset()

    @property
    def new(self) -> tuple[Anomaly, ...]:
        """Anomalies that the run before did not meet."""
        return tuple(a for a in self.anomalies if a.name not in self.known)

    @property
    def errors(self) -> tuple[Anomaly, ...]:
        """Anomalies that are declared to fail the audit."""
        return tuple(a for a in self.anomalies if a.severity == "error")

    def items(self) -> list[Item]:
        """Anomalies as they stand in the run history."""
        words = {"warn": "warned", "error": "failed"}
        return [Item("anomaly", a.name, words[a.severity], message=a.text) for a in self.anomalies]


def observe(
    settings: Settings,
    history: History,
    run_id: str,
    manifest: Project,
    models: Collection[str] | None,
    results: Sequence[NodeResult],
) -> Observed:
    """Measures and judges what was built, and writes it to schema `runs`.

    Args:
        settings: The project's settings.
        history: Where measures are kept.
        run_id: The run.
        manifest: The parsed project.
        models: Unique ids of the models that were built; None for all.
        results: What tests and freshness checks found.

    Raises:
        DeclarationError: What is declared about anomalies is wrong.
        LockHeld: Another process has the warehouse open.
    """
    from ingestion.warehouse import connect

    moment = moment_of(settings)
    tables, files = watches(manifest)
    built = [table for table in tables if models is None or table.unique_id in models]
    with closing(connect(settings)) as connection:
        values = measure(connection, built, last_distinct(history))
        history.add_measures(
            run_id, moment, [(v.relation, v.column, v.measure, v.value) for v in values]
        )
        failpoint("audit.measured")
        history.prune_measures(moment, settings.measures.keep_days)
        found = unusual_changes(changes(history, moment), built, moment)
        there = {value.relation for value in values}
        for table in (table for table in built if table.relation in there):
            found += [*unusual_slots(connection, table), *gaps_in(connection, table)]
        if files and _has_ledger(connection):
            found += missing_files(connection, files)
        observed = Observed(tuple(found), known_anomalies(history, run_id))
        _write(connection, history, run_id, observed, manifest, results)
        failpoint("audit.observed")
        _write_scores(connection, history, run_id, moment, manifest)
    return observed


def observe_time(settings: Settings, history: History, run_id: str, manifest: Project) -> Observed:
    """Judges a run that built nothing: what it finds is as it was, only later.

    Args:
        settings: The project's settings.
        history: Where measures are kept.
        run_id: The run.
        manifest: The parsed project.
    """
    moment = moment_of(settings)
    tables, _ = watches(manifest)
    history.repeat_measures(run_id, moment)
    history.prune_measures(moment, settings.measures.keep_days)
    found = unusual_changes(changes(history, moment), tables, moment)
    return Observed(tuple(found), known_anomalies(history, run_id))


def _has_ledger(connection: duckdb.DuckDBPyConnection) -> bool:
    found = connection.execute(
        "select 1 from duckdb_tables() where schema_name = 'ledger' and table_name = 'files'"
    ).fetchone()
    return found is not None


def known_anomalies(history: History, run_id: str) -> frozenset[str]:
    """Names of the anomalies of the run that measured before this one, and lived to tell them."""
    found = history.rows(
        "select name from step_items where kind = 'anomaly' and run_id = ("
        "select run_id from measured_runs where run_id <> ? and run_id not in ("
        "select run_id from steps where step = 'audit' and status in ('running', 'interrupted')) "
        "order by number desc limit 1)",
        (run_id,),
    )
    return frozenset(row["name"] for row in found)


# -- schema `runs` -----------------------------------------------------------------------------


def _write(
    connection: duckdb.DuckDBPyConnection,
    history: History,
    run_id: str,
    observed: Observed,
    manifest: Project,
    results: Sequence[NodeResult],
) -> None:
    connection.execute("begin")
    connection.execute("create schema if not exists runs")
    for name, columns in TABLES.items():
        listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
        connection.execute(f"create table if not exists runs.{name} ({listed})")
    replace_rows(connection, "measures", _published_measures(history))
    replace_rows(
        connection, "anomalies", [_anomaly_row(run_id, a, observed) for a in observed.anomalies]
    )
    # Results of what a selection left out stay those of the run that checked it.
    checks = [_check_row(run_id, result, manifest) for result in results]
    known = {row[1] for row in checks}
    kept = connection.execute("select * from runs.checks").fetchall()
    present = set(manifest.nodes) | set(manifest.sources)
    checks += [row for row in kept if row[1] not in known and row[1] in present]
    replace_rows(connection, "checks", checks)
    connection.execute("commit")


def _write_scores(
    connection: duckdb.DuckDBPyConnection,
    history: History,
    run_id: str,
    moment: datetime,
    manifest: Project,
) -> None:
    """Keeps the scores, where the project has the model and it could be built."""
    schemas = {node.schema for node in manifest.nodes.values() if node.name == "veracity_scores"}
    for schema in schemas:
        found = connection.execute(
            "select 1 from duckdb_views() where schema_name = ? and view_name = 'veracity_scores'",
            [schema],
        ).fetchone()
        if found is not None:
            rows = keep_scores(connection, history, run_id, moment, schema)
            replace_rows(connection, "veracity_history", rows)


def replace_rows(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Makes these rows the content of a table of schema `runs`."""
    import pyarrow as pa

    kinds = {
        "string": pa.string(),
        "double": pa.float64(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us"),
    }
    connection.execute(f"delete from runs.{table}")
    if not rows:
        return
    content = {
        name: pa.array([row[place] for row in rows], kinds[kind])
        for place, (name, kind) in enumerate(TABLES[table].items())
    }
    connection.register("wellspring_rows", pa.table(content))
    try:
        connection.execute(f"insert into runs.{table} select * from wellspring_rows")
    finally:
        connection.unregister("wellspring_rows")


def _published_measures(history: History) -> list[tuple[Any, ...]]:
    """The last run of each of the last days, with all it measured."""
    by_day = {run["measured_at"][:10]: run for run in history.measured_runs()}
    runs = [by_day[day] for day in sorted(by_day)[-_PUBLISHED_DAYS:]]
    series, values = history.measured_values({run["content"] for run in runs})
    return [
        (run["run_id"], naive(run["measured_at"]), *series[place], value)
        for run in runs
        for place, value in zip(*values[run["content"]], strict=True)
    ]


def naive(text: str) -> datetime:
    """A moment of the run history as the warehouse has it: UTC, without saying so."""
    return datetime.fromisoformat(text).replace(tzinfo=None)


def _anomaly_row(run_id: str, anomaly: Anomaly, observed: Observed) -> tuple[Any, ...]:
    at = anomaly.at.replace(tzinfo=None) if anomaly.at else None
    place = (anomaly.relation, anomaly.column, anomaly.measure, anomaly.series, at)
    band = (anomaly.value, anomaly.low, anomaly.high)
    is_new = anomaly.name not in observed.known
    return (run_id, anomaly.name, *place, *band, anomaly.severity, is_new, anomaly.text)


def _check_row(run_id: str, result: NodeResult, manifest: Project) -> tuple[Any, ...]:
    """A result with the relation that it speaks of: a model, or a source's table."""
    node: Any = manifest.nodes.get(result.unique_id)
    test = getattr(node, "test_metadata", None)
    attached: Any = manifest.nodes.get(result.attached_to or "")
    relation = f"{attached.schema}.{attached.alias}" if attached else ""
    if result.kind == "source":
        relation = result.name
    kind = "freshness" if result.kind == "source" else result.kind
    place = (run_id, result.unique_id, kind, result.name, test.name if test else "", relation)
    return (*place, result.status, result.failures)
