"""A stream under load, landed and loaded, while lander, loader and broker are killed at random.

sender: numbered events, each until the broker has taken it ─> broker ─> lander ─> loader
driver: kills one of them at random moments, and lander and loader at each of their failpoints
at the end: numbers sent = landed = loaded, each once; landing is as the ledger says

    .venv/bin/python tests/torture/streams.py [--system jetstream] [--kills 100] [--seed 7]
        [--rate 800] [--keep FOLDER]

A system is a `Scene`: what starts and kills its broker, and what sends to it. Ends non-zero if
anything differs, and keeps its folder then. Left out: power cuts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "python" / "ingestion")]

from brokers_kit import free_port, nats_mqtt  # noqa: E402  # by the line above
from failpoints_in_code import failpoints_in_code  # noqa: E402  # the same
from nats_kit import NatsServer  # noqa: E402  # the same

from ingestion.connections import Connection  # noqa: E402  # the same
from ingestion.declarations import (  # noqa: E402  # the same
    SourceDeclaration,
    StreamTable,
    TableDeclaration,
)
from ingestion.lander.opening import open_consumer  # noqa: E402  # the same
from ingestion.settings import LimitsSettings, Settings  # noqa: E402  # the same

# Which harness passes the failpoints of an area; `torture.py` has those of commands.
AREAS = {
    "land": "streams.py",
    "mqtt": "streams.py --system mqtt",
    "http": "streams.py --system http",
    "cdc": "change_capture.py",
    "watch": "watching.py",
}
# Of the loader, what a stream passes; `torture.py` tries the rest.
LOADER = ("ledger_made", "begun", "rows_inserted", "ledger_written", "before_commit", "committed")
_ONCE = "land.day_made"
_DIES_WITHIN = 30.0
_SETTLES_WITHIN = 120.0


class Scene(ABC):
    """A system under test.

    Attributes:
        url: Address of the connection.
        origin: What the declaration calls `from`.
        areas: Failpoints of these areas are passed by its lander.
        stream: Further keys of the declaration.
    """

    url = ""
    origin = ""
    areas: tuple[str, ...] = ("land",)
    stream: dict[str, Any] = {}

    @abstractmethod
    def start(self) -> None:
        """Starts the broker, on the same store and port every time."""

    @abstractmethod
    def kill(self) -> None:
        """Kills the broker with SIGKILL."""

    @abstractmethod
    def sender(self) -> Sender:
        """What sends, in a process of its own."""


class Sender(ABC):
    """Sends numbered events until the broker has taken each of them."""

    @abstractmethod
    def send(self, numbers: Sequence[int]) -> None:
        """Returns once the broker has taken all of them; raises if that is not known."""

    def close(self) -> None:
        """Ends the connection."""
        return


class JetStream(Scene):
    """NATS: an event that is sent again is known to the server by its number."""

    origin = "RIDES"

    def __init__(self, folder: Path) -> None:
        self._server = NatsServer(folder / "nats")
        self._is_made = False

    def start(self) -> None:
        self._server.start()
        self.url = self._server.url
        if not self._is_made:
            self._server.make_stream("RIDES", ["rides.>"], duplicate_window=600)
            self._is_made = True

    def kill(self) -> None:
        self._server.kill()

    def sender(self) -> Sender:
        return _NatsSender(self.url)


class _NatsSender(Sender):
    def __init__(self, url: str) -> None:
        import asyncio

        self._url = url
        self._loop = asyncio.new_event_loop()
        self._client: Any = None

    def send(self, numbers: Sequence[int]) -> None:
        self._loop.run_until_complete(self._send(numbers))

    async def _send(self, numbers: Sequence[int]) -> None:
        import asyncio

        import nats

        if self._client is None or not self._client.is_connected:
            self._client = await asyncio.wait_for(
                nats.connect(
                    self._url, allow_reconnect=False, connect_timeout=1, error_cb=_say_nothing
                ),
                3,
            )
        js = self._client.jetstream(timeout=3)
        await asyncio.gather(
            *(js.publish("rides.a", event(n), headers={"Nats-Msg-Id": str(n)}) for n in numbers)
        )


async def _say_nothing(error: Exception) -> None:
    """The broker is killed all the time."""


class Mqtt(Scene):
    """nats-server's MQTT port: its sessions keep what is not confirmed."""

    origin = "rides/#"
    areas = ("land", "mqtt")
    # Sent again after a broken connection, an event comes twice: its number tells.
    stream: dict[str, Any] = {"identity": ["ride"]}

    def __init__(self, folder: Path) -> None:
        (folder / "broker").mkdir(parents=True, exist_ok=True)
        self._server = nats_mqtt(folder / "broker")
        self.url = f"mqtt://127.0.0.1:{self._server.port}"
        self._has_session = False

    def start(self) -> None:
        self._server.start()
        if not self._has_session:
            # As a lander that was there before: what is sent before it comes is kept for it.
            consumer = open_consumer(*_parts_of(declaration_of(self), self.url))
            consumer.open({})
            consumer.close()
            self._has_session = True

    def kill(self) -> None:
        self._server.kill()

    def sender(self) -> Sender:
        return _MqttSender(self._server.port)


