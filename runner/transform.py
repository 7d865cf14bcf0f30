"""dbt in this process, with typed results.

dbt project -> parsed once -> `select` / `build` / `test` / `freshness` / `docs` -> `NodeResult`s

One parse serves every later call, because a parse costs more than a small build. dbt's own output
is off: its events become progress, its results become `NodeResult`s, its faults become errors with
a hint. Left out: dbt's `--vars`, which would throw away the partial parse.
"""

from __future__ import annotations

import copy
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
from runner.project import made_from, made_into

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

    from runner.batch import Verdict
    from runner.compiled.recording import Rehearsed
    from runner.compiled.store import Kept
    from runner.compiled.view import Project
    from runner.withholding import Former

_STATUS = {
    "success": "ok",
    "pass": "ok",
    "no-op": "ok",
    "warn": "warned",
    "skipped": "skipped",
}
_PLUGIN = "ingestion.dbt_plugin"
# What the macro `asked` logs before an answer.
_ANSWER = "asked: "
# What the macro `rehearse` logs before what would have been sent with other answers.
_REHEARSED = "rehearsed: "
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
        unchanged: Whether it was not done, because an earlier run did the same with the same data.
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
    unchanged: bool = False


@dataclass(frozen=True)
class Statement:
    """A statement that dbt executed for a node.

    Attributes:
        unique_id: dbt's name of the node.
        sql: The statement, as it was sent.
        answer: What a macro that asked it with `asked` was told; None for any other statement.
    """

    unique_id: str
    sql: str
    answer: bool | None = None


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
    _rehearsed: dict[str, list[Rehearsed]] = field(default_factory=dict, init=False, repr=False)
    _finished: set[str] = field(default_factory=set, init=False, repr=False)
    _kept: Kept | None = field(default=None, init=False, repr=False)
    _profile: dict[str, Any] | None = field(default=None, init=False, repr=False)
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)

    def __post_init__(self, parsed: Manifest | None) -> None:
        self._manifest = parsed
        # What somebody else has parsed need not be what lies in the files.
        self._is_given = parsed is not None
        self._ground: dict[str, str] = {}
        self._there: dict[tuple[str, str], str] = {}

    @property
    def kept(self) -> Kept:
        """What is kept of the project, without dbt if its code is known.

        Raises:
            DeclarationError: dbt refuses the project.
        """
        if self._kept is None:
            from runner.compiled.key import project_key
            from runner.compiled.store import Store

            # Before parsing: what is changed meanwhile has another key.
            key = None if self._is_given else project_key(self.settings)
            store = Store(self.settings)
            self._kept = store.read(key) if key else None
            if self._kept is None:
                self._kept = self._parsed_project(key or "")
                if key:
                    store.write_project(self._kept)
        return self._kept

    @property
    def code_key(self) -> str | None:
        """Names the code of the project; None if it is not known by name."""
        return self.kept.key if self._may_keep else None

    def _parsed_project(self, key: str) -> Kept:
        import json

        from runner.compiled.store import Kept, moving_nodes, reach_codes
        from runner.compiled.view import lasting
        from runner.project import code_hash, node_codes

        parsed = self.manifest.writable_manifest().to_dict(omit_none=False)
        folder = self.settings.project_dir
        codes = node_codes(parsed, folder)
        return Kept(
            key,
            json.loads(json.dumps(lasting(parsed), default=str)),
            codes,
            code_hash(parsed, folder),
            moving=moving_nodes(parsed),
            reach=reach_codes(parsed, codes, key),
        )

    @property
    def project(self) -> Project:
        """The parsed project, to look things up in.

        Raises:
            DeclarationError: dbt refuses the project.
        """
        return self.kept.view

    @property
    def manifest(self) -> Manifest:
        """Dbt's own parsed project, for what needs dbt.

        Raises:
            DeclarationError: dbt refuses the project.
        """
        if self._manifest is None:
            from ingestion.manifest import parse_project

            with _surroundings(self.settings):
                self._manifest = parse_project(self.settings)
        return self._manifest

    def sources(self, selection: Selection) -> tuple[dict[str, Any], set[str]]:
        """Sources of the project as dictionaries, and the tables that a selection is made from.

        Raises:
            DeclarationError: dbt refuses the project or the selection, or nothing matches it.
        """
        if selection.everything:
            return self.kept.content, set(self.kept.content["sources"])

        def ask() -> set[str]:
            from ingestion.manifest import read_manifest

            manifest, where = self.manifest, (selection.select, selection.exclude)
            with _surroundings(self.settings):
                return read_manifest(self.settings, *where, manifest)[1]

        return self.kept.content, set(self._selected(selection, ("sources above",), ask))

    def select(self, selection: Selection, *kinds: str) -> list[str]:
        """Unique ids of the nodes of these kinds within a selection, sorted.

        Raises:
            BadInput: dbt does not understand the selection.
        """
        if selection.everything:
            nodes = self.project.nodes.items()
            return sorted(key for key, node in nodes if str(node.resource_type) in kinds)
        return self._selected(selection, kinds, lambda: self._listed(selection, kinds))

    def _selected(
        self, selection: Selection, kinds: Sequence[str], ask: Callable[[], Iterable[str]]
    ) -> list[str]:
        """Unique ids that dbt finds for a selection, sorted; of unchanged code it is asked once."""
        import json

        from runner.compiled.store import Store

        asked = json.dumps([sorted(kinds), selection.select, selection.exclude])
        if not self._may_keep:
            return sorted(ask())
        if asked not in self.kept.selections:
            found = sorted(ask())
            if not self.kept.note_selection(asked, found):
                return found
            Store(self.settings).write_selections(self.kept)
        return self.kept.selections[asked]

    def _listed(self, selection: Selection, kinds: Sequence[str]) -> list[str]:
        import json

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
        return [json.loads(line)["unique_id"] for line in done.result]

    def build(
        self,
        selection: Selection,
        full_refresh: bool = False,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        lazy: bool = False,
    ) -> list[NodeResult]:
        """Builds seeds, models and snapshots, without tests.

        Args:
            selection: What to build.
            full_refresh: Whether to build incremental models and seeds anew.
            only: Unique ids of the nodes to build, in place of the selection.
            without: Unique ids of nodes that are left out.
            lazy: Whether to leave as it is what is there as it would be built.

        Returns:
            A result a node, also where some failed.

        Raises:
            BuildFailed: dbt could not even begin.
        """
        wanted = self._wanted(selection, only) - set(without)
        lazy = lazy and not full_refresh
        results, unknown, left = self._played(wanted, full_refresh, lazy)
        while left:
            # What dbt builds has to stand on what is built already.
            now = unknown | (made_into(self.project, unknown) & left)
            built = self._built_by_dbt(self._chosen(selection, now, only), full_refresh)
            bad = {result.unique_id for result in built if result.status in ("failed", "skipped")}
            below = made_from(self.project, bad) & (left - now)
            results += [*built, *(_skipped(self.project.nodes[key]) for key in sorted(below))]
            if not left - now - below:
                break
            more, unknown, left = self._played(left - now - below, full_refresh, lazy)
            results += more
        failpoint("build.finished")
        return results

    def _chosen(
        self,
        selection: Selection,
        nodes: Collection[str],
        only: Collection[str] | None,
    ) -> Selection:
        """Nodes as a selection; all that was wanted as the selection that it came of."""
        is_all = only is None and set(nodes) == set(self._wanted(selection, None))
        return selection if is_all else Selection(tuple(self._names(nodes)))

    def _wanted(self, selection: Selection, only: Collection[str] | None) -> set[str]:
        """Unique ids of what a build is asked for."""
        if only is None:
            only = self.select(selection, "model", "seed", "snapshot")
        nodes = self.project.nodes
        return {key for key in only if nodes[key].config.materialized != "ephemeral"}

    def _played(
        self, wanted: Collection[str], full_refresh: bool, lazy: bool
    ) -> tuple[list[NodeResult], set[str], set[str]]:
        """Builds what is known without dbt; returns results, what is unknown, and what is left."""
        from contextlib import closing

        from ingestion.warehouse import connect
        from runner.compiled.player import Player, grounds, places, set_up
        from runner.compiled.versions import DataVersions

        if not self._may_keep or not self.settings.warehouse_path.is_file():
            self._ground, self._there = {}, {}
            return [], set(wanted), set(wanted)
        nodes, kept = self.project.nodes, self.kept
        self._done, self._total = 0, len(wanted)

        def on_done(key: str) -> None:
            failpoint("build.node_played")
            self._done += 1
            if self.on_built is not None:
                self.on_built(key)
            if self.on_node is not None:
                self.on_node(self._done, self._total, nodes[key].name)

        with closing(connect(self.settings)) as connection:
            set_up(connection, kept)
            self._ground = grounds(kept, connection, [*wanted, *self._hooks])
            self._there = places(connection)
            if kept.connection is None:
                return [], set(wanted), set(wanted)
            versions = DataVersions(kept, connection)
            expected = versions.expected(wanted)
            same = sorted(versions.unchanged(wanted, expected)) if lazy else []
            if self.on_built is not None:
                # Before anything is built: a run that is killed had these, too.
                for key in same:
                    self.on_built(key)
            player = Player(kept, self.settings, connection, on_done, expected)
            built = player.play(set(wanted) - set(same), full_refresh)
        results = [replace(_built(nodes[key], 0.0), unchanged=True) for key in same]
        results += [_built(nodes[key], seconds) for key, seconds in built.done.items()]
        return results, set(built.unknown), set(built.left)

    def _built_by_dbt(self, chosen: Selection, full_refresh: bool) -> list[NodeResult]:
        """Has dbt build a selection, and keeps what it sends."""
        arguments = ["build", "--exclude-resource-type", "test"]
        arguments += ["--exclude-resource-type", "unit_test", *chosen.arguments()]
        sent = self._statements = []
        self._rehearsed = {}
        self._finished = set()
        self._building = True
        try:
            results = self._results([*arguments, "--full-refresh"] if full_refresh else arguments)
        finally:
            self._building = False
            self._statements = None
        self._compiled |= {"build"} if chosen.everything else set()
        self._keep_built(sent, full_refresh)
        return results

    @property
    def _may_keep(self) -> bool:
        return not self._is_given and bool(self.kept.key)

    @property
    def _hooks(self) -> list[str]:
        nodes = self.project.nodes.items()
        return [key for key, node in nodes if str(node.resource_type) == "operation"]

    def _keep_built(self, sent: Sequence[Statement], full_refresh: bool) -> None:
        """Keeps what dbt sent for the nodes that it built, and marks what they are made of."""
        from contextlib import closing

        from ingestion.warehouse import connect
        from runner.compiled.store import Store
        from runner.compiled.versions import write_marks

        if not self._may_keep or not self._ground:
            return
        nodes = self.project.nodes
        by_node: dict[str, list[tuple[str, bool | None]]] = {key: [] for key in self._hooks}
        for one in sent:
            by_node.setdefault(one.unique_id, []).append((one.sql, one.answer))
        for key, statements in by_node.items():
            if key not in self._ground or key not in {*self._finished, *self._hooks}:
                continue
            node = nodes[key]
            own = getattr(node.config, "full_refresh", None)
            asked = full_refresh if own is None else own
            existed = not asked and self._there.get((node.schema, node.alias)) == "table"
            others = self._rehearsed.get(key, ())
            self.kept.note(key, statements, existed, self._ground[key], others)
        self.kept.connection = self._profile
        self._rehearse_additions()
        store = Store(self.settings)
        store.write_project(self.kept)
        store.write_statements(self.kept)
        if self._profile is not None:
            built = [key for key in self._finished if key in self._ground and key in nodes]
            with closing(connect(self.settings)) as connection:
                write_marks(connection, self.kept, built)

    def _rehearse_additions(self) -> None:
        """Keeps what dbt would send to add to incremental models that it has made just now."""
        from runner.rehearsal import rehearsed

        nodes, known = self.project.nodes, self.kept.recordings
        made = [
            key
            for key in self._finished
            if key in self._ground
            and key in known
            and nodes[key].config.materialized == "incremental"
            and not nodes[key].config.full_refresh
            and not any(way.on_existing for way in known[key])
        ]
        # Without our plugin what dbt opens cannot be sealed.
        if not made or self._profile is None or _PLUGIN not in self._profile["plugins"]:
            return
        manifest = self.manifest
        # Others go on with the text that has just been built.
        compiled = {key: copy.deepcopy(manifest.nodes[key]) for key in made}

        def build(other: Settings) -> tuple[list[NodeResult], list[Statement]]:
            dbt = Dbt(other, parsed=manifest)
            dbt._kept = self._kept
            return dbt.build_recorded(made)

        try:
            found = rehearsed(self.settings, build)
        finally:
            manifest.nodes.update(compiled)
        for key, statements in found.items():
            sent = [(one.sql, one.answer) for one in statements]
            self.kept.note(key, sent, True, self._ground[key])

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

    def test(self, selection: Selection, lazy: bool = False) -> list[NodeResult]:
        """Runs the data tests. Unit tests are left out: they test code, not data.

        They are asked in few queries; those that keep their failures in a table are run by dbt.
        The verdicts are the same.

        Args:
            selection: What to test.
            lazy: Whether to leave out what passed on the data that is there; a selection is tested
                whole.

        Raises:
            BuildFailed: dbt could not even begin.
        """
        tests = self.compiled_tests(selection)
        if not self._may_keep or not selection.everything:
            return self.judge(tests)
        from contextlib import closing

        from ingestion.warehouse import connect
        from runner.compiled.verdicts import Verdicts
        from runner.compiled.versions import DataVersions

        with closing(connect(self.settings, read_only=True)) as connection:
            versions = DataVersions(self.kept, connection).expected(())
        verdicts = Verdicts(self.settings)
        same = [test for test in tests if lazy and verdicts.holds(test, versions)]
        known = {test.unique_id for test in same}
        results = self.judge([test for test in tests if test.unique_id not in known])
        passed = {result.unique_id for result in results if result.status == "ok"}
        verdicts.note(tests, passed | known, versions)
        return results + [_still_passed(test) for test in same]

    def compiled_tests(self, selection: Selection) -> list[Any]:
        """Dbt's nodes of the data tests of a selection, compiled.

        Raises:
            BuildFailed: dbt cannot compile them.
        """
        chosen = self.select(selection, "test")
        known = [self.kept.compiled_test(key) for key in chosen] if self._may_keep else []
        known = [node for node in known if node is not None]
        missing = set(chosen) - {node.unique_id for node in known}
        if not missing:
            return known
        names = self._names(missing) if known else ["test_type:data"]
        if not selection.everything:
            names = self._names(missing)
        wanted = [part for name in names for part in ("--select", name)]
        sent = self._statements = []
        try:
            done = self._invoke(["compile", *wanted], self.manifest)
        finally:
            self._statements = None
        if done.exception is not None:
            raise self._failure(done.exception, "dbt test could not be done")
        self._compiled |= {"test"} if selection.everything and not known else set()
        nodes = [result.node for result in done.result.results]
        compiled = [node for node in nodes if str(node.resource_type) == "test"]
        self._keep_tests(compiled, sent)
        return [*known, *compiled]

    def _keep_tests(self, compiled: Sequence[Any], sent: Sequence[Statement]) -> None:
        from runner.compiled.store import Store

        if not self._may_keep:
            return
        for node in compiled:
            own = [(one.sql, one.answer) for one in sent if one.unique_id == node.unique_id]
            self.kept.note_test(node, own)
        Store(self.settings).write_statements(self.kept)

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

    def _tested_by_dbt(self, tests: Sequence[str]) -> list[NodeResult]:
        chosen = [part for name in self._names(tests) for part in ("--select", name)]
        return self._results(["test", "--exclude-resource-type", "unit_test", *chosen])

    def _names(self, unique_ids: Collection[str]) -> list[str]:
        """Nodes as dbt's selection language names them."""
        return [".".join(self.project.nodes[key].fqn) for key in sorted(unique_ids)]

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
        from contextlib import closing

        from ingestion.warehouse import connect
        from runner.compiled.freshness import ages

        known = self.project.sources
        wanted = [known[key] for key in sorted(sources) if key in known and known[key].freshness]
        if not wanted:
            return []
        with closing(connect(self.settings, read_only=True)) as connection:
            found, left = ages(connection, wanted)
        results = [_node_result(one) for one in found]
        if left:
            names = " ".join(f"source:{node.source_name}.{node.name}" for node in left)
            results += self._results(["source", "freshness", "--select", names])
        return results

    def docs(self) -> Path:
        """Writes dbt's documentation as one page and returns its path.

        Raises:
            BuildFailed: dbt could not write it.
        """
        arguments = ["docs", "generate", "--static"]
        target = self.settings.project_dir / (os.environ.get("DBT_TARGET_PATH") or "target")
        page = target / "static_index.html"
        # What was built and tested just now is compiled, and the manifest in memory has the SQL.
        if self._compiled == {"build", "test"}:
            arguments.append("--no-compile")
            self.manifest.write(str(target / "manifest.json"))
        done = self._invoke(arguments, self.manifest)
        if done.exception or not page.is_file():
            raise self._failure(done.exception, "the documentation could not be written")
        return page

    # -- inside --------------------------------------------------------------------------------

    def _results(self, arguments: list[str]) -> list[NodeResult]:
        done = self._invoke(arguments, self.manifest)
        if done.exception is not None:
            raise self._failure(done.exception, f"dbt {arguments[0]} could not be done")
        # Hooks and exposures are among them; one that fails matters, one that ran is no news.
        found = [_node_result(result) for result in getattr(done.result, "results", ())]
        quiet = ("operation", "exposure")
        return [result for result in found if result.kind not in quiet or result.status != "ok"]

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
        self._profile = _close_connections()
        if isinstance(done.exception, KeyboardInterrupt):
            raise done.exception
        return done

    def _on_event(self, event: Any) -> None:
        if event.info.name == "ConcurrencyLine":
            self._total = event.data.node_count
        elif event.info.name == "SQLQuery" and self._statements is not None:
            unique_id = event.data.node_info.unique_id
            self._statements.append(Statement(unique_id, event.data.sql))
        elif event.info.name == "JinjaLogDebug" and self._statements:
            self._note_answer(event.data.node_info.unique_id, event.data.msg)
            self._note_rehearsed(event.data.node_info.unique_id, event.data.msg)
        elif event.info.name == "NodeFinished":
            failpoint("build.node_finished")
            self._done += 1
            info = event.data.node_info
            if info.node_status == "success":
                self._finished.add(info.unique_id)
                if self._building and self.on_built is not None:
                    self.on_built(info.unique_id)
            if self.on_node is not None:
                total = max(self._total, self._done)
                self.on_node(self._done, total, event.data.node_info.node_name)

    def _note_answer(self, unique_id: str, told: str) -> None:
        """Keeps what the macro `asked` logs: the answer to what its node sent last."""
        given = {_ANSWER + "True": True, _ANSWER + "False": False}
        if self._statements is None or told not in given:
            return
        for place in range(len(self._statements) - 1, -1, -1):
            if self._statements[place].unique_id == unique_id:
                self._statements[place] = replace(self._statements[place], answer=given[told])
                return

    def _note_rehearsed(self, unique_id: str, told: str) -> None:
        """Keeps what the macro `rehearse` logs: what its node would have sent last."""
        from runner.compiled.recording import Rehearsed

        if self._statements is None or not told.startswith(_REHEARSED):
            return
        place = sum(one.unique_id == unique_id for one in self._statements)
        one = Rehearsed.of_log(told.removeprefix(_REHEARSED), place)
        self._rehearsed.setdefault(unique_id, []).append(one)


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


