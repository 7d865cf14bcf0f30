"""One writer at a time.

`RunLock` -> flock on `state/run.lock` -> owner as JSON in that file -> freed by the kernel

The kernel frees the lock when its holder ends, however it ends, so there is no stale lock to break.
The text in the file only says who holds it. Left out: waiting for the holder; a second run is told
and ends.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from ingestion.errors import LockHeld

# A reader that asks who holds the lock takes a shared one for an instant: a run must outlast that.
_ATTEMPTS = 5
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Owner:
    """Who holds the lock.

    Attributes:
        pid: Process id of the holder.
        host: Its machine.
        user: Its user's name.
        command: Its command line.
        since: When it took the lock (ISO 8601, UTC).
        run_id: The run that it does.
    """

    pid: int
    host: str
    user: str
    command: str
    since: str
    run_id: str

    def __str__(self) -> str:
        return (
            f"`{self.command}` (process {self.pid} of {self.user} on {self.host}, "
            f"since {self.since}, run {self.run_id})"
        )


def user_name() -> str:
    """The name of the user who runs this process, or their number where they have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class RunLock:
    """Holds `state/run.lock` as long as the `with` block lasts.

    Args:
        path: The lock file.
        run_id: The run that takes it.
        command: The command line to show to whoever is refused.

    Raises:
        LockHeld: Another process holds it (on entering the block).
    """

    def __init__(self, path: Path, run_id: str, command: str) -> None:
        self._path = path
        self._owner = Owner(
            pid=os.getpid(),
            host=socket.gethostname(),
            user=user_name(),
            command=command,
            since=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            run_id=run_id,
        )
        self._file: IO[str] | None = None

    def __enter__(self) -> RunLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._path.open("a+", encoding="utf-8")
        if not _flock(handle, fcntl.LOCK_EX, _ATTEMPTS):
            owner = _read_owner(handle)
            handle.close()
            raise LockHeld(
                f"another run is under way: {owner or 'its owner is not known yet'}",
                hint="Wait until it has ended (`wellspring status` shows it), then run again.",
                file=self._path,
            )
        handle.truncate(0)
        handle.write(json.dumps(asdict(self._owner)))
        handle.flush()
        self._file = handle
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def current_owner(path: Path) -> Owner | None:
    """Who holds the lock now, or None if it is free. Never blocks and changes nothing."""
    if not path.is_file():
        return None
    with path.open("r", encoding="utf-8") as handle:
        for _ in range(_ATTEMPTS):
            if _flock(handle, fcntl.LOCK_SH, 1):
                return None
            # Whoever took it just now has not written their name yet.
            owner = _read_owner(handle)
            if owner is not None:
                return owner
            time.sleep(_PAUSE_SECONDS)
    return None


def _flock(handle: IO[str], kind: int, attempts: int) -> bool:
    for attempt in range(attempts):
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < attempts:
                time.sleep(_PAUSE_SECONDS)
        else:
            return True
    return False


def _read_owner(handle: IO[str]) -> Owner | None:
    handle.seek(0)
    try:
        return Owner(**json.loads(handle.read()))
    except (ValueError, TypeError):
        return None
