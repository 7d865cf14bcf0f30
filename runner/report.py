"""What a run says while it goes on.

step -> `Reporter` -> a live display on a terminal, or plain lines, or JSON lines, on stderr

Results and summaries go to stdout and are made elsewhere (`summary`), so that a pipe gets only
them. Every text is redacted here, whatever it was made of.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ingestion.errors import DeclarationError, IngestionError
from ingestion.redaction import RedactingFilter, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

LogFormat = Literal["auto", "plain", "json"]
_SIGNS = {
    "ok": ("✓", "green"),
    "nothing_new": ("✓", "green"),
    "warned": ("!", "yellow"),
    "failed": ("✗", "red"),
    "skipped": ("-", "dim"),
    "waiting": ("…", "yellow"),
}


def count(number: int, word: str) -> str:
    """A number with its noun: `1 row`, `1,204 rows`."""
    plural = word if number == 1 else f"{word}es" if word.endswith("ss") else f"{word}s"
    return f"{number:,} {plural}"


class Reporter:
    """Says nothing; the parent of those that do, and enough where silence is asked for."""

    def waiting(self, text: str) -> None:
        """The run waits for another one; told every half minute."""

    def begin(self, run_id: str, steps: list[str]) -> None:
        """A run begins."""

    def step_begins(self, step: str) -> None:
        """A step begins."""

    def advance(self, step: str, done: int, total: int, name: str) -> None:
        """A step has done `done` of `total` things; `name` was the last."""

    def activity(self, step: str, name: str, text: str) -> None:
        """Something is under way that has no known end, such as rows arriving."""

    def item(self, step: str, name: str, status: str, text: str, **figures: Any) -> None:
        """A step has finished one thing."""

    def step_ends(self, step: str, status: str, seconds: float, text: str) -> None:
        """A step has ended."""

    def warn(self, text: str) -> None:
        """Something a person should know although the run goes on."""

    def error(self, error: IngestionError) -> None:
        """Something failed."""

    def close(self) -> None:
        """Nothing more will be said."""


class PlainReporter(Reporter):
    """One line of text an event: time, step, what.

    Args:
        quiet: Only warnings and errors.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    def _say(self, step: str, text: str, loud: bool = False) -> None:
        if loud or not self._quiet:
            moment = datetime.now().strftime("%H:%M:%S")
            for line in redact(text).splitlines():
                sys.stderr.write(f"{moment} {step:<8} {line}\n")
            sys.stderr.flush()

    def waiting(self, text: str) -> None:
        """Says for whom."""
        self._say("lock", text)

    def begin(self, run_id: str, steps: list[str]) -> None:
        """Names the run and its steps."""
        self._say("run", f"{run_id}: {' -> '.join(steps)}")

    def step_begins(self, step: str) -> None:
        """Says that a step began."""
        self._say(step, "started")

    def item(self, step: str, name: str, status: str, text: str, **figures: Any) -> None:
        """Says what became of one thing; what went wrong is said in quiet mode too."""
        bad = status in ("failed", "warned")
        word = f"{status}: " if bad else ""
        self._say(step, f"{name}: {word}{text}" if text else f"{name}: {status}", loud=bad)

    def step_ends(self, step: str, status: str, seconds: float, text: str) -> None:
        """Says how a step ended and how long it took."""
        self._say(step, f"{status} in {seconds:.1f} s: {text}", loud=status == "failed")

    def warn(self, text: str) -> None:
        """Says it, in quiet mode too."""
        self._say("warning", text, loud=True)

    def error(self, error: IngestionError) -> None:
        """Says what, where and what to do."""
        self._say("error", str(error), loud=True)


