"""dbt in this process, with typed results.

dbt project -> parsed once -> `select` / `build` / `test` / `freshness` / `docs` -> `NodeResult`s

One parse serves every later call, because a parse costs more than a small build. dbt's own output
is off: its events become progress, its results become `NodeResult`s, its faults become errors with
a hint. Left out: dbt's `--vars`, which would throw away the partial parse.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.errors import (
    BadInput,
    IngestionError,
    LockHeld,
    disk_full,
    disk_full_error,
)
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from ingestion.warehouse import damaged, damaged_error
from runner.errors import BuildFailed

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

    from runner.batch import Verdict
    from runner.withholding import Former

_STATUS = {
    "success": "ok",
    "pass": "ok",
    "no-op": "ok",
    "warn": "warned",
    "skipped": "skipped",
}
OnNode = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Selection:
    """What the user chose, in dbt's selection language.

    Attributes:
        select: Values of `--select`; none means everything.
        exclude: Values of `--exclude`.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing was chosen or left out."""
        return not self.select and not self.exclude

    def arguments(self) -> list[str]:
        """The selection as dbt's arguments."""
        return [part for value in self.select for part in ("--select", value)] + [
            part for value in self.exclude for part in ("--exclude", value)
        ]

    def __str__(self) -> str:
        return " ".join(self.arguments())


@dataclass(frozen=True)
class NodeResult:
    """What dbt did with one node.

    Attributes:
        unique_id: dbt's name of the node.
        name: Its short name.
        kind: model, seed, test, snapshot or source.
        status: ok, warned, failed or skipped.
        seconds: How long it took.
        message: dbt's message, if it is not merely `OK`.
        failures: Rows that a test found; None for anything else.
        file: Where it is written, below the project's root.
        compiled_path: Its compiled SQL, below the project's root; None if it was not compiled.
        compiled_sql: The compiled SQL; None if it was not compiled.
        attached_to: Unique id of the model that a generic test is attached to.
    """

    unique_id: str
    name: str
    kind: str
    status: str
    seconds: float
    message: str = ""
    failures: int | None = None
    file: str = ""
    compiled_path: str | None = None
    compiled_sql: str | None = None
    attached_to: str | None = None


@dataclass(frozen=True)
class Statement:
    """A statement that dbt executed for a node.

    Attributes:
        unique_id: dbt's name of the node.
        sql: The statement, as it was sent.
    """

    unique_id: str
    sql: str


