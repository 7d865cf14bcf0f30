"""What is wrong, and who is told of it."""

from __future__ import annotations

from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import AsJson, console, print_json

commands = typer.Typer()


@commands.command()
def problems(as_json: AsJson = False) -> None:
    """List what is wrong at present: since when, what depends on it, what to do."""
    from runner.notify.report import print_problems, problem_fields

    fields = problem_fields(load_settings())
    if as_json:
        print_json(fields)
    else:
        print_problems(fields, console())


@commands.command()
def notify(
    test: Annotated[
        bool, typer.Option("--test", help="Send a test to every target, and say what became of it.")
    ] = False,
) -> None:
    """Send what still waits to be told, or a test.

    Runs send their own messages: of what fails anew and of what has recovered, once each. Ends
    with 1 if a target could not be told.
    """
    from runner.notify.report import print_deliveries, send_tests, send_waiting

    settings = load_settings()
    deliveries = send_tests(settings) if test else send_waiting(settings)
    print_deliveries(deliveries, console())
    if any(delivery.error for delivery in deliveries):
        raise typer.Exit(1)