class JsonReporter(Reporter):
    """One JSON object a line: time, level, event and what belongs to it.

    Args:
        quiet: Only warnings and errors.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._run_id = ""

    def _say(self, level: str, event: str, **fields: Any) -> None:
        if self._quiet and level == "info":
            return
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "event": event,
            "run_id": self._run_id,
            **{key: value for key, value in fields.items() if value is not None},
        }
        sys.stderr.write(redact(json.dumps(record, default=str, ensure_ascii=False)) + "\n")
        sys.stderr.flush()

    def waiting(self, text: str) -> None:
        """Event `waiting`."""
        self._say("info", "waiting", message=text)

    def begin(self, run_id: str, steps: list[str]) -> None:
        """Event `run_started`."""
        self._run_id = run_id
        self._say("info", "run_started", steps=steps)

    def step_begins(self, step: str) -> None:
        """Event `step_started`."""
        self._say("info", "step_started", step=step)

    def item(self, step: str, name: str, status: str, text: str, **figures: Any) -> None:
        """Event `item`."""
        level = {"failed": "error", "warned": "warning"}.get(status, "info")
        fields = {"step": step, "name": name, "status": status, "message": text or None}
        self._say(level, "item", **fields, **figures)

    def step_ends(self, step: str, status: str, seconds: float, text: str) -> None:
        """Event `step_finished`."""
        level = "error" if status == "failed" else "info"
        fields = {"step": step, "status": status, "seconds": round(seconds, 3), "message": text}
        self._say(level, "step_finished", **fields)

    def warn(self, text: str) -> None:
        """Event `warning`."""
        self._say("warning", "warning", message=text)

    def error(self, error: IngestionError) -> None:
        """Event `error`, with the place and the hint as fields."""
        self._say("error", "error", **error_fields(error))


class LiveReporter(Reporter):
    """A line a step with a bar while it runs, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.table import Column

        self._console = Console(stderr=True)
        self._progress: Progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("[bold]{task.fields[step]:<8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            # Long names are cut: the bar keeps its place.
            TextColumn("[dim]{task.description}", table_column=Column(no_wrap=True, ratio=1)),
            console=self._console,
            transient=True,
            expand=True,
        )
        self._task: TaskID | None = None
        self._progress.start()

    def _line(self, status: str, step: str, text: str, seconds: float | None = None) -> None:
        from rich.text import Text

        sign, style = _SIGNS.get(status, ("·", "dim"))
        took = f"{seconds:6.1f} s  " if seconds is not None else " " * 10
        line = Text.assemble((f"{sign} ", style), (f"{step:<8} ", "bold"), (took, "dim"))
        self._console.print(line.append(redact(text)), highlight=False, soft_wrap=True)

    def waiting(self, text: str) -> None:
        """Shows it as a step of its own, until the run begins."""
        if self._task is None:
            self._task = self._progress.add_task("", step="lock", total=None)
        self._progress.update(self._task, description=text)

    def begin(self, run_id: str, steps: list[str]) -> None:
        """Names the run."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._console.print(f"[dim]run {run_id}[/dim]", highlight=False)

    def step_begins(self, step: str) -> None:
        """Opens the step's bar."""
        self._task = self._progress.add_task("", step=step, total=None)

    def advance(self, step: str, done: int, total: int, name: str) -> None:
        """Moves the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, description=name)

    def activity(self, step: str, name: str, text: str) -> None:
        """Shows it beside the bar."""
        if self._task is not None:
            self._progress.update(self._task, description=f"{name} {text}")

    def item(self, step: str, name: str, status: str, text: str, **figures: Any) -> None:
        """Leaves a line for what a person should see: sources, and whatever went wrong."""
        if figures.get("kind") == "source" or status in ("failed", "warned"):
            self._line(status, step, f"{name}: {text}")
        elif self._task is not None:
            self._progress.update(self._task, description=f"{name} {text}")

    def step_ends(self, step: str, status: str, seconds: float, text: str) -> None:
        """Replaces the bar by a line."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._line(status, step, text, seconds)

    def warn(self, text: str) -> None:
        """Leaves a line."""
        self._line("warned", "warning", text)

    def error(self, error: IngestionError) -> None:
        """Shows the fault with its hint."""
        print_error(error, self._console)

    def close(self) -> None:
        """Takes the display away."""
        self._progress.stop()


def make_reporter(log_format: LogFormat, quiet: bool) -> Reporter:
    """The reporter for this terminal or pipe.

    Args:
        log_format: `auto` takes the live display on a terminal and plain lines elsewhere.
        quiet: Only warnings and errors, and no live display.
    """
    if log_format == "json":
        return JsonReporter(quiet)
    if log_format == "auto" and sys.stderr.isatty() and not quiet:
        return LiveReporter()
    return PlainReporter(quiet)


def error_fields(error: IngestionError) -> dict[str, Any]:
    """An error as named values for JSON."""
    fields: dict[str, Any] = {
        "error": type(error).__name__,
        "message": error.message,
        "hint": error.hint or None,
        "source": error.source,
        "table": error.table,
        "file": error.file,
        "key": error.key,
        "exit_code": error.exit_code,
    }
    if isinstance(error, DeclarationError) and error.faults:
        fields["faults"] = [str(fault) for fault in error.faults]
    return fields


def print_error(error: IngestionError, console: Console | None = None) -> None:
    """Shows an error to a person: what and where, then what to do."""
    from rich.console import Console
    from rich.text import Text

    console = console or Console(stderr=True)
    place = f"{error.where}: " if error.where else ""
    text = Text.assemble(("error: ", "bold red"), (redact(place), "bold"), redact(error.message))
    console.print(text, highlight=False, soft_wrap=True)
    if error.hint:
        hint = Text.assemble(("  → ", "green"), redact(error.hint))
        console.print(hint, highlight=False, soft_wrap=True)


class _ReportingHandler(logging.Handler):
    """Hands warnings of libraries to the reporter."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(RedactingFilter())
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip().splitlines()
        self._reporter.warn(f"{record.name}: {text[0] if text else record.levelname}")


@contextmanager
def reporting(log_format: LogFormat, quiet: bool) -> Iterator[Reporter]:
    """A reporter for the block, with the libraries' warnings led to it."""
    reporter = make_reporter(log_format, quiet)
    handler = _ReportingHandler(reporter)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield reporter
    finally:
        root.removeHandler(handler)
        reporter.close()
