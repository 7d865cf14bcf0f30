"""One cycle of a watch: from what has landed to what readers get.

lock (others first) -> load -> script stands? - no: dbt, learn it anew -> play -> tests -> publish

Each part commits by itself, and each begins with what the one before has committed: a kill between
any two leaves a consistent warehouse, and the next cycle goes on. A failed test leaves readers the
former live version; what was built stays, as after a failed audit. Left out: when a cycle is due.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ingestion.errors import IngestionError, LockHeld
from ingestion.failpoints import failpoint
from ingestion.lock import OnWait, RunLock, lock_path
from ingestion.settings import Settings
from runner.batch import ask
from runner.compiled.trust import in_our_hands
from runner.errors import AuditFailed
from runner.project import published_relations
from runner.transform import Dbt, Selection
from runner.watch.live_version import LiveTable, current_live, live_tables, publish_live
from runner.watch.script import (
    TAG,
    LiveModels,
    Marks,
    Script,
    bound,
    find_live,
    learn,
    marks_of,
    missing_above,
)

if TYPE_CHECKING:
    import duckdb

    from ingestion.declarations import SourceDeclaration
    from ingestion.load import LoadResult
    from ingestion.schema.journal import Noted
    from runner.changes.telling import Told
    from runner.compiled.view import Project

log = logging.getLogger(__name__)

# Ten years: whoever gives way waits for as long as it takes.
_EVER = 315_360_000.0


@dataclass
class Outcome:
    """What a cycle came to.

    Attributes:
        rows: Rows loaded.
        files: Files loaded.
        played: Whether the live models were brought up to date.
        learnt: Whether dbt was asked.
        version: The live version that was made; None if none was.
        lag_seconds: From the landing of the newest rows to that version.
        seconds: How long it took under the lock.
        parts: Seconds by part of the cycle.
        refused: What could not be loaded, in words.
        schema: How sources have changed, and what their contracts refuse.
        error: What did not pass; None if all is well.
    """

    rows: int = 0
    files: int = 0
    played: bool = False
    learnt: bool = False
    version: int | None = None
    lag_seconds: float | None = None
    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    schema: list[Noted] = field(default_factory=list)
    error: IngestionError | None = None

    @property
    def did_anything(self) -> bool:
        """Whether anything was loaded, built or published."""
        return bool(self.files or self.played or self.learnt or self.version)


class Cycles:
    """Cycles of one watch, with what is kept between them.

    Args:
        settings: The project's settings.
        run_id: Name of the watch in the run history.
        command: The command line to show to whoever meets the lock.
        on_wait: Told who holds the lock.
    """

    def __init__(
        self, settings: Settings, run_id: str, command: str, on_wait: OnWait | None = None
    ) -> None:
        self._settings = settings
        self._lock = (lock_path(settings), run_id, command, _EVER, on_wait, True)
        self._script: Script | None = None
        self._tables: Sequence[LiveTable] = ()
        self._shown: Marks | None = None
        self._built: Any = None
        # dbt opens the warehouse to compile the tests.
        with RunLock(*self._lock):
            self._read_project()

    def _read_project(self) -> None:
        from ingestion.declarations import load_declarations

        self._dbt = Dbt(self._settings)
        described, _ = self._dbt.sources(Selection((f"tag:{TAG}",)))
        self._live: LiveModels = find_live(self._dbt)
        self._declared = load_declarations(described, self._live.sources)
        manifest = self._dbt.manifest
        tagged = {key: manifest.nodes[key] for key in self._live.tagged}
        self._tables = live_tables(published_relations(manifest), tagged)

    @property
    def project(self) -> Project:
        """The project, as it was read last."""
        return self._dbt.project

    @property
    def declarations(self) -> Sequence[SourceDeclaration]:
        """The sources of the live models."""
        return self._declared

    def run(self) -> Outcome:
        """Does one cycle.

        Raises:
            LockHeld: A reader has the warehouse open at the moment.
            IngestionError: Loading broke off, or the disk is full.
        """
        outcome = Outcome()
        with RunLock(*self._lock), in_our_hands(self._settings, log.warning):
            began = time.monotonic()
            failpoint("watch.locked")
            try:
                if self._script is None:
                    self._learn(outcome)
                if not self._worked(outcome):
                    # Code, raw columns or what was staged are not what they were.
                    self._script = None
                    self._learn(outcome)
                    self._worked(outcome)
            except LockHeld:
                raise
            except IngestionError as error:
                if not isinstance(error, AuditFailed):
                    # dbt tells better what is wrong, and finds out when it is mended.
                    self._script = None
                outcome.error = error
            outcome.seconds = time.monotonic() - began
        return outcome

    def changed(self, noted: Sequence[Noted]) -> tuple[list[Told], str]:
        """Changes of sources in words, and why it cannot be told what depends on them.

        Raises:
            LockHeld: A reader has the warehouse open at the moment.
        """
        from runner.changes.telling import told_changes

        with RunLock(*self._lock):
            return told_changes(self._settings, noted, self._dbt)

    def _learn(self, outcome: Outcome) -> None:
        began = time.monotonic()
        if self._built is not None:
            self._read_project()
        with _loading(self._settings) as connection:
            self._load(connection, outcome)
            before = missing_above(connection, self._dbt.manifest, self._live)
        script = learn(self._dbt, self._live, before)
        with _loading(self._settings) as connection:
            self._script = bound(script, connection)
        outcome.learnt = True
        outcome.parts["learn"] = time.monotonic() - began

    def _worked(self, outcome: Outcome) -> bool:
        """Loads, builds, tests and publishes; false if dbt is to be asked."""
        script = self._script
        if script is None:
            return False
        clock = _Clock(outcome)
        with _loading(self._settings) as connection:
            clock.took("open")
            self._load(connection, outcome)
            clock.took("load")
            if not script.stands(connection):
                return False
            if self._ground(connection, script) != self._built:
                script.play(connection)
                outcome.played = True
                self._built = self._ground(connection, script)
            clock.took("build")
            _, marks = marks_of(connection, script.codes)
            if marks != self._shown:
                self._show(connection, marks, outcome, clock)
        clock.took("close")
        return True

    def _ground(self, connection: duckdb.DuckDBPyConnection, script: Script) -> Any:
        """What changes with whatever was loaded or built, by whomever."""
        names = [declaration.name for declaration in self._declared]
        loaded = connection.execute(
            "select source, table_name, count(*), max(load_id), max(loaded_at) from ledger.files "
            "where source in (select unnest(?::varchar[])) group by all order by all",
            [names],
        ).fetchall()
        return loaded, marks_of(connection, script.codes)[1]

    def _load(self, connection: duckdb.DuckDBPyConnection, outcome: Outcome) -> None:
        from ingestion.load import LoadResult, SourceLoader

        result: LoadResult = LoadResult()
        try:
            for declaration in self._declared:
                SourceLoader(connection, self._settings, declaration, result, None).run()
        finally:
            # What is committed is not met again.
            outcome.schema += result.schema
        outcome.rows += result.rows
        outcome.files += sum(table.files for table in result.tables)
        outcome.refused += [str(refused) for refused in result.refused]
        failpoint("watch.loaded")

    def _show(
        self,
        connection: duckdb.DuckDBPyConnection,
        marks: Marks,
        outcome: Outcome,
        clock: _Clock,
    ) -> None:
        """Publishes what passes its tests."""
        if self._settings.watch.tests == "ask":
            failed = [
                verdict
                for verdict in ask(connection, self._live.tests, self._settings)
                if verdict.status in ("fail", "error")
            ]
            clock.took("test")
            if failed:
                names = "; ".join(f"{v.node.name}: {v.message}" for v in failed[:5])
                more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
                raise AuditFailed(
                    f"{len(failed)} of {len(self._live.tests)} tests failed: {names}{more}; "
                    "readers keep the former live version",
                    hint=f"`wellspring audit --select tag:{TAG}` shows rows.",
                )
        failpoint("watch.tested")
        shown = current_live(self._settings)
        told = {name: list(mark) for name, mark in marks.items()}
        if self._shown is None and shown is not None and shown["marks"] == told:
            self._shown = marks
            return
        outcome.version = publish_live(connection, self._settings, self._tables, marks)
        self._shown = marks
        outcome.lag_seconds = _lag(marks)
        clock.took("publish")


class _Clock:
    """Notes how long the parts of a cycle take."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._last = time.monotonic()

    def took(self, part: str) -> None:
        """The part that ends now."""
        moment = time.monotonic()
        parts = self._outcome.parts
        parts[part] = round(parts.get(part, 0.0) + moment - self._last, 4)
        self._last = moment


def _lag(marks: Marks) -> float | None:
    """Seconds since the newest load was landed."""
    moments = []
    for load_id, _ in marks.values():
        with suppress(TypeError, ValueError):
            moments.append(float(str(load_id)))
    return max(0.0, round(time.time() - max(moments), 3)) if moments else None


def _loading(settings: Settings) -> Any:
    from ingestion.load import loading

    return loading(settings)
