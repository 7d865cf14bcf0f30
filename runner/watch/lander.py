"""The landers of what is watched, streams and folders, in a process of their own.

`wellspring land --select source:...` -> died? -> started again, after 1, 2, 4 ... seconds

Where somebody lands them already, that one is used: the process says so by its exit code,
and is asked again from time to time. It is no part of the watch, so that landing never waits for a
build. Left out: what landers do, which they tell themselves (`state/lander/`).
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ingestion.errors import LockHeld
from ingestion.settings import Settings

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 60.0
# Who has landed so long without a fault begins with the shortest pause again.
_SOUND_SECONDS = 60.0
_HELD_PAUSE = 5.0
_PATIENCE = 20.0


class LanderProcess:
    """The landing process of some sources, kept alive.

    Args:
        settings: The project's settings.
        sources: Names of the sources; none for no process at all.
    """

    def __init__(self, settings: Settings, sources: Sequence[str]) -> None:
        self._settings = settings
        self._sources = sources
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = 0.0
        self._pause = 1.0
        self._next = 0.0
        self.doing = "" if sources else "nothing to land"

    def keep(self) -> None:
        """Starts the process if it is due; called every now and then."""
        if not self._sources:
            return
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._ended(code)
        if time.monotonic() >= self._next:
            self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "runner", "land", "--quiet"]
        for source in self._sources:
            command += ["--select", f"source:{source}"]
        self._settings.logs_dir.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._settings.project_dir,
                env={**os.environ, **self._settings.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for the watch, which ends this process in its own time.
                start_new_session=True,
            )
        self._begun = time.monotonic()
        self.doing = f"process {self._process.pid}"

    def _ended(self, code: int) -> None:
        self._process = None
        if code == LockHeld.exit_code:
            self.doing = "another process lands them"
            self._next = time.monotonic() + _HELD_PAUSE
            return
        if time.monotonic() - self._begun >= _SOUND_SECONDS:
            self._pause = 1.0
        self.doing = (
            f"ended with code {code}, started again in {self._pause:.0f} s; see {self._log}"
        )
        log.warning("the lander %s", self.doing)
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    @property
    def _log(self) -> Path:
        return self._settings.logs_dir / "land.log"

    def end(self) -> None:
        """Asks the process to end, and ends it if it does not."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
