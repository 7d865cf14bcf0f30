"""The commands below `wellspring runs`: what the run history tells."""

from __future__ import annotations

from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import AsJson, console, print_json

commands = typer.Typer(
    name="runs",
    help="What ran, when, and what came of it. Works while a run is under way.",
    rich_markup_mode=None,
)
Limit = Annotated[int, typer.Option("--limit", min=0, help="So many at most; 0 for all.")]


@commands.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    limit: Limit = 20,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only runs that did not succeed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the last runs, newest first. Works while a run is under way."""
    if context.invoked_subcommand is not None:
        return
    from runner.runs import print_runs, runs_fields

    fields = runs_fields(load_settings(), limit, failed)
    if as_json:
        print_json(fields)
    else:
        print_runs(fields, console())


@commands.command("show")
def runs_show(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A number, a run id, or `last`.")
    ] = "last",
    as_json: AsJson = False,
) -> None:
    """Show one run: steps against their usual time, sources, faults, what was published."""
    from runner.runs import print_run, run_fields

    fields = run_fields(load_settings(), run)
    if as_json:
        print_json(fields)
    else:
        print_run(fields, console())


@commands.command("tests")
def runs_tests(
    name: Annotated[
        str | None, typer.Argument(help="A test, or a part of the names of several.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show which tests fail most; of one test, how it came out run by run."""
    from runner.runs import print_tests, tests_fields

    fields = tests_fields(load_settings(), name, limit)
    if as_json:
        print_json(fields)
    else:
        print_tests(fields, console())
