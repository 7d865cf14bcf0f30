"""Published versions on disk: which there are, which is current, which waits, which may go.

`published/<run id>/`, the links `published/current` and `published/waiting` -> `Version`s

A version is a folder that is complete from the moment it bears its name, because it is made under
another name and renamed. What decides over readers (current, waiting, rolled back, pinned) lies
here and not in the run history, so that a lost history brings back no number that was withdrawn.
Left out: making a version (`publish`), and who made which one current (`publications`).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import file_digest
from pathlib import Path
from typing import Any

from ingestion.durable import sync
from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from ingestion.settings import Settings

DATABASE = "wellspring.duckdb"
MANIFEST = "manifest.json"
CURRENT = "current"
WAITING = "waiting"
UNFINISHED = ".tmp"
_PINNED = "pinned"
_ROLLED_BACK = "rolled_back"
# Runs had four digits of chance alone once; their versions may be kept.
_NAME = re.compile(r"\d{8}T\d{6}Z-(?:[0-9a-f]{3})?[0-9a-f]{4}")


@dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        name: Its name, which is that of the run that made it.
        path: Its folder, not by way of `current`.
    """

    name: str
    path: Path

    @property
    def database(self) -> Path:
        """Its DuckDB file. The base name never changes: DuckDB names the catalog after it."""
        return self.path / DATABASE

    @property
    def docs_page(self) -> Path:
        """The documentation that belongs to it, if it was written."""
        return self.path / "docs" / "index.html"

    @property
    def pinned(self) -> bool:
        """Whether it stays whatever the settings say."""
        return (self.path / _PINNED).exists()

    @property
    def rolled_back(self) -> bool:
        """Whether readers were taken back from it to an earlier version."""
        return (self.path / _ROLLED_BACK).exists()

    def manifest(self) -> dict[str, Any]:
        """What it holds: tables with rows and checksums, files, where it comes from."""
        content: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        return content

    def mark_pinned(self, wanted: bool) -> None:
        """Notes that it is to stay, or no longer."""
        self._mark(_PINNED, wanted)

    def mark_rolled_back(self, wanted: bool) -> None:
        """Notes that readers are taken back from it, or that they are not."""
        self._mark(_ROLLED_BACK, wanted)

    def _mark(self, name: str, wanted: bool) -> None:
        place = self.path / name
        if place.exists() == wanted:
            return
        if wanted:
            place.touch()
        else:
            place.unlink()
        sync(self.path)


def current_version(settings: Settings) -> Version | None:
    """The version that readers get now, or None before the first publish."""
    return _linked(settings, CURRENT)


def waiting_version(settings: Settings) -> Version | None:
    """The version that waits for approval, or None."""
    return _linked(settings, WAITING)


def _linked(settings: Settings, link: str) -> Version | None:
    target = None
    while True:
        try:
            found = (settings.published_dir / link).readlink()
        except OSError:
            return None
        path = settings.published_dir / found.name
        if (path / MANIFEST).is_file():
            return Version(path.name, path)
        # Between two looks the link may have moved on and the version it named been removed.
        if found == target:
            return None
        target = found


def require_current(settings: Settings, otherwise: str = "") -> Version:
    """The version that readers get now.

    Args:
        settings: The project's settings.
        otherwise: What else helps, where nothing is published.

    Raises:
        BadInput: Nothing is published yet.
    """
    version = current_version(settings)
    if version is None:
        raise BadInput(
            "nothing is published yet",
            file=settings.published_dir,
            hint=f"`wellspring run` extracts, builds, audits and publishes. {otherwise}".strip(),
        )
    return version


def all_versions(settings: Settings) -> list[Version]:
    """Every complete version, in the order in which they were made."""
    folder = settings.published_dir
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name):
            version = Version(path.name, path)
            try:
                found.append((str(version.manifest()["created_at"]), path.name, version))
            except FileNotFoundError:
                # Unfinished, or removed while we look: whoever asks may not hold the lock.
                continue
    return [version for _, _, version in sorted(found, key=lambda entry: entry[:2])]


