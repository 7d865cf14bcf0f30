"""The steps of a run: what each does, and what it hands back.

extract -> load -> build -> audit -> publish -> docs

Each step is a function of the `Run`; it returns a `StepResult` or raises the error that ends the
run. `flow` declares in which order they come. Left out: what goes on around a step (lock, history,
time), which `pipeline` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any

from ingestion.errors import IngestionError, first_line
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.beside import Companion
from runner.compiled.trust import in_our_hands
from runner.contract_text import with_missing_contract
from runner.errors import AuditFailed, BuildFailed, SourceStale
from runner.fingerprint import fingerprint
from runner.history import History, Item
from runner.machine import StepResult
from runner.observers import Observers
from runner.ops import tells_of_runs, write_past
from runner.project import (
    parents,
    published_relations,
    source_names,
    sources_above,
)
from runner.publish import Published, publish
from runner.report import Reporter, count
from runner.site import build_docs, docs_folder
from runner.transform import Dbt, NodeResult, Selection, room_fault
from runner.usage import count_rows
from runner.veracity.observe import Observed, observe, observe_time
from runner.versions import current_version
from runner.withholding import (
    Withheld,
    former_of,
    named,
    split_tests,
    survives_tests,
    withhold_misfits,
)

if TYPE_CHECKING:
    from ingestion.declarations import SourceDeclaration
    from ingestion.extract import SourceResult
    from ingestion.load import LoadResult
    from ingestion.progress import ProgressEvent
    from ingestion.schema.journal import Noted
    from ingestion.verify import LandingFault
    from runner.changes.telling import Told
    from runner.resuming import Resumption

_SAMPLE_ROWS = 3
_SAMPLED_TESTS = 20
_TOLD_ANOMALIES = 20
_TOLD_TABLES = 5
NOTHING_PUBLISHED = "nothing is published, readers keep the former version"
KEPT = "what is made from it keeps its last good version"
_OUTCOMES_MODEL = "row_outcomes"


@dataclass(frozen=True)
class FailedTest:
    """A test that did not pass, with what helps to find out why.

    Attributes:
        result: dbt's result.
        model: Name of the model it is attached to; empty for a test that stands alone.
        columns: Columns of the sample.
        sample: A few of the rows it found.
        sources: Source tables from which the tested models are made.
    """

    result: NodeResult
    model: str
    columns: tuple[str, ...]
    sample: tuple[tuple[Any, ...], ...]
    sources: tuple[str, ...]


@dataclass
class Run:
    """One pass of the runner: what was asked for, with what, and what came of it.

    Attributes:
        settings: The project's settings.
        selection: What to work on.
        full_refresh: Whether to extract and build everything anew.
        lazy: Whether to build and test only if code or rows have changed since it was done last.
        run_id: Its name.
        history: Where results are noted.
        reporter: Who tells people.
        steps: Names of the steps asked for.
        published: What was published, once it was.
        failed_tests: Tests that did not pass.
        observed: What was unusual.
        withheld: Models that are held back because something that they are made from failed.
        failed_tables: Names of tables whose extraction failed, by source.
        failed_nodes: What could not be built.
        landing_faults: Where landing is not what was loaded.
        changes_met: Changes of sources that are not told yet.
        changes_told: Those that are.
        resumption: What is left of the run that this one goes on with; None for a new one.
        docs_page: The page of the documentation, once it is written.
        observers: Who is told of it while it goes on.
    """

    settings: Settings
    selection: Selection
    full_refresh: bool
    lazy: bool
    run_id: str
    history: History
    reporter: Reporter
    steps: tuple[str, ...] = ()
    published: Published | None = None
    failed_tests: list[FailedTest] = field(default_factory=list)
    observed: Observed = field(default_factory=Observed)
    withheld: Withheld = field(default_factory=Withheld)
    failed_tables: dict[str, set[str]] = field(default_factory=dict)
    failed_nodes: list[NodeResult] = field(default_factory=list)
    landing_faults: list[LandingFault] = field(default_factory=list)
    loaded_tables: set[str] = field(default_factory=set)
    changes_met: list[Noted] = field(default_factory=list)
    changes_told: list[Told] = field(default_factory=list)
    resumption: Resumption | None = None
    docs_page: str | None = None
    observers: Observers = field(default_factory=Observers)
    step: str = ""

    def __post_init__(self) -> None:
        self.dbt = Dbt(self.settings, self.on_node, on_built=self.on_built)
        self.companion = Companion(self.settings)

    @cached_property
    def _selected_sources(self) -> tuple[dict[str, Any], set[str]]:
        return self.dbt.sources(self.selection)

    @cached_property
    def source_ids(self) -> set[str]:
        """Unique ids of the source tables that the selection is made from."""
        return self._selected_sources[1]

    @cached_property
    def declarations(self) -> list[SourceDeclaration]:
        """The declared sources that the selection is made from."""
        from ingestion.declarations import load_declarations

        manifest, wanted = self._selected_sources
        return load_declarations(manifest, None if self.selection.everything else wanted)

    @property
    def due_sources(self) -> list[SourceDeclaration]:
        """The sources to extract: all, or those that a resumed run lacks."""
        wanted = self.resumption.sources if self.resumption else None
        return [d for d in self.declarations if wanted is None or d.name in wanted]

    @property
    def node_codes(self) -> dict[str, str]:
        """Names the code of each node that can be built."""
        return self.dbt.kept.codes

    @property
    def code(self) -> str | None:
        """Names the code of the project; None if it does not decide the result by itself."""
        return self.dbt.kept.code

    @cached_property
    def settled_by(self) -> str | None:
        """The run that built and tested this warehouse as it is with the code as it is.

        None if there is none, or if the work is to be done anyway.
        """
        if not self.lazy or self.full_refresh or not self.selection.everything:
            return None
        stamp = fingerprint(self.settings.warehouse_path)
        return self.history.settled_by(stamp, self.code) if stamp and self.code else None

    @cached_property
    def model_ids(self) -> set[str]:
        """Unique ids of the selected models."""
        return set(self.dbt.select(self.selection, "model"))

    def on_event(self, event: ProgressEvent) -> None:
        """Passes on what ingestion tells."""
        name = f"{event.source}.{event.table}" if event.table else event.source
        if event.state in ("started", "advanced"):
            figure = count(event.rows, "row") if event.rows else event.message
            self.reporter.activity(self.step, name, figure)
        elif event.table:
            status = "failed" if event.state == "failed" else "ok"
            text = event.message or _landed(event.rows, event.files, 0)
            self.reporter.item(self.step, name, status, text, kind="table", rows=event.rows)

    def note_audit(self, passed: bool) -> None:
        """Notes the verdict on the warehouse as it is, of the models that are not withheld."""
        stamp = fingerprint(self.settings.warehouse_path)
        if stamp is None:
            return
        covered = [key for key in self.model_ids if key not in self.withheld]
        code = self.code if self.selection.everything and not self.withheld else None
        self.history.add_audit(stamp, self.run_id, passed, covered, code)

    def on_node(self, done: int, total: int, name: str) -> None:
        """Passes on how far dbt is."""
        self.reporter.advance(self.step, done, total, name)

    def on_built(self, unique_id: str) -> None:
        """Notes that dbt has built a node."""
        self.history.add_build(unique_id, self.node_codes.get(unique_id, ""), self.run_id)


def writing(work: Callable[[Run], StepResult]) -> Callable[[Run], StepResult]:
    """A step's work that writes to the warehouse, noting how it leaves it."""

    @wraps(work)
    def done(run: Run) -> StepResult:
        with in_our_hands(run.settings, run.reporter.warn):
            return work(run)

    return done


