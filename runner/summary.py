"""The last lines of a run: what was loaded, rejected, tested, published, and where to look.

`RunResult` -> `summarise` -> text on stdout for people, or one JSON object for programs

Left out: what was said while it ran, which went to stderr.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.redaction import redact
from runner.history import Item
from runner.logs import log_path
from runner.pipeline import RunResult
from runner.report import count, error_fields
from runner.steps import tell_test
from runner.veracity.observe import Observed
from runner.withholding import tell_kept, withheld_tables

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLUMNS = {
    "new rows": "rows",
    "files": "files",
    "refused files": "refused",
    "rejected records": "rejected",
    "rows in all": "total",
    "quarantined": "quarantined",
}
_SHOWN_ANOMALIES = 10
_SIGNS = {
    "succeeded": ("✓", "green"),
    "partly": ("!", "yellow"),
    "failed": ("✗", "red"),
}


@dataclass
class SourceFigures:
    """What a run and the ledger say of one source; None where no step of the run told.

    Attributes:
        rows: Rows that this run loaded.
        files: Files that it took.
        rejected: Records that could not be read as rows.
        refused: Files that could not be read at all.
        total: Rows loaded in all.
        quarantined: Rows that broke a rule, of all.
        status: What its extraction came to.
    """

    rows: int | None = None
    files: int | None = None
    rejected: int | None = None
    refused: int | None = None
    total: int | None = None
    quarantined: int | None = None
    status: str | None = None

    def add(self, name: str, number: int | None) -> None:
        """Adds to one of the figures."""
        setattr(self, name, (getattr(self, name) or 0) + (number or 0))


def by_source(result: RunResult) -> dict[str, SourceFigures]:
    """Figures by source, of the steps that the run did."""
    found: dict[str, SourceFigures] = defaultdict(SourceFigures)
    for step in result.steps:
        for item in step.result.items:
            _count_in(found, step.name, item)
    # The ledger counts every source; a run that read some of them tells of those.
    touched = {n: f for n, f in found.items() if f.status is not None or f.rows is not None}
    return dict(sorted((touched or found).items()))


def _count_in(found: dict[str, SourceFigures], step: str, item: Item) -> None:
    if item.kind == "source":
        found[item.name].status = item.status
    elif item.kind == "total":
        found[item.name].add("total", item.rows)
    elif item.kind == "outcome":
        source, _, outcome = item.name.rpartition(".")
        found[source].add("quarantined", item.rows if outcome == "quarantined" else 0)
    elif item.kind == "table" and step == "extract":
        found[item.name.partition(".")[0]].add("refused", item.rejected)
    elif item.kind == "table":
        figures = found[item.name.partition(".")[0]]
        figures.add("rows", item.rows)
        figures.add("files", item.files)
        figures.add("rejected", item.rejected)


def print_summary(result: RunResult, as_json: bool) -> None:
    """Writes the summary to stdout.

    Args:
        result: The run.
        as_json: As one JSON object on one line.
    """
    if as_json:
        sys.stdout.write(redact(json.dumps(summary_fields(result), default=str)) + "\n")
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    console.print()
    _print_sources(console, result)
    _print_lines(console, result)
    _print_faults(console, result)
    _print_verdict(console, result)


def summary_fields(result: RunResult) -> dict[str, Any]:
    """The summary as named values."""
    published = result.run.published
    return {
        "event": "run_finished",
        "run_id": result.run.run_id,
        "status": result.status,
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 3),
        "steps": [
            {
                "step": step.name,
                "status": step.result.status,
                "seconds": round(step.seconds, 3),
                "message": step.result.text,
            }
            for step in result.steps
        ],
        "not_done": list(result.not_done),
        "sources": {name: vars(figures) for name, figures in by_source(result).items()},
        "tests": _tests(result),
        "failed_tests": [
            {"test": test.result.name, "model": test.model, "rows": test.result.failures}
            | {"status": test.result.status, "sources": list(test.sources)}
            for test in result.run.failed_tests
        ],
        "anomalies": [
            {"anomaly": a.name, "severity": a.severity, "is_new": a in result.run.observed.new}
            | {"value": a.value, "expected": [a.low, a.high], "message": a.text}
            for a in result.run.observed.anomalies
        ],
        "schema_changes": [
            {"table": item.name, "message": item.message} for item in _changes(result)
        ],
        "published": published.version.name if published and not published.held else None,
        "held_back": published.version.name if published and published.held else None,
        "withheld": withheld_tables(published.version) if published else {},
        "database": str(published.version.database) if published else None,
        "docs": result.run.docs_page,
        "errors": [error_fields(error) for error in _faults(result)],
    }


def _changes(result: RunResult) -> list[Item]:
    """How sources have changed, as the run's steps told."""
    items = [item for step in result.steps for item in step.result.items]
    return [item for item in items if item.kind == "schema_change"]


def _tests(result: RunResult) -> dict[str, int] | None:
    items = [item for step in result.steps for item in step.result.items if item.kind == "test"]
    if not any(step.name == "audit" for step in result.steps):
        return None
    names = {"passed": "ok", "warned": "warned", "failed": "failed"}
    return {name: sum(i.status == status for i in items) for name, status in names.items()}