def _close_connections() -> dict[str, Any] | None:
    """Lets go of the warehouse file: dbt would hold it until the process ends.

    Returns:
        How dbt sets its connection; None if that is more than settings.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment = DuckDBConnectionManager._ENV
    DuckDBConnectionManager.close_all_connections()
    if environment is None:
        return None
    environment.close()
    given = environment.creds
    more = ("config_options", "extensions", "secrets", "attach", "filesystems", "remote")
    is_more = any(getattr(given, name, None) for name in more)
    plugins = {plugin.module for plugin in given.plugins or ()}
    if is_more or plugins - {_PLUGIN} or given.disable_transactions:
        return None
    return {"settings": dict(given.settings or {}), "plugins": sorted(plugins)}


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


def _built(node: Any, seconds: float) -> NodeResult:
    return NodeResult(
        unique_id=node.unique_id,
        name=_node_name(node),
        kind=str(node.resource_type),
        status="ok",
        seconds=round(seconds, 3),
        file=node.original_file_path,
    )


def _skipped(node: Any) -> NodeResult:
    return replace(_built(node, 0.0), status="skipped")


def _still_passed(test: Any) -> NodeResult:
    built = replace(_built(test, 0.0), failures=0, compiled_sql=test.compiled_code)
    attached = getattr(test, "attached_node", None)
    return replace(built, attached_to=attached, unchanged=True)


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
