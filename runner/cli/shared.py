"""What the commands share: the app, options that several of them have, ways to answer.

Left out: the commands themselves, a module for each group of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ingestion.errors import BadInput, SettingsError
from ingestion.settings import Settings, load_settings
from ingestion.units import is_time
from runner.errors import EXIT_CODES

if TYPE_CHECKING:
    from ingestion.settings import Settings
    from runner.report import LogFormat
    from runner.steps import Run
    from runner.transform import Selection

RUN_STEPS = ("extract", "load", "build", "audit", "publish", "docs")

_CODES = "\n".join(f"{code:>3}  {text}" for code, text in EXIT_CODES.items())
app = typer.Typer(
    name="wellspring",
    help="Extract, load, build, audit and publish a warehouse.",
    epilog=f"\b\nExit codes:\n{_CODES}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing the help with rich would double its time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How a run tells what it does."""

    auto = "auto"
    plain = "plain"
    json = "json"


class StepName(StrEnum):
    """Steps that can be named after another."""

    extract = "extract"
    load = "load"
    build = "build"
    audit = "audit"
    publish = "publish"
    docs = "docs"


Then = Annotated[
    list[StepName] | None,
    typer.Argument(metavar="[STEP]...", help="Further steps to do after it, in this order."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", "-s", help="What to work on, in dbt's selection language."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="What to leave out, in dbt's selection language."),
]
FullRefresh = Annotated[
    bool, typer.Option("--full-refresh", help="Read sources and build models anew.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what each step would do, and do nothing.")
]
LogFormatOption = Annotated[
    Format, typer.Option("--log-format", help="auto: a live display on a terminal, else plain.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
Wait = Annotated[
    str | None,
    typer.Option(
        "--wait",
        metavar="TIME",
        help="Wait so long, such as 10m, while another process holds the warehouse.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def chain(first: str, then: Sequence[StepName] | None) -> tuple[str, ...]:
    """The steps named on the command line, in their order.

    Raises:
        BadInput: One of them is named twice.
    """
    steps = (first, *(step.value for step in then or ()))
    for step in steps:
        if steps.count(step) > 1:
            raise BadInput(f"the step {step} is named twice", hint="Name each step once.")
    return steps


Retries = Annotated[
    int | None,
    typer.Option(
        "--retry", min=1, help="Try what may pass, such as a lost connection, so often in all."
    ),
]


def do_steps(
    steps: Sequence[str],
    select: Sequence[str] | None,
    exclude: Sequence[str] | None,
    full_refresh: bool,
    dry_run: bool,
    log_format: Format,
    quiet: bool,
    attempts: int | None = None,
    wait: str | None = None,
) -> None:
    """Does steps, or says what they would do, and ends the command with the run's exit code."""
    from runner.report import reporting

    selection = selection_of(select, exclude)
    settings = waiting(load_settings(), wait)
    if dry_run:
        show_plan(steps, selection, full_refresh, "json" if log_format is Format.json else "text")
        return
    from runner.pipeline import execute
    from runner.summary import print_summary

    with reporting(log_format_of(log_format), quiet) as reporter:
        result = execute(
            settings,
            steps,
            selection,
            full_refresh,
            reporter,
            command_line(),
            lazy=tuple(steps) == RUN_STEPS,
            attempts=attempts,
        )
    print_summary(result, as_json=log_format is Format.json)
    raise typer.Exit(result.exit_code)


def selection_of(select: Sequence[str] | None, exclude: Sequence[str] | None) -> Selection:
    """What `--select` and `--exclude` say."""
    from runner.transform import Selection

    return Selection(tuple(select or ()), tuple(exclude or ()))


def waiting(settings: Settings, wait: str | None) -> Settings:
    """The settings with what `--wait` says in place of `[run] wait_for_lock`.

    Raises:
        SettingsError: It is no time.
    """
    if wait is None:
        return settings
    if not is_time(wait):
        raise SettingsError(
            f"--wait {wait!r} is no time", hint="Give a number and its unit: 90s, 10m or 1h."
        )
    return replace(settings, run=replace(settings.run, wait_for_lock=wait))


def log_format_of(value: Format) -> LogFormat:
    """The option as `runner.report` knows it."""
    formats: dict[Format, LogFormat] = {
        Format.auto: "auto",
        Format.plain: "plain",
        Format.json: "json",
    }
    return formats[value]


def planned_run(settings: Settings, selection: Selection, full_refresh: bool) -> Run:
    """A run that is only asked what it would do: it has no history and tells nobody."""
    from runner.history import History
    from runner.report import Reporter
    from runner.steps import Run

    history = History(Path(":memory:"))
    return Run(settings, selection, full_refresh, False, "dry-run", history, Reporter())


def show_plan(
    steps: Sequence[str],
    selection: Selection,
    full_refresh: bool,
    output: Literal["text", "json", "mermaid"],
) -> None:
    """Says what steps would do."""
    from runner.flow import FLOW
    from runner.plan import flow_fields, mermaid, plan_fields, print_plan

    settings = load_settings()
    flow = FLOW.only(steps)
    plan = plan_fields(planned_run(settings, selection, full_refresh), steps)
    if output == "json":
        print_json(plan)
    elif output == "mermaid":
        sys.stdout.write(mermaid(flow, plan) + "\n")
    else:
        print_plan(plan, console(), flow_fields(flow, settings))


def console() -> Any:
    """Where answers are shown: the terminal, or text of 120 columns."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def print_json(content: Any) -> None:
    """Writes an answer as JSON, redacted."""
    import json

    from ingestion.redaction import redact

    sys.stdout.write(redact(json.dumps(content, indent=2, default=str)) + "\n")


def command_line() -> str:
    """The command line as it was given, for the history and for whoever meets the lock."""
    return " ".join(["wellspring", *arguments_given])


arguments_given: list[str] = []
