"""The server of `warm`: imports what is heavy, then forks a child for each program asked for.

connection: a line of JSON and three streams ─> fork ─> its pid, and its exit code when it ended

It has no thread, or its children could not be forked. A child leaves the loop and goes on as the
main program, and ends as one: threads joined, exit functions called, streams flushed. Left out:
taking down all that was imported, which costs seconds and a program's end does not show.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

_WARM = (
    # example: begin
    "anycompany.serving",
    "anycompany.world",
    # example: end
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "dlt.destinations.impl.filesystem.filesystem",
    "duckdb",
    "numpy",
    "pyarrow.parquet",
    "sqlalchemy",
    "ingestion.extract",
    "ingestion.load",
    "runner.cli",
    "runner.pipeline",
    "runner.summary",
)


def serve(place: str) -> dict[str, Any]:
    """Forks for each request; returns in the children, with what was asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(64)
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake)
    ready = selectors.DefaultSelector()
    for source in (listener, woken, 0):
        ready.register(source, selectors.EVENT_READ)
    children: dict[int, socket.socket] = {}
    os.write(1, b"ready\n")
    while True:
        for key, _ in ready.select():
            if key.fileobj is listener:
                line, _ = listener.accept()
                request, streams = _request(line)
                pid = os.fork()
                if pid == 0:
                    _become(request, streams)
                    for other in (ready, listener, line, *children.values()):
                        other.close()
                    return request
                for stream in streams:
                    os.close(stream)
                children[pid] = line
                _tell(line, pid)
            elif key.fileobj == woken:
                # Another signal's byte may have been read with the last one.
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                _reap(children)
            elif not os.read(0, 1):
                os._exit(0)


def _request(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    said, streams = b"", []
    while not said.endswith(b"\n"):
        part, found, _, _ = socket.recv_fds(line, 1 << 16, 3)
        said += part
        streams += found
    return json.loads(said), streams


def _tell(line: socket.socket, number: int) -> None:
    # Whoever asked may be gone.
    with contextlib.suppress(OSError):
        line.sendall(b"%d\n" % number)


def _reap(children: dict[int, socket.socket]) -> None:
    # There is no child left.
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            line = children.pop(ended[0], None)
            if line is not None:
                _tell(line, os.waitstatus_to_exitcode(ended[1]))
                line.close()


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Gives a child the surroundings of a fresh process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        if stream > 2:
            os.close(stream)
    at_once = bool(request["environment"].get("PYTHONUNBUFFERED"))
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, errors=errors, closefd=False)  # noqa: SIM115  # open streams
        for number, mode, errors in ((0, "r", None), (1, "w", None), (2, "w", "backslashreplace"))
    )
    sys.stdout.reconfigure(write_through=at_once)
    sys.stderr.reconfigure(line_buffering=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    if request["has_own_session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    import time

    time.tzset()


def program(arguments: list[str]) -> None:
    """Does what `python` does with these arguments."""
    import runpy

    extra = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, rest = arguments[0], arguments[1:]
    # A test's own modules may import `warm`.
    sys.path.append(str(Path(__file__).parent))
    if kind == "-m":
        sys.path[:1] = [str(Path.cwd()), *extra]
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.path[:1] = ["", *extra]
        sys.argv = ["-c", *rest[1:]]
        main = ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(rest[0], "<string>", "exec"), main.__dict__)
    else:
        sys.path[:1] = [str(Path(kind).resolve().parent), *extra]
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")


def end(outcome: BaseException | None) -> None:
    """Ends a child as Python ends a program, but for taking down what was imported."""
    code = 1 if outcome is not None else 0
    if isinstance(outcome, SystemExit):
        code = outcome.code if isinstance(outcome.code, int) else int(outcome.code is not None)
        if isinstance(outcome.code, str):
            sys.stderr.write(outcome.code + "\n")
    elif outcome is not None:
        traceback.print_exception(outcome)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does
    atexit._run_exitfuncs()
    # The reader may be gone, or the program may have closed it.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if isinstance(outcome, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    for _name in _WARM:
        importlib.import_module(_name)
    if threading.active_count() > 1:
        raise SystemExit("an import has started a thread: children must not be forked")
    gc.freeze()
    _asked = serve(sys.argv[1])
    try:
        program(_asked["arguments"])
    except BaseException as error:
        end(error)
    end(None)
