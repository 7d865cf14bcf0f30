"""What `wellspring watch` is doing, for whoever asks: a small file, written anew in each cycle.

watch -> `state/watch.json` -> `wellspring status`, `wellspring metrics`

A lock beside it, which the kernel frees when its holder ends, tells whether one is at work. Left
out: what a cycle did in detail, which the log of the process has.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ingestion.errors import LockHeld
from ingestion.settings import Settings
from runner.history import now


@dataclass
class WatchState:
    """What is told.

    Attributes:
        run_id: Its name in the run history.
        pid: Its process.
        started_at: When it began.
        doing: starting, learning, waiting, at work or ended.
        cycles: Cycles that loaded or built anything.
        published: Live versions made.
        version: The current live version.
        published_at: When that one was made.
        rows: Rows loaded since the start.
        lag_seconds: From the landing of the newest rows to the version that has them.
        cycle_seconds: How long the last cycle took.
        failing: What does not pass, and why, in words.
        lander: What the lander is doing, in words.
    """

    run_id: str
    pid: int = field(default_factory=os.getpid)
    started_at: str = field(default_factory=now)
    doing: str = "starting"
    cycles: int = 0
    published: int = 0
    version: int | None = None
    published_at: str | None = None
    rows: int = 0
    lag_seconds: float | None = None
    cycle_seconds: float | None = None
    failing: dict[str, str] = field(default_factory=dict)
    lander: str = ""

    def write(self, settings: Settings) -> None:
        """Writes it, whole at any moment; not made durable, for it is of no use after a crash."""
        path = _path(settings)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        unfinished.rename(path)


def watch_fields(settings: Settings) -> dict[str, Any] | None:
    """The state of the watch that is at work; None if none is."""
    if not _is_held(settings):
        return None
    return last_state(settings)


def last_state(settings: Settings) -> dict[str, Any] | None:
    """What the last watch wrote, also if it has ended or was killed."""
    try:
        content: dict[str, Any] = json.loads(_path(settings).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


@contextmanager
def only_watch(settings: Settings) -> Iterator[None]:
    """Makes sure that no other watch is at work on this data.

    Raises:
        LockHeld: There is one.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with _lock_path(settings).open("a", encoding="utf-8") as handle:
        if not _taken(handle):
            state = last_state(settings) or {}
            raise LockHeld(
                f"`wellspring watch` is at work already (process {state.get('pid', 'unknown')}, "
                f"since {state.get('started_at', 'just now')})",
                file=_lock_path(settings),
                hint="`wellspring status` shows what it is doing.",
            )
        yield


def _taken(handle: IO[str]) -> bool:
    # Whoever asks for the state holds the lock for an instant.
    for _ in range(5):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _is_held(settings: Settings) -> bool:
    path = _lock_path(settings)
    if not path.is_file():
        return False
    with path.open("r", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _path(settings: Settings) -> Path:
    return settings.state_dir / "watch.json"


def _lock_path(settings: Settings) -> Path:
    return settings.state_dir / "watch.lock"
