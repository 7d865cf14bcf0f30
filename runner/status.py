"""What happened last and what readers get, told without the warehouse.

run history, lock, published manifest -> `status_fields` -> text or JSON

Nothing of it opens the warehouse, so it works in the middle of a run.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ingestion.lock import current_owner, lock_path
from ingestion.settings import Settings
from runner.history import History
from runner.landers import lander_fields, tell_fields
from runner.runs import as_it_is
from runner.versions import current_version, waiting_version
from runner.watch.state import watch_fields
from runner.withholding import tell_kept, withheld_tables

if TYPE_CHECKING:
    from rich.console import Console

_FIGURES = ("rows", "files", "rejected", "staged", "superseded", "filtered", "quarantined")
_LAST_SUCCESS = """
    select
        name as source,
        max(case when status in ('ok', 'nothing_new') then recorded_at end) as last_success,
        max(case when status = 'failed' then recorded_at end) as last_failure
    from step_items
    where step = 'extract' and kind = 'source'
    group by name
"""
_LATEST = """
    select name, row_count, file_count, rejected
    from (
        select
            *, rank() over (partition by kind order by run_order desc) as recency
        from (
            select step_items.*, runs.number as run_order
            from step_items inner join runs on runs.run_id = step_items.run_id
            where kind = ?
        )
    )
    where recency = 1