def prepare(run: Run) -> StepResult:
    """Reads the project and checks every declaration before anything is done."""
    from runner.gates import gates
    from runner.veracity.watches import watches

    declarations = run.declarations
    watches(run.dbt.project)
    gates(run.dbt.project)
    if "extract" in run.steps and run.due_sources:
        from ingestion.extract import prepare_ahead

        # Not earlier: two threads must not import dlt and dbt at once, which share modules.
        prepare_ahead(run.settings)
    tables = sum(len(declaration.tables) for declaration in declarations)
    if not declarations and run.selection.everything:
        run.reporter.warn("no source is declared yet: `wellspring add ADDRESS` declares the first")
    if run.selection.everything:
        _tell_unread(run)
    return StepResult(
        "ok", f"{count(len(declarations), 'source')}, {count(tables, 'table')} declared"
    )


def _tell_unread(run: Run) -> None:
    """Tells which declared tables no model reads yet: their rows wait in raw."""
    project = run.dbt.project
    read = {key for node in project.nodes.values() for key in parents(project, node.unique_id)}
    declared = {(node.source_name, node.name): key for key, node in project.sources.items()}
    for source in run.declarations:
        unread = [t.name for t in source.tables if declared[source.name, t.name] not in read]
        if unread:
            names = ", ".join(unread[:_TOLD_TABLES])
            more = f" and {len(unread) - _TOLD_TABLES} more" if len(unread) > _TOLD_TABLES else ""
            run.reporter.warn(
                f"no model reads {names}{more} of {source.name}: its rows wait in raw; "
                f"`wellspring draft {source.name}` writes staging models"
            )


