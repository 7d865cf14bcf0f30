"""Reading the past of the sources again, part by part."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ingestion.errors import BadInput
from ingestion.settings import Settings, load_settings
from runner.cli.shared import (
    Exclude,
    Format,
    LogFormatOption,
    Quiet,
    Select,
    command_line,
    console,
    log_format_of,
    selection_of,
)

if TYPE_CHECKING:
    from runner.backfill import Range

commands = typer.Typer()


class Partition(StrEnum):
    """How long a part is."""

    day = "day"
    week = "week"
    month = "month"


@commands.command()
def backfill(
    start: Annotated[
        str | None, typer.Option("--from", help="The first day, such as 2026-01-01.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="The day after the last one that is read.")
    ] = None,
    partition: Annotated[
        Partition, typer.Option("--partition", help="How much lands at a time.")
    ] = Partition.day,
    select: Select = None,
    exclude: Exclude = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the last backfill if it is not finished.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read it once more, although it was finished.")
    ] = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Read a stretch of days of the sources again, part by part, then build and publish once.

    Each part lands before the next is read; the same command goes on where it was stopped.
    `--select` chooses the sources, as for `extract`; all that they feed is built.
    """
    from runner.backfill import asked, left_over
    from runner.backfill import backfill as read_again
    from runner.report import reporting
    from runner.summary import print_summary

    settings = load_settings()
    if resume:
        _refuse_names(start or end or select or exclude)
        wanted = left_over(settings)
    elif start is None or end is None:
        raise BadInput(
            "a backfill needs its first day and the day after its last one",
            key="--from" if start is None else "--to",
            hint="For example: wellspring backfill --from 2026-01-01 --to 2026-02-01",
        )
    else:
        wanted = asked(start, end, partition.value, selection_of(select, exclude))
        wanted = wanted if again else _unless_finished(settings, wanted)
    if isinstance(wanted, str):
        console().print(wanted, markup=False, soft_wrap=True)
        return
    with reporting(log_format_of(log_format), quiet) as reporter:
        result = read_again(settings, wanted, reporter, command_line())
    print_summary(result, as_json=log_format is Format.json)
    if log_format is not Format.json and not isinstance(left_over(settings), str):
        console().print("not finished: `wellspring backfill --resume` goes on", markup=False)
    raise typer.Exit(result.exit_code)


def _refuse_names(named: object) -> None:
    if named:
        raise BadInput(
            "--resume takes the range and the selection of the last backfill",
            key="--resume",
            hint="Leave out the others, or leave out --resume: the same range goes on by itself.",
        )


def _unless_finished(settings: Settings, wanted: Range) -> Range | str:
    """The range, or that there is nothing to do."""
    from runner.backfill import finished

    moment = finished(settings, wanted)
    if moment is None:
        return wanted
    return (
        f"nothing to do: this backfill ({wanted}) was finished at {moment}; "
        "--again reads it once more"
    )
