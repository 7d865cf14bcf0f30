"""The message broker is shared, restarted, taken over; each message of the past is there once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from anycompany_kit import run, serving, start

from anycompany import broker, feeding
from anycompany.world import World

TOKEN = "of-the-test"
SLOW_FEEDER = """
import sys
from pathlib import Path
from anycompany import feeding
url, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
feeding.CHUNK = 100
messages = [b"m%d" % at for at in range(count)]
feeding.feed(url, folder, 1, [feeding.Feed("PAST", ("past.>",), ["past.a"] * count, messages)])
"""


def until(holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def answers(addresses: broker.Addresses) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", addresses.nats), timeout=1).close()
        socket.create_connection(("127.0.0.1", addresses.mqtt), timeout=1).close()
        return True
    return False


def server(folder: Path) -> int:
    return int((folder / "server.pid").read_text())


def is_replaced(folder: Path, before: int, addresses: broker.Addresses) -> bool:
    """Whether another server answers; one that stops takes its note along."""
    with contextlib.suppress(OSError, ValueError):
        return server(folder) != before and answers(addresses)
    return False


def is_fed(url: str, more_than: float) -> bool:
    return count(url, "PAST") > more_than


def on_the_broker(url: str, talk: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    async def connected() -> Any:
        import nats

        nc = await nats.connect(url)
        try:
            return await talk(nc.jetstream())
        finally:
            await nc.close()

    return asyncio.run(connected())


def messages(url: str, stream: str) -> list[tuple[str, str, bytes]]:
    """Returns number, subject and content of all messages of a stream, in order."""

    async def read(js: Any) -> list[tuple[str, str, bytes]]:
        last = (await js.stream_info(stream)).state.messages
        subscription = await js.subscribe(">", stream=stream, ordered_consumer=True)
        found = []
        for _ in range(last):
            one = await subscription.next_msg(timeout=20)
            found.append(((one.headers or {}).get("Nats-Msg-Id", ""), one.subject, one.data))
        return found

    found: list[tuple[str, str, bytes]] = on_the_broker(url, read)
    return found


def count(url: str, stream: str) -> int:
    async def ask(js: Any) -> int:
        return int((await js.stream_info(stream)).state.messages)

    with contextlib.suppress(Exception):  # there is no such stream yet
        return int(on_the_broker(url, ask))
    return 0


def test_a_killed_server_or_keeper_is_replaced_on_the_same_ports(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    with broker.running(folder, TOKEN) as addresses:
        for victim in ("server", "keeper"):
            before = server(folder)
            process = psutil.Process(before)
            assert process.parent() is not None
            os.kill(before if victim == "server" else process.ppid(), signal.SIGKILL)
            until(
                partial(is_replaced, folder, before, addresses),
                f"nobody replaced the {victim}",
            )
    assert not answers(addresses)


def test_the_second_holder_takes_the_broker_over_with_its_messages(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    past = feeding.Feed("PAST", ("past.>",), ["past.a"], [b"kept"])
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        addresses = first.enter_context(broker.running(folder, TOKEN))
        assert second.enter_context(broker.running(folder, TOKEN)) == addresses
        feeding.feed(addresses.nats_url, folder, 1, [past])
        first.close()
        until(lambda: answers(addresses), "nobody took the broker over")
        assert [one[2] for one in messages(addresses.nats_url, "PAST")] == [b"kept"]


def test_the_server_ends_with_a_killed_owner_and_needs_the_token(company: Path) -> None:
    process = start(company)
    assert process.stdout is not None
    connections = json.loads(process.stdout.readline())["connections"]
    url = connections["game"]["url"]
    assert connections["devices"]["url"].startswith("mqtt://")
    folder = company / "anycompany" / "broker"
    assert (folder / "server.conf").stat().st_mode & 0o077 == 0
    token, port = url.removeprefix("nats://").split("@")[0], int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
        stranger.recv(4096)
        stranger.sendall(b'CONNECT {"verbose":true}\r\nPING\r\n')
        assert b"Authorization Violation" in stranger.recv(4096)
    assert token not in " ".join(psutil.Process(server(folder)).cmdline())
    process.kill()
    process.wait()

    def is_gone() -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return False
        return True

    until(is_gone, "the server outlived its owner")


def test_a_killed_feeder_loses_and_repeats_nothing(tmp_path: Path) -> None:
    folder, total = tmp_path / "broker", 12_000
    with broker.running(folder, TOKEN) as addresses:
        url = addresses.nats_url
        arguments = [sys.executable, "-c", SLOW_FEEDER, url, str(folder), str(total)]
        for share in (0.2, 0.6):
            process = subprocess.Popen(arguments)
            until(
                partial(is_fed, url, share * total),
                "nothing was fed",
            )
            process.kill()
            process.wait()
        assert count(url, "PAST") < total, "it was killed too late to show anything"
        subprocess.run(arguments, check=True, timeout=60)
        subprocess.run(arguments, check=True, timeout=60)
        assert [one[2] for one in messages(url, "PAST")] == [b"m%d" % at for at in range(total)]


def test_the_messages_of_a_day_are_the_first_of_each_later_day(
    made: Callable[..., World],
) -> None:
    today, later = made(day=545).game.feed, made(day=547).game.feed
    size = len(today.topics)
    assert 0 < size < len(later.topics)
    assert later.topics[:size] == today.topics
    assert later.payloads[:size] == today.payloads


def test_the_past_is_published_once_with_live_events_between(company: Path) -> None:
    home = company / "anycompany"
    with serving(company) as connections:
        url = connections["game"]["url"]
        before = messages(url, "GAME")
        live = run(company, "stream", "--rate", "400", "--for", "1.5", "--only", "game")
        assert live.returncode == 0, live.stderr
        assert run(company, "advance", "--days", "1").returncode == 0
        after = messages(url, "GAME")
    with serving(company) as connections:
        assert messages(connections["game"]["url"], "GAME") == after
    assert after[: len(before)] == before
    assert len({number for number, _, _ in after}) == len(after)
    truth = [json.loads(line) for line in (home / "truth" / "live_game.ndjson").open()]
    sent = Counter(
        number.removeprefix("live-").removesuffix("-again")
        for number, _, _ in after
        if number.startswith("live-")
    )
    assert sorted(sent) == sorted(one["event_id"] for one in truth)
    assert len(truth) >= 100
    twice = {one["event_id"] for one in truth if one["defect"] == "duplicated"}
    assert {key for key, times in sent.items() if times == 2} == twice
    assert f"{len(truth):,} events" in live.stdout


def test_a_company_without_a_broker_gets_one_with_its_past(company: Path) -> None:
    with serving(company) as connections:
        before = [one[1:] for one in messages(connections["game"]["url"], "GAME")]
    broker.remove(company / "anycompany" / "broker")
    with serving(company) as connections:
        assert [one[1:] for one in messages(connections["game"]["url"], "GAME")] == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["stream", "--only", "shop"], "'shop' sends no events"),
        (["stream", "--rate", "0"], "0.1"),
    ],
)
def test_stream_says_what_it_cannot_do(company: Path, arguments: list[str], told: str) -> None:
    outcome = run(company, *arguments)
    assert outcome.returncode != 0
    assert told in outcome.stderr
    assert "Traceback" not in outcome.stderr
