"""How sources have changed, and what that means for the project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import AsJson, command_line, console, print_json

if TYPE_CHECKING:
    from ingestion.schema.journal import Noted
    from ingestion.settings import Settings
    from runner.changes.report import Changes
    from runner.transform import Dbt

commands = typer.Typer()


@commands.command()
def changes(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHANGE|TABLE]...",
            help="Changes such as shop#3, tables such as shop.orders, or sources; all by default.",
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Those that the project follows already as well.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only the patch, as `git apply` takes it.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Apply the patch to the project.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how sources have changed, what depends on it, and a patch that follows.

    Without a name, the open changes in a list; with names, each in detail.
    """
    import sys

    from runner.changes import report

    settings = load_settings()
    noted = report.chosen(report.all_noted(settings), names or ())
    dbt = _project(settings)
    if apply or diff:
        found = report.changes_of(settings, noted, dbt, with_reach=False)
        patched = report.patch_of(settings, found.known, dbt)
        if apply:
            report.apply_patch(settings, patched, console())
        else:
            sys.stdout.write("".join(file.diff for file in patched))
        return
    found = _told(settings, noted, dbt)
    shown = [known for known in found.known if every or names or known.state != "settled"]
    if as_json:
        print_json({"changes": [known.fields() for known in shown], "note": found.note or None})
    elif names:
        for known in shown:
            report.print_detail(known, found.note, console())
    else:
        report.print_list(shown, found.note, len(found.known) - len(shown), console())


def _project(settings: Settings) -> Dbt:
    from runner.transform import Dbt

    return Dbt(settings)


def _told(settings: Settings, noted: list[Noted], dbt: Dbt) -> Changes:
    """What there is to know; during a run without what depends on it, for which dbt compiles."""
    from ingestion.errors import LockHeld
    from ingestion.lock import RunLock, lock_path
    from runner.changes.report import changes_of
    from runner.history import new_run_id

    try:
        with RunLock(lock_path(settings), new_run_id, command_line()):
            return changes_of(settings, noted, dbt)
    except LockHeld:
        found = changes_of(settings, noted, dbt, with_reach=False)
        found.note = "a run is under way: what depends on them is told once it has ended"
        return found
