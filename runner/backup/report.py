"""Backups as named values and as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runner.backup.make import Damage, Made
from runner.backup.manifest import Manifest

if TYPE_CHECKING:
    from rich.console import Console


def manifest_fields(manifest: Manifest) -> dict[str, Any]:
    """A backup as named values, without its files."""
    return {
        "backup": manifest.id,
        "made_at": manifest.made_at,
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "versions": manifest.versions,
        "host": manifest.host,
        "data_dir": manifest.data_dir,
        "git_revision": manifest.git_revision,
        "wellspring_version": manifest.wellspring_version,
    }


def made_fields(made: Made) -> dict[str, Any]:
    """What making a backup did, as named values."""
    return {
        **manifest_fields(made.manifest),
        "sent_files": made.sent_files,
        "sent_bytes": made.sent_bytes,
        "removed_backups": list(made.removed),
        "seconds": round(made.seconds, 3),
    }


def damage_fields(damages: Sequence[Damage]) -> list[dict[str, Any]]:
    """What is wrong with backups, as named values."""
    return [vars(damage) for damage in damages]


def print_backups(manifests: Sequence[Manifest], console: Console) -> None:
    """Shows the backups to a person, newest first."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("backup", "made at", "on"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("versions")
    table.add_column("git revision", no_wrap=True)
    for manifest in reversed(manifests):
        table.add_row(
            manifest.id,
            manifest.made_at,
            manifest.host,
            f"{len(manifest.files):,}",
            told_size(manifest.bytes),
            "yes" if manifest.versions else "no",
            (manifest.git_revision or "")[:12],
        )
    console.print(table)


def told_size(size: int) -> str:
    """A size for people: `12.3 MiB`."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"
