"""Reads a stretch of the past of the sources again, part by part, and publishes once at the end.

range, partition -> each source: part by part, landed and noted before the next -> load, build,
audit, publish, docs

Every part is compared with landing as an extraction is, so that only differences land and a part
may be read twice. What is noted in the run history is not read again: a backfill that was killed or
failed goes on where it stopped. Left out: deletions, which a part of a table cannot tell, and what
each kind of source makes of a part, which ingestion knows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, IngestionError
from ingestion.failpoints import failpoint
from ingestion.periods import Length, Period, periods
from ingestion.settings import Settings
from runner.history import History, Item
from runner.machine import Catch, Map, State, StepResult
from runner.pipeline import RunResult, execute
from runner.report import Reporter, count
from runner.steps import Run
from runner.transform import Selection
from runner.withholding import withhold_sources

if TYPE_CHECKING:
    from ingestion.declarations import SourceDeclaration
    from ingestion.progress import ProgressEvent

_THEN = ("load", "build", "audit", "publish", "docs")
_MOST = 5000


@dataclass(frozen=True)
class Range:
    """What a backfill was asked for.

    Attributes:
        start: The first day.
        end: The day after the last one.
        partition: How long a part is.
        selection: Which sources are read, as for an extraction; all without one.
    """

    start: date
    end: date
    partition: Length = "day"
    selection: Selection = field(default_factory=Selection)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells it from others in the history."""
        chosen = json.dumps([self.selection.select, self.selection.exclude])
        return (str(self.start), str(self.end), self.partition, chosen)

    def __str__(self) -> str:
        chosen = f" {self.selection}" if str(self.selection) else ""
        return f"--from {self.start} --to {self.end} --partition {self.partition}{chosen}"


@dataclass
class _SourceDone:
    """What became of a source.

    Attributes:
        source: Its name.
        parts: How many of its parts have landed, now or before.
        rows: Rows that landed now.
        files: Files that landed now.
        bytes: Size of what landed now.
        notes: What could not be kept to a part, by table.
        failed: Tables that failed.
        error: Why it stopped before the last part.
    """

    source: str
    parts: int = 0
    rows: int = 0
    files: int = 0
    bytes: int = 0
    notes: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    error: IngestionError | None = None


def asked(start: str, end: str, partition: Length, selection: Selection) -> Range:
    """A range as it is written on a command line.

    Raises:
        BadInput: A day is no date, or the range is empty or very long.
    """
    days = []
    for option, text in (("--from", start), ("--to", end)):
        try:
            days.append(date.fromisoformat(text))
        except ValueError:
            raise BadInput(
                f"found {text!r}, expected a day such as 2026-01-31", key=option
            ) from None
    if days[0] >= days[1]:
        raise BadInput(
            f"there is no day from {days[0]} to {days[1]}",
            key="--to",
            hint="--to is the day after the last one that is read.",
        )
    wanted = Range(days[0], days[1], partition, selection)
    number = len(periods(wanted.start, wanted.end, partition))
    if number > _MOST:
        raise BadInput(
            f"{number:,} parts are more than {_MOST:,}",
            key="--partition",
            hint="Take longer parts (--partition month), or a shorter range.",
        )
    return wanted


def left_over(settings: Settings) -> Range | str:
    """The last backfill if it is not finished, or why there is nothing to go on with."""
    last = _last(settings, None)
    if last is None:
        return "nothing to resume: there was no backfill yet"
    words = (last["range_start"], last["range_end"], last["partition"])
    if last["finished_at"] is not None:
        told = "--from {} --to {} --partition {}".format(*words)
        return (
            f"nothing to resume: the last backfill ({told}) was finished at {last['finished_at']}"
        )
    start, end = (date.fromisoformat(text) for text in words[:2])
    select, exclude = json.loads(last["selection"])
    return Range(start, end, last["partition"], Selection(tuple(select), tuple(exclude)))


def finished(settings: Settings, wanted: Range) -> str | None:
    """When the same backfill was finished; None if it was not, or never begun."""
    last = _last(settings, wanted)
    return str(last["finished_at"]) if last and last["finished_at"] else None


def _last(settings: Settings, wanted: Range | None) -> dict[str, Any] | None:
    with closing(History(settings.state_dir / "history.sqlite")) as history:
        return history.last_backfill(wanted.identity if wanted else None)


def backfill(settings: Settings, wanted: Range, reporter: Reporter, command: str) -> RunResult:
    """Reads a range again where that was not done yet, then builds, tests and publishes.

    Args:
        settings: The project's settings.
        wanted: What to read.
        reporter: Who tells people.
        command: The command line.

    Raises:
        LockHeld: Another run is under way.
        IngestionError: A fault in the program ended it; the log has the traceback.
    """
    work = _Backfill(wanted)
    steps: list[str | State] = [work.step, *_THEN]
    result = execute(settings, steps, Selection(), False, reporter, command, lazy=True)
    failpoint("backfill.published")
    if work.is_complete and result.stopped_by is None:
        with closing(History(settings.state_dir / "history.sqlite")) as history:
            history.finish_backfill(work.number)
    return result