# -- extract and load --------------------------------------------------------------------------


def wants_companion(run: Run) -> bool:
    """Whether the companion is worth starting before it is known which sources are read."""
    has_one = bool(run.settings.companion.command)
    return has_one and run.selection.everything and "extract" in run.steps


def start_companion(run: Run) -> StepResult:
    """Starts the companion; a fault is told once a source turns out to need it."""
    run.companion.start()
    return StepResult("ok", "started" if run.companion.is_started else "not needed")


@contextmanager
def reading(run: Run) -> Iterator[None]:
    """What reading sources needs: their connections, and dlt in memory."""
    if not run.due_sources:
        yield
        return
    from ingestion.extract import prepare_extraction

    prepare_extraction(run.settings)
    with run.companion.connections({d.connection for d in run.due_sources if d.connection}):
        yield


def interrupt_reading() -> None:
    """Makes whatever reads a source end soon."""
    from ingestion.progress import interruption

    interruption.set()


def extract_one(
    run: Run, declaration: SourceDeclaration, former: SourceResult | None
) -> SourceResult:
    """Extracts what is new or changed in one source; again, what failed before."""
    from ingestion.extract import extract_source

    return extract_source(
        declaration,
        run.settings,
        full_refresh=run.full_refresh,
        on_progress=run.on_event,
        former=former,
    )


def gather_sources(run: Run, results: Sequence[SourceResult]) -> StepResult:
    """Makes one result of what became of the sources."""
    if not results:
        return StepResult("skipped", "the selection is made from no declared source")
    items = [item for result in results for item in _source_items(result)]
    for item in items:
        if item.kind == "source":
            run.reporter.item("extract", item.name, item.status, item.message, kind="source")
    run.changes_met += [noted for result in results for noted in result.changes]
    if "load" not in run.steps:
        items += _changes(run, "extract")
    failed = [result for result in results if result.status == "failed"]
    faults = tuple(fault for result in failed for fault in _faults(result))
    for result in failed:
        tables = {table.table for table in result.tables if table.error is not None}
        run.failed_tables[result.source] = tables or {table.table for table in result.tables}
    rows = sum(table.rows for result in results for table in result.tables)
    files = sum(table.files for result in results for table in result.tables)
    size = sum(table.bytes for result in results for table in result.tables)
    text = f"{count(rows, 'new row')} and {count(files, 'new file')} landed"
    if failed:
        text += f"; {len(failed)} of {count(len(results), 'source')} failed"
    everything_failed = len(failed) == len(results)
    status = "failed" if failed else "ok" if rows or files else "nothing_new"
    stop = faults[0] if everything_failed else None
    return StepResult(status, text, tuple(items), faults, stop, rows, size)


