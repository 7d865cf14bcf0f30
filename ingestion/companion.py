"""Starts the process that a run needs beside it, and stops it with the run.

[companion] command -> one JSON line with connections on its stdout -> CONNECTIONS__* in our
environment -> the run -> its stdin closed -> it ends

The companion also ends when this process dies, because its stdin then reaches the end. Nothing is
started when every connection in question is configured already.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ingestion.connections import is_configured, remember_environment, variable
from ingestion.errors import SourceUnreachable
from ingestion.redaction import redact
from ingestion.settings import Settings

log = logging.getLogger(__name__)

READY_SECONDS = 120.0
STOP_SECONDS = 20.0


@contextmanager
def companion(
    settings: Settings, connections: Collection[str] | None = None
) -> Iterator[dict[str, str]]:
    """Keeps the companion alive within the block.

    Args:
        settings: The project's settings.
        connections: Names of the connections that will be used; None if not known. The companion is
            left out when all of them are configured.

    Yields:
        The environment variables that it set, which are taken back at the end.

    Raises:
        SourceUnreachable: It cannot be started, ended, or was not ready in time.
    """
    needless = connections is not None and all(is_configured(c, settings) for c in connections)
    if not settings.companion.command or needless:
        yield {}
        return
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    with (settings.logs_dir / "companion.log").open("ab") as log_file:
        process = _start(settings, log_file)
        try:
            announced = _await_ready(process, settings)
            before = _export(announced)
            try:
                yield announced
            finally:
                _restore(announced, before)
        finally:
            _stop(process)


def _start(settings: Settings, log_file: IO[bytes]) -> subprocess.Popen[str]:
    command = list(settings.companion.command)
    # The command may be a script of the environment that runs us, activated or not.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, **settings.environment(), "PATH": path}
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            cwd=settings.project_dir,
            env=environment,
            text=True,
            # Ctrl-C is for us: we close its stdin in good order.
            start_new_session=True,
        )
    except OSError as error:
        raise SourceUnreachable(
            f"the companion {command[0]!r} cannot be started: {error.strerror or error}",
            key="companion.command",
            hint="Mend [companion] command in wellspring.toml, or remove it.",
        ) from error


def _await_ready(process: subprocess.Popen[str], settings: Settings) -> dict[str, str]:
    lines: list[str] = []

    def read() -> None:
        assert process.stdout is not None
        lines.append(process.stdout.readline())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(READY_SECONDS)
    log_path = settings.logs_dir / "companion.log"
    if reader.is_alive():
        raise _not_ready(f"was not ready within {READY_SECONDS:.0f} s", settings, log_path)
    if not lines or not lines[0].strip():
        code = process.wait(STOP_SECONDS)
        raise _not_ready(f"ended with code {code} before it was ready", settings, log_path)
    try:
        announced = json.loads(lines[0])["connections"]
        found = {
            variable(name, key): str(value)
            for name, keys in announced.items()
            # What the user configured, in a file or in the environment, goes before.
            if not is_configured(name, settings)
            for key, value in keys.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _not_ready("did not announce its connections as JSON", settings, log_path) from error
    log.info("companion ready: %s", ", ".join(sorted(announced)))
    return found


def _not_ready(what: str, settings: Settings, log_path: Path) -> SourceUnreachable:
    tail = _tail(log_path)
    said = f"; its last words: {tail}" if tail else ""
    return SourceUnreachable(
        f"the companion {settings.companion.command[0]!r} {what}{said}",
        key="companion.command",
        hint=f"See {log_path}.",
    )


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return redact(lines[-1][:500]) if lines else ""


def _export(announced: dict[str, str]) -> dict[str, str | None]:
    """Sets the variables; what the user configured in the environment stays as it is."""
    for key in [key for key in announced if os.environ.get(key)]:
        del announced[key]
    before: dict[str, str | None] = {key: os.environ.get(key) for key in announced}
    os.environ.update(announced)
    remember_environment()
    return before


def _restore(announced: dict[str, str], before: dict[str, str | None]) -> None:
    for key in announced:
        old = before.get(key)
        if old is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = old


def _stop(process: subprocess.Popen[Any]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            log.debug("the companion closed its side first")
    for end in (process.terminate, process.kill):
        try:
            process.wait(STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            log.warning("the companion did not stop by itself")
            end()
    else:
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
