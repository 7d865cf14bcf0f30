"""One writer at a time.

`RunLock` -> flock on `state/run.lock` -> owner as JSON in that file -> freed by the kernel

The kernel frees the lock when its holder ends, however it ends, so there is no stale lock to break;
a name that still stands in a free file is of a holder that was killed. Network file systems may
keep flock to one machine: there the holder renews the file's time, and a name of another machine
with a recent time counts as held. Who waits says so by a shared flock on `state/run.waiting`: a
holder that takes the lock over and over, for an instant each, gives way to them. Left out: an order
among those who wait.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO

from ingestion.errors import LockHeld
from ingestion.settings import Settings
from ingestion.units import seconds_of, tell_seconds

log = logging.getLogger(__name__)

# A reader that asks who holds the lock takes a shared one for an instant: a run must outlast that.
_GRACE_SECONDS = 0.4
_PAUSE_SECONDS = 0.1
_TELL_SECONDS = 30.0
_BEAT_SECONDS = 20.0
# Several beats, because clocks of machines and of a file server differ.
_BEAT_HOLDS_SECONDS = 180.0
# Whoever gives way ends what it is doing first; a run waits so long for it without being asked.
_GIVEN_WAY_SECONDS = 600.0
_SHARED = ("nfs", "cifs", "smb", "fuse.", "9p", "afs", "ceph", "gluster", "lustre", "virtiofs")


@dataclass(frozen=True)
class Owner:
    """Who holds the lock.

    Attributes:
        pid: Process id of the holder.
        host: Its machine.
        user: Its user's name.
        command: Its command line.
        since: When it took the lock (ISO 8601, UTC).
        run_id: The run that it does; empty where it does none.
        gives_way: Whether it lets go within seconds for whoever waits.
    """

    pid: int
    host: str
    user: str
    command: str
    since: str
    run_id: str
    gives_way: bool = False

    @property
    def age(self) -> float:
        """Seconds since it took the lock; 0 if that is in the future or no time."""
        try:
            began = datetime.fromisoformat(self.since)
        except ValueError:
            return 0.0
        return max(0.0, (datetime.now(UTC) - began).total_seconds())

    def __str__(self) -> str:
        run = f", run {self.run_id}" if self.run_id else ""
        return (
            f"`{self.command}` (process {self.pid} of {self.user} on {self.host}, "
            f"since {self.since}, for {tell_seconds(self.age)}{run})"
        )


OnWait = Callable[[Owner | None, float], None]


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
        run_id: The run that takes it, or what names it once the lock is held.
        command: The command line to show to whoever is refused.
        wait: How many seconds to wait for another holder.
        on_wait: Told who holds it and how many seconds are left, at first and every 30 seconds.
        gives_way: Whether everybody else who waits comes first.

    Attributes:
        run_id: The run that holds it; empty before.
        left_behind: The holder before, if it ended without letting go: it was killed.

    Raises:
        LockHeld: Another process holds it (on entering the block).
    """

    def __init__(
        self,
        path: Path,
        run_id: str | Callable[[], str],
        command: str,
        wait: float = 0.0,
        on_wait: OnWait | None = None,
        gives_way: bool = False,
    ) -> None:
        self.run_id = ""
        self.left_behind: Owner | None = None
        self._path = path
        self._name = run_id
        self._command = command
        self._wait = wait
        self._on_wait = on_wait
        self._gives_way = gives_way
        self._file: IO[str] | None = None
        self._ended = threading.Event()

    def __enter__(self) -> RunLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = self._path.open("a+", encoding="utf-8")
        try:
            self._acquire(handle)
        except BaseException:
            handle.close()
            raise
        self.left_behind = _read_owner(handle)
        self.run_id = self._name if isinstance(self._name, str) else self._name()
        handle.truncate(0)
        handle.write(json.dumps(asdict(self._owner())))
        handle.flush()
        self._file = handle
        if _is_shared(self._path):
            threading.Thread(target=self._beat, name="lock", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def _acquire(self, handle: IO[str]) -> None:
        began = time.monotonic()
        told = -_TELL_SECONDS
        is_announced = False
        with ExitStack() as announced:
            while True:
                is_ours, owner = self._try(handle)
                if is_ours:
                    return
                if not self._gives_way and not is_announced:
                    announced.enter_context(_announced(self._path))
                    is_announced = True
                waited = time.monotonic() - began
                least = _GIVEN_WAY_SECONDS if owner and owner.gives_way else _GRACE_SECONDS
                longest = max(self._wait, least)
                if waited >= longest:
                    raise self._refused(owner, waited)
                if waited >= _GRACE_SECONDS and self._on_wait and waited - told >= _TELL_SECONDS:
                    self._on_wait(owner, longest - waited)
                    told = waited
                time.sleep(_PAUSE_SECONDS)

    def _try(self, handle: IO[str]) -> tuple[bool, Owner | None]:
        if self._gives_way and others_wait(self._path):
            return False, None
        return _try_for(handle, self._path)

    def _refused(self, owner: Owner | None, waited: float) -> LockHeld:
        after = f" after {tell_seconds(waited)} of waiting" if self._wait else ""
        hint = (
            "Wait until it has ended (`wellspring status` shows it), then run again; `--wait 10m` "
            "or [run] wait_for_lock waits for it."
        )
        if owner and owner.host != socket.gethostname():
            hint += (
                f" It is on another machine: if it was killed there, its name counts for "
                f"{tell_seconds(_BEAT_HOLDS_SECONDS)} more at most."
            )
        return LockHeld(
            f"another run is under way{after}: {owner or 'its owner is not known yet'}",
            hint=hint,
            file=self._path,
        )

    def _owner(self) -> Owner:
        return Owner(
            pid=os.getpid(),
            host=socket.gethostname(),
            user=user_name(),
            command=self._command,
            since=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            run_id=self.run_id,
            gives_way=self._gives_way,
        )

    def _beat(self) -> None:
        """Renews the file's time, which is all that another machine may see of us."""
        while not self._ended.wait(_BEAT_SECONDS):
            try:
                os.utime(self._path)
            except OSError:
                # The file server is away for a while; the next beat tells that we are not.
                continue


def writer_lock(
    settings: Settings, run_id: str | Callable[[], str], command: str, on_wait: OnWait | None = None
) -> RunLock:
    """The lock of a project's data, waited for as `[run] wait_for_lock` says.

    Args:
        settings: The project's settings.
        run_id: The run that takes it, or what names it once the lock is held.
        command: The command line to show to whoever is refused.
        on_wait: Told who holds it and how many seconds are left; by default the log is.
    """
    wait = seconds_of(settings.run.wait_for_lock)
    return RunLock(lock_path(settings), run_id, command, wait, on_wait or _log_wait)


def lock_path(settings: Settings) -> Path:
    """Where the lock of a project's data lies."""
    return settings.state_dir / "run.lock"


def others_wait(path: Path) -> bool:
    """Whether anybody waits for the lock of this path. Never blocks and changes nothing."""
    waiting = _waiting_path(path)
    if not waiting.is_file():
        return False
    with waiting.open("r", encoding="utf-8") as handle:
        return not _flock(handle, fcntl.LOCK_EX)


def _waiting_path(path: Path) -> Path:
    return path.with_suffix(".waiting")


@contextmanager
def _announced(path: Path) -> Iterator[None]:
    """Says within the block that somebody waits; the kernel takes it back if they are killed."""
    with _waiting_path(path).open("a", encoding="utf-8") as handle:
        # Blocks for the instant in which `others_wait` looks.
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def tell_wait(owner: Owner | None, left: float) -> str:
    """What to say to whoever waits."""
    who = owner or "a process that has not given its name yet"
    return f"waiting for {who}; {tell_seconds(left)} more at most"


def _log_wait(owner: Owner | None, left: float) -> None:
    log.warning("%s", tell_wait(owner, left))


def current_owner(path: Path) -> Owner | None:
    """Who holds the lock now, or None if it is free. Never blocks and changes nothing."""
    if not path.is_file():
        return None
    with path.open("r", encoding="utf-8") as handle:
        for _ in range(5):
            if _flock(handle, fcntl.LOCK_SH):
                return _elsewhere(handle, path)
            # Whoever took it just now has not written their name yet.
            owner = _read_owner(handle)
            if owner is not None:
                return owner
            time.sleep(_PAUSE_SECONDS)
    return None


def killed_owner(path: Path) -> Owner | None:
    """Who held the lock last and ended without letting go; None if the lock is held or at rest."""
    if not path.is_file() or current_owner(path) is not None:
        return None
    with path.open("r", encoding="utf-8") as handle:
        return _read_owner(handle)


def _try_for(handle: IO[str], path: Path) -> tuple[bool, Owner | None]:
    """Whether the lock is ours now, and else who holds it as far as the file says."""
    if not _flock(handle, fcntl.LOCK_EX):
        return False, _read_owner(handle)
    other = _elsewhere(handle, path)
    if other is None:
        return True, None
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False, other


def _flock(handle: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _elsewhere(handle: IO[str], path: Path) -> Owner | None:
    """The holder on another machine whose flock does not reach us; None if there is none."""
    owner = _read_owner(handle)
    if owner is None or owner.host == socket.gethostname() or not _is_shared(path):
        return None
    age = time.time() - os.fstat(handle.fileno()).st_mtime
    return owner if age < _BEAT_HOLDS_SECONDS else None


def _is_shared(path: Path) -> bool:
    """Whether a path lies on a file system that other machines may write to as well."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    place, found = path.resolve(), ("", "")
    for line in mounts.splitlines():
        folder, kind = line.split(" ")[1:3]
        if place.is_relative_to(folder.replace("\\040", " ")) and len(folder) >= len(found[0]):
            found = (folder, kind)
    return found[1].startswith(_SHARED)


def _read_owner(handle: IO[str]) -> Owner | None:
    handle.seek(0)
    try:
        return Owner(**json.loads(handle.read()))
    except (ValueError, TypeError):
        return None