def _faults(result: SourceResult) -> list[IngestionError]:
    """What went wrong with a source: the faults of its tables, or one of its own."""
    faults = [table.error for table in result.tables if table.error is not None]
    own = [result.error] if result.error is not None else []
    return list(dict.fromkeys([*faults, *own]))


def _source_items(result: SourceResult) -> Iterator[Item]:
    rows = sum(table.rows for table in result.tables)
    files = sum(table.files for table in result.tables)
    refused = sum(table.refused for table in result.tables)
    size = sum(table.bytes for table in result.tables)
    text = str(result.error) if result.error else _landed(rows, files, refused)
    figures = (rows, files, refused, result.seconds)
    yield Item("source", result.source, result.status, *figures, text, size)
    for table in result.tables:
        name = f"{result.source}.{table.table}"
        status, text = ("failed", str(table.error)) if table.error else ("ok", "")
        figures = (table.rows, table.files, table.refused, table.seconds)
        yield Item("table", name, status, *figures, text, table.bytes)


def _landed(rows: int, files: int, refused: int) -> str:
    parts = [count(rows, "row")] if rows else []
    parts += [count(files, "file")] if files else []
    parts += [f"{count(refused, 'file')} refused"] if refused else []
    return ", ".join(parts) or "nothing new"


@writing
def load_step(run: Run) -> StepResult:
    """Loads completed extractions into raw tables, in one transaction with the ledger."""
    from ingestion.load import load

    if not run.declarations:
        # The account of rows is read by models, also while it is empty.
        load((), run.settings)
        return StepResult("skipped", "the selection is made from no declared source")
    result = load(run.declarations, run.settings, on_progress=run.on_event)
    rows = sum(table.rows for table in result.tables)
    files = sum(table.files for table in result.tables)
    rejected = sum(table.rejected for table in result.tables)
    run.loaded_tables = {f"{t.source}.{t.table}" for t in result.tables if t.files}
    size = sum(table.bytes for table in result.tables)
    items = [
        Item("table", f"{t.source}.{t.table}", "ok", t.rows, t.files, t.rejected, bytes=t.bytes)
        for t in result.tables
    ]
    run.changes_met += result.schema
    changes = _changes(run, "load")
    items += [*_refused_items(result), *_totals(run), *changes]
    told = {item.name for item in changes}
    raw = [line for line in result.changes if line.partition(":")[0] not in told]
    for line in (*raw, *result.told_outdated):
        run.reporter.warn(line)
    text = f"{count(rows, 'row')} from {count(files, 'file')}" if files else "nothing new"
    if rejected:
        text += f", {count(rejected, 'record')} rejected"
    if result.refused:
        text += f", {count(len(result.refused), 'file')} refused"
    if result.error is not None:
        return StepResult("failed", text, tuple(items), (result.error,), rows=rows, bytes=size)
    status = "warned" if rejected or result.refused else "ok" if files else "nothing_new"
    return StepResult(status, text, tuple(items), rows=rows, bytes=size)


def _changes(run: Run, step: str) -> list[Item]:
    """Tells how sources have changed."""
    if not run.changes_met:
        return []
    from runner.changes.telling import tell_changes

    return tell_changes(run, step)


def _refused_items(result: LoadResult) -> Iterator[Item]:
    for file in result.refused:
        name = f"{file.source}.{file.table}: {file.origin_name or file.file}"
        yield Item("file", name, "failed" if file.fatal else "warned", message=file.reason)


def _totals(run: Run) -> list[Item]:
    """What the ledger counts by source, so that `status` can tell while the warehouse is busy."""
    found = _ask(
        run,
        "select source, sum(rows_loaded), count(*), sum(rows_rejected) from ledger.files "
        "group by source order by source",
    )
    return [Item("total", row[0], "ok", int(row[1]), row[2], int(row[3])) for row in found]


# -- build and audit ---------------------------------------------------------------------------


