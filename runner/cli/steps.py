"""The steps of a run as commands: all of them, or one and those named after it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import (
    RUN_STEPS,
    DryRun,
    Exclude,
    Format,
    FullRefresh,
    LogFormatOption,
    Quiet,
    Retries,
    Select,
    StepName,
    Then,
    Wait,
    chain,
    command_line,
    console,
    do_steps,
    log_format_of,
    planned_run,
    print_json,
    selection_of,
    show_plan,
    waiting,
)

commands = typer.Typer()


@commands.command()
def run(
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: FullRefresh = False,
    dry_run: DryRun = False,
    retry: Retries = None,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
    wait: Wait = None,
) -> None:
    """Do all steps: extract, load, build, audit, publish, docs.

    Where neither the code nor any row has changed since the last audit, nothing is built again;
    `--full-refresh` does it all the same.
    """
    do_steps(RUN_STEPS, select, exclude, full_refresh, dry_run, log_format, quiet, retry, wait)


def _add_making_step(name: str, title: str) -> None:
    """Adds the command of a step that can make everything anew."""

    def step(
        then: Then = None,
        select: Select = None,
        exclude: Exclude = None,
        full_refresh: FullRefresh = False,
        dry_run: DryRun = False,
        retry: Retries = None,
        log_format: LogFormatOption = Format.auto,
        quiet: Quiet = False,
        wait: Wait = None,
    ) -> None:
        steps = chain(name, then)
        do_steps(steps, select, exclude, full_refresh, dry_run, log_format, quiet, retry, wait)

    commands.command(name, help=title)(step)


def _add_judging_step(name: str, title: str) -> None:
    """Adds the command of a step that works on what was made."""

    def step(
        then: Then = None,
        select: Select = None,
        exclude: Exclude = None,
        dry_run: DryRun = False,
        retry: Retries = None,
        log_format: LogFormatOption = Format.auto,
        quiet: Quiet = False,
        wait: Wait = None,
    ) -> None:
        steps = chain(name, then)
        do_steps(steps, select, exclude, False, dry_run, log_format, quiet, retry, wait)

    commands.command(name, help=title)(step)


_add_making_step("extract", "Land what is new or changed in the sources above the selection.")
_add_making_step("load", "Load landed files into raw tables, with the ledger, in one transaction.")
_add_making_step("build", "Build seeds and models with dbt.")
_add_judging_step(
    "audit", "Run data tests and freshness checks. Unit tests are left out: `make test` runs them."
)
_add_judging_step("publish", "Publish what passed its audit, in one atomic swap.")


class PlanFormat(StrEnum):
    """How a plan is written."""

    text = "text"
    mermaid = "mermaid"
    json = "json"


@commands.command()
def plan(
    steps: Annotated[
        list[StepName] | None,
        typer.Argument(metavar="[STEP]...", help="The steps, in this order; all of a run if none."),
    ] = None,
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: FullRefresh = False,
    output: Annotated[
        PlanFormat, typer.Option("--format", help="mermaid is a picture that Markdown pages draw.")
    ] = PlanFormat.text,
    of_model: Annotated[
        str | None, typer.Option("--sql", help="Only the compiled SQL of this model or test.")
    ] = None,
) -> None:
    """Show what a run would do: its states, what is tried again, what survives which fault."""
    if of_model:
        from runner.plan import compiled_sql

        run = planned_run(load_settings(), selection_of(None, None), False)
        sys.stdout.write(compiled_sql(run, of_model) + "\n")
        return
    names = chain(steps[0].value, steps[1:]) if steps else RUN_STEPS
    show_plan(names, selection_of(select, exclude), full_refresh, output.value)


@commands.command()
def resume(
    retry: Retries = None,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
    wait: Wait = None,
) -> None:
    """Go on with the last run from the step that failed, for the same moment.

    Sources that failed are read again, models that failed or whose code was mended are built with
    all that is made from them; then audit and publish as usual. Says so if nothing is left to do.
    """
    from runner.pipeline import resume as go_on
    from runner.report import reporting
    from runner.summary import print_summary

    with reporting(log_format_of(log_format), quiet) as reporter:
        settings = waiting(load_settings(), wait)
        result = go_on(settings, reporter, command_line(), attempts=retry)
    if isinstance(result, str):
        if log_format is Format.json:
            print_json({"event": "nothing_to_resume", "message": result})
        else:
            console().print(result, markup=False, soft_wrap=True)
        return
    print_summary(result, as_json=log_format is Format.json)
    raise typer.Exit(result.exit_code)


@commands.command()
def docs(
    then: Then = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to serve; 0 takes a free one.")
    ] = 8080,
    build_only: Annotated[
        bool, typer.Option("--build-only", help="Write the documentation, do not serve it.")
    ] = False,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Serve what the last run wrote.")
    ] = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
    wait: Wait = None,
) -> None:
    """Write the documentation and serve it on this machine."""
    from runner.pipeline import execute
    from runner.report import reporting
    from runner.site import docs_folder, serve
    from runner.versions import current_version

    settings = waiting(load_settings(), wait)
    folder = docs_folder(settings, current_version(settings))
    if not no_build:
        steps = chain("docs", then)
        with reporting(log_format_of(log_format), quiet) as reporter:
            result = execute(
                settings, steps, selection_of(None, None), False, reporter, command_line()
            )
        if result.stopped_by is not None:
            raise result.stopped_by
        folder = Path(str(result.run.docs_page)).parent
    if not build_only:
        serve(folder, port, lambda url: console().print(f"{url}  (Ctrl-C ends it)"))
    else:
        console().print(str(folder / "index.html"), soft_wrap=True)
