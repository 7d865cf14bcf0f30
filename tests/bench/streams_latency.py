"""How far readers are behind a stream: from an event to its raw row and to the published mart.

    uv run python tests/bench/streams_latency.py [--rate 1000] [--seconds 60] [--flush 0.1]

sender (a process, `--rate` events a second, each with the time of its sending) -> JetStream ->
`wellspring land` -> landing -> `wellspring watch` -> raw -> staging of events -> windows of
15 minutes -> days -> tests -> published/live/current

An event is in raw when the transaction of its load commits: the ledger's time of its file, which is
written some milliseconds before. It is published when a reader who looks every 10 ms finds a live
version whose marks name its load. `raw` is measured twice: where only loading goes on (a load every
0.1 s on one process) and within the cycles of the watch, which build and publish as well. The
figures hold for the machine and what else it does: the load average stands beside them.

Left out: the clocks of senders elsewhere; everything runs on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "kit")]
sys.path += [str(ROOT / "tests" / "python" / name) for name in ("ingestion", "runner")]

from livepark import FILES, LivePark, make_livepark  # noqa: E402  # by the lines above
from nats_kit import NatsServer  # noqa: E402  # the same


def send(port: int, rate: int, seconds: float) -> None:
    """Sends events for so long, in steps of 10 ms, as an ordinary client does."""
    began = time.time()
    sent = 0
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.recv(4096)
        line.sendall(b'CONNECT {"verbose":false}\r\n')
        line.settimeout(0.001)
        while (moment := time.time()) - began < seconds:
            part = []
            for number in range(sent, int((moment - began) * rate)):
                at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment - number % 600))
                told = {"passage_id": str(number), "bay": f"b{number % 50}", "passed_at": at}
                told |= {"fee": str(number % 9), "sent_at": repr(time.time())}
                data = json.dumps(told).encode()
                part.append(b"PUB passages.a %d\r\n%s\r\n" % (len(data), data))
                sent += 1
            line.sendall(b"".join(part))
            try:
                if b"PING" in line.recv(4096):
                    line.sendall(b"PONG\r\n")
            except TimeoutError:
                pass
            time.sleep(max(0.0, 0.01 - (time.time() - moment)))
    print(sent)


def load_over_and_over(root: Path) -> None:
    """Loads what has landed, ten times a second, until told to end."""
    from ingestion.declarations import load_declarations
    from ingestion.load import load
    from runner.transform import Dbt, Selection

    park = LivePark(root)
    os.environ.update(park.environment)
    manifest, wanted = Dbt(park.settings).sources(Selection())
    declared = load_declarations(manifest, wanted)
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    while going:
        load(declared, park.settings)
        (park.root / "loads").touch()
        time.sleep(0.1)


def prepared(folder: Path, url: str, flush: float) -> LivePark:
    """The car park with a broker."""
    park = make_livepark(folder)
    path = "models/staging/barriers/_barriers__sources.yml"
    text = FILES[path].replace(
        "{from: PASSAGES}", f"{{from: PASSAGES, flush: {{seconds: {flush}}}}}"
    )
    text = text.replace(
        "- {name: fee, data_type: string}",
        "- {name: fee, data_type: string}\n                  - {name: sent_at, data_type: string}",
    )
    park.write(path, text)
    park.url = url
    return park


def percentiles(found: Sequence[float]) -> str:
    """Median, p95 and the greatest, in seconds."""
    if not found:
        return "nothing was measured"
    listed = sorted(found)
    shown = [listed[int(share * (len(listed) - 1))] for share in (0.5, 0.95, 1.0)]
    return "p50 {:.2f} s, p95 {:.2f} s, max {:.2f} s".format(*shown)


def seen_versions(park: LivePark, until: float) -> list[tuple[float, str]]:
    """When a reader first saw a version, and the newest load in all of its models."""
    found: list[tuple[float, str]] = []
    place = park.root / "data/published/live/current/manifest.json"
    last = None
    while time.time() < until:
        try:
            told = json.loads(place.read_text(encoding="utf-8"))
        except OSError:
            told = None
        if told is not None and told["version"] != last:
            last = told["version"]
            found.append((time.time(), min(mark[0] or "" for mark in told["marks"].values())))
        time.sleep(0.01)
    return found


def raw_lags(park: LivePark, since: float) -> list[float]:
    """From the sending of each event to the commit of its load."""
    import duckdb

    with duckdb.connect(str(park.settings.warehouse_path), read_only=True) as connection:
        return [
            lag
            for (lag,) in connection.execute(
                "select epoch(files.loaded_at) - sent_at::double from raw_barriers.passages as p "
                "inner join ledger.files as files on p._file = files.file "
                "where sent_at::double > ?",
                [since],
            ).fetchall()
        ]


def published_lags(
    park: LivePark, seen: Sequence[tuple[float, str]], since: float
) -> tuple[list[float], int]:
    """From the sending of each event to the first version that has it; and those not seen."""
    import duckdb

    with duckdb.connect(str(park.settings.warehouse_path), read_only=True) as connection:
        rows = connection.execute(
            "select sent_at::double, _load_id from raw_barriers.passages where sent_at::double > ? "
            "order by _load_id",
            [since],
        ).fetchall()
    lags, missing, place = [], 0, 0
    for sent_at, load_id in rows:
        while place < len(seen) and seen[place][1] < load_id:
            place += 1
        if place == len(seen):
            missing += 1
        else:
            lags.append(seen[place][0] - sent_at)
    return lags, missing


def end(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    return said or ""


def measure_loading(park: LivePark, server: NatsServer, rate: int, seconds: float) -> None:
    """Land and load only."""
    land = park.start("land", "--quiet")
    loader = started("--load", str(park.root))
    started("--send", str(server.port), "--rate", "10", "--seconds", "1").wait()
    landing = park.settings.landing_dir / "barriers"
    wait_for(lambda: any(landing.rglob("*.parquet")) and (park.root / "loads").is_file())
    since = time.time()
    sender = started("--send", str(server.port), "--rate", str(rate), "--seconds", str(seconds))
    sender.wait()
    time.sleep(5)
    end(loader)
    end(land)
    print(f"event to raw, loading alone:     {percentiles(raw_lags(park, since))}")


def wait_for(holds: Callable[[], bool]) -> None:
    """Waits until something has begun."""
    deadline = time.time() + 240
    while not holds():
        assert time.time() < deadline, "it did not begin"
        time.sleep(0.2)


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def measure_watch(park: LivePark, server: NatsServer, rate: int, seconds: float) -> None:
    """All of it."""
    watch = park.start("watch")
    place = park.root / "data/published/live/current/manifest.json"
    wait_for(place.is_file)
    # The fields of the first messages are new to raw, and the project is learnt once more.
    started("--send", str(server.port), "--rate", "10", "--seconds", "5").wait()
    time.sleep(20)
    since = time.time()
    sender = started("--send", str(server.port), "--rate", str(rate), "--seconds", str(seconds))
    seen = seen_versions(park, since + seconds + 10)
    told, _ = sender.communicate()
    state = json.loads((park.root / "data/state/watch.json").read_text(encoding="utf-8"))
    said = end(watch)
    lags, missing = published_lags(park, seen, since)
    print(f"event to raw, within the watch:  {percentiles(raw_lags(park, since))}")
    print(f"event to published mart:         {percentiles(lags)}")
    print(f"{told.strip()} events sent, {missing} not seen; {len(seen)} versions; last {state}")
    if missing:
        print(said)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--flush", type=float, default=0.1)
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send:
        send(given.send, given.rate, given.seconds)
        return
    if given.load:
        load_over_and_over(given.load)
        return
    with tempfile.TemporaryDirectory(prefix="latency") as folder:
        for name, measure in (("loading", measure_loading), ("watch", measure_watch)):
            with NatsServer(Path(folder) / f"nats_{name}") as server:
                server.make_stream("PASSAGES", ["passages.>"])
                park = prepared(Path(folder) / name, server.url, given.flush)
                measure(park, server, given.rate, given.seconds)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
