"""A system's outbox: the files that are to exist on a day, and bringing a folder to that.

Outbox (path ─> how to make the bytes, when delivered) ─> write what is new or re-sent ─> remove
what is gone

A file is written under a temporary name and renamed, so nobody reads half of one.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anycompany import days


@dataclass
class Outbox:
    """The files of one system.

    Attributes:
        files: Path below the system's folder -> (day of its last delivery, maker of its bytes).
        kept: Pattern of names that are sent live and are nobody's to remove; empty for none.
    """

    files: dict[str, tuple[int, Callable[[], bytes]]] = field(default_factory=dict)
    kept: str = ""

    def add(self, path: str, delivered: int, make: Callable[[], bytes]) -> None:
        """Adds a file that was last delivered on a day."""
        self.files[path] = (delivered, make)

    def deliver(self, folder: Path, since: int) -> None:
        """Writes what the folder lacks.

        Args:
            folder: The system's folder.
            since: Day that the folder is known to be complete for (-1: nothing); files delivered
                later, and files that are missing, are written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for path, (delivered, make) in self.files.items():
            target = folder / path
            if delivered > since or not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                write(target, make(), delivered)

    def tidy(self, folder: Path) -> None:
        """Removes what is not of this state: former extracts, and what a crash left."""
        for found in sorted(folder.rglob("*"), reverse=True):
            if found.is_file():
                known = found.relative_to(folder).as_posix() in self.files
                if not known and not fnmatch.fnmatchcase(found.name, self.kept):
                    found.unlink()
            elif found.is_dir() and not any(found.iterdir()):
                found.rmdir()


def write(target: Path, content: bytes, delivered: int | None = None) -> None:
    """Writes a file in one step, dated to the evening of the day it was delivered on."""
    partial = target.with_name(f".{target.name}.part")
    partial.write_bytes(content)
    if delivered is not None:
        moment = int(days.start_of(delivered)) + 23 * 3_600
        os.utime(partial, (moment, moment))
    partial.replace(target)


def month_of(day: int) -> int:
    """Returns the first day of the month that a day is in."""
    date = days.date_of(day)
    return day - date.day + 1
