"""Looking after what is on disk: what may go, what is kept."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingestion.errors import BadInput
from ingestion.settings import Settings, load_settings
from runner.cli.shared import (
    AsJson,
    Exclude,
    Format,
    LogFormatOption,
    Quiet,
    Select,
    Wait,
    command_line,
    console,
    log_format_of,
    print_json,
    selection_of,
    waiting,
)

if TYPE_CHECKING:
    from runner.backup.store import Store

Place = Annotated[
    str | None,
    typer.Argument(
        metavar="[URL]",
        help="A folder, or an address such as s3://bucket/warehouse; else [backup] url.",
    ),
]

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


@commands.command()
def backup(
    url: Place = None,
    versions: Annotated[bool, typer.Option("--versions", help="Published versions too.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the backups, make none.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the backups again, make none.")
    ] = False,
    which: Annotated[
        str | None, typer.Option("--backup", help="With --verify: only the backup of this name.")
    ] = None,
    as_json: AsJson = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Back up landing and the run history: all that cannot be made again.

    Only what is not there yet is sent. Every file is compared after it has arrived.
    """
    from runner.backup.store import open_store

    settings = load_settings()
    store = open_store(settings, url)
    if listed:
        from runner.backup.manifest import all_manifests
        from runner.backup.report import manifest_fields, print_backups

        manifests = all_manifests(store)
        if as_json:
            print_json([manifest_fields(manifest) for manifest in manifests])
        elif manifests:
            print_backups(manifests, console())
        else:
            console().print(f"no backup at {store.shown}", soft_wrap=True)
        return
    if verify:
        _verify(store, which, as_json, log_format, quiet)
        return
    if which:
        raise BadInput("--backup belongs to --verify", hint="A backup is named by itself.")
    _back_up(settings, store, versions, as_json, log_format, quiet)


def _back_up(
    settings: Settings,
    store: Store,
    versions: bool,
    as_json: bool,
    log_format: Format,
    quiet: bool,
) -> None:
    from runner.backup.make import make_backup
    from runner.backup.report import made_fields, told_size
    from runner.history import History
    from runner.report import count

    with _under_lock(settings), _work("backup", log_format, quiet) as on_file:
        made = make_backup(settings, store, versions=versions, on_file=on_file)
        with closing(History(settings.history_path)) as history:
            history.add_backup(
                made.manifest.id,
                store.shown,
                made.manifest.made_at,
                (len(made.manifest.files), made.manifest.bytes),
                (made.sent_files, made.sent_bytes),
                made.seconds,
            )
    if as_json:
        print_json(made_fields(made))
        return
    manifest = made.manifest
    console().print(
        f"backup {manifest.id} at {store.shown}: {count(len(manifest.files), 'file')}, "
        f"{told_size(manifest.bytes)}; {count(made.sent_files, 'file')} sent "
        f"({told_size(made.sent_bytes)}) in {made.seconds:.1f} s",
        soft_wrap=True,
    )
    if made.removed:
        console().print(f"removed {count(len(made.removed), 'older backup')}")


def _verify(
    store: Store, which: str | None, as_json: bool, log_format: Format, quiet: bool
) -> None:
    from runner.backup.make import verify_backups
    from runner.backup.manifest import all_manifests, chosen
    from runner.backup.report import damage_fields
    from runner.report import count

    manifests = [chosen(store, which)] if which else all_manifests(store)
    if not manifests:
        raise BadInput("there is no backup", file=store.shown, hint="`wellspring backup` first.")
    with _work("verify", log_format, quiet) as on_file:
        damages = verify_backups(store, manifests, on_file)
    if as_json:
        print_json(damage_fields(damages))
    if damages:
        told = "\n".join(f"  {d.path} (backup {d.backup}): {d.problem}" for d in damages[:20])
        raise BadInput(
            f"{count(len(damages), 'file')} of the backups damaged:\n{told}",
            file=store.shown,
            hint="Remove these files there and back up again while landing is whole: what is "
            "missing is sent anew.",
        )
    if not as_json:
        files = len({name for manifest in manifests for name in manifest.objects})
        console().print(f"{count(len(manifests), 'backup')}, {count(files, 'file')}: all whole")