@writing
def build_step(run: Run) -> StepResult:
    """Builds seeds and models, but for what is withheld; of a resumed run what it lacks."""
    missing = run.resumption.missing(run) if run.resumption else None
    if missing is not None and not missing - set(run.withheld.why):
        return StepResult("nothing_new", "the run that is resumed had built everything")
    if tells_of_runs(run.dbt.project, run.model_ids if missing is None else missing):
        write_past(run.settings, run.history)
    where = (run.selection, run.full_refresh, missing, run.withheld.why)
    results = run.dbt.build(*where, lazy=run.lazy)
    if not results:
        return StepResult("skipped", "the selection holds nothing to build")
    accounted = any(r.name == _OUTCOMES_MODEL and r.status == "ok" for r in results)
    items = [*_built_items(run, results), *(_outcomes(run) if accounted else [])]
    failed = run.failed_nodes = [result for result in results if result.status == "failed"]
    skipped = sum(result.status == "skipped" for result in results)
    same = sum(result.unchanged for result in results)
    models = sum(result.kind == "model" and not result.unchanged for result in results)
    if not failed:
        text = f"{count(models, 'model')} built"
        text += f", {count(same, 'node')} unchanged" if same else ""
        return StepResult("ok" if same < len(results) else "nothing_new", text, tuple(items))
    for result in failed:
        run.reporter.item("build", result.name, "failed", _told(run, result), kind=result.kind)
    names = ", ".join(result.name for result in failed[:5])
    text = f"{len(failed)} of {count(len(results), 'node')} failed ({names})"
    text += f", {skipped} below them skipped" if skipped else ""
    hint = f"Mend {failed[0].file}, then `wellspring resume`; compiled SQL lies below target/."
    fault = room_fault(run.settings, failed) or BuildFailed(text, hint=hint)
    return StepResult("failed", text, tuple(items), stop=fault)


def nothing_to_build(run: Run) -> StepResult:
    """What is said where neither code nor rows have changed."""
    run.history.repeat_builds(run.run_id)
    text = f"same code and same rows as in run {run.settled_by}"
    return StepResult("nothing_new", text, tuple(_outcomes(run)))


def _told(run: Run, result: NodeResult) -> str:
    place = f"\n  compiled SQL: {result.compiled_path}" if result.compiled_path else ""
    text = with_missing_contract(result, lambda sql: _ask(run, sql))
    return f"{text or result.file}{place}"


def _node_items(results: Sequence[NodeResult]) -> Iterator[Item]:
    for result in results:
        text = result.message if result.status in ("failed", "warned") else ""
        text = "unchanged" if result.unchanged else text
        yield Item(
            result.kind,
            result.name,
            result.status,
            rows=result.failures,
            seconds=result.seconds,
            message=text,
        )


def _built_items(run: Run, results: Sequence[NodeResult]) -> Iterator[Item]:
    """What was built, with the rows of what is a table."""
    nodes = run.dbt.project.nodes
    known = [result for result in results if result.unique_id in nodes]
    places = {r.unique_id: (nodes[r.unique_id].schema, nodes[r.unique_id].alias) for r in known}
    good = {places[r.unique_id] for r in known if r.status == "ok"}
    rows: dict[tuple[str, str], int] = {}
    if good:
        with _opened(run) as connection:
            rows = count_rows(connection, good)
    for result, item in zip(results, _node_items(results), strict=True):
        yield replace(item, rows=rows.get(places.get(result.unique_id, ("", ""))))


def _outcomes(run: Run) -> list[Item]:
    """Rows by source and outcome, where the project accounts for them in `row_outcomes`."""
    for node in run.dbt.project.nodes.values():
        if node.name == _OUTCOMES_MODEL and str(node.resource_type) == "model":
            found = _ask(
                run,
                f'select source, outcome, sum(row_count) from "{node.schema}"."{node.alias}" '
                "group by source, outcome order by source, outcome",
            )
            return [Item("outcome", f"{row[0]}.{row[1]}", "ok", int(row[2])) for row in found]
    return []


