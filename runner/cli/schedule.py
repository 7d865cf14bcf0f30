"""The commands below `wellspring schedule`."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import console, waiting

if TYPE_CHECKING:
    from runner.schedule.job import Job

commands = typer.Typer(
    name="schedule",
    help="Run at set times, by cron or systemd. For Dagster see docs/guides/care.md.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Kind(StrEnum):
    """What starts the runs."""

    cron = "cron"
    systemd = "systemd"


KindOption = Annotated[Kind, typer.Option("--kind", help="What starts the runs.")]
At = Annotated[
    list[str] | None,
    typer.Option("--at", metavar="HH:MM", help="Every day at this time; may be repeated."),
]
Every = Annotated[
    str | None,
    typer.Option("--every", metavar="TIME", help="In this interval: 15m, 1h, 6h, 1d."),
]
Cron = Annotated[
    str | None, typer.Option("--cron", help='By a cron expression, such as "0 6 * * 1-5".')
]
Patience = Annotated[
    str, typer.Option("--wait", metavar="TIME", help="How long to wait for another run.")
]
Command = Annotated[
    str, typer.Option("--command", help="What to run below `wellspring`.", metavar="TEXT")
]
ForUser = Annotated[
    bool,
    typer.Option("--user/--system", help="systemd: units of this user, or of the system (root)."),
]


@commands.command()
def show(
    kind: KindOption = Kind.cron,
    at: At = None,
    every: Every = None,
    cron: Cron = None,
    wait: Patience = "1h",
    command: Command = "run",
    user: ForUser = True,
) -> None:
    """Print the line or the units, and install nothing."""
    from runner.schedule import cron as crontab
    from runner.schedule import systemd

    job = _job(at, every, cron, wait, command)
    if kind is Kind.cron:
        typer.echo("\n".join(crontab.lines(job)))
    else:
        for name, text in systemd.units(job, user).items():
            typer.echo(f"# {systemd.folder(user) / name}\n{text}")
    _warn_of_secrets()


@commands.command()
def install(
    kind: KindOption = Kind.cron,
    at: At = None,
    every: Every = None,
    cron: Cron = None,
    wait: Patience = "1h",
    command: Command = "run",
    user: ForUser = True,
) -> None:
    """Install it, in place of what was installed for this project before."""
    from runner.schedule import cron as crontab
    from runner.schedule import systemd

    job = _job(at, every, cron, wait, command)
    changed = crontab.install(job) if kind is Kind.cron else systemd.install(job, user)
    where = "the crontab" if kind is Kind.cron else systemd.folder(user)
    text = f"{job.name} is in {where}" if changed else f"{job.name} was in {where} as it is"
    console().print(text, markup=False, soft_wrap=True)
    _warn_of_secrets()


@commands.command()
def remove(kind: KindOption = Kind.cron, user: ForUser = True) -> None:
    """Take out what was installed for this project."""
    from runner.schedule import cron as crontab
    from runner.schedule import systemd

    job = _job(["00:00"], None, None, "0s", "run")
    was_there = crontab.remove(job) if kind is Kind.cron else systemd.remove(job, user)
    text = f"{job.name} is removed" if was_there else f"{job.name} was not installed"
    console().print(text, markup=False, soft_wrap=True)


def _job(at: list[str] | None, every: str | None, cron: str | None, wait: str, command: str) -> Job:
    from runner.schedule.job import make_job
    from runner.schedule.moments import expressions

    settings = waiting(load_settings(), wait)
    times = expressions(at, every, cron)
    return make_job(settings, times, wait, tuple(shlex.split(command)))


def _warn_of_secrets() -> None:
    from runner.schedule.job import secrets_left_out

    names = secrets_left_out()
    if names:
        typer.echo(
            f"warning: only this shell has {', '.join(names)}; a scheduled run will not. "
            "Put connections into .dlt/secrets.toml.",
            err=True,
        )
