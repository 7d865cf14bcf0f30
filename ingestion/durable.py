"""Writing that survives a power cut: what was renamed is there whole, under its name.

file -> fsync -> rename -> fsync of the folder

Left out: what is written.
"""

from __future__ import annotations

import os
from pathlib import Path


def sync_path(path: Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_durably(temporary: Path, target: Path) -> None:
    """Gives a finished file its name; after a power cut it is there whole or not at all.

    Args:
        temporary: The file, on the same disk as the target.
        target: Its name from now on.
    """
    sync_path(temporary)
    temporary.replace(target)
    sync_path(target.parent)