@dataclass
class Dbt:
    """The project's dbt, parsed at first use.

    Args:
        settings: The project's settings.
        on_node: Called as `on_node(done, total, name)` when a node is finished.
        on_built: Called with the unique id of each model, seed or snapshot that was built.
        parsed: The project as parsed before, to spare the parsing.
    """

    settings: Settings
    on_node: OnNode | None = None
    parsed: InitVar[Manifest | None] = None
    on_built: Callable[[str], None] | None = None
    _manifest: Manifest | None = field(default=None, init=False, repr=False)
    _compiled: set[str] = field(default_factory=set, init=False, repr=False)
    _compiled_models: set[str] = field(default_factory=set, init=False, repr=False)
    _building: bool = field(default=False, init=False)
    _statements: list[Statement] | None = field(default=None, init=False, repr=False)
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)

    def __post_init__(self, parsed: Manifest | None) -> None:
        self._manifest = parsed

    @property
    def manifest(self) -> Manifest:
        """The parsed project.

        Raises:
            DeclarationError: dbt refuses the project.
        """
        if self._manifest is None:
            from ingestion.manifest import parse_project

            with _surroundings(self.settings):
                self._manifest = parse_project(self.settings)
        return self._manifest

    def sources(self, selection: Selection) -> tuple[dict[str, Any], set[str]]:
        """The manifest as a dictionary, and the source tables that a selection is made from.

        Raises:
            DeclarationError: dbt refuses the project or the selection, or nothing matches it.
        """
        from ingestion.manifest import read_manifest

        manifest = self.manifest
        with _surroundings(self.settings):
            return read_manifest(self.settings, selection.select, selection.exclude, manifest)

    def select(self, selection: Selection, *kinds: str) -> list[str]:
        """Unique ids of the nodes of these kinds within a selection, sorted.

        Raises:
            BadInput: dbt does not understand the selection.
        """
        arguments = ["ls", "--output", "json", "--output-keys", "unique_id"]
        for kind in kinds:
            arguments += ["--resource-type", kind]
        manifest = self.manifest
        done = self._invoke([*arguments, *selection.arguments()], manifest)
        if done.exception or not done.success:
            raise BadInput(
                f"dbt does not understand the selection `{selection}`: {_text(done.exception)}",
                hint="See https://docs.getdbt.com/reference/node-selection/syntax.",
            )
        import json

        return sorted(json.loads(line)["unique_id"] for line in done.result)

    def build(
        self,
        selection: Selection,
        full_refresh: bool = False,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> list[NodeResult]:
        """Builds seeds, models and snapshots, without tests.

        Args:
            selection: What to build.
            full_refresh: Whether to build incremental models and seeds anew.
            only: Unique ids of the nodes to build, in place of the selection.
            without: Unique ids of nodes that are left out.

        Returns:
            A result a node, also where some failed.

        Raises:
            BuildFailed: dbt could not even begin.
        """
        chosen = selection
        if only is not None:
            chosen = Selection(tuple(self._names(set(only) - set(without))))
        elif without:
            chosen = replace(selection, exclude=(*selection.exclude, *self._names(without)))
        arguments = ["build", "--exclude-resource-type", "test"]
        arguments += ["--exclude-resource-type", "unit_test", *chosen.arguments()]
        self._building = True
        try:
            results = self._results([*arguments, "--full-refresh"] if full_refresh else arguments)
        finally:
            self._building = False
        failpoint("build.finished")
        self._compiled |= {"build"} if chosen.everything else set()
        return results

    def build_recorded(self, only: Collection[str]) -> tuple[list[NodeResult], list[Statement]]:
        """Builds nodes one after the other, and tells what was executed for each of them.

        Args:
            only: Unique ids of the nodes.

        Returns:
            A result a node, and the statements in the order in which they were executed.

        Raises:
            BuildFailed: dbt could not even begin.
        """
        arguments = ["build", "--threads", "1", "--exclude-resource-type", "test"]
        arguments += ["--exclude-resource-type", "unit_test"]
        arguments += Selection(tuple(self._names(only))).arguments()
        recorded: list[Statement] = []
        self._statements = recorded
        try:
            return self._results(arguments), recorded
        finally:
            self._statements = None

    def test(self, selection: Selection) -> list[NodeResult]:
        """Runs the data tests. Unit tests are left out: they test code, not data.

        All of them are asked in few queries; a selection's, and those that keep their failures in
        a table, are run by dbt. The verdicts are the same.

        Raises:
            BuildFailed: dbt could not even begin.
        """
        if not selection.everything:
            return self._tested(selection.arguments())
        return self.judge(self.compiled_tests(selection))

    def compiled_tests(self, selection: Selection) -> list[Any]:
        """Dbt's nodes of the data tests of a selection, compiled.

        Raises:
            BuildFailed: dbt cannot compile them.
        """
        names = ["test_type:data"]
        if not selection.everything:
            names = self._names(self.select(selection, "test"))
        wanted = [part for name in names for part in ("--select", name)]
        if not wanted:
            return []
        done = self._invoke(["compile", *wanted], self.manifest)
        if done.exception is not None:
            raise self._failure(done.exception, "dbt test could not be done")
        self._compiled |= {"test"} if selection.everything else set()
        nodes = [result.node for result in done.result.results]
        return [node for node in nodes if str(node.resource_type) == "test"]

    def judge(self, tests: Sequence[Any], former: Former | None = None) -> list[NodeResult]:
        """Asks compiled tests, many at a time; those that keep their failures are run by dbt.

        Args:
            tests: dbt's nodes, compiled.
            former: What stands in for relations that are withheld. A test that keeps its failures
                is then asked without keeping them.

        Returns:
            A result a test.
        """
        from runner.batch import can_batch, judge

        batched = [node for node in tests if former is not None or can_batch(node)]
        self._done, self._total = 0, len(tests)
        verdicts = judge(batched, self.settings, self._on_test, former)
        known = {node.unique_id for node in batched}
        rest = [node.unique_id for node in tests if node.unique_id not in known]
        results = [_judged(verdict) for verdict in verdicts]
        return results + (self._tested_by_dbt(rest) if rest else [])

    def _tested(self, arguments: Sequence[str]) -> list[NodeResult]:
        return self._results(["test", "--exclude-resource-type", "unit_test", *arguments])

    def _tested_by_dbt(self, tests: Sequence[str]) -> list[NodeResult]:
        return self._tested([part for name in self._names(tests) for part in ("--select", name)])

    def _names(self, unique_ids: Collection[str]) -> list[str]:
        """Nodes as dbt's selection language names them."""
        return [".".join(self.manifest.nodes[key].fqn) for key in sorted(unique_ids)]

    def _on_test(self, node: Any) -> None:
        self._done += 1
        if self.on_node is not None:
            self.on_node(self._done, self._total, node.name)

    def compile(self, models: Collection[str], around: str = "+{}") -> None:
        """Compiles models and what lies around them; their nodes then hold `compiled_code`.

        Incremental models are compiled as a full refresh would build them.

        Args:
            models: Unique ids.
            around: dbt's graph operators: by default what lies above, `{}+2` takes children, their
                tests and children.

        Raises:
            BuildFailed: dbt cannot compile them.
        """
        names = [around.format(".".join(self.manifest.nodes[key].fqn)) for key in sorted(models)]
        ahead = [name for name in names if name not in self._compiled_models]
        if not ahead:
            return
        selection = [part for name in ahead for part in ("--select", name)]
        done = self._invoke(["compile", "--full-refresh", *selection], self.manifest)
        if done.exception is not None or not done.success:
            raise self._failure(done.exception, "the models could not be compiled")
        self._compiled_models.update(ahead)

    def freshness(self, sources: Collection[str]) -> list[NodeResult]:
        """Compares the newest row of each source table with what its declaration allows.

        Args:
            sources: Unique ids of source tables; those without `freshness` are passed over.
        """
        known = self.manifest.sources
        chosen = [
            f"source:{known[key].source_name}.{known[key].name}"
            for key in sorted(sources)
            if key in known and known[key].freshness
        ]
        if not chosen:
            return []
        return self._results(["source", "freshness", "--select", " ".join(chosen)])

    def docs(self) -> Path:
        """Writes dbt's documentation as one page and returns its path.

        Raises:
            BuildFailed: dbt could not write it.
        """
        arguments = ["docs", "generate", "--static"]
        # What was built and tested just now is compiled, and the manifest in memory has the SQL.
        if self._compiled == {"build", "test"}:
            arguments.append("--no-compile")
        done = self._invoke(arguments, self.manifest)
        target = os.environ.get("DBT_TARGET_PATH") or "target"
        page = self.settings.project_dir / target / "static_index.html"
        if done.exception or not page.is_file():
            raise self._failure(done.exception, "the documentation could not be written")
        return page

    # -- inside --------------------------------------------------------------------------------

    def _results(self, arguments: list[str]) -> list[NodeResult]:
        done = self._invoke(arguments, self.manifest)
        if done.exception is not None:
            raise self._failure(done.exception, f"dbt {arguments[0]} could not be done")
        # Hooks are among the results; one that fails matters, one that ran is no news.
        found = [_node_result(result) for result in getattr(done.result, "results", ())]
        return [result for result in found if result.kind != "operation" or result.status != "ok"]

    def _failure(self, error: BaseException | None, what: str) -> IngestionError:
        if error is not None and disk_full(error):
            return disk_full_error(self.settings.data_dir, error)
        text = _text(error)
        if "Could not set lock" in text or "Conflicting lock" in text:
            return LockHeld(
                f"another process has the warehouse open: {text.splitlines()[-1].strip()}",
                file=self.settings.warehouse_path,
                hint="Close it, then run again. Readers use the published version instead.",
            )
        if damaged(text):
            return damaged_error(self.settings, text)
        return BuildFailed(f"{what}: {text}", hint=f"See {self.settings.logs_dir / 'dbt.log'}.")

    def _invoke(self, arguments: Sequence[str], manifest: Manifest | None = None) -> Any:
        from dbt.cli.main import dbtRunner

        from ingestion.manifest import dbt_arguments

        self.settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
        self.settings.logs_dir.mkdir(parents=True, exist_ok=True)
        self._done = self._total = 0
        with _surroundings(self.settings):
            runner = dbtRunner(manifest, callbacks=[self._on_event])
            flags = [*dbt_arguments(self.settings), "--log-level-file", "info"]
            done = runner.invoke([*arguments, *flags])
        _close_connections()
        if isinstance(done.exception, KeyboardInterrupt):
            raise done.exception
        return done

    def _on_event(self, event: Any) -> None:
        if event.info.name == "ConcurrencyLine":
            self._total = event.data.node_count
        elif event.info.name == "SQLQuery" and self._statements is not None:
            unique_id = event.data.node_info.unique_id
            self._statements.append(Statement(unique_id, event.data.sql))
        elif event.info.name == "NodeFinished":
            failpoint("build.node_finished")
            self._done += 1
            info = event.data.node_info
            if self._building and self.on_built is not None and info.node_status == "success":
                self.on_built(info.unique_id)
            if self.on_node is not None:
                total = max(self._total, self._done)
                self.on_node(self._done, total, event.data.node_info.node_name)


def room_fault(settings: Settings, failed: Iterable[NodeResult]) -> IngestionError | None:
    """The fault to tell where nodes failed for want of room or a damaged warehouse; else None."""
    for result in failed:
        if damaged(result.message):
            return damaged_error(settings, result.message)
        lines = result.message.splitlines()
        for number, line in enumerate(lines):
            if disk_full(RuntimeError(line)):
                told = "\n".join([f"{result.name}: {line.strip()}", *lines[number + 1 :]])
                return disk_full_error(settings.data_dir, RuntimeError(told))
    return None


@contextmanager
def _surroundings(settings: Settings) -> Iterator[None]:
    """Gives dbt its environment and takes back what it changes: it moves to the project's root."""
    here = Path.cwd()
    os.environ.update(settings.environment())
    try:
        yield
    finally:
        os.chdir(here)


def _close_connections() -> None:
    """Lets go of the warehouse file: dbt would hold it until the process ends."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment = DuckDBConnectionManager._ENV
    DuckDBConnectionManager.close_all_connections()
    if environment is not None:
        environment.close()


def _text(error: BaseException | None) -> str:
    lines = [line.rstrip() for line in str(error or "it did not say why").strip().splitlines()]
    return "\n".join(line for line in lines if line)


def _node_result(result: Any) -> NodeResult:
    node = result.node
    message = (result.message or "").strip() or _age(result)
    return NodeResult(
        unique_id=node.unique_id,
        name=_node_name(node),
        kind=str(node.resource_type),
        status=_STATUS.get(str(result.status), "failed"),
        seconds=round(result.execution_time, 3),
        message="" if message == "OK" else message,
        failures=getattr(result, "failures", None),
        file=node.original_file_path,
        compiled_path=getattr(node, "compiled_path", None),
        compiled_sql=getattr(node, "compiled_code", None),
        attached_to=getattr(node, "attached_node", None),
    )


def _judged(verdict: Verdict) -> NodeResult:
    node = verdict.node
    return NodeResult(
        unique_id=node.unique_id,
        name=_node_name(node),
        kind=str(node.resource_type),
        status=_STATUS.get(verdict.status, "failed"),
        seconds=round(verdict.seconds, 3),
        message=verdict.message,
        failures=verdict.failures,
        file=node.original_file_path,
        compiled_path=getattr(node, "compiled_path", None),
        compiled_sql=node.compiled_code,
        attached_to=getattr(node, "attached_node", None),
    )


def _age(result: Any) -> str:
    """When a source table got its newest row, for the result of a freshness check."""
    newest = getattr(result, "max_loaded_at", None)
    if newest is None:
        return ""
    if newest.year == 1:
        return "it has no row yet"
    return f"newest row of {newest:%Y-%m-%d %H:%M} UTC, {result.age / 3600:,.1f} hours old"


def _node_name(node: Any) -> str:
    source = getattr(node, "source_name", None)
    return f"{source}.{node.name}" if source else str(node.name)