def _faults(result: RunResult) -> list[Any]:
    return ([result.stopped_by] if result.stopped_by else []) + list(result.later)


# -- for people --------------------------------------------------------------------------------


def _print_sources(console: Console, result: RunResult) -> None:
    sources = by_source(result)
    known = {
        title: name
        for title, name in _COLUMNS.items()
        if any(getattr(figures, name) is not None for figures in sources.values())
    }
    if not known:
        return
    table = _table("source", *known)
    for source, figures in sources.items():
        note = " [red](failed)[/red]" if figures.status == "failed" else ""
        numbers = [getattr(figures, name) for name in known.values()]
        table.add_row(f"{source}{note}", *map(_figure, numbers))
    if len(sources) > 1:
        table.add_section()
        sums = [sum(getattr(f, name) or 0 for f in sources.values()) for name in known.values()]
        table.add_row("all", *map(_figure, sums), style="bold")
    console.print(table)


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _figure(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _print_lines(console: Console, result: RunResult) -> None:
    lines = []
    tests = _tests(result)
    if tests and not any(tests.values()):
        audit = next(step for step in result.steps if step.name == "audit")
        lines.append(("tests", audit.result.text))
    elif tests:
        lines.append(
            (
                "tests",
                f"{tests['passed']:,} passed, {tests['warned']} warned, {tests['failed']} failed",
            )
        )
    took = [f"{step.name} {step.seconds:.1f} s" for step in result.steps]
    lines.append(("steps", " · ".join(took)))
    published = result.run.published
    if published is not None:
        size = f"{published.bytes / 2**20:.1f} MiB"
        what = f"{count(len(published.tables), 'table')}, {count(published.rows, 'row')}, {size}"
        what += ", unchanged" if published.unchanged else ""
        word = "held back" if published.held else "published"
        lines.append((word, f"{published.version.name}: {what}"))
        lines.append(("", shown_path(published.version.database)))
        for name, kept in withheld_tables(published.version).items():
            lines.append(("withheld", f"{name}: {kept['why']}; {tell_kept(kept)}"))
    if result.run.docs_page:
        lines.append(("docs", f"{shown_path(Path(result.run.docs_page))}  (wellspring docs)"))
    if published is not None and not published.held:
        lines.append(("query", f'wellspring sql "from {_example(result)} limit 10"'))
    lines += [("changed", f"{item.name} {item.message}") for item in _changes(result)]
    for name, text in lines:
        console.print(f"[bold]{name:<10}[/bold] ", end="")
        console.print(text, markup=False, soft_wrap=True)


def _example(result: RunResult) -> str:
    """The table to show first: a report if there is one."""
    published = result.run.published
    assert published is not None
    names = [table.name for table in published.tables]
    reports = [name for name in names if name.split(".")[-1].startswith("rpt_")]
    return (reports or names)[0]


def shown_path(path: Path) -> str:
    """A path as a person types it: relative to here where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _print_faults(console: Console, result: RunResult) -> None:
    from runner.report import print_error

    for test in result.run.failed_tests:
        sign, style = ("!", "yellow") if test.result.status == "warned" else ("✗", "red")
        console.print(f"\n[{style}]{sign}[/{style}] [bold]{test.result.name}[/bold]")
        console.print(f"  {redact(tell_test(test))}", markup=False, soft_wrap=True)
    _print_anomalies(console, result.run.observed)
    for error in _faults(result):
        console.print()
        print_error(error, console)


def _print_anomalies(console: Console, observed: Observed) -> None:
    """New anomalies in full, those that were told before as a count."""
    from rich.markup import escape

    for anomaly in observed.new[:_SHOWN_ANOMALIES]:
        sign, style = ("!", "yellow") if anomaly.severity == "warn" else ("✗", "red")
        console.print(f"\n[{style}]{sign}[/{style}] ", end="")
        console.print(f"[bold]{escape(anomaly.name)}[/bold]\n  {escape(redact(anomaly.text))}")
    hidden = len(observed.new) - _SHOWN_ANOMALIES
    known = len(observed.anomalies) - len(observed.new)
    rest = [f"{hidden} more that are new"] if hidden > 0 else []
    rest += [f"{known} known from the run before"] if known else []
    if rest:
        console.print(f"\n! anomalies: {', '.join(rest)} (`wellspring veracity`)")


def _print_verdict(console: Console, result: RunResult) -> None:
    sign, style = _SIGNS[result.status]
    words = {
        "succeeded": "done",
        "partly": f"done, with faults (exit code {result.exit_code})",
        "failed": f"failed (exit code {result.exit_code})",
    }
    if result.exit_code:
        path = log_path(result.run.settings, result.run.run_id)
        console.print(f"\n[bold]{'log':<10}[/bold] ", end="")
        console.print(shown_path(path), markup=False, soft_wrap=True)
    rest = f"; not done: {', '.join(result.not_done)}" if result.not_done else ""
    text = f"run {result.run.run_id} {words[result.status]} in {result.seconds:.1f} s{rest}"
    console.print(f"\n[{style}]{sign} {text}[/{style}]", soft_wrap=True)
