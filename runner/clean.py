"""Removes what can be made again.

what was asked for -> places on disk -> removed

By default that is working folders, logs and leftovers. Landing is what everything else is made
from, so it goes only when asked for by name and confirmed; the current published version never.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.versions import leftovers, remove


def cleanable(settings: Settings, *, warehouse: bool = False, landing: bool = False) -> list[Path]:
    """What a clean-up would remove, of the places that exist.

    Args:
        settings: The project's settings.
        warehouse: The warehouse file too, which `wellspring load build` makes again from landing.
        landing: Landing and dlt's state too, so that the next run reads every source anew; what a
            source no longer has is then lost.
    """
    root = settings.project_dir
    places = [root / "target", root / "logs", settings.logs_dir, settings.spool_dir]
    places += [settings.dlt_dir, settings.temporary_dir, settings.extensions_dir]
    places += [settings.state_dir / "rebuild", settings.state_dir / "backup"]
    places += leftovers(settings)
    if warehouse:
        path = settings.warehouse_path
        places += [path, path.with_name(f"{path.name}.wal")]
    if landing:
        # Without landing there is nothing left that a restore could have left half done.
        places += [settings.landing_dir, settings.restore_mark]
    return [place for place in places if place.exists() or place.is_symlink()]


def clean(places: list[Path]) -> int:
    """Removes places and returns how many bytes they took."""
    freed = 0
    for place in places:
        freed += size(place)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            remove(place)
        failpoint("clean.place_removed")
    return freed


def size(place: Path) -> int:
    """Bytes below a place; links count nothing."""
    if place.is_symlink():
        return 0
    if place.is_file():
        return place.stat().st_size
    return sum(path.lstat().st_size for path in place.rglob("*") if path.is_file())
