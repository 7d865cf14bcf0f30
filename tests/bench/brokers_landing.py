"""How fast MQTT and HTTP are landed, beside what their clients alone can do.

MQTT: events kept in two sessions -> a bare client that confirms at once | a lander
HTTP: senders in processes of their own -> a server that answers at once | a lander

    .venv/bin/python tests/bench/brokers_landing.py [--events 30000] [--batch 100] [--senders 4]

Prints events a second and their ratio, all of one run. Senders share the machine with what they
send to, so that figures of HTTP are those of both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "python" / "ingestion")]

from brokers_kit import await_port, free_port, nats_mqtt, stream_of  # noqa: E402  # by the line above

from ingestion.lander.decoding import prepare_decoding  # noqa: E402  # the same
from ingestion.lander.http import HttpConsumer  # noqa: E402  # the same
from ingestion.lander.mqtt import MqttConsumer  # noqa: E402  # the same
from ingestion.lander.stream import StreamLander  # noqa: E402  # the same
from ingestion.settings import LimitsSettings, Settings  # noqa: E402  # the same

TOKEN = "bench"


def event(number: int) -> bytes:
    told = {"meter": f"meter {number % 97}", "n": number, "kwh": 1.5, "note": "x" * 120}
    return json.dumps(told).encode()


def lander_of(folder: Path, consumer: Any, endpoint: Any, stop: threading.Event) -> StreamLander:
    settings = Settings(folder, folder / "data", limits=LimitsSettings(min_free="0"))
    decode = prepare_decoding(endpoint, folder)
    return StreamLander(settings, "plant", "readings", endpoint, consumer, decode, stop=stop)


def bare_mqtt_session(port: int) -> Any:
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="bare", clean_session=False)
    client.connect("127.0.0.1", port)
    client.subscribe("plant/#", 1)
    for _ in range(20):
        client.loop(0.05)
    return client


def mqtt_rates(folder: Path, events: int) -> tuple[float, float]:
    """Events a second of a bare client and of the lander."""
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    broker = nats_mqtt(folder)
    broker.start()
    try:
        parts = stream_of(f"mqtt://127.0.0.1:{broker.port}", "plant/#")
        consumer = MqttConsumer(*parts)
        consumer.open({})
        consumer.close()
        bare = bare_mqtt_session(broker.port)
        bare.disconnect()
        sender = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="sender")
        sender.max_inflight_messages_set(500)
        sender.connect("127.0.0.1", broker.port)
        sender.loop_start()
        for sent in [sender.publish("plant/7", event(n), qos=1) for n in range(events)]:
            sent.wait_for_publish(60)
        sender.disconnect()
        sender.loop_stop()
        return _bare_mqtt(bare, events), _landed_mqtt(folder, consumer, parts, events)
    finally:
        broker.kill()


def _bare_mqtt(client: Any, events: int) -> float:
    counted = 0

    def take(*_: Any) -> None:
        nonlocal counted
        counted += 1

    client.on_message = take
    client.reconnect()
    began = time.perf_counter()
    while counted < events:
        client.loop(0.5)
    rate = events / (time.perf_counter() - began)
    client.disconnect()
    return rate


def _landed_mqtt(folder: Path, consumer: Any, parts: Any, events: int) -> float:
    stop = threading.Event()
    lander = lander_of(folder, consumer, parts[1].stream, stop)
    thread = threading.Thread(target=lander.run)
    began = time.perf_counter()
    thread.start()
    while lander.progress.rows < events:
        time.sleep(0.01)
    rate = events / (time.perf_counter() - began)
    stop.set()
    thread.join()
    print(f"mqtt: {lander.progress.files} files of some {events // lander.progress.files} events")
    return rate


def send(url: str, batches: int, batch: int) -> None:
    """What one sender's process does."""
    import requests

    session = requests.Session()
    session.headers.update(
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson"}
    )
    for number in range(batches):
        body = b"\n".join(event(number * batch + n) for n in range(batch))
        while session.post(url, body, timeout=60).status_code == 503:
            time.sleep(0.2)


def sent_at(url: str, events: int, batch: int, senders: int) -> float:
    """Events a second that get through."""
    context = multiprocessing.get_context("spawn")
    share = max(events // batch // senders, 1)
    processes = [context.Process(target=send, args=(url, share, batch)) for _ in range(senders)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return share * batch * senders / (time.perf_counter() - began)


def bare_http(port: int) -> Any:
    """A server that answers when it has read the body."""
    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="off")
    )
    threading.Thread(target=server.run, daemon=True).start()
    await_port(port)
    return server


def http_rates(folder: Path, events: int, batch: int, senders: int) -> tuple[float, float]:
    """Events a second of a bare server and of the lander."""
    port = free_port()
    server = bare_http(port)
    bare = sent_at(f"http://127.0.0.1:{port}/readings", events, batch, senders)
    server.should_exit = True
    port, stop = free_port(), threading.Event()
    flush = {"seconds": 0.1}
    parts = stream_of(f"http://127.0.0.1:{port}", "/readings", {"token": TOKEN}, flush=flush)
    lander = lander_of(folder, HttpConsumer(*parts), parts[1].stream, stop)
    thread = threading.Thread(target=lander.run)
    thread.start()
    await_port(port)
    landed = sent_at(f"http://127.0.0.1:{port}/readings", events, batch, senders)
    stop.set()
    thread.join()
    return bare, landed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--batch", type=int, default=100, help="events in a POST")
    parser.add_argument("--senders", type=int, default=4, help="processes that POST")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / part for part in ("mqtt", "http")]
        for folder in folders:
            folder.mkdir()
        rates = {
            "mqtt": mqtt_rates(folders[0], given.events),
            "http": http_rates(folders[1], given.events, given.batch, given.senders),
        }
    for system, (bare, landed) in rates.items():
        print(f"{system}: bare {bare:,.0f}/s, landed {landed:,.0f}/s, ratio {landed / bare:.2f}")


if __name__ == "__main__":
    main()
