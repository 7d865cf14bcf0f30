"""A project without the worked example: a new one, or this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import console

commands = typer.Typer()
example = typer.Typer(help="The worked example.", no_args_is_help=True)
commands.add_typer(example, name="example")


@commands.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the project, for dbt as well.")],
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Its folder; by default one of that name, here."),
    ] = None,
) -> None:
    """Make a new project: all of Wellspring, nothing of the worked example.

    The folder must not be there yet. `make setup` inside it installs what uv.lock says.
    """
    from runner.scaffold.new_project import make_project

    target = make_project(name, into)
    told = console()
    told.print(f"made {target}", markup=False, soft_wrap=True)
    told.print("next:", markup=False)
    shown = target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target
    told.print(f"  cd {shown} && make setup", markup=False, soft_wrap=True)
    told.print("  .venv/bin/wellspring add ADDRESS    # declare your first source", markup=False)


@example.command()
def remove(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although git has changes not committed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and leave everything.")
    ] = False,
) -> None:
    """Take the worked example out of this project: its systems, models, seeds and tests.

    What you added stays. Refuses where git has changes that are not committed.
    """
    from runner.scaffold.removal import check_committed, plan_removal
    from runner.scaffold.removal import remove as remove_example

    root = load_settings().project_dir
    removal = plan_removal(root)
    told = console()
    told.print(f"{len(removal.removed)} files would go:" if dry_run else
               f"{len(removal.removed)} files go:", markup=False)  # fmt: skip
    for folder, count in removal.by_folder():
        told.print(f"  {folder}  ({count})", markup=False, soft_wrap=True)
    told.print(f"{len(removal.changed)} lose what speaks of it:", markup=False)
    for file in removal.changed:
        told.print(f"  {file}", markup=False, soft_wrap=True)
    if dry_run:
        return
    if not force:
        check_committed(root)
    if not yes and sys.stdin.isatty() and not typer.confirm("Remove the example"):
        raise typer.Exit(0)
    remove_example(removal)
    told.print("done. next: git add -A, git commit, then `wellspring add ADDRESS`", markup=False)
    told.print("its data stay in the data folder; another [paths] data begins afresh", markup=False)