@writing
def audit_step(run: Run) -> StepResult:
    """Runs the data tests and the freshness checks, and vouches for the warehouse if they pass."""
    path = run.settings.warehouse_path
    if not path.is_file():
        raise AuditFailed("there is no warehouse", file=path, hint="Run `wellspring load build`.")
    fresh = run.dbt.freshness(run.source_ids)
    landing = run.landing_faults = _landing_faults(run)
    if run.settled_by is not None and not landing:
        return _still_audited(run, fresh)
    results = _test(run)
    failed = [result for result in results if result.status == "failed"]
    warned = [result for result in results if result.status == "warned"]
    run.failed_tests = _explain_failures(run, [*failed, *warned])
    for test in run.failed_tests:
        status = test.result.status
        run.reporter.item("audit", test.result.name, status, tell_test(test), kind="test")
    chosen = None if run.selection.everything else run.model_ids
    where = (run.settings, run.history, run.run_id, run.dbt.project)
    failpoint("audit.tested")
    run.observed = observe(*where, chosen, [*results, *fresh])
    return _audited(run, results, fresh, landing)


def _test(run: Run) -> list[NodeResult]:
    """Results of the data tests; those of withheld models are left out."""
    if not run.withheld:
        return run.dbt.test(run.selection, run.lazy)
    manifest = run.dbt.project
    former = former_of(run.settings, manifest, run.withheld)
    tests = run.dbt.compiled_tests(run.selection)
    split = split_tests(tests, run.withheld, former)
    fresh = run.dbt.judge(split.fresh)
    mixed = run.dbt.judge(split.mixed, former)
    if split.unasked:
        names = named([test.name for test in split.unasked])
        run.reporter.warn(f"not asked, for they read what is withheld: {names}")
    return fresh + withhold_misfits(run, split, mixed)


def _audited(
    run: Run,
    results: Sequence[NodeResult],
    fresh: Sequence[NodeResult],
    landing: Sequence[LandingFault],
) -> StepResult:
    """Notes the verdict on the warehouse and tells it."""
    failed = [result for result in results if result.status == "failed"]
    warned = [result for result in results if result.status == "warned"]
    is_refused = bool(failed or landing or run.observed.errors)
    failpoint("audit.judged")
    run.note_audit(passed=not is_refused)
    failpoint("audit.noted")
    stale, aging = _stale(run, fresh)
    items = (
        *_node_items(results),
        *(_freshness_item(result) for result in fresh),
        *(Item("landing", fault.file, "failed", message=str(fault)) for fault in landing),
        *run.observed.items(),
    )
    good = sum(result.status == "ok" for result in results)
    text = f"{count(good, 'test')} passed, {len(warned)} warned, {len(failed)} failed"
    same = sum(result.unchanged for result in results)
    text += f"; {same} of them not asked again, on unchanged data" if same else ""
    text += f"; {count(len(landing), 'fault')} in landing" if landing else ""
    text += f"; {count(len(stale) + len(aging), 'table')} not fresh" if stale or aging else ""
    text += _tell_unusual(run)
    if is_refused:
        kept = KEPT if survives_tests(run) else NOTHING_PUBLISHED
        fault = _audit_failure(failed, landing, run.observed, kept)
        return StepResult("failed", text, items, stale, fault)
    is_calm = not (warned or aging or stale or run.observed.anomalies)
    return StepResult("ok" if is_calm else "warned", text, items, stale)


def _tell_unusual(run: Run) -> str:
    """Reports what is unusual and was not met before; returns the count of all as half a line."""
    found = run.observed
    for item in Observed(found.new[:_TOLD_ANOMALIES]).items():
        run.reporter.item("audit", item.name, item.status, item.message, kind="anomaly")
    if not found.anomalies:
        return ""
    number = len(found.anomalies)
    word = "1 anomaly" if number == 1 else f"{number:,} anomalies"
    return f"; {word}, {len(found.new)} new"


