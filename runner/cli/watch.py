"""Keeping the live models up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from ingestion.errors import BadInput
from ingestion.settings import load_settings
from ingestion.units import is_time, seconds_of
from runner.cli.shared import Format, LogFormatOption, Quiet, command_line, log_format_of

commands = typer.Typer()


@commands.command()
def watch(
    last: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="End after so long, such as 60s.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Do one cycle, of what has landed, and end.")
    ] = False,
    no_land: Annotated[
        bool, typer.Option("--no-land", help="Leave landing to others; only load and build.")
    ] = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Keep the models tagged `live` seconds behind their sources, until told to end.

    It lands streams and watched folders, and whenever something has landed it loads it, builds the
    live models, asks their tests and publishes a small live version. Other commands come first: a
    run that waits for the warehouse gets it at the end of a cycle. Ctrl-C or SIGTERM ends it in
    order.
    """
    from runner.report import reporting
    from runner.watch.service import WatchService

    if last is not None and not is_time(last):
        raise BadInput(f"--for is {last}", hint="Expected a time, such as 60s or 2h.")
    seconds = seconds_of(last) if last is not None else None
    settings = load_settings()
    # The live display of a run has steps that end; here lines do.
    chosen = "plain" if log_format is Format.auto else log_format_of(log_format)
    with reporting(chosen, quiet) as reporter:
        service = WatchService(
            settings, reporter, command_line(), lands=not no_land, once=once, seconds=seconds
        )
        code = service.run()
    raise typer.Exit(code)
