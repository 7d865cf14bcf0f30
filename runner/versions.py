"""Published versions on disk: which there are, which is current, which may go.

`published/<run id>/` and the link `published/current` -> `Version`s

A version is a folder that is complete from the moment it bears its name, because it is made under
another name and renamed. Left out: making one, which `publish` does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from ingestion.settings import Settings

DATABASE = "wellspring.duckdb"
MANIFEST = "manifest.json"
CURRENT = "current"
UNFINISHED = ".tmp"
_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")


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

    def manifest(self) -> dict[str, Any]:
        """What it holds: tables with rows and checksums, files, where it comes from."""
        content: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        return content


def current_version(settings: Settings) -> Version | None:
    """The version that readers get now, or None before the first publish."""
    try:
        target = (settings.published_dir / CURRENT).readlink()
    except OSError:
        return None
    path = settings.published_dir / target.name
    return Version(path.name, path) if (path / MANIFEST).is_file() else None


def require_current(settings: Settings) -> Version:
    """The version that readers get now.

    Raises:
        BadInput: Nothing is published yet.
    """
    version = current_version(settings)
    if version is None:
        raise BadInput(
            "nothing is published yet",
            file=settings.published_dir,
            hint="`wellspring run` extracts, builds, audits and publishes.",
        )
    return version


def all_versions(settings: Settings) -> list[Version]:
    """Every complete version, in the order in which they were made."""
    folder = settings.published_dir
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    found = [Version(path.name, path) for path in named if (path / MANIFEST).is_file()]
    return sorted(found, key=lambda version: (version.manifest()["created_at"], version.name))


def make_current(settings: Settings, version: Version) -> None:
    """Points `current` at a version in one step: a reader finds the old one or the new one."""
    link = settings.published_dir / CURRENT
    fresh = settings.published_dir / f"{CURRENT}{UNFINISHED}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(version.name, target_is_directory=True)
    failpoint("publish.link_made")
    os.replace(fresh, link)  # noqa: PTH105  # Path.replace says the same; os.replace names the call
    sync_folder(settings.published_dir)


def surplus(settings: Settings, keep: int) -> list[Version]:
    """Versions beyond the newest `keep`, oldest first; never the current one."""
    current = current_version(settings)
    older = all_versions(settings)[:-keep]
    return [version for version in older if current is None or version.name != current.name]


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


def sync_folder(path: Path) -> None:
    """Makes renames within a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
