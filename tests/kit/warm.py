"""Processes of Python that begin with everything imported: for tests that need many of them.

test ─> `warm.run([...])`, `warm.Popen([...])` ─> socket ─> warm_server.py forks ─> the program

dlt and dbt cost seconds to import, a test's program often less. What follows `python` on a command
line (`-m runner ...`, `-c code`, `script.py`) is given to a server of this test process, which
imported them once and forks for each. The child has the environment, folder, streams and signals of
a fresh process, and it is killed and waited for like one. Left out: what has to be a real process,
namely one whose imports, memory or command line are looked at, or that needs `preexec_fn`.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SERVER = Path(__file__).with_name("warm_server.py")
_PATIENCE_S = 120
_server: tuple[int, subprocess.Popen[bytes], str] | None = None


class Popen(subprocess.Popen):  # type: ignore[type-arg]  # of text or bytes, as its base decides
    """`subprocess.Popen` of `python` with arguments; needs no import of what is imported already.

    Args:
        arguments: What follows `python`.
        options: Those of `subprocess.Popen`; of them `preexec_fn`, users and groups do not go here.
    """

    def __init__(self, arguments: Sequence[str | Path], **options: Any) -> None:
        self._line: socket.socket | None = None
        self._heard = b""
        super().__init__([sys.executable, *map(str, arguments)], **options)

    # What the base does once the pipes are there; the order of its arguments is the base's.
    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        close_fds, pass_fds, cwd, env = rest[:4]
        ends = rest[7:13]
        is_plain = preexec_fn is None and not pass_fds and close_fds
        assert is_plain, "this needs a real process"
        streams = [
            own if given == -1 else given for own, given in enumerate((ends[0], ends[3], ends[5]))
        ]
        asked = {
            "arguments": args[1:],
            "folder": str(cwd or Path.cwd()),
            "has_own_session": bool(rest[18]),
            "environment": dict(os.environ if env is None else env),
        }
        self._line = _connected()
        socket.send_fds(self._line, [json.dumps(asked).encode() + b"\n"], streams)
        self.pid = int(self._hear(None) or 0)
        self._child_created = True
        self._close_pipe_fds(*ends)

    def _hear(self, timeout: float | None) -> bytes | None:
        """The server's next line; None if none comes in time."""
        assert self._line is not None
        while b"\n" not in self._heard:
            if not select.select([self._line], [], [], timeout)[0]:
                return None
            heard = self._line.recv(4096)
            if not heard:
                raise RuntimeError("the server of warm processes ended")
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._line is not None:
            self._note(self._hear(0))
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            told = self._hear(timeout)
            if told is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._note(told)
        return self.returncode

    def _note(self, told: bytes | None) -> None:
        if told is not None and self._line is not None:
            self.returncode = int(told)
            self._line.close()
            self._line = None


def run(
    arguments: Sequence[str | Path],
    *,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` of `python` with arguments, without the imports' time."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(arguments, **options) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _connected() -> socket.socket:
    """A connection to this process's server, which is started if there is none."""
    global _server
    if _server is None or _server[0] != os.getpid():
        _server = (os.getpid(), *_start())
    line = socket.socket(socket.AF_UNIX)
    line.connect(_server[2])
    return line


def _start() -> tuple[subprocess.Popen[bytes], str]:
    folder = tempfile.mkdtemp(prefix="warm-")
    place = str(Path(folder) / "socket")
    # Its standard input is this process's hand: when that lets go, the server ends.
    process = subprocess.Popen(
        [sys.executable, _SERVER, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    atexit.register(_stop, os.getpid(), process, folder)
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], _PATIENCE_S)[0] or not process.stdout.readline():
        process.kill()
        raise RuntimeError("the server of warm processes did not start")
    return process, place


def _stop(owner: int, process: subprocess.Popen[bytes], folder: str) -> None:
    if os.getpid() != owner:
        return
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
