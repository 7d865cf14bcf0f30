"""Times landing and loading of a stream, beside a bare loop that only receives.

nats-server of its own -> bare loop, lander (one process), two landers (two processes) -> events/s
landed files -> loads with nothing new, with a few small files -> milliseconds
1,000 events/s, landed and loaded as they come -> time from event to raw

    .venv/bin/python tests/bench/streams_landing.py [--events 200000] [--files 10000] [--seconds 20]

The bare loop asks the same server for the same messages by the client's own callback, the quickest
of its ways, and does nothing with them. Every figure is of one machine at one time: ratios count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "python" / "ingestion")]

from nats_kit import NatsServer  # noqa: E402  # by the line above

from ingestion.connections import Connection  # noqa: E402  # the same
from ingestion.declarations import (  # noqa: E402  # the same
    SourceDeclaration,
    StreamTable,
    TableDeclaration,
)
from ingestion.lander.consumer import Message  # noqa: E402  # the same
from ingestion.lander.decoding import decode_json  # noqa: E402  # the same
from ingestion.lander.jetstream import JetStreamConsumer  # noqa: E402  # the same
from ingestion.lander.stream import StreamLander, as_table  # noqa: E402  # the same
from ingestion.lander.written import StreamFolder  # noqa: E402  # the same
from ingestion.load import load, loading  # noqa: E402  # the same
from ingestion.settings import LimitsSettings, Settings  # noqa: E402  # the same

ROUNDS = 3


def event(number: int) -> bytes:
    """About 200 bytes of a player's move."""
    return json.dumps(
        {
            "move": number,
            "at": time.time(),
            "player": f"player-{number % 5000}",
            "kind": "jump" if number % 3 else "run",
            "x": number * 0.25,
            "y": number % 1080,
            "session": f"{number % 977:08d}-{number % 991:08d}",
        }
    ).encode()


def declared(table: str, stream: str, seconds: float = 1.0) -> SourceDeclaration:
    keys = {"stream": {"from": stream, "flush": {"seconds": seconds}}}
    ingest = StreamTable.model_validate(keys)
    tables = (TableDeclaration(table, f"source.bench.arcade.{table}", ingest),)
    return SourceDeclaration("arcade", "raw_arcade", "stream", "arcade", "a.yml", tables)


def settings_of(folder: Path) -> Settings:
    return Settings(folder, folder / "data", limits=LimitsSettings(min_free="0"))


def lander(folder: Path, url: str, table: str, stream: str, seconds: float = 1.0) -> StreamLander:
    source = declared(table, stream, seconds)
    consumer = JetStreamConsumer(source, source.tables[0], Connection("arcade", url))
    endpoint = source.tables[0].stream
    return StreamLander(settings_of(folder), "arcade", table, endpoint, consumer, decode_json)


def bare(url: str, stream: str, events: int) -> float:
    """Events a second that the client's callback receives."""

    async def receive() -> float:
        import nats
        from nats.js.api import AckPolicy, ConsumerConfig

        client = await nats.connect(url)
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=60, mem_storage=True)
        consumer = await client.jetstream().add_consumer(stream, config)
        inbox, done = client.new_inbox(), asyncio.Event()
        got = asked = 0
        ask = json.dumps({"batch": 20_000, "expires": 5_000_000_000}).encode()

        async def take(message: Any) -> None:
            nonlocal got, asked
            got += 1
            if asked - got < 10_000:
                asked += 20_000
                await client.publish(subject, ask, reply=inbox)
            if got >= events:
                done.set()

        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer.name}"
        began = time.monotonic()
        await client.subscribe(inbox, cb=take)
        asked = 20_000
        await client.publish(subject, ask, reply=inbox)
        await done.wait()
        took = time.monotonic() - began
        await client.close()
        return events / took

    return asyncio.run(receive())


def landed_per_second(folder: Path, url: str, table: str, events: int) -> float:
    began = time.monotonic()
    done = lander(folder, url, table, "MOVES").catch_up()
    assert done.rows == events, done
    return events / (time.monotonic() - began)


def _land_in_process(folder: Path, url: str, table: str, ready: Any, go: Any, done: Any) -> None:
    one = lander(folder, url, table, "MOVES")
    import pyarrow.compute  # before the clock runs
    import pyarrow.parquet  # noqa: F401  # the same

    ready.release()
    go.wait()
    one.catch_up()
    done.release()


def two_processes(folder: Path, url: str, events: int) -> float:
    context = multiprocessing.get_context("spawn")
    ready, done, go = context.Semaphore(0), context.Semaphore(0), context.Event()
    children = [
        context.Process(target=_land_in_process, args=(folder, url, name, ready, go, done))
        for name in ("both_a", "both_b")
    ]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    began = time.monotonic()
    go.set()
    for _ in children:
        done.acquire()
    took = time.monotonic() - began
    for child in children:
        child.join()
    return 2 * events / took


def timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return (time.monotonic() - began) * 1000


def loads(folder: Path, files: int) -> dict[str, float]:
    """Milliseconds of loads in a warm process, with so many files landed before."""
    settings, source = settings_of(folder), declared("many", "MANY")
    place = StreamFolder(settings, "arcade", "many")
    state = {"last": 0, "after": ""}

    def put(count: int, size: int) -> None:
        for _ in range(count):
            first = state["last"] + 1
            messages = [Message(n, event(n), "moves.a") for n in range(first, first + size)]
            state["last"] = messages[-1].sequence
            content, _ = as_table(messages, decode_json, 20)
            ends = (first, messages[-1].sequence)
            written = place.write(content, ends, {"": ends[1]}, [], state["after"])
            state["after"] = written.load_id

    put(files, 10)
    found = {"first load of all": timed(lambda: load([source], settings))}
    nothing = [timed(lambda: load([source], settings)) for _ in range(10)]
    found["nothing new"] = statistics.median(nothing)
    small = []
    for _ in range(10):
        put(3, 200)
        small.append(timed(lambda: load([source], settings)))
    found["3 files of 200"] = statistics.median(small)
    found["the warehouse, opened and closed"] = statistics.median(
        timed(lambda: _open(settings)) for _ in range(5)
    )
    return found


def _open(settings: Settings) -> None:
    with loading(settings):
        pass


def event_to_raw(folder: Path, server: NatsServer, seconds: float, rate: int) -> list[float]:
    """Seconds from each event to its row in raw, landed and loaded side by side."""
    server.make_stream("LIVE", ["live.>"])
    settings, source = settings_of(folder), declared("live", "LIVE", 0.1)
    one = lander(folder, server.url, "live", "LIVE", 0.1)
    threads = [threading.Thread(target=one.run)]
    ended = threading.Event()

    def load_on() -> None:
        while not ended.is_set():
            load([source], settings)
            ended.wait(0.02)

    def send() -> None:
        number, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            due = int((time.monotonic() - began) * rate)
            server.send([("live.a", event(n)) for n in range(number, due)])
            number = due
            time.sleep(0.02)

    threads += [threading.Thread(target=load_on), threading.Thread(target=send)]
    for thread in threads:
        thread.start()
    threads[2].join()
    time.sleep(2)
    ended.set()
    one.stop()
    for thread in threads:
        thread.join()
    return _delays(settings)


def _delays(settings: Settings) -> list[float]:
    """From the event to the ledger's entry, which is written just before the commit."""
    with loading(settings) as connection:
        found = connection.execute(
            "select epoch(files.loaded_at) - live.at::double from raw_arcade.live as live "
            "inner join ledger.files as files on live._file = files.file"
        ).fetchall()
    return sorted(delay for (delay,) in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=1_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, NatsServer(Path(name) / "nats") as server:
        folder = Path(name)
        server.make_stream("MOVES", ["moves.>"])
        server.send((("moves.a", event(n)) for n in range(given.events)), "MOVES")
        size = len(event(given.events // 2))
        print(f"{given.events:,} events of {size} bytes, best of {ROUNDS} rounds by turns")
        receiving, landing = [], []
        for number in range(ROUNDS):
            receiving.append(bare(server.url, "MOVES", given.events))
            landing.append(landed_per_second(folder, server.url, f"one_{number}", given.events))
        both = two_processes(folder, server.url, given.events)
        ratios = [a / b for a, b in zip(landing, receiving, strict=True)]
        print(f"  bare loop            {max(receiving):>10,.0f} events/s")
        print(
            f"  landing, one process {max(landing):>10,.0f} events/s   "
            f"{statistics.median(ratios):.2f} of the bare loop (median of rounds)"
        )
        print(
            f"  two landers, two processes {both:>,.0f} events/s together   "
            f"{both / max(landing):.2f} of one"
        )
        print(f"loads in a warm process, {given.files:,} files landed before")
        for what, took in loads(folder / "loads", given.files).items():
            print(f"  {what:<34} {took:>8,.0f} ms")
        delays = event_to_raw(folder / "live", server, given.seconds, given.rate)
        at = [delays[int(len(delays) * share)] for share in (0.5, 0.95, 0.99)]
        print(
            f"event to raw at {given.rate:,} events/s, {len(delays):,} events: "
            f"p50 {at[0]:.2f} s, p95 {at[1]:.2f} s, p99 {at[2]:.2f} s"
        )


if __name__ == "__main__":
    main()
