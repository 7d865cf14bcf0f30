"""Tells whether anything has landed, by the times of folders.

landing/<source>/, its table folders, the newest folder within each -> mtimes -> changed?

A file is landed by a rename into its folder, which changes the folder's time; so the files
themselves, of which there may be a hundred thousand, are not listed. Left out: notice from the
kernel, which shared file systems do not give.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

# The kernel's clock for files moves in steps; what comes within one looks like what was there.
_STEP_SECONDS = 0.02

Signature = dict[str, int]


class Landing:
    """The landing folders of some sources.

    Args:
        folder: The landing zone.
        sources: Names of the sources.
    """

    def __init__(self, folder: Path, sources: Iterable[str]) -> None:
        self._places = [folder / source for source in sorted(sources)]
        self._within: dict[Path, tuple[int, list[Path]]] = {}

    def signature(self) -> Signature:
        """A value that changes when a file lands; taken when the clock has moved on."""
        found = self._taken()
        for _ in range(3):
            if max(found.values(), default=0) < time.time_ns() - _STEP_SECONDS * 1e9:
                break
            time.sleep(_STEP_SECONDS)
            found = self._taken()
        return found

    def _taken(self) -> Signature:
        found: Signature = {}
        for place in self._places:
            for table in self._folders(place, found):
                within = self._folders(table, found)
                # Days sort by name: only the newest ones still grow.
                for day in within[-2:]:
                    self._note(day, found)
        return found

    def _note(self, place: Path, found: Signature) -> int | None:
        try:
            found[str(place)] = moment = place.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        return moment

    def _folders(self, place: Path, found: Signature) -> list[Path]:
        """Folders within, listed anew only when the folder has changed."""
        moment = self._note(place, found)
        if moment is None:
            return []
        known = self._within.get(place)
        if known is None or known[0] != moment:
            with os.scandir(place) as entries:
                folders = sorted(Path(entry.path) for entry in entries if entry.is_dir())
            known = self._within[place] = (moment, folders)
        return known[1]
