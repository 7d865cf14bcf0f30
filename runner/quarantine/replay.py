"""Takes rows back in after a rule, a mapping or a declaration was mended.

reckon what is set aside -> read files again (`ingestion.replay`) -> build, audit, publish what is
made from them -> reckon again -> what came back, what remains and why

It is a run like any other, with a step of its own in place of extract and load. Mended models and
seeds need no file to be read again: the build does it. Left out: how files are read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ingestion.errors import IngestionError
from ingestion.settings import Settings
from runner.history import Item
from runner.machine import StepResult, Task
from runner.quarantine.counts import KINDS, chosen_tables, open_books, quarantine_counts, told_total
from runner.report import count
from runner.steps import Run, writing
from runner.transform import Selection

if TYPE_CHECKING:
    from rich.console import Console

    from ingestion.declarations import SourceDeclaration
    from ingestion.ledger import ReplayEntry
    from ingestion.load import LoadResult
    from ingestion.replay import FileAgain
    from runner.pipeline import RunResult

Counts = dict[tuple[str, str, str], int]
STEPS_AFTER = ("build", "audit", "publish", "docs")
_LEDGER = "ledger"
_CAUSES = {
    "refused": "it was refused",
    "declaration": "its declaration has changed",
    "asked": "it was asked for",
}


@dataclass
class Replay:
    """One replay: what was asked for, and what it found.

    Attributes:
        files: Names of the files to read again; all that need it if there are none.
        tables: The tables concerned (`erp.orders`); None for all.
        before: Bad rows, records and files by table, kind and rule, before anything was done.
        staged: Staged rows by table, before anything was done.
        entries: Files that were read again, before and after.
    """

    files: tuple[str, ...] = ()
    tables: list[str] | None = None
    before: Counts = field(default_factory=dict)
    staged: dict[str, int] = field(default_factory=dict)
    entries: list[ReplayEntry] = field(default_factory=list)

    def step(self) -> Task:
        """The step of a run that reads files again."""
        return Task(
            "replay", "Read files again that are refused or read otherwise.", writing(self._work)
        )

    def _work(self, run: Run) -> StepResult:
        from ingestion.replay import replay

        self.tables = _tables(run)
        found = _reckoned(run.settings, self.tables)
        self.before, self.staged = found.rules, found.staged
        run.selection = _downstream(run, self.tables)
        result = replay(
            _declarations(run, self.tables),
            run.settings,
            files=self.files,
            on_progress=run.on_event,
        )
        self.entries = result.replays
        for line in result.changes:
            run.reporter.warn(line)
        return _step_result(result)


def _tables(run: Run) -> list[str] | None:
    return None if run.selection.everything else chosen_tables(run.dbt, run.selection)


def _declarations(run: Run, tables: Sequence[str] | None) -> list[SourceDeclaration]:
    """The declarations of these tables; of all if there are none."""
    if tables is None:
        return run.declarations
    kept = [
        replace(
            source, tables=tuple(t for t in source.tables if f"{source.name}.{t.name}" in tables)
        )
        for source in run.declarations
    ]
    return [source for source in kept if source.tables]


def _downstream(run: Run, tables: Sequence[str] | None) -> Selection:
    """What is made from these tables and from the ledger, and the seeds: one may be mended."""
    if tables is None:
        return run.selection
    sources = run.dbt.project.sources.values()
    ledger = {source.source_name for source in sources if source.schema == _LEDGER}
    made_from = [*(f"source:{table}+" for table in tables), *(f"source:{x}+" for x in ledger)]
    return Selection((*made_from, "resource_type:seed"), run.selection.exclude)


def _step_result(result: LoadResult) -> StepResult:
    replays = result.replays
    items = [
        Item("file", f"{entry.source}.{entry.table_name}: {entry.file}", _status(entry),
             entry.rows_loaded_after, 1, entry.rows_rejected_after)
        for entry in replays
    ]  # fmt: skip
    if not replays:
        return StepResult("nothing_new", "no file is refused or read otherwise than declared")
    rows = sum(entry.rows_loaded_after - entry.rows_loaded_before for entry in replays)
    text = f"{count(len(replays), 'file')} read again, {_signed(rows)} rows in raw"
    if result.refused:
        text += f"; {count(len(result.refused), 'file')} still refused"
    error = result.error
    if error is not None:
        return StepResult("failed", text, tuple(items), (error,))
    return StepResult("warned" if result.refused else "ok", text, tuple(items))


def _status(entry: ReplayEntry) -> str:
    return "ok" if entry.status_after == "loaded" else "warned"


def _signed(number: int) -> str:
    return f"{number:+,}" if number else "no more"


# -- before and after --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reckoning:
    """Bad rows by table, kind and rule, their total by kind, and staged rows by table."""

    rules: Counts = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)
    staged: dict[str, int] = field(default_factory=dict)


def _reckoned(settings: Settings, tables: list[str] | None) -> _Reckoning:
    try:
        with open_books(settings, warehouse=True) as books:
            found = quarantine_counts(books, "table_and_rule", tables)
            staged = books.connection.execute(
                "select source || '.' || table_name, sum(row_count) "
                f"from {books.relations['row_outcomes']} where outcome = 'staged' group by all"
            ).fetchall()
    except IngestionError:
        # Never built, or a project without these books: then there is nothing to compare.
        return _Reckoning()
    counts = {(r["table_name"], r["kind"], r["rule"]): r["count"] for r in found["rows"]}
    wanted = {table: int(n) for table, n in staged if tables is None or table in tables}
    return _Reckoning(counts, found["total"], wanted)


def replay_fields(replay: Replay, result: RunResult) -> dict[str, Any]:
    """What a replay changed, as named values.

    Returns:
        `files` read again, `staged` rows by table that changed, `rules`: what is set aside by
        table, kind and rule, before and after, and `remaining`: how much of it by kind.
    """
    settings = result.run.settings
    found = _reckoned(settings, replay.tables)
    after, staged = found.rules, found.staged
    return {
        "run_id": result.run.run_id,
        "status": result.status,
        "exit_code": result.exit_code,
        "files": [vars(entry) for entry in replay.entries],
        "staged": [
            {"table": table, "before": replay.staged.get(table, 0), "after": staged.get(table, 0)}
            for table in sorted({*replay.staged, *staged})
            if replay.staged.get(table, 0) != staged.get(table, 0)
        ],
        "rules": [
            {
                "table": key[0],
                "kind": key[1],
                "rule": key[2],
                "before": replay.before.get(key, 0),
                "after": after.get(key, 0),
            }
            for key in sorted({*replay.before, *after})
        ],
        "remaining": found.total,
    }


def print_replay(fields: dict[str, Any], console: Console) -> None:
    """Shows a person what a replay changed, and what remains."""
    console.print()
    changed = [rule for rule in fields["rules"] if rule["before"] != rule["after"]]
    if not fields["files"] and not changed and not fields["staged"]:
        console.print(
            "[bold]replay[/bold]     nothing to take in: every file is read as declared, and the "
            "models give the same rows as before"
        )
    for table in fields["staged"]:
        more = table["after"] - table["before"]
        told = f"{abs(more):,} staged rows {'more' if more > 0 else 'fewer'}"
        console.print(f"[bold]replay[/bold]     {table['table']}: {told}, {table['after']:,} now")
    _print_rules(changed, console)
    if any(fields["remaining"].values()):
        remaining = told_total(fields["remaining"])
        text = f"           still set aside: {remaining}; `wellspring quarantine list` tells why"
        console.print(text, markup=False)


def _print_rules(changed: Sequence[dict[str, Any]], console: Console) -> None:
    if not changed:
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("table", "kind", "rule"):
        table.add_column(name, overflow="fold")
    for name in ("before", "after", "settled"):
        table.add_column(name, justify="right")
    for rule in changed:
        gone = rule["before"] - rule["after"]
        numbers = (f"{rule['before']:,}", f"{rule['after']:,}", f"{gone:,}" if gone > 0 else "")
        table.add_row(rule["table"], KINDS[rule["kind"]], rule["rule"], *numbers)
    console.print(table, markup=False)


# -- without doing it --------------------------------------------------------------------------


def plan_replay(run: Run, files: Sequence[str]) -> list[FileAgain]:
    """The files that would be read again; widens the run's selection to what is made from them.

    Raises:
        BadInput: There is no warehouse, or no file bears a given name.
    """
    from ingestion.replay import due_again

    tables = _tables(run)
    due = due_again(_declarations(run, tables), run.settings, files)
    run.selection = _downstream(run, tables)
    return due


def print_due(due: Sequence[FileAgain], console: Console) -> None:
    """Shows a person which files would be read again."""
    console.print("[bold]replay[/bold]")
    if not due:
        console.print("  no file: none is refused or read otherwise than declared")
    for file in due:
        name = file.origin_name or file.file
        has = f"{count(file.rows_loaded, 'row')}, {file.rows_rejected:,} rejected"
        text = f"  {file.source}.{file.table}: {name} ({has}): {_CAUSES[file.cause]}"
        console.print(text, markup=False, soft_wrap=True)
