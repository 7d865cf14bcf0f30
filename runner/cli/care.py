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


@commands.command()
def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask sources whether they answer.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Compare the checksums of the current version too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check everything a run relies on, and say how to mend what is wrong. Changes nothing.

    Ends with 0 if no check fails, else with the exit code that a run would end with.
    """
    from runner.doctor.findings import worst_code
    from runner.doctor.report import examine, finding_fields, print_finding, print_verdict

    findings = []
    for finding in examine(offline, deep):
        findings.append(finding)
        if not as_json:
            print_finding(finding, console())
    if as_json:
        print_json([finding_fields(finding) for finding in findings])
    else:
        print_verdict(findings, console())
    raise typer.Exit(worst_code(findings))
