"""Staging, intermediates and first marts, drafted for people to edit."""

from __future__ import annotations

from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import AsJson, command_line, console, print_json

commands = typer.Typer()


@commands.command()
def draft(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...", help="Sources to draft; all that have room if none is named."
        ),
    ] = None,
    staging_only: Annotated[
        bool, typer.Option("--staging-only", help="Leave intermediates and marts out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each file, write nothing.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show each change line by line, write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write staging models, tests, row rules and first marts from what raw tables hold.

    Takes the last discovery, or makes one if there is newer data. Edits of a person are never
    overwritten: a second draft is merged with them, or lies beside the file as a proposal.
    """
    from runner.discover.report import progress
    from runner.draft.make import draft_sources, drafted_fields
    from runner.draft.report import print_drafted

    settings = load_settings()
    with progress() as on_table:
        drafted = draft_sources(
            settings,
            sources or (),
            command_line(),
            staging_only=staging_only,
            is_dry=dry_run or diff,
            on_table=on_table,
        )
    if as_json:
        print_json(drafted_fields(drafted))
    else:
        print_drafted(drafted, console(), diff)
