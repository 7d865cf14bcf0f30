"""Files that are there whole or not at all, also after a power cut.

text -> temporary file beside -> disk -> renamed into its place -> the folder's entry on the disk

Left out: files that others write (Parquet, copies); they are synced by `sync` and renamed there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread


def write_whole(
    path: Path, text: str, *, mode: int = 0o644, before: Callable[[], None] | None = None
) -> None:
    """Writes a text file whole or not at all, and makes its folder if need be.

    Args:
        path: The file; one that is there is replaced.
        text: Its content, written as UTF-8 with line ends as they are.
        mode: Its rights; nobody sees it with others.
        before: Called just before it takes its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    if before is not None:
        before()
    temporary.replace(path)
    sync(path.parent)


def begin_sync(path: Path) -> None:
    """Has a file's content written to the disk meanwhile, so that `sync` has less to wait for.

    Nothing is promised by it, and what fails there `sync` tells. Where the system has no such call,
    nothing happens.
    """
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(path, os.O_RDONLY)
        Thread(target=_write_back, args=(descriptor,), daemon=True).start()


def _write_back(descriptor: int) -> None:
    try:
        # A hint that is refused costs nothing: `sync` does the whole work then.
        with suppress(OSError):
            # Of what it is told to drop, Linux begins to write what is not on the disk yet.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
