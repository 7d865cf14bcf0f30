"""Real brokers on free ports, killed and restarted at will, and a lander of thirty lines."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, StreamTable, TableDeclaration
from ingestion.lander.consumer import Consumer, Message


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Path of a program that came with a wheel, or is installed anyway."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found


def await_port(port: int, seconds: float = 20.0) -> None:
    """Returns once somebody listens there."""
    end = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            assert time.monotonic() < end, f"nobody listens on {port}"
            time.sleep(0.02)


@dataclass
class Server:
    """A server process; `start`, `kill` and `start` again keep its data."""

    command: Sequence[str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await_port(self.port)

    def kill(self) -> None:
        """As a power cut would end it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def nats_mqtt(folder: Path, *, tls: str = "", user: str = "", window: int = 1024) -> Server:
    """nats-server with its MQTT port, which speaks MQTT 3.1.1 and keeps sessions in JetStream."""
    port, client_port = free_port(), free_port()
    login = f'authorization {{ user: "{user}", password: "s3cret" }}' if user else ""
    config = folder / "nats.conf"
    config.write_text(
        f"""
        server_name: test
        host: "127.0.0.1"
        port: {client_port}
        jetstream {{ store_dir: "{folder / "store"}" }}
        {login}
        mqtt {{
          host: "127.0.0.1"
          port: {port}
          max_ack_pending: {window}
          # It delivers again after this time, not when a client comes back as others do.
          ack_wait: "2s"
          {tls}
        }}
        """
    )
    return Server([program("nats-server"), "-c", str(config)], port)


def stream_of(
    url: str, origin: str, options: dict[str, Any] | None = None, **stream: Any
) -> tuple[SourceDeclaration, TableDeclaration, Connection]:
    """What a consumer is made of: source `plant`, table `readings`."""
    declared: dict[str, Any] = {"stream": {"from": origin, **stream}}
    ingest = StreamTable.model_validate(declared)
    table = TableDeclaration("readings", "source.x.plant.readings", ingest)
    source = SourceDeclaration("plant", "raw_plant", "stream", "plant", "plant.yml", (table,))
    return source, table, Connection("plant", url, options or {})


@dataclass
class SmallLander:
    """What a lander does with a consumer, in memory: poll, make durable, confirm."""

    consumer: Consumer
    landed: list[Message] = field(default_factory=list)
    checkpoint: dict[str, int] = field(default_factory=dict)

    def open(self) -> SmallLander:
        self.consumer.open(dict(self.checkpoint))
        return self

    def poll(self, seconds: float = 0.0, limit: int = 10_000) -> list[Message]:
        """What arrives at once, made durable but not confirmed."""
        found = list(self.consumer.poll(limit, seconds))
        for message in found:
            assert message.sequence > self.checkpoint.get(message.shard, -10)
            self.checkpoint[message.shard] = message.sequence
        self.landed.extend(found)
        return found

    def until(self, is_enough: Callable[[SmallLander], bool], seconds: float = 20.0) -> SmallLander:
        """Lands and confirms until there is enough."""
        end = time.monotonic() + seconds
        while not is_enough(self):
            assert time.monotonic() < end, f"only {len(self.landed)} messages came"
            self.poll(0.2)
            self.consumer.landed(dict(self.checkpoint))
        return self

    def count(self, number: int, seconds: float = 20.0) -> SmallLander:
        """Lands until so many messages came."""
        return self.until(lambda lander: len(lander.landed) >= number, seconds)

    @property
    def texts(self) -> list[str]:
        return [message.data.decode() for message in self.landed]
