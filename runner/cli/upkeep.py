"""Looking after what is on disk: what may go, what is kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ingestion.errors import BadInput
from ingestion.settings import load_settings
from runner.cli.shared import (
    Wait,
    command_line,
    console,
    waiting,
)

commands = typer.Typer()


@commands.command()
def clean(
    warehouse: Annotated[
        bool,
        typer.Option("--warehouse", help="The warehouse too; `load build` makes it from landing."),
    ] = False,
    landing: Annotated[
        bool,
        typer.Option("--landing", help="Landing and warehouse too: sources are read anew."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = None,
) -> None:
    """Remove working folders, logs and leftovers. Published versions stay."""
    from ingestion.lock import writer_lock
    from runner.clean import clean as remove_places
    from runner.clean import cleanable
    from runner.history import new_run_id
    from runner.summary import shown_path

    settings = waiting(load_settings(), wait)
    with writer_lock(settings, new_run_id, command_line()):
        places = cleanable(settings, warehouse=warehouse or landing, landing=landing)
        if landing and not yes:
            _confirm_landing(settings.landing_dir)
        for place in places:
            console().print(f"removed {shown_path(place)}", soft_wrap=True, highlight=False)
        freed = remove_places(places)
    console().print(f"{freed / 2**20:,.1f} MiB freed", highlight=False)


def _confirm_landing(folder: Path) -> None:
    if not sys.stdin.isatty():
        raise BadInput(
            "landing is what everything else is made from; it is not removed without --yes",
            file=folder,
            hint="`wellspring clean --landing --yes` removes it.",
        )
    if not typer.confirm(f"Remove {folder}? What sources no longer have is lost."):
        raise typer.Exit(0)