class _MqttSender(Sender):
    def __init__(self, port: int) -> None:
        self._port = port

    def send(self, numbers: Sequence[int]) -> None:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sender")
        client.connect("127.0.0.1", self._port)
        client.loop_start()
        try:
            for sent in [client.publish("rides/a", event(n), qos=1) for n in numbers]:
                sent.wait_for_publish(2)
                if not sent.is_published():
                    raise ConnectionError("the broker did not confirm")
        finally:
            client.disconnect()
            client.loop_stop()


class Http(Scene):
    """POSTs: who is killed is the server itself; there is no broker besides."""

    origin = "/rides"
    areas = ("land", "http")
    _token = "torture"

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"

    def start(self) -> None:
        os.environ["CONNECTIONS__TRAMS__TOKEN"] = self._token

    def kill(self) -> None:
        """Nothing stands between sender and lander."""

    def sender(self) -> Sender:
        return _HttpSender(f"{self.url}{self.origin}", self._token)


class _HttpSender(Sender):
    def __init__(self, url: str, token: str) -> None:
        import requests

        self._url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"
        self._session.headers["Content-Type"] = "application/x-ndjson"

    def send(self, numbers: Sequence[int]) -> None:
        body = b"\n".join(map(event, numbers))
        key = {"Idempotency-Key": f"batch {numbers[0]}"}
        self._session.post(self._url, body, headers=key, timeout=20).raise_for_status()


SCENES: dict[str, Callable[[Path], Scene]] = {"jetstream": JetStream, "mqtt": Mqtt, "http": Http}


def event(number: int) -> bytes:
    """An event, of which one in fifty is no JSON."""
    if number % 50 == 0:
        return f"{number} nonsense".encode()
    return json.dumps({"ride": number, "stop": f"stop {number % 7}", "fare": 2.1}).encode()


# -- children ----------------------------------------------------------------------------------


def _parts_of(
    declaration: SourceDeclaration, url: str
) -> tuple[SourceDeclaration, TableDeclaration, Connection]:
    return declaration, declaration.tables[0], Connection("trams", url)


def declaration_of(scene: Scene) -> SourceDeclaration:
    stream = {"from": scene.origin, "flush": {"seconds": 0.15}, **scene.stream}
    ingest = StreamTable.model_validate({"stream": stream})
    table = TableDeclaration("rides", "source.torture.trams.rides", ingest)
    return SourceDeclaration("trams", "raw_trams", "stream", "trams", "trams.yml", (table,))


def settings_of(folder: Path) -> Settings:
    return Settings(folder, folder / "data", limits=LimitsSettings(min_free="0"))


def be_lander(declaration: SourceDeclaration, settings: Settings) -> int:
    from ingestion.lander.landers import land, log_to_stderr, works_of

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    log_to_stderr()
    ended = land(works_of([declaration]), settings, stop)
    return 1 if any(one.error for one in ended) else 0


def be_loader(declaration: SourceDeclaration, settings: Settings) -> int:
    from ingestion.load import load

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set():
        load([declaration], settings)
        stop.wait(0.1)
    return 0


