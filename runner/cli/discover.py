"""What raw tables hold and how they belong together, found in the data."""

from __future__ import annotations

from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import AsJson, command_line, console, print_json

commands = typer.Typer()


@commands.command()
def discover(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Sources to look at; all if none is named."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1000,
            help="Make figures of so many rows of a table; keys are still verified on all.",
        ),
    ] = None,
    ignore_declared: Annotated[
        bool, typer.Option("--ignore-declared", help="Look as if no primary key were declared.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Profile raw tables and find their keys, references, personal data and cursors.

    Looks at what is loaded and changes nothing. The findings are kept in the state folder: a page
    with diagrams, and JSON for programs.
    """
    from runner.discover.find import discover_sources, page_path
    from runner.discover.model import discovery_fields
    from runner.discover.report import print_discovery, progress

    settings = load_settings()
    with progress() as on_table:
        found = discover_sources(
            settings,
            sources or (),
            command_line(),
            sample=sample,
            use_declared=not ignore_declared,
            on_table=on_table,
        )
    if as_json:
        print_json(discovery_fields(found))
    else:
        print_discovery(found, console(), str(page_path(settings)))
