"""Published versions: which there are, what differs between them, which one readers get."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ingestion.settings import Settings, load_settings
from runner.cli.shared import AsJson, command_line, console, print_json

if TYPE_CHECKING:
    from runner.history import History
    from runner.publications import Switch

commands = typer.Typer()


@commands.command()
def versions(as_json: AsJson = False) -> None:
    """List the published versions that are kept. Works while a run is under way."""
    from runner.version_list import print_versions, version_fields

    fields = version_fields(load_settings())
    if as_json:
        print_json(fields)
    else:
        print_versions(fields, console())


@commands.command()
def diff(
    before: Annotated[
        str | None,
        typer.Argument(help="A version; without it, the one that was current before."),
    ] = None,
    after: Annotated[
        str | None, typer.Argument(help="Another version; without it, the current one.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", "-t", help="Only this table; may be given several times."),
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=0, help="Rows of each kind to show of each table.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two published versions: columns, rows by key, cells.

    `current` and `waiting` are names of versions too.
    """
    from runner.diff.compare import compare
    from runner.diff.report import diff_fields, print_diff
    from runner.history import History
    from runner.publications import version_before
    from runner.versions import find_version

    settings = load_settings()
    newer = find_version(settings, after or "current")
    if before is not None:
        older = find_version(settings, before)
    else:
        with closing(History(settings.state_dir / "history.sqlite")) as history:
            older = version_before(settings, history, newer)
    found = compare(settings, older, newer, table or (), rows)
    if as_json:
        print_json(diff_fields(found))
    else:
        print_diff(found, console())


@commands.command()
def rollback(
    version: Annotated[
        str | None,
        typer.Argument(help="The version to go to; without it, the one that was current before."),
    ] = None,
) -> None:
    """Give readers an earlier published version again, in one atomic swap.

    The version is checked against its checksums first. What readers had is kept, but its content
    is not published again by itself: `wellspring rollback VERSION` brings it back too.
    """
    from runner.publications import rollback as go_back

    with _locked() as (settings, history):
        _tell(go_back(settings, history, version))


@commands.command()
def approve(
    version: Annotated[
        str | None,
        typer.Argument(help="The version that waits; named, no other can be meant."),
    ] = None,
) -> None:
    """Make the version current that a gate held back."""
    from runner.notify.problems import decided
    from runner.publications import approve as give

    with _locked() as (settings, history):
        _tell(give(settings, history, version))
        decided(history, "approve")


@commands.command()
def pin(
    version: Annotated[str, typer.Argument(help="The version to keep; `current` is a name too.")],
    off: Annotated[bool, typer.Option("--off", help="Let it go again like any other.")] = False,
) -> None:
    """Keep a published version, whatever `[publish] keep` says."""
    from runner.versions import find_version

    with _locked() as (settings, _):
        found = find_version(settings, version)
        found.mark_pinned(not off)
        text = "goes when newer ones suffice" if off else "is kept until `wellspring pin --off`"
        console().print(f"{found.name} {text}", markup=False, soft_wrap=True)


@contextmanager
def _locked() -> Iterator[tuple[Settings, History]]:
    """Settings and run history, while no run is under way."""
    from ingestion.lock import writer_lock
    from runner.history import History, new_run_id

    settings = load_settings()
    with (
        writer_lock(settings, new_run_id, command_line()),
        closing(History(settings.state_dir / "history.sqlite")) as history,
    ):
        yield settings, history


def _tell(switch: Switch) -> None:
    from runner.summary import shown_path

    console().print(switch.text, markup=False, soft_wrap=True)
    console().print(shown_path(switch.version.database), markup=False, soft_wrap=True)