def be_sender(scene: Scene, truth: Path, rate: int) -> int:
    """Sends at about that rate, and notes what the broker has taken."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sender, number = scene.sender(), 0
    step = max(rate // 20, 1)
    while not stop.is_set():
        numbers = list(range(number + 1, number + 1 + step))
        while True:
            try:
                sender.send(numbers)
                break
            except Exception:
                # Whatever a client raises when its broker is killed: it is tried again.
                time.sleep(0.1)
        number = numbers[-1]
        truth.write_text(str(number))
        stop.wait(0.05)
    sender.close()
    return 0


@dataclass
class Child:
    """A process that the driver kills and starts.

    Attributes:
        name: What it does.
        work: The function that it is.
        log: Where its lines go.
    """

    name: str
    work: Callable[[], int]
    log: Path
    pid: int = 0

    def start(self, point: str = "") -> None:
        self.pid = os.fork()
        if self.pid:
            return
        code = 70
        try:
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.environ["WELLSPRING_FAILPOINT"] = point
            code = self.work()
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self, within: float = 0.0) -> int | None:
        """How it ended, if it has; a negative number is a signal."""
        deadline = time.monotonic() + within
        while self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.01)
        return 0

    def stop(self, how: int, within: float = 30.0) -> int | None:
        if self.pid:
            os.kill(self.pid, how)
        return self.ended(within)


# -- driver ------------------------------------------------------------------------------------


@dataclass
class Driver:
    """Kills, and compares in the end."""

    scene: Scene
    folder: Path
    dice: random.Random
    rate: int
    kills: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    unpassed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.folder)
        self.truth = self.folder / "sent"
        self.scene.start()
        os.environ["CONNECTIONS__TRAMS__URL"] = self.scene.url
        self.declaration = declaration_of(self.scene)
        log = self.folder / "children.log"
        self.sender = Child(
            "sender",
            lambda: be_sender(self.scene, self.truth, self.rate),
            self.folder / "sender.log",
        )
        self.lander = Child("lander", lambda: be_lander(self.declaration, self.settings), log)
        self.loader = Child("loader", lambda: be_loader(self.declaration, self.settings), log)

    def run(self, kills: int, every_point: bool) -> list[str]:
        """Kills so many times; returns what is wrong in the end."""
        for child in (self.sender, self.lander, self.loader):
            child.start()
        try:
            for point in self._points() if every_point else ():
                self.kill_at(point, 1)
            while sum(self.kills.values()) < kills:
                self.kill_somewhere()
            return self.settle()
        finally:
            for child in (self.sender, self.lander, self.loader):
                child.stop(signal.SIGKILL)
            self.scene.kill()

    def _points(self) -> list[str]:
        own = {f"load.{moment}" for moment in LOADER}
        return sorted(
            p for p in failpoints_in_code() if p.partition(".")[0] in self.scene.areas
        ) + sorted(own)

    def kill_somewhere(self) -> None:
        """One kill at random."""
        what = self.dice.choices(("lander", "loader", "broker", "point"), (4, 3, 2, 3))[0]
        time.sleep(self.dice.uniform(0.02, 0.6))
        if what == "broker":
            self.scene.kill()
            time.sleep(self.dice.uniform(0.0, 0.4))
            self.scene.start()
            self.kills["broker"] += 1
        elif what == "point":
            # A day is begun only once a day.
            points = [point for point in self._points() if point != _ONCE]
            self.kill_at(self.dice.choice(points), self.dice.randint(1, 3))
        else:
            child = self.lander if what == "lander" else self.loader
            self._must_live(child)
            child.stop(signal.SIGKILL)
            self.kills[what] += 1
            child.start()

    def kill_at(self, point: str, passing: int) -> None:
        """Lets the lander or the loader die at a failpoint."""
        child = self.loader if point.startswith("load.") else self.lander
        self._must_live(child)
        child.stop(signal.SIGKILL)
        self.kills[child.name] += 1
        if point == _ONCE and self.landed_files():
            # The folder of a day is made once a day: it has to be the first of a table.
            self._rename_day()
        child.start(f"{point}:{passing}")
        code = child.ended(_DIES_WITHIN)
        if code == -signal.SIGKILL:
            self.points[point] += 1
            self.kills[child.name] += 1
        else:
            if passing == 1:
                self.unpassed.append(f"{point} (it ended with {code})")
            child.stop(signal.SIGKILL)
        child.start()

    def _rename_day(self) -> None:
        """Makes today's files those of the day before, as midnight would."""
        folder = self.settings.landing_dir / "trams" / "rides"
        today = time.strftime("%Y-%m-%d", time.gmtime())
        if (folder / today).is_dir() and not (folder / "2020-01-01").exists():
            # Loader and ledger know a file by its place: only while nothing is loaded may it move.
            self.loader.stop(signal.SIGKILL)
            shutil.rmtree(self.settings.warehouse_path.parent, ignore_errors=True)
            (folder / today).rename(folder / "2020-01-01")
            self.loader.start()

    def _must_live(self, child: Child) -> None:
        code = child.ended()
        if code is not None:
            raise AssertionError(f"the {child.name} ended with {code} by itself")

    def landed_files(self) -> list[Path]:
        return sorted((self.settings.landing_dir / "trams" / "rides").rglob("*.parquet"))

    def settle(self) -> list[str]:
        """Lets everything come to its end, and compares."""
        self.sender.stop(signal.SIGTERM)
        deadline = time.monotonic() + _SETTLES_WITHIN
        while time.monotonic() < deadline:
            self._must_live(self.lander)
            if self.in_child(self._count_landed) >= int(self.truth.read_text()):
                break
            time.sleep(0.3)
        faults = []
        if (code := self.lander.stop(signal.SIGTERM)) != 0:
            faults.append(f"the lander ended with {code}")
        if (code := self.loader.stop(signal.SIGTERM)) != 0:
            faults.append(f"the loader ended with {code}")
        found: list[str] = self.in_child(self._differences)
        return faults + found

    def in_child(self, work: Callable[[], Any]) -> Any:
        """What a function gives; in a child, for the driver forks and must have no threads."""
        place = self.folder / "answer.json"
        place.unlink(missing_ok=True)

        def answer() -> int:
            place.write_text(json.dumps(work()))
            return 0

        child = Child("asked", answer, self.folder / "asked.log")
        child.start()
        if child.ended(120) != 0:
            raise AssertionError((self.folder / "asked.log").read_text())
        return json.loads(place.read_text())

    def _count_landed(self) -> int:
        import pyarrow.parquet as pq

        return sum(pq.read_metadata(path).num_rows for path in self.landed_files())

    def _differences(self) -> list[str]:
        from ingestion.load import load
        from ingestion.verify import verify_landing
        from ingestion.warehouse import connect

        load([self.declaration], self.settings)
        sent = int(self.truth.read_text())
        faults = []
        with connect(self.settings) as connection:
            listed = ", ".join(f"'{path}'" for path in self.landed_files())
            landed = connection.execute(
                "select coalesce(payload->>'ride', split_part(original::varchar, ' ', 1))::bigint "
                f"from read_parquet([{listed}], hive_partitioning = false)"
            ).fetchall()
            loaded = connection.execute(
                "select ride::bigint from raw_trams.rides union all "
                "select split_part(raw_record, ' ', 1)::bigint from ledger.rejected_records"
            ).fetchall()
            for name, numbers in (("landed", landed), ("loaded", loaded)):
                faults += _compared(name, sent, Counter(number for (number,) in numbers))
            faults += map(
                str, verify_landing(connection, [self.declaration], self.settings, checksums=True)
            )
        left = [path.name for path in self.settings.landing_dir.rglob(".*.landing.tmp")]
        return faults + ([f"left behind: {left}"] if left else [])


