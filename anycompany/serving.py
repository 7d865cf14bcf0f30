"""`anycompany serve`: the systems as running servers, until told to stop.

state ─> PostgreSQL (shared) + help desk's API and message broker (one process has them) ─> one line
of JSON ─> wait ─> stop

Any number of processes may serve one company: the first holds the API's port, the others tell the
same connections, and one of them takes the port over when the first stops. It leaves out a daemon:
servers live as long as somebody wants them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from anycompany import broker, gateway, postgres
from anycompany.desk_server import Desk, DeskServer
from anycompany.state import Home

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_WAIT_SECONDS = 30.0


class Api:
    """The help desk's API, held by this process or by another one of the same company."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._lock: IO[str] | None = None
        self._server: DeskServer | None = None
        self._note = home.folder / "api.json"

    def start(self) -> str:
        """Makes sure that the API runs somewhere; returns its URL.

        Raises:
            TimeoutError: Another process holds it and does not answer.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            if self.take():
                assert self._server is not None
                return self._server.url
            with contextlib.suppress(OSError, ValueError, KeyError):
                note = json.loads(self._note.read_text(encoding="utf-8"))
                os.kill(note["pid"], 0)
                return str(note["url"])
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(
            "Another `anycompany serve` holds the help desk's API but does not tell where. "
            "End it and try again."
        )

    def take(self) -> bool:
        """Starts the API here if no other process holds it; returns whether it runs here."""
        if self._server is not None:
            return True
        lock = (self._home.folder / "api.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        self._server = self._listen()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        partial = self._note.with_suffix(".part")
        partial.write_text(
            json.dumps({"pid": os.getpid(), "url": self._server.url}), encoding="utf-8"
        )
        partial.replace(self._note)
        return True

    def _listen(self) -> DeskServer:
        desk = Desk(self._home.state_file, self._home.folder / "helpdesk")
        port = 0
        with contextlib.suppress(OSError, ValueError, KeyError):
            # Whoever was told the former address should find the API there again.
            port = int(json.loads(self._note.read_text(encoding="utf-8"))["url"].rsplit(":", 1)[1])
        try:
            return DeskServer(desk, self._home.token(), port)
        except OSError:
            return DeskServer(desk, self._home.token())

    def stop(self) -> None:
        """Stops the API if it runs here."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def connections(
    home: Home, database: str, api: str, messages: broker.Addresses
) -> dict[str, dict[str, str]]:
    """Returns the connections by name, as the runner puts them in its environment."""
    folders = {
        name: {"url": str(home.folder / name)}
        for name in (
            "erp",
            "marketplace",
            "distributor",
            "pixelco",
            "reference",
            "web",
            "documents",
            "device_registry",
        )
    }
    return {
        "shop": {"url": database},
        **folders,
        "helpdesk": {"url": api, "token": home.token()},
        "game": {"url": messages.nats_url},
        "devices": {"url": messages.mqtt_url},
        "card_payments": {"url": messages.nats_url},
    }


def serve(home: Home, *, watch_input: bool = True) -> None:
    """Runs the servers of an existing state and prints the connections; returns when asked to stop.

    Args:
        home: The company; its state must exist.
        watch_input: Whether the end of standard input is a request to stop.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    api = Api(home)
    with (
        postgres.running(home.database) as database,
        broker.running(home.broker, home.token()) as messages,
    ):
        field = gateway.Gateway(home, messages)
        try:
            field.start()
            line = json.dumps({"connections": connections(home, database, api.start(), messages)})
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
            if watch_input:
                threading.Thread(target=_watch_input, args=(stop,), daemon=True).start()
            while not stop.wait(_POLL_SECONDS):
                api.take()
        finally:
            field.stop()
            api.stop()


def _watch_input(stop: threading.Event) -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(sys.stdin.fileno(), 65_536):
            pass
    stop.set()


def folder_size(folder: Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
