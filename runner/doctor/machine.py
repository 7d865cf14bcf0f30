"""Checks of the machine: permissions, disk, clock, lock, what lies about."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ingestion.budget import (
    abandoned_temporary,
    free_space,
    memory_limit,
    required_space,
    temporary_limit,
)
from ingestion.lock import current_owner, killed_owner, lock_path
from ingestion.settings import Settings
from ingestion.units import tell_bytes, tell_seconds
from runner.doctor.findings import Finding
from runner.versions import current_version, leftovers

_LONG_SECONDS = 12 * 3600
_FEW_INODES = 0.02
_JUMP_SECONDS = 60.0


def permissions(settings: Settings) -> Iterator[Finding]:
    """Whether we may write where we must, and nobody else reads secrets."""
    places = [settings.data_dir, settings.landing_dir, settings.state_dir]
    places += [settings.published_dir, settings.warehouse_path.parent, settings.warehouse_path]
    refused = [path for path in places if path.exists() and not os.access(path, os.W_OK)]
    if refused:
        names = ", ".join(map(str, refused))
        mend = "Give this user the right to write there, or set another [paths] data."
        yield Finding("permissions", "fail", f"not allowed to write to {names}", mend)
    else:
        yield Finding("permissions", "ok", "the data folders can be written to")
    yield from _secrets(settings)


def _secrets(settings: Settings) -> Iterator[Finding]:
    path = settings.project_dir / ".dlt" / "secrets.toml"
    if not path.is_file():
        return
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        yield Finding(
            "secrets", "warn", f"others may read {path}", f"`chmod 600 {path}` keeps it to you."
        )
    else:
        yield Finding("secrets", "ok", "only you can read .dlt/secrets.toml")
    if _in_git(settings.project_dir, path):
        yield Finding(
            "secrets",
            "fail",
            f"git does not ignore {path}",
            "Add `.dlt/secrets.toml` to .gitignore; if it was committed, change its secrets.",
            3,
        )


def _in_git(folder: Path, path: Path) -> bool:
    """Whether git would take the file along; False where there is no git."""
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", str(path)],
            cwd=folder,
            capture_output=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    # 0: ignored, 1: not, 128: no repository.
    return done.returncode == 1


def disk(settings: Settings) -> Iterator[Finding]:
    """Whether there is room for a run, and for one more version."""
    free, total = free_space(settings.data_dir)
    wanted = required_space(settings)
    text = f"{tell_bytes(free)} of {tell_bytes(total)} are free below {settings.data_dir}"
    mend = "`wellspring clean` and `wellspring prune` free space."
    version = current_version(settings)
    size = _size(version.path) if version else 0
    if free < wanted:
        least = f"[limits] min_free = {settings.limits.min_free}"
        yield Finding("disk", "fail", f"{text}, less than {least}", mend, 7)
    elif free < 2 * size:
        yield Finding("disk", "warn", f"{text}; the last version took {tell_bytes(size)}", mend)
    else:
        budget = (
            f"memory {memory_limit(settings)}, temporary {tell_bytes(temporary_limit(settings))}"
        )
        yield Finding("disk", "ok", f"{text}; DuckDB may use {budget}")
    yield from _inodes(settings)


def _inodes(settings: Settings) -> Iterator[Finding]:
    place = settings.data_dir
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    # Some file systems make them as needed and count none.
    if found.f_files and found.f_favail / found.f_files < _FEW_INODES:
        yield Finding(
            "disk",
            "warn",
            f"only {found.f_favail:,} more files can be made below {place}",
            "`wellspring compact` makes few files of many; `wellspring clean` removes old ones.",
        )


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def clock(settings: Settings, newest: float | None) -> Iterator[Finding]:
    """Whether time has gone back: load ids and runs are ordered by it.

    Args:
        settings: The project's settings.
        newest: The newest moment that a run or a landed load bears; None if there is none.
    """
    now = time.time()
    if newest is not None and newest > now + _JUMP_SECONDS:
        yield Finding(
            "clock",
            "fail",
            f"the newest run or load is {tell_seconds(newest - now)} ahead of this machine's clock",
            "Set the clock right, or wait until it has passed that moment.",
            4,
        )
    else:
        yield Finding("clock", "ok", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, after all runs")


def lock(settings: Settings) -> Iterator[Finding]:
    """Who holds the lock, and whether that is credible."""
    owner, killed = current_owner(lock_path(settings)), killed_owner(lock_path(settings))
    if owner is not None and owner.age > _LONG_SECONDS:
        mend = f"Look at what it does (`wellspring status`); if it hangs, end process {owner.pid}."
        yield Finding("lock", "warn", f"held for long: {owner}", mend)
    elif owner is not None:
        yield Finding("lock", "ok", f"held by {owner}")
    elif killed is not None:
        mend = "Nothing needs to be done: the next run notes that it was interrupted."
        yield Finding("lock", "warn", f"free; its last holder was killed: {killed}", mend)
    else:
        yield Finding("lock", "ok", "free")


def orphans(settings: Settings) -> Iterator[Finding]:
    """What killed processes left behind; it takes room and does no harm."""
    if current_owner(lock_path(settings)) is not None:
        yield Finding("orphans", "ok", "not looked for while a run is under way")
        return
    places = [*leftovers(settings), *abandoned_temporary(settings)]
    spool = settings.spool_dir
    places += [path for path in (spool.iterdir() if spool.is_dir() else ()) if _has_files(path)]
    landed = _unfinished_landing(settings)
    if places:
        names = ", ".join(str(path.relative_to(settings.data_dir)) for path in places[:5])
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        mend = "The next run clears them; `wellspring clean` does it now."
        yield Finding("orphans", "warn", f"left by killed processes: {names}{more}", mend)
    if landed:
        names = ", ".join(str(path.relative_to(settings.data_dir)) for path in landed[:3])
        text = f"{len(landed)} landed files of loads that were not completed, such as {names}"
        mend = "They count for nothing; the next extraction completes or replaces their load."
        yield Finding("orphans", "warn", text, mend)
    if not places and not landed:
        yield Finding("orphans", "ok", "nothing lies about")


def _has_files(path: Path) -> bool:
    return path.is_file() or any(inner.is_file() for inner in path.rglob("*"))


def _unfinished_landing(settings: Settings) -> list[Path]:
    """Data files whose load is not among the completed ones of their source."""
    from ingestion.landing import completed_loads

    found: list[Path] = []
    folder = settings.landing_dir
    for source in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not source.is_dir():
            continue
        completed = set(completed_loads(settings, source.name))
        for path in sorted(source.glob("[!_]*/*.parquet")):
            load_id = ".".join(path.name.split(".")[:2])
            if load_id.replace(".", "").isdigit() and load_id not in completed:
                found.append(path)
    return found