class _Backfill:
    """The step `backfill`.

    Args:
        wanted: What to read.

    Attributes:
        number: Its number in the history.
        is_complete: Whether every part of every source has landed.
    """

    def __init__(self, wanted: Range) -> None:
        self._wanted = wanted
        self._parts = periods(wanted.start, wanted.end, wanted.partition)
        self._before: dict[str, set[str]] = {}
        # Sources are read side by side, and the history takes one note at a time.
        self._noting = threading.Lock()
        self.number = 0
        self.is_complete = False

    @property
    def step(self) -> Map:
        """The step for the flow."""
        return Map(
            "backfill",
            "Land what the sources have of a stretch of days, part by part.",
            over=self._sources,
            label=lambda declaration: str(declaration.name),
            work=self._read,
            fault=lambda done: done.error,
            gather=self._result,
            at_once=lambda run: run.settings.extract.parallel_sources,
            around=self._reading,
            interrupt=_interrupt,
            retries=True,
            catch=Catch(
                (IngestionError,),
                "The others go on; the same command goes on where the source stopped.",
                withhold_sources,
            ),
        )

    def _sources(self, run: Run) -> list[SourceDeclaration]:
        from ingestion.declarations import load_declarations

        manifest, chosen = run.dbt.sources(self._wanted.selection)
        everything = self._wanted.selection.everything
        found = load_declarations(manifest, None if everything else chosen)
        if not found:
            raise BadInput(
                "the selection is made from no declared source",
                hint="For example: --select source:shop",
            )
        self.number = run.history.begin_backfill(self._wanted.identity)
        self._before = run.history.backfilled(self.number)
        self._connections = {d.connection for d in found if d.connection}
        return found

    @contextmanager
    def _reading(self, run: Run) -> Iterator[None]:
        from ingestion.extract import prepare_extraction

        prepare_extraction(run.settings)
        with run.companion.connections(self._connections):
            yield

    def _read(
        self, run: Run, declaration: SourceDeclaration, former: _SourceDone | None
    ) -> _SourceDone:
        """Reads the parts of a source that have not landed, each landed before the next."""
        from ingestion.extract import extract_source

        done = former or _SourceDone(declaration.name)
        done.error, done.failed = None, set()
        landed = self._before.setdefault(declaration.name, set())
        done.parts = len(landed)
        for part in self._parts:
            if str(part.start) in landed:
                continue
            result = extract_source(
                declaration, run.settings, on_progress=_told_to(run), period=part
            )
            if result.error is not None:
                done.error = result.error
                done.failed = {table.table for table in result.tables if table.error}
                self._tell(run, declaration.name, part, "failed", str(result.error))
                return done
            rows = sum(table.rows for table in result.tables)
            files = sum(table.files for table in result.tables)
            notes = {f"{result.source}.{t.table}": t.note for t in result.tables if t.note}
            failpoint("backfill.landed")
            with self._noting:
                place = (self.number, declaration.name, str(part.start))
                told = "; ".join(f"{table}: {note}" for table, note in notes.items())
                run.history.add_backfilled(*place, rows, files, told, run.run_id)
            failpoint("backfill.noted")
            landed.add(str(part.start))
            done.parts, done.rows, done.files = done.parts + 1, done.rows + rows, done.files + files
            done.bytes += sum(table.bytes for table in result.tables)
            self._tell_notes(run, notes, done)
            self._tell(run, declaration.name, part, "ok", _landed(rows, files))
        return done

    def _tell(self, run: Run, source: str, part: Period, status: str, text: str) -> None:
        run.reporter.item("backfill", f"{source} {part}", status, text, kind="partition")

    def _tell_notes(self, run: Run, notes: dict[str, str], done: _SourceDone) -> None:
        """Says once of each table what could not be kept to a part."""
        for table, note in notes.items():
            if table not in done.notes:
                done.notes[table] = note
                run.reporter.item("backfill", table, "ok", note, kind="table")

    def _result(self, run: Run, results: Sequence[_SourceDone]) -> StepResult:
        failed = [done for done in results if done.error is not None]
        faults = tuple(done.error for done in failed if done.error is not None)
        for done in failed:
            run.failed_tables[done.source] = done.failed
        self.is_complete = not failed
        rows, files = sum(d.rows for d in results), sum(d.files for d in results)
        total = len(self._parts)
        items = tuple(_item(done, total) for done in results)
        text = f"{count(len(results), 'source')} from {self._wanted.start} until before "
        text += f"{self._wanted.end} in {count(total, 'part')}: {_landed(rows, files)}"
        if failed:
            text += f"; {len(failed)} failed, `wellspring backfill --resume` goes on there"
        stop = faults[0] if len(failed) == len(results) else None
        status = "failed" if failed else "ok" if rows or files else "nothing_new"
        size = sum(done.bytes for done in results)
        return StepResult(status, text, items, faults, stop, rows, size)


def _item(done: _SourceDone, total: int) -> Item:
    status = "failed" if done.error else "ok" if done.rows or done.files else "nothing_new"
    read = f"{done.parts} of {count(total, 'part')} read, {_landed(done.rows, done.files)}"
    text = str(done.error) if done.error else read
    return Item("source", done.source, status, done.rows, done.files, message=text)


def _landed(rows: int, files: int) -> str:
    parts = [count(rows, "new row")] if rows else []
    parts += [count(files, "new file")] if files else []
    return ", ".join(parts) or "nothing new"


def _told_to(run: Run) -> Any:
    """Passes on what is under way, and what failed; tables of each part would be too much."""

    def on_event(event: ProgressEvent) -> None:
        if event.state in ("started", "advanced", "failed"):
            run.on_event(event)

    return on_event


def _interrupt() -> None:
    from ingestion.progress import interruption

    interruption.set()
