"""Landing what never ends: streams, change logs, folders that are watched."""

from __future__ import annotations

from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import Exclude, Quiet, Select, planned_run, selection_of

commands = typer.Typer()


@commands.command()
def land(
    select: Select = None,
    exclude: Exclude = None,
    replay_from: Annotated[
        str | None,
        typer.Option(
            "--replay-from",
            metavar="SEQUENCE|TIME",
            help="Land once more what the system still has from there on and landing lacks; end.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Land streams, change logs and watched folders as they come, until it is told to end.

    It runs beside everything else and never touches the warehouse: `load` takes up what it has
    made durable. Ctrl-C or SIGTERM lets every lander close its file first. Killed, it goes on
    behind its newest file, and nothing is lost or landed twice.
    """
    from runner.landing import land_until_told, replay

    settings = load_settings()
    run = planned_run(settings, selection_of(select, exclude), False)
    if replay_from is not None:
        raise typer.Exit(replay(run.declarations, settings, replay_from, quiet))
    raise typer.Exit(land_until_told(run.declarations, settings, quiet))