def _still_audited(run: Run, fresh: Sequence[NodeResult]) -> StepResult:
    """The tests passed on these rows with this code; how fresh the rows are changes by itself."""
    run.observed = observe_time(run.settings, run.history, run.run_id, run.dbt.project)
    stale, aging = _stale(run, fresh)
    text = f"passed in run {run.settled_by}, of the same code and rows"
    text += f"; {count(len(stale) + len(aging), 'table')} not fresh" if stale or aging else ""
    text += _tell_unusual(run)
    items = (*(_freshness_item(result) for result in fresh), *run.observed.items())
    if run.observed.errors:
        return StepResult("failed", text, items, stale, _audit_failure([], [], run.observed))
    is_calm = not (stale or aging or run.observed.anomalies)
    return StepResult("nothing_new" if is_calm else "warned", text, items, stale)


def _landing_faults(run: Run) -> list[LandingFault]:
    """Where landing is no longer what was loaded: nothing could be rebuilt from it as it was."""
    from ingestion.verify import verify_landing

    with _opened(run) as connection:
        faults = verify_landing(connection, run.declarations, run.settings)
    for fault in faults:
        run.reporter.item("audit", fault.file, "failed", str(fault), kind="landing")
    return faults


def _audit_failure(
    failed: Sequence[NodeResult],
    landing: Sequence[LandingFault],
    observed: Observed,
    kept: str = NOTHING_PUBLISHED,
) -> AuditFailed:
    told = []
    if failed:
        told.append(f"{count(len(failed), 'test')} failed: {_first([r.name for r in failed])}")
    hint = (
        "Mend the model or its rules, then `wellspring resume`; if the source was at fault, "
        "`wellspring run` once it is mended."
    )
    if observed.errors:
        names = _first([anomaly.name for anomaly in observed.errors])
        told.append(f"{count(len(observed.errors), 'value')} unusual: {names}")
        if not failed:
            hint = "Look at the rows; if they are right, declare `severity: warn` for this value."
    if landing:
        shown = "".join(f"\n  {fault}" for fault in landing[:_SAMPLED_TESTS])
        told.append(f"landing is not what was loaded, {count(len(landing), 'fault')}:{shown}")
        hint = "Restore landing from a backup (`wellspring restore`), then `wellspring rebuild`."
    text = "; ".join(told)
    end = "\n" if landing else "; "
    return AuditFailed(f"{text}{end}{kept}", hint=hint)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def tell_test(test: FailedTest) -> str:
    """What a test found, as lines: message, model, where the rows come from, a few of them."""
    result = test.result
    lines = [result.message or "it could not be run"]
    lines += [f"  on {test.model}" if test.model else "", f"  written in {result.file}"]
    lines += [f"  compiled SQL: {result.compiled_path}" if result.compiled_path else ""]
    lines += [f"  made from {', '.join(test.sources)}" if test.sources else ""]
    for row in test.sample:
        pairs = zip(test.columns, row, strict=True)
        lines.append("  row: " + ", ".join(f"{name}={value}" for name, value in pairs))
    return "\n".join(line for line in lines if line)


def _explain_failures(run: Run, results: Sequence[NodeResult]) -> list[FailedTest]:
    manifest = run.dbt.project
    explained = []
    for result in results:
        sources = source_names(manifest, sources_above(manifest, [result.unique_id]))
        attached = manifest.nodes.get(result.attached_to or "")
        model = attached.name if attached else ""
        explained.append(FailedTest(result, model, (), (), tuple(sources)))
    if not explained:
        return []
    with _opened(run) as connection:
        sampled = [_with_sample(connection, test) for test in explained[:_SAMPLED_TESTS]]
    return sampled + explained[_SAMPLED_TESTS:]


def _with_sample(connection: Any, test: FailedTest) -> FailedTest:
    import duckdb

    if not test.result.compiled_sql or not test.result.failures:
        return test
    try:
        found = connection.execute(
            f"select * from ({test.result.compiled_sql}\n) as failing limit {_SAMPLE_ROWS}"
        )
    except duckdb.Error:
        # A test whose own SQL is wrong has no rows to show; dbt's message says what is wrong.
        return test
    columns = tuple(column[0] for column in found.description)
    return replace(test, columns=columns, sample=tuple(found.fetchall()))


