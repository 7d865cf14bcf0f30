"""Lets go of what has been kept long enough, by rules that stand in one place.

[retention], [publish], [measures], [backup], `retention` of tables -> what may go -> removed, or
only told

Nearly everything here is a copy of something, or tells of the past: logs, published versions that
newer ones replace, runs in the history, measures, surplus backups, what killed commands left. Each
part knows its own rule; here they hold all at once, whether anything was run or not. Of landing and
raw only files of events go, where the declaration of their table says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.backup.report import told_size
from runner.clean import size
from runner.compiled.trust import in_our_hands
from runner.history import History
from runner.publications import remove_surplus, turns
from runner.report import count
from runner.versions import leftovers, remove, surplus

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

_RUN_LOGS = "????????T??????Z-*.log"
_DAY = 24 * 3600


@dataclass(frozen=True)
class Pruned:
    """What goes of one kind.

    Attributes:
        kind: logs, versions, runs, measures, backups, leftovers, or the name of a table whose files
            go.
        number: How many.
        bytes: Their size; None where that is not known beforehand.
        rule: The rule by which they go, for people.
        names: What they are called, where they have names.
    """

    kind: str
    number: int
    bytes: int | None
    rule: str
    names: tuple[str, ...] = ()


def prune(settings: Settings, *, dry_run: bool) -> list[Pruned]:
    """Removes what may go; call it under the lock.

    Args:
        settings: The project's settings.
        dry_run: Only say what would go.

    Raises:
        IngestionError: The run history is damaged, or the place of the backups is not reached.
    """
    found = [_logs(settings, dry_run), _leftovers(settings, dry_run)]
    if settings.history_path.is_file():
        with closing(History(settings.history_path)) as history:
            found.append(_versions(settings, history, dry_run))
            found += _past(settings, history, dry_run)
    if settings.backup.url or settings.backup.connection:
        found.append(_backups(settings, dry_run))
    return [*found, *_tables(settings, dry_run)]


def _tables(settings: Settings, dry_run: bool) -> Iterator[Pruned]:
    """Files of events whose time is over; the project is only read if it speaks of any."""
    from ingestion.declarations import load_declarations
    from ingestion.expire import expire
    from runner.transform import Dbt, Selection

    models = (settings.project_dir / "models").rglob("*.y*ml")
    told = any("retention" in path.read_text(encoding="utf-8") for path in models)
    if not told or not settings.warehouse_path.is_file():
        return
    manifest, _ = Dbt(settings).sources(Selection())
    with nullcontext() if dry_run else in_our_hands(settings, log.warning):
        found = list(expire(load_declarations(manifest, None), settings, dry_run=dry_run))
    for gone in found:
        rule = f"files that landed more than {gone.days} days ago: {count(gone.rows, 'row')} of raw"
        yield Pruned(f"{gone.source}.{gone.table}", gone.files, gone.bytes, rule)


def _logs(settings: Settings, dry_run: bool) -> Pruned:
    paths = list(old_logs(settings))
    total = sum(size(path) for path in paths)
    for path in [] if dry_run else paths:
        path.unlink(missing_ok=True)
    rule = f"older than {settings.retention.logs_days} days, or beyond {settings.retention.logs}"
    return Pruned("logs", len(paths), total, rule, tuple(path.name for path in paths))


def old_logs(settings: Settings) -> Iterator[Path]:
    """Logs that may go: all that are too old, and of runs those beyond the number that is kept."""
    rules = settings.retention
    if not settings.logs_dir.is_dir():
        return
    surplus_logs = set(sorted(settings.logs_dir.glob(_RUN_LOGS))[: -rules.logs])
    oldest = time.time() - rules.logs_days * _DAY
    for path in sorted(settings.logs_dir.iterdir()):
        if path.is_file() and (path in surplus_logs or path.stat().st_mtime < oldest):
            yield path


def _leftovers(settings: Settings, dry_run: bool) -> Pruned:
    """What killed publishes, rebuilds and backups left; nobody works while the lock is held."""
    paths = leftovers(settings)
    for name in ("rebuild", "backup"):
        place = settings.state_dir / name
        paths += [place] if place.exists() and any(place.iterdir()) else []
    total = sum(size(path) for path in paths)
    for path in [] if dry_run else paths:
        remove(path)
    names = tuple(path.name for path in paths)
    return Pruned("leftovers", len(paths), total, "of commands that were killed", names)


def _versions(settings: Settings, history: History, dry_run: bool) -> Pruned:
    going = surplus(settings, turns(history))
    total = sum(size(version.path) for version in going)
    if not dry_run:
        remove_surplus(settings, history)
    failpoint("prune.versions_removed")
    rules = settings.publish
    rule = f"beyond the {rules.keep} that readers had last"
    rule += f", and older than {rules.keep_days} days" if rules.keep_days else ""
    return Pruned("versions", len(going), total, rule, tuple(v.name for v in going))


def _past(settings: Settings, history: History, dry_run: bool) -> Iterator[Pruned]:
    """Runs and measures of the history."""
    days, measured_days = settings.retention.runs_days, settings.measures.keep_days
    runs = history.prune(days, dry_run=dry_run)
    measured = history.prune_measures(datetime.now(UTC), measured_days, dry_run=dry_run)
    if not dry_run:
        history.compact()
    yield Pruned("runs", runs, None, f"began more than {days} days ago")
    rule = f"older than {measured_days} days, and after two days all but the last of each day"
    yield Pruned("measures", measured, None, rule)


def _backups(settings: Settings, dry_run: bool) -> Pruned:
    from runner.backup.make import remove_surplus as remove_surplus_backups
    from runner.backup.manifest import backup_ids
    from runner.backup.store import open_store

    store = open_store(settings, None)
    going = tuple(backup_ids(store)[: -settings.backup.keep])
    if not dry_run:
        remove_surplus_backups(store, settings.backup.keep)
    rule = f"beyond the newest {settings.backup.keep}"
    return Pruned("backups", len(going), None, rule, going)


# -- answers -----------------------------------------------------------------------------------


def pruned_fields(found: Sequence[Pruned]) -> list[dict[str, Any]]:
    """What goes, as named values."""
    return [{**vars(entry), "names": list(entry.names)} for entry in found]


def print_pruned(found: Sequence[Pruned], dry_run: bool, console: Console) -> None:
    """Shows a person what goes, and why."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("would go" if dry_run else "gone", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("rule", overflow="fold")
    for entry in found:
        told = "" if not entry.bytes else told_size(entry.bytes)
        table.add_row(entry.kind, f"{entry.number:,}", told, entry.rule)
    console.print(table)
    if not dry_run and any("." in entry.kind and entry.number for entry in found):
        console.print("`wellspring run` makes models and a version without the rows that are gone.")
