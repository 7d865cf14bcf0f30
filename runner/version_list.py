"""Published versions for people and programs: what they hold, in which state, by whose word.

published folder, run history -> `version_fields` -> table or JSON

Nothing of it opens the warehouse or takes the lock, so it works in the middle of a run.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.settings import Settings
from runner.history import History
from runner.report import count
from runner.versions import Version, all_versions, current_version, waiting_version

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"current": "green", "waiting": "yellow", "rolled back": "red", "kept": ""}
# Beside `max`, SQLite takes the other columns from the row that has the maximum.
_LAST = """
    select version, at, action, user, host, run_id, max(number)
    from publications
    where is_done
    group by version
"""
_FIRST = "select version, min(at) as at from publications where is_done group by version"


def version_fields(settings: Settings) -> list[dict[str, Any]]:
    """Every version that is kept, the newest first.

    Raises:
        IngestionError: The run history is damaged.
    """
    last, first = _noted(settings)
    current, waiting = current_version(settings), waiting_version(settings)
    found = []
    for version in reversed(all_versions(settings)):
        try:
            fields = _fields(version)
        except FileNotFoundError:
            # Removed by a run while we look.
            continue
        fields["state"] = _state(version, current, waiting)
        fields["published_at"] = first.get(version.name)
        fields["made_current"] = _made_current(last.get(version.name))
        found.append(fields)
    return found


def _noted(settings: Settings) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """By version, who made it current last, and when it first was."""
    path = settings.state_dir / "history.sqlite"
    with closing(History(path if path.is_file() else Path(":memory:"))) as history:
        last = {row["version"]: row for row in history.rows(_LAST)}
        first = {
            row["version"]: row["published_at"]
            for row in history.rows("select version, published_at from published_versions")
        }
        return last, first | {row["version"]: row["at"] for row in history.rows(_FIRST)}


def _made_current(row: dict[str, Any] | None) -> dict[str, Any] | None:
    names = ("at", "action", "user", "host", "run_id")
    return {name: row[name] for name in names} if row else None


def _fields(version: Version) -> dict[str, Any]:
    manifest = version.manifest()
    return {
        "version": version.name,
        "state": "kept",
        "pinned": version.pinned,
        "made_at": manifest["created_at"],
        "published_at": None,
        "made_current": None,
        "tables": len(manifest["tables"]),
        "rows": sum(table["rows"] for table in manifest["tables"]),
        "bytes": sum(file["bytes"] for file in manifest["files"]),
        "git_revision": manifest["git_revision"],
        "database": str(version.database),
    }


def _state(version: Version, current: Version | None, waiting: Version | None) -> str:
    if version == current:
        return "current"
    if version == waiting:
        return "waiting"
    return "rolled back" if version.rolled_back else "kept"


def print_versions(versions: list[dict[str, Any]], console: Console) -> None:
    """Shows the versions to a person."""
    if not versions:
        console.print("nothing is published yet: `wellspring run` does everything once")
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("version", "state", "made"):
        table.add_column(name, no_wrap=True)
    for name in ("tables", "rows", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("made current")
    for version in versions:
        style = _STYLES[version["state"]]
        state = f"[{style}]{version['state']}[/{style}]" if style else version["state"]
        table.add_row(
            version["version"],
            state + (", pinned" if version["pinned"] else ""),
            version["made_at"][:16].replace("T", " "),
            f"{version['tables']:,}",
            f"{version['rows']:,}",
            f"{version['bytes'] / 2**20:,.1f} MiB",
            (version["git_revision"] or "")[:7],
            _told(version["made_current"]),
        )
    console.print(table)
    _print_advice(versions, console)


def _told(made_current: dict[str, Any] | None) -> str:
    if made_current is None:
        return ""
    moment = made_current["at"][:16].replace("T", " ")
    return f"{moment} by {made_current['action']}, {made_current['user']}@{made_current['host']}"


def _print_advice(versions: list[dict[str, Any]], console: Console) -> None:
    names = {version["state"]: version["version"] for version in versions}
    if "waiting" in names:
        console.print(
            f"{names['waiting']} waits: `wellspring diff current waiting` shows what differs, "
            "`wellspring approve` makes it current",
            markup=False,
            soft_wrap=True,
        )
    back = sum(version["state"] == "rolled back" for version in versions)
    if back:
        console.print(
            f"{count(back, 'version')} rolled back: the same content is not published again "
            "unless `wellspring rollback VERSION` brings it back",
            markup=False,
            soft_wrap=True,
        )