def _compared(name: str, sent: int, found: Counter[int]) -> list[str]:
    lost = [number for number in range(1, sent + 1) if number not in found]
    doubled = [number for number, count in found.items() if count > 1]
    foreign = [number for number in found if not 1 <= number <= sent]
    faults = {"lost": lost, "doubled": doubled, "never sent": foreign}
    return [
        f"{len(numbers)} of {sent} {name} {what}: {sorted(numbers)[:10]}"
        for what, numbers in faults.items()
        if numbers
    ]


def warm() -> None:
    """Imports what children need, once for all of them."""
    import duckdb  # noqa: F401  # imported to be there
    import nats  # noqa: F401  # the same
    import orjson  # noqa: F401  # the same
    import pyarrow.compute  # the same
    import pyarrow.parquet  # noqa: F401  # the same

    import ingestion.extract
    import ingestion.lander.jetstream
    import ingestion.lander.landers
    import ingestion.load  # noqa: F401  # the same
    from ingestion.landing import configure

    configure(Settings(ROOT, ROOT / "data"))
    import dlt  # noqa: F401  # the same


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--system", choices=sorted(SCENES), default="jetstream")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=int, default=800, help="events a second")
    parser.add_argument("--short", action="store_true", help="without each failpoint in turn")
    parser.add_argument("--keep", type=Path, help="work here, and leave it")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="streams-"))
    folder.mkdir(parents=True, exist_ok=True)
    warm()
    began = time.monotonic()
    driver = Driver(SCENES[given.system](folder), folder, random.Random(given.seed), given.rate)
    faults = driver.run(given.kills, every_point=not given.short)
    faults += [f"never passed: {point}" for point in driver.unpassed]
    told = ", ".join(f"{name} {count}" for name, count in sorted(driver.kills.items()))
    at_points = f"{sum(driver.points.values())} of them at {len(driver.points)} failpoints"
    print(
        f"{given.system}: {sum(driver.kills.values())} kills ({told}; {at_points}), "
        f"{driver.truth.read_text()} events sent, "
        f"{len(driver.landed_files())} files, {time.monotonic() - began:.0f} s"
    )
    for fault in faults:
        print(f"  {fault}")
    print("sent = landed = loaded, each once" if not faults else f"kept: {folder}")
    if not faults and not given.keep:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