"""


def status_fields(settings: Settings) -> dict[str, Any]:
    """The state of the project's data as named values.

    Raises:
        IngestionError: The run history is damaged.
    """
    waiting = waiting_version(settings)
    owner = current_owner(lock_path(settings))
    path = settings.state_dir / "history.sqlite"
    fields: dict[str, Any] = {
        "running": vars(owner) if owner else None,
        "last_run": None,
        "sources": {},
        "published": _published(settings),
        "watch": watch_fields(settings),
        "waiting": waiting.name if waiting else None,
        "landers": lander_fields(settings),
    }
    if not path.is_file():
        return fields
    with closing(History(path)) as history:
        runs = history.rows("select * from runs order by number desc limit 1")
        if runs:
            fields["last_run"] = _last_run(history, runs[0], owner.run_id if owner else None)
        fields["sources"] = _sources(history)
    return fields


def _last_run(history: History, run: dict[str, Any], running: str | None) -> dict[str, Any]:
    steps = history.rows(
        "select step, status, seconds, message from steps where run_id = ? order by position",
        (run["run_id"],),
    )
    run = as_it_is(run, running)
    steps = [as_it_is({"run_id": run["run_id"], **step}, running) for step in steps]
    failed = history.rows(
        "select step, kind, name, message from step_items "
        "where run_id = ? and status = 'failed' order by rowid",
        (run["run_id"],),
    )
    changed = history.rows(
        "select name, message from step_items "
        "where run_id = ? and kind = 'schema_change' order by rowid",
        (run["run_id"],),
    )
    return {**run, "steps": steps, "failed": failed, "changed": changed}


def _sources(history: History) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in history.rows(_LAST_SUCCESS):
        found[row.pop("source")] = row
    for row in history.rows(_LATEST, ("total",)):
        figures = found.setdefault(row["name"], {})
        figures |= {"rows": row["row_count"], "files": row["file_count"]}
        figures["rejected"] = row["rejected"]
    for row in history.rows(_LATEST, ("outcome",)):
        source, _, outcome = row["name"].rpartition(".")
        found.setdefault(source, {})[outcome] = row["row_count"]
    return dict(sorted(found.items()))


def _published(settings: Settings) -> dict[str, Any] | None:
    version = current_version(settings)
    if version is None:
        return None
    manifest = version.manifest()
    return {
        "version": version.name,
        "created_at": manifest["created_at"],
        "git_revision": manifest["git_revision"],
        "database": str(version.database),
        "docs": str(version.docs_page) if version.docs_page.is_file() else None,
        "tables": {table["name"]: table["rows"] for table in manifest["tables"]},
        "withheld": withheld_tables(version),
    }


# -- for people --------------------------------------------------------------------------------


def print_status(fields: dict[str, Any], console: Console) -> None:
    """Shows the state to a person."""
    if fields["running"]:
        owner = fields["running"]
        console.print(
            f"[yellow]running[/yellow]    {owner['run_id']} since {owner['since']}: "
            f"{owner['command']} (process {owner['pid']} of {owner['user']} on {owner['host']})"
        )
    _print_watch(console, fields["watch"])
    _print_run(console, fields["last_run"])
    _print_published(console, fields["published"])
    if fields["waiting"]:
        told = f"{fields['waiting']}: `wellspring approve` lets readers have it"
        console.print(f"[yellow]waiting[/yellow]    {told}", soft_wrap=True)
    _print_landers(console, fields["landers"])
    _print_sources(console, fields["sources"])


def _print_run(console: Console, run: dict[str, Any] | None) -> None:
    if run is None:
        console.print("[bold]last run[/bold]   none yet: `wellspring run` does everything once")
        return
    styles = {"succeeded": "green", "running": "yellow"}
    style = styles.get(run["status"], "red")
    console.print(
        f"[bold]last run[/bold]   {run['run_id']} [{style}]{run['status']}[/{style}], "
        f"started {run['started_at']} by {run['user']} on {run['host']} ({run['started_by']})"
    )
    console.print(f"           {run['command']}", markup=False)
    for step in run["steps"]:
        took = f"{step['seconds']:7.1f} s" if step["seconds"] is not None else " " * 9
        text = f"           {step['step']:<8} {step['status']:<12} {took}  {step['message'] or ''}"
        console.print(text, markup=False, soft_wrap=True)
    for item in run["failed"]:
        first = (item["message"] or "").splitlines()
        text = f"           ✗ {item['kind']} {item['name']}: {first[0] if first else 'failed'}"
        console.print(text, markup=False, soft_wrap=True, style="red")
    for item in run["changed"]:
        text = f"           ! changed {item['name']} {item['message']}"
        console.print(text, markup=False, soft_wrap=True, style="yellow")
    if run["message"]:
        console.print(f"           {run['message']}", markup=False, soft_wrap=True)


def _print_watch(console: Console, watch: dict[str, Any] | None) -> None:
    if watch is None:
        return
    console.print(
        f"[green]watching[/green]   since {watch['started_at']} (process {watch['pid']}): "
        f"{watch['doing']}; {watch['cycles']:,} cycles, {watch['rows']:,} rows"
    )
    if watch["version"] is not None:
        lag = watch["lag_seconds"]
        behind = f", {lag:.1f} s behind landing" if lag is not None else ""
        console.print(
            f"           live version {watch['version']} made {watch['published_at']}{behind}, "
            f"last cycle {watch['cycle_seconds']:.2f} s"
        )
    if watch["lander"]:
        console.print(f"           lander: {watch['lander']}", markup=False, soft_wrap=True)
    for why in watch["failing"].values():
        text = f"           ✗ readers keep the former live version: {why.splitlines()[0]}"
        console.print(text, markup=False, soft_wrap=True, style="red")


def _print_published(console: Console, published: dict[str, Any] | None) -> None:
    if published is None:
        console.print("[bold]published[/bold]  nothing yet")
        return
    rows = sum(published["tables"].values())
    console.print(
        f"[bold]published[/bold]  {published['version']}: {len(published['tables'])} tables, "
        f"{rows:,} rows, made {published['created_at']}"
    )
    console.print(f"           {published['database']}", markup=False, soft_wrap=True)
    for name, kept in published["withheld"].items():
        text = f"           ! withheld {name}: {kept['why']}; {tell_kept(kept)}"
        console.print(text, markup=False, soft_wrap=True, style="yellow")


def _print_landers(console: Console, landers: dict[str, dict[str, Any]]) -> None:
    for number, (name, fields) in enumerate(landers.items()):
        title = "[bold]landers[/bold]   " if number == 0 else " " * 10
        style = "red" if fields["state"] in ("killed", "failed", "failing") else None
        console.print(f"{title} {name}: {tell_fields(fields)}", soft_wrap=True, style=style)


def _print_sources(console: Console, sources: dict[str, dict[str, Any]]) -> None:
    if not sources:
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("source")
    table.add_column("last success")
    for name in _FIGURES:
        table.add_column(name, justify="right")
    for source, figures in sources.items():
        numbers = [figures.get(name) for name in _FIGURES]
        shown = ["" if number is None else f"{number:,}" for number in numbers]
        failing = (figures.get("last_failure") or "") > (figures.get("last_success") or "")
        success = figures.get("last_success") or "never"
        note = " [red](failing)[/red]" if failing else ""
        table.add_row(source, f"{success}{note}", *shown)
    console.print(table)