@commands.command()
def restore(
    url: Place = None,
    which: Annotated[
        str | None, typer.Option("--backup", help="Which backup; by default the newest.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Replace what is in the data folder now.")
    ] = False,
    as_json: AsJson = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Bring landing and the run history back from a backup, file by file, checked.

    One that broke off goes on where it was. Afterwards `wellspring rebuild` makes the warehouse.
    """
    from runner.backup.manifest import chosen
    from runner.backup.report import manifest_fields
    from runner.backup.restore import restore as bring_back
    from runner.backup.restore import under_way
    from runner.backup.store import open_store
    from runner.report import count

    settings = load_settings()
    store = open_store(settings, url)
    # A restore that broke off is carried through before another backup is thought of.
    manifest = chosen(store, which or (under_way(settings) or None))
    with _under_lock(settings), _work("restore", log_format, quiet) as on_file:
        done = bring_back(settings, store, manifest, replace=yes, on_file=on_file)
    if as_json:
        fields = {"fetched": done.fetched, "removed": done.removed}
        print_json({**manifest_fields(manifest), **fields, "seconds": round(done.seconds, 3)})
        return
    console().print(
        f"restored backup {manifest.id}: {count(len(manifest.files), 'file')} as they were "
        f"({count(done.fetched, 'file')} fetched, {done.removed:,} removed) "
        f"in {done.seconds:.1f} s",
        soft_wrap=True,
    )
    console().print("`wellspring rebuild` makes the warehouse from it.")


@commands.command()
def rebuild(
    publish: Annotated[
        bool, typer.Option("--publish/--no-publish", help="Publish the new warehouse, too.")
    ] = True,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Make the warehouse anew from landing alone, beside the present one, and swap it in.

    If it cannot be built or does not pass its audit, the present one stays.
    """
    from runner.pipeline import execute
    from runner.rebuilding import Rebuild
    from runner.report import reporting
    from runner.summary import print_summary

    with reporting(log_format_of(log_format), quiet) as reporter:
        result = execute(
            load_settings(),
            Rebuild().steps(publish),
            selection_of(None, None),
            False,
            reporter,
            command_line(),
        )
    print_summary(result, as_json=log_format is Format.json)
    raise typer.Exit(result.exit_code)


@commands.command()
def compact(
    select: Select = None,
    exclude: Exclude = None,
    smaller_than: Annotated[
        str, typer.Option("--smaller-than", help="Files of fewer bytes are put together.")
    ] = "16MB",
    as_json: AsJson = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Put many small files of landing into few, with the same rows.

    Every row keeps its file, its place and its load; originals of files stay as they came.
    """
    from runner.compacting import Compaction, compaction_fields, print_compaction, size_of
    from runner.pipeline import execute
    from runner.report import print_error, reporting

    work = Compaction(size_of(smaller_than))
    with reporting(log_format_of(log_format), quiet or as_json) as reporter:
        result = execute(
            load_settings(),
            [work.step],
            selection_of(select, exclude),
            False,
            reporter,
            command_line(),
        )
    if as_json:
        print_json(compaction_fields(work.done))
    elif result.stopped_by is None:
        print_compaction(work.done, console())
    for error in (*([result.stopped_by] if result.stopped_by else []), *result.later):
        print_error(error)
    raise typer.Exit(result.exit_code)


@commands.command()
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove logs, versions, runs of the history, measures and backups that were kept long enough.

    [retention], [publish], [measures] and [backup] say how long that is.
    """
    from runner.pruning import print_pruned, pruned_fields
    from runner.pruning import prune as let_go

    settings = load_settings()
    with _under_lock(settings):
        found = let_go(settings, dry_run=dry_run)
    if as_json:
        print_json(pruned_fields(found))
    else:
        print_pruned(found, dry_run, console())


@contextmanager
def _under_lock(settings: Settings) -> Iterator[None]:
    from ingestion.lock import writer_lock
    from runner.history import new_run_id

    with writer_lock(settings, new_run_id, command_line()):
        yield


@contextmanager
def _work(name: str, log_format: Format, quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """Shows how far a piece of work is that goes file by file."""
    from runner.report import reporting

    with reporting(log_format_of(log_format), quiet) as reporter:
        reporter.step_begins(name)
        yield lambda done, total, file: reporter.advance(name, done, total, file)