def _stale(
    run: Run, fresh: Sequence[NodeResult]
) -> tuple[tuple[SourceStale, ...], list[NodeResult]]:
    """Tables that are older than they may be, and those that are about to be."""
    stale = tuple(
        SourceStale(
            f"its newest row is too old: {_age(result)}",
            table=result.name,
            hint="See whether its source still delivers; `freshness` in its declaration says how "
            "old it may be.",
        )
        for result in fresh
        if result.status == "failed"
    )
    aging = [result for result in fresh if result.status == "warned"]
    for result in aging:
        run.reporter.item("audit", result.name, "warned", _age(result), kind="freshness")
    return stale, aging


def _age(result: NodeResult) -> str:
    return result.message or "older than declared"


def _freshness_item(result: NodeResult) -> Item:
    return Item("freshness", result.name, result.status, message=result.message)


# -- publish and docs --------------------------------------------------------------------------


def publish_step(run: Run) -> StepResult:
    """Copies what readers get into a new version and makes it current, unless a gate holds it."""
    from runner.gates import gates

    relations = published_relations(run.dbt.project)
    selected = None if run.selection.everything else run.model_ids
    if selected is not None and not any(r.unique_id in selected for r in relations):
        return StepResult("skipped", "the selection holds no published model")
    withheld = run.withheld.relations(run.dbt.project)
    kept = tuple(Item("withheld", name, "warned", message=why) for name, why in withheld.items())
    for item in kept:
        run.reporter.item("publish", item.name, "warned", f"withheld: {item.message}", kind="table")
    if len(withheld) == len(relations):
        return StepResult("skipped", "every table is withheld; readers keep the last version", kept)
    done = publish(
        run.settings,
        run.history,
        run.run_id,
        relations,
        selected,
        lambda number, total, name: run.reporter.advance("publish", number, total, name),
        withheld,
        gates(run.dbt.project),
    )
    run.published = done
    status = {True: "unchanged", False: "ok"}[done.unchanged]
    items = kept + tuple(
        Item("relation", t.name, "carried_over" if t.name in done.carried_over else status, t.rows)
        for t in done.tables
    )
    held = f"; withheld: {named(withheld)}" if withheld else ""
    if done.error is not None:
        text = f"version {done.version.name} is held back, readers keep the former one"
        return StepResult("waiting", text, items, (done.error,))
    if done.unchanged:
        text = f"nothing has changed since version {done.version.name}{held}"
        return StepResult("warned" if withheld else "nothing_new", text, items)
    text = f"{count(len(done.tables), 'table')}, {count(done.rows, 'row')}"
    if done.carried_over:
        text += f"; {len(done.carried_over)} carried over from the former version"
    if done.missing:
        text += f"; not yet there: {', '.join(done.missing)}"
    status = "warned" if withheld else "ok"
    return StepResult(status, text + held, items, rows=done.rows, bytes=done.bytes)


def docs_step(run: Run) -> StepResult:
    """Writes the documentation beside the version that it describes."""
    # What is held back gets its documentation too: it may be approved.
    version = run.published.version if run.published else current_version(run.settings)
    if run.settled_by is not None and version is not None and version.docs_page.is_file():
        run.docs_page = str(version.docs_page)
        return StepResult("nothing_new", "same code and same tables as before")
    page = build_docs(run.dbt, docs_folder(run.settings, version), version, run.history)
    run.docs_page = str(page)
    return StepResult("ok", f"{page.stat().st_size / 2**20:.1f} MiB")


@contextmanager
def _opened(run: Run) -> Iterator[Any]:
    from ingestion.warehouse import connect

    with closing(connect(run.settings, read_only=True)) as connection:
        yield connection


def _ask(run: Run, sql: str) -> list[tuple[Any, ...]]:
    """Answers a query over the warehouse; nothing where the tables it names do not exist."""
    import duckdb

    with _opened(run) as connection:
        try:
            rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        except duckdb.CatalogException as error:
            run.reporter.warn(f"no figures: {first_line(error)}")
            return []
    return rows
