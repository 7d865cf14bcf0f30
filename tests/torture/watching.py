"""Kills `wellspring watch` over and over, and compares what readers get with what was sent.

    uv run python tests/torture/watching.py [--kills 30] [--seed 7] [--rate 300]

sender -> JetStream -> lander (a process of the watch) -> watch -> published/live/current
driver: SIGKILL to watch, lander or broker at random moments, to the watch at each of its
failpoints; a batch now and then, which has to get in -> in the end all numbers are compared

What is sent, staged and in the live mart is the same, each event once; and a full rebuild gives
the same tables. Left out: the lander by itself, which `streams.py` kills, and commands of a batch,
which `torture.py` does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests/python/runner"), str(ROOT / "tests/kit")]

import streams  # noqa: E402  # beside this file; it finds its own kits
from failpoints_in_code import failpoints_in_code  # noqa: E402  # the same
from livepark import FILES, START, LivePark, make_livepark  # noqa: E402  # by the line above

_DIES_WITHIN = 90.0
_SETTLES_WITHIN = 240.0


def passage(number: int) -> bytes:
    """A passage, of which one in fifty is no JSON and some are late by hours."""
    if number % 50 == 0:
        return f"{number} nonsense".encode()
    minutes = number // 50 % 1440 if number % 7 else number % 300
    at = START + timedelta(minutes=minutes)
    told = {"passage_id": str(number), "bay": f"b{number % 5}", "fee": number % 9}
    return json.dumps({**told, "passed_at": at.isoformat()}).encode()


def be_watch(park: LivePark) -> int:
    """The command, without its own start."""
    from runner.report import PlainReporter
    from runner.watch.service import WatchService

    os.environ.update(park.environment)
    os.chdir(park.root)
    return WatchService(park.settings, PlainReporter(), "wellspring watch").run()


class Driver:
    """Kills, and compares in the end."""

    def __init__(self, folder: Path, dice: random.Random, rate: int) -> None:
        self.dice = dice
        self.kills: Counter[str] = Counter()
        self.unpassed: list[str] = []
        streams.event = passage
        self.scene = streams.JetStream(folder)
        self.scene.start()
        self.park = make_livepark(folder / "park")
        path = "models/staging/barriers/_barriers__sources.yml"
        flushed = "{from: RIDES, flush: {seconds: 0.2}}"
        self.park.write(path, FILES[path].replace("{from: PASSAGES}", flushed))
        self.park.url = self.scene.url
        self.truth = folder / "sent"
        self.log = folder / "children.log"
        self.sender = streams.Child(
            "sender", lambda: streams.be_sender(self.scene, self.truth, rate), self.log
        )
        self.watch = streams.Child("watch", lambda: be_watch(self.park), self.log)

    def run(self, kills: int, points: Sequence[str]) -> list[str]:
        """Kills at each of these points, then so many times in all; returns what is wrong."""
        self.sender.start()
        self.watch.start()
        try:
            for point in points:
                self.kill_at(point, 1)
            while sum(self.kills.values()) < kills:
                self.kill_somewhere()
            return self.settle()
        finally:
            self.watch.stop(signal.SIGTERM)
            for child in (self.sender, self.watch):
                child.stop(signal.SIGKILL)
            self.kill_lander()
            self.scene.kill()

    def kill_at(self, point: str, passing: int) -> None:
        """Lets the watch die at a failpoint."""
        self.watch.stop(signal.SIGKILL)
        self.watch.start(f"{point}:{passing}")
        code = self.watch.ended(_DIES_WITHIN)
        if code == -signal.SIGKILL:
            self.kills[point] += 1
        else:
            self.unpassed.append(f"{point} (it ended with {code})")
        self.watch.stop(signal.SIGKILL)
        self.watch.start()

    def kill_somewhere(self) -> None:
        """One kill at random, or a batch beside the watch."""
        what = self.dice.choices(("watch", "lander", "broker", "batch"), (5, 2, 1, 1))[0]
        time.sleep(self.dice.uniform(0.1, 12.0))
        if (code := self.watch.ended()) is not None:
            raise AssertionError(f"the watch ended with {code} by itself: {self.log.read_text()}")
        if what == "batch":
            code, said = self.park.call("load", "build", "audit", "publish", "--quiet")
            if code:
                raise AssertionError(f"the batch ended with {code}: {said}")
            return
        if what == "broker":
            self.scene.kill()
            self.scene.start()
        elif what == "lander":
            self.kill_lander()
        else:
            self.watch.stop(signal.SIGKILL)
            self.watch.start()
        self.kills[what] += 1

    def kill_lander(self) -> None:
        """Kills whichever process lands the stream: its lock tells which."""
        lock = self.park.settings.state_dir / "lander" / "barriers.passages.lock"
        if not lock.is_file():
            return
        inode = f":{lock.stat().st_ino} "
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
            if inode in line and "->" not in line:
                os.kill(int(line.split()[4]), signal.SIGKILL)

    def settle(self) -> list[str]:
        """Lets everything come to its end, and compares."""
        self.sender.stop(signal.SIGTERM)
        sent = int(self.truth.read_text())
        good = sum(1 for number in range(1, sent + 1) if number % 50)
        deadline = time.monotonic() + _SETTLES_WITHIN
        shown = 0
        while shown != good and time.monotonic() < deadline:
            time.sleep(0.5)
            shown = self._shown()
        faults = [] if shown == good else [f"{shown} events in the live mart of {good} sent"]
        if (code := self.watch.stop(signal.SIGTERM, 60)) != 0:
            faults.append(f"the watch ended with {code}")
        grown = self._state()
        code, said = self.park.call(
            "build", "--full-refresh", "--select", "+tag:live", "--quiet", "--wait", "30s"
        )
        if code:
            faults.append(f"the rebuild ended with {code}: {said}")
        rebuilt = self._state()
        faults += [
            f"{table} is not what a rebuild gives"
            for table in grown
            if grown[table] != rebuilt[table]
        ]
        staged = Counter(grown["ids"])
        wanted = {str(number) for number in range(1, sent + 1) if number % 50}
        lost, doubled = wanted - set(staged), [key for key, count in staged.items() if count > 1]
        faults += [f"lost: {sorted(lost)[:10]}"] if lost else []
        faults += [f"doubled: {doubled[:10]}"] if doubled else []
        return faults + [f"never passed: {point}" for point in self.unpassed]

    def _shown(self) -> int:
        place = str(self.park.current / "wellspring.duckdb")
        sql = "select coalesce(sum(passage_count), 0)::bigint from parking.fct_days"
        try:
            return int(str(self._ask(place, sql)[0][0]))
        except AssertionError:
            return 0  # it is being replaced, or not there yet

    def _state(self) -> dict[str, list[str]]:
        place = str(self.park.settings.warehouse_path)
        names = ("staging.stg_barriers__passages", "parking.fct_quarters", "parking.fct_days")
        found = {name: sorted(map(str, self._ask(place, f"from {name}"))) for name in names}
        ids = self._ask(place, "select passage_id from staging.stg_barriers__passages")
        return {**found, "ids": sorted(str(key) for (key,) in ids)}

    def _ask(self, place: str, sql: str) -> list[tuple[object, ...]]:
        """Asks in a process of its own, for the driver forks and must have no threads."""
        program = (
            "import duckdb, json, sys\n"
            "with duckdb.connect(sys.argv[1], read_only=True) as c:\n"
            "    c.execute('set enable_progress_bar = false')\n"
            "    print(json.dumps(c.execute(sys.argv[2]).fetchall(), default=str))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, place, sql], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [tuple(row) for row in json.loads(done.stdout)]


def main() -> int:
    """Kills as often as asked for, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rate", type=int, default=300, help="events a second")
    parser.add_argument("--short", action="store_true", help="without each failpoint in turn")
    parser.add_argument("--only", action="append", default=[], help="only this failpoint")
    given = parser.parse_args()
    every = sorted(point for point in failpoints_in_code() if point.startswith("watch."))
    points = given.only or ([] if given.short else every)
    folder = Path(tempfile.mkdtemp(prefix="watching-"))
    streams.warm()
    began = time.monotonic()
    driver = Driver(folder, random.Random(given.seed), given.rate)
    faults = driver.run(given.kills, points)
    told = ", ".join(f"{name} {count}" for name, count in sorted(driver.kills.items()))
    print(
        f"{sum(driver.kills.values())} kills ({told}), {driver.truth.read_text()} events sent, "
        f"{time.monotonic() - began:.0f} s"
    )
    for fault in faults:
        print(f"  {fault}")
    print("sent = staged = shown, each once" if not faults else f"kept: {folder}")
    if not faults:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
