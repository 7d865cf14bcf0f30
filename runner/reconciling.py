"""Compares the warehouse with its sources, and tells how each table came out.

sources named -> `ingestion.reconcile` -> items of the run history, a table for people, an exit code

Left out: comparing, which ingestion does; mending, which is an extraction's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ingestion.errors import BadInput, IngestionError
from runner.errors import AuditFailed
from runner.history import Item
from runner.machine import StepResult, Task
from runner.report import count
from runner.steps import Run

if TYPE_CHECKING:
    from rich.console import Console

    from ingestion.reconcile import Comparison

_STATUS = {
    "equal": "ok",
    "not yet extracted": "nothing_new",
    "not compared": "skipped",
    "different": "failed",
    "failed": "failed",
}
_STYLES = {"different": "red", "failed": "red", "not compared": "dim"}


class Reconciliation:
    """The step `reconcile`, and what it found.

    Attributes:
        comparisons: One a table, once it is done.
    """

    def __init__(self) -> None:
        self.comparisons: list[Comparison] = []

    @property
    def step(self) -> Task:
        """The step for the pipeline."""
        return Task("reconcile", "Compare what is loaded with the sources.", self._work)

    def _work(self, run: Run) -> StepResult:
        from ingestion.reconcile import reconcile
        from ingestion.warehouse import connect

        if not run.declarations:
            raise BadInput("no source is declared", hint="See docs/guides/sources.md.")

        def told(made: Comparison) -> None:
            name = f"{made.source}.{made.table}"
            text = f"{made.verdict}: {made.message}" if made.message else made.verdict
            run.reporter.item("reconcile", name, _STATUS[made.verdict], text, kind="table")

        connections = {d.connection for d in run.declarations if d.connection}
        connection = connect(run.settings, read_only=True)
        try:
            with run.companion.connections(connections):
                found = reconcile(connection, run.declarations, run.settings, told)
        finally:
            connection.close()
        self.comparisons = found
        return _result(found)


def _result(found: Sequence[Comparison]) -> StepResult:
    items = tuple(
        Item(
            "comparison",
            f"{made.source}.{made.table}",
            _STATUS[made.verdict],
            rows=made.here,
            rejected=made.wrong,
            seconds=round(made.seconds, 3),
            message=made.message,
        )
        for made in found
    )
    verdicts = {verdict: sum(made.verdict == verdict for made in found) for verdict in _STATUS}
    text = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items() if number)
    errors: list[IngestionError] = []
    for made in found:
        # A source that cannot be reached fails all its tables with one error.
        if made.error is not None and made.error not in errors:
            errors.append(made.error)
    wrong = [made for made in found if made.verdict == "different"]
    stop = _mismatch(wrong) if wrong else None
    return StepResult("failed" if wrong or errors else "ok", text, items, tuple(errors), stop)


def _mismatch(wrong: Sequence[Comparison]) -> AuditFailed:
    listed = "\n".join(f"  {made.source}.{made.table}: {made.message}" for made in wrong)
    return AuditFailed(
        f"{count(len(wrong), 'table')} not as the source has it:\n{listed}",
        hint="`wellspring extract load`, then compare again; what remains is lost or made up. "
        "`wellspring extract --full-refresh` reads everything anew.",
    )


# -- answers -----------------------------------------------------------------------------------


def reconciliation_fields(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The comparisons as named values."""
    return [
        {
            "source": made.source,
            "table": made.table,
            "unit": made.unit,
            "here": made.here,
            "there": made.there,
            "not_yet_extracted": made.new,
            "different": made.wrong,
            "verdict": made.verdict,
            "message": made.message,
            "checksums": list(made.checksums),
            "examples": list(made.examples),
            "seconds": round(made.seconds, 3),
        }
        for made in found
    ]


def print_reconciliation(found: Sequence[Comparison], console: Console) -> None:
    """Shows the comparisons to a person."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("table", no_wrap=True)
    for name in ("here", "there", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("of", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("", overflow="fold")
    for made in found:
        numbers = [made.here, made.there, made.new + made.wrong]
        if made.verdict in ("not compared", "failed"):
            numbers[2] = None
        table.add_row(
            f"{made.source}.{made.table}",
            *("" if number is None else f"{number:,}" for number in numbers),
            made.unit,
            Text(made.verdict, style=_STYLES.get(made.verdict, "")),
            Text(made.message if made.verdict != "failed" else made.message.splitlines()[0]),
        )
    console.print(table)