def find_version(settings: Settings, name: str) -> Version:
    """The version of that name; `current` and `waiting` are names too.

    Raises:
        BadInput: There is none.
    """
    links = {CURRENT: current_version, WAITING: waiting_version}
    if name in links:
        version = links[name](settings)
        if version is None:
            raise BadInput(f"there is no {name} version", file=settings.published_dir)
        return version
    known = {version.name: version for version in all_versions(settings)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise BadInput(
        f"there is no published version {name}",
        file=settings.published_dir,
        hint=f"{hint}`wellspring versions` lists those that are kept.",
    )


def require_whole(version: Version) -> None:
    """Compares sizes and checksums of a version's files with its manifest.

    Raises:
        BadInput: A file is missing or is not what was sealed.
    """
    for file in version.manifest()["files"]:
        path = version.path / file["path"]
        if not path.is_file():
            fault = "is missing"
        elif path.stat().st_size != file["bytes"]:
            fault = f"has {path.stat().st_size:,} bytes instead of {file['bytes']:,}"
        else:
            with path.open("rb") as handle:
                same = file_digest(handle, "sha256").hexdigest() == file["sha256"]
            fault = "" if same else "is not what was sealed: its checksum differs"
        if fault:
            raise BadInput(
                f"version {version.name} is damaged: {file['path']} {fault}",
                file=path,
                hint="Choose another one: `wellspring versions` lists those that are kept.",
            )


def make_current(settings: Settings, version: Version) -> None:
    """Points `current` at a version in one step: a reader finds the old one or the new one."""
    _point(settings, CURRENT, version)


def make_waiting(settings: Settings, version: Version | None) -> None:
    """Points `waiting` at a version, or removes the link."""
    if version is not None:
        _point(settings, WAITING, version)
        return
    (settings.published_dir / WAITING).unlink(missing_ok=True)
    if settings.published_dir.is_dir():
        sync(settings.published_dir)


def _point(settings: Settings, name: str, version: Version) -> None:
    link = settings.published_dir / name
    fresh = settings.published_dir / f"{name}{UNFINISHED}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(version.name, target_is_directory=True)
    failpoint("publish.link_made")
    os.replace(fresh, link)  # noqa: PTH105  # Path.replace says the same; os.replace names the call
    sync(settings.published_dir)


def surplus(settings: Settings, turns: Mapping[str, int], *, coming: int = 0) -> list[Version]:
    """Versions that may go, those that readers had longest ago first.

    Never the current one, one that waits for approval or one that is pinned; none younger than
    `[publish] keep_days`; of the others the `keep` that readers had last stay.

    Args:
        settings: The project's settings.
        turns: By version, a number that grows with each time it was made current.
        coming: How many versions more there are about to be.
    """
    made = all_versions(settings)
    # Without an entry the order of making decides: the history may have been lost.
    ranked = sorted(made, key=lambda version: turns.get(version.name, 0))
    waiting, current = waiting_version(settings), current_version(settings)
    ranked = [version for version in ranked if version != waiting]
    going = ranked[: max(0, len(ranked) + coming - settings.publish.keep)]
    return [v for v in going if v != current and not v.pinned and not _young(settings, v)]


def _young(settings: Settings, version: Version) -> bool:
    age = datetime.now(UTC) - datetime.fromisoformat(version.manifest()["created_at"])
    return age < timedelta(days=settings.publish.keep_days)


def leftovers(settings: Settings) -> list[Path]:
    """What a publish that was killed left behind: unfinished folders and links.

    Folders without a manifest are among them: theirs was being removed.
    """
    folder = settings.published_dir
    if not folder.is_dir():
        return []
    complete = {version.path for version in all_versions(settings)}
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(UNFINISHED) or (_NAME.fullmatch(path.name) and path not in complete)
    )


def remove(path: Path) -> None:
    """Removes a version's folder or a leftover.

    The manifest goes first, so that a half-removed version is not taken for a whole one.
    """
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    (path / MANIFEST).unlink(missing_ok=True)
    failpoint("publish.manifest_removed")
    shutil.rmtree(path)
