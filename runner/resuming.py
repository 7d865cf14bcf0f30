"""Goes on with the last run where it stopped.

run history -> the last run, its steps, its failed sources, what it had built -> `Resumption` ->
`pipeline.execute` with the steps that are left, the same request and the same logical date

Of the sources those that failed are read again; of the models those are built that failed, were
skipped or withheld, have other code than they were built with, or are made from any of these or
from rows that came since. Left out: runs of commands that do one thing only, such as `reconcile`;
they are repeated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from runner.history import History
from runner.project import made_from
from runner.transform import Selection

if TYPE_CHECKING:
    from runner.steps import Run

_DONE = {"ok", "nothing_new", "warned", "skipped"}


@dataclass(frozen=True)
class Request:
    """What a run was asked for.

    Attributes:
        steps: Names of the steps, in order.
        select: Values of `--select`.
        exclude: Values of `--exclude`.
        full_refresh: Whether everything was to be made anew.
        lazy: Whether to build only if something has changed.
    """

    steps: tuple[str, ...]
    select: tuple[str, ...]
    exclude: tuple[str, ...]
    full_refresh: bool
    lazy: bool

    @property
    def selection(self) -> Selection:
        """What to work on."""
        return Selection(self.select, self.exclude)

    def as_json(self) -> str:
        """The request as it stands in the run history."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Resumption:
    """What is left of a run.

    Attributes:
        run_id: The run that is gone on with.
        chain: That run, and those that it went on with itself.
        request: What was asked for.
        steps: The steps that are left.
        sources: The sources that failed; None for all.
        logical_date: The moment that the first run of the chain stands for.
        why: What had stopped it, in words.
    """

    run_id: str
    chain: tuple[str, ...]
    request: Request
    steps: tuple[str, ...]
    sources: frozenset[str] | None
    logical_date: str
    why: str

    def missing(self, run: Run) -> set[str]:
        """Unique ids of the selected nodes that the chain had not built as they are now."""
        manifest = run.dbt.project
        wanted = set(run.dbt.select(run.selection, "model", "seed", "snapshot"))
        if run.full_refresh and not self._began("build", run.history):
            return wanted
        built = run.history.builds(self.chain)
        there = _relations(run)
        stale = {
            key
            for key in wanted
            if built.get(key) != run.node_codes.get(key) or _place(manifest.nodes[key]) not in there
        }
        loaded = {
            key
            for key, node in manifest.sources.items()
            if f"{node.source_name}.{node.name}" in run.loaded_tables
        }
        return (stale | made_from(manifest, stale | loaded)) & wanted

    def _began(self, step: str, history: History) -> bool:
        return any(
            history.rows("select 1 from steps where run_id = ? and step = ?", (run_id, step))
            for run_id in self.chain
        )


def _place(node: Any) -> tuple[str, str]:
    return (str(node.schema).lower(), str(node.alias).lower())


def _relations(run: Run) -> set[tuple[str, str]]:
    """Tables and views of the warehouse: what the history knows of may have been deleted."""
    from contextlib import closing

    from ingestion.warehouse import connect

    if not run.settings.warehouse_path.is_file():
        return set()
    with closing(connect(run.settings, read_only=True)) as connection:
        found = connection.execute(
            "select lower(table_schema), lower(table_name) from information_schema.tables"
        ).fetchall()
    return {(row[0], row[1]) for row in found}


def unfinished(history: History) -> Resumption | str:
    """What is left of the last run, or why there is nothing to resume.

    Call it under the lock: a run that seems to be under way was then interrupted.
    """
    found = history.rows(
        "select * from runs where request is not null or exists (select 1 from steps where "
        "steps.run_id = runs.run_id and step not in ('prepare', 'companion', 'reconcile')) "
        "order by number desc limit 1"
    )
    if not found:
        return "nothing to resume: nothing was run yet (`wellspring run` does everything once)"
    last = found[0]
    name = f"run {last['number']} ({last['run_id']}, `{last['command']}`)"
    if last["status"] == "succeeded":
        return f"nothing to resume: the last one, {name}, succeeded"
    if not last["request"]:
        return f"nothing to resume: the last one, {name}, is not made of steps; repeat the command"
    request = _request(last["request"])
    steps = _left(history, last["run_id"], request)
    if steps == ("waiting",):
        return f"nothing to resume: the version of {name} waits for `wellspring approve`"
    if not steps:
        return (
            f"nothing to resume: {name} did all its steps; it ended with exit code "
            f"{last['exit_code']}: {last['message']}"
        )
    chain = _chain(history, last)
    why = last["message"] or str(last["status"])
    sources = _failed_sources(history, last["run_id"]) if steps[0] == "extract" else None
    return Resumption(
        last["run_id"], chain, request, steps, sources, _logical_date(history, chain), why
    )


def _request(text: str) -> Request:
    known = json.loads(text)
    return Request(
        tuple(known["steps"]),
        tuple(known["select"]),
        tuple(known["exclude"]),
        bool(known["full_refresh"]),
        bool(known["lazy"]),
    )


def _left(history: History, run_id: str, request: Request) -> tuple[str, ...]:
    """The steps from the first that was not done well."""
    rows = history.rows("select step, status from steps where run_id = ?", (run_id,))
    status = {row["step"]: row["status"] for row in rows}
    for place, step in enumerate(request.steps):
        if status.get(step) == "waiting":
            return ("waiting",)
        if status.get(step) not in _DONE:
            # What was mended since has to be built before it is tested again.
            mended = step in ("audit", "publish") and "build" in request.steps[:place]
            return request.steps[request.steps.index("build") if mended else place :]
    return ()


def _failed_sources(history: History, run_id: str) -> frozenset[str] | None:
    """Sources that failed; None where the step did not come to its end."""
    rows = history.rows(
        "select name, status from step_items "
        "where run_id = ? and step = 'extract' and kind = 'source'",
        (run_id,),
    )
    failed = frozenset(row["name"] for row in rows if row["status"] == "failed")
    return failed or None


def _chain(history: History, last: dict[str, Any]) -> tuple[str, ...]:
    found = [str(last["run_id"])]
    before = last["resumes"]
    while before and before not in found:
        found.append(str(before))
        rows = history.rows("select resumes from runs where run_id = ?", (before,))
        before = rows[0]["resumes"] if rows else None
    return tuple(found)


def _logical_date(history: History, chain: Sequence[str]) -> str:
    rows = history.rows(
        "select coalesce(logical_date, started_at) as moment from runs where run_id = ?",
        (chain[-1],),
    )
    return str(rows[0]["moment"])
