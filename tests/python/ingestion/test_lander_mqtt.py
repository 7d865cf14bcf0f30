"""MQTT against nats-server's MQTT port: nothing lost, confirmed only once durable."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from brokers_kit import Server, SmallLander, nats_mqtt, stream_of

from ingestion.errors import SettingsError, SourceUnreachable
from ingestion.lander.mqtt import MqttConsumer


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    server = nats_mqtt(tmp_path)
    server.start()
    yield server
    server.kill()


def consumer(port: int, origin: str = "plant/+/reading", **stream: Any) -> MqttConsumer:
    return MqttConsumer(*stream_of(f"mqtt://127.0.0.1:{port}", origin, **stream))


def publish(port: int, messages: list[tuple[str, bytes]], retain: bool = False) -> None:
    """Sends with QoS 1 and waits until the broker has everything."""
    from paho.mqtt import client as mqtt

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"sender-{time.time_ns()}")
    client.max_inflight_messages_set(200)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [client.publish(topic, data, qos=1, retain=retain) for topic, data in messages]
    for info in sent:
        info.wait_for_publish(20)
        assert info.is_published()
    client.disconnect()
    client.loop_stop()


def readings(first: int, last: int, topic: str = "plant/7/reading") -> list[tuple[str, bytes]]:
    return [(topic, json.dumps({"n": n}).encode()) for n in range(first, last + 1)]


def numbers(lander: SmallLander) -> list[int]:
    return [json.loads(text)["n"] for text in lander.texts]


def test_what_was_sent_while_nothing_landed_is_delivered(broker: Server) -> None:
    SmallLander(consumer(broker.port)).open().consumer.close()
    publish(broker.port, readings(1, 50))
    lander = SmallLander(consumer(broker.port)).open().count(50)
    assert numbers(lander) == list(range(1, 51))
    assert {m.topic for m in lander.landed} == {"plant/7/reading"}
    assert [m.sequence for m in lander.landed] == list(range(1, 51))
    lander.consumer.close()


def test_wildcards_and_further_filters(broker: Server) -> None:
    lander = SmallLander(consumer(broker.port, subjects=["alarm/#"])).open()
    publish(broker.port, readings(1, 1, "plant/1/reading") + readings(2, 2, "alarm/fire/hall"))
    publish(broker.port, readings(3, 3, "plant/1/other") + readings(4, 4, "plant/2/reading"))
    lander.count(3)
    # A broker keeps the order of a topic only.
    assert {m.topic for m in lander.landed} == {
        "plant/1/reading",
        "alarm/fire/hall",
        "plant/2/reading",
    }
    lander.consumer.close()


def test_unconfirmed_messages_come_again_and_confirmed_ones_do_not(broker: Server) -> None:
    lander = SmallLander(consumer(broker.port)).open()
    publish(broker.port, readings(1, 10))
    lander.count(10)
    publish(broker.port, readings(11, 20))
    while len(lander.landed) < 20:
        lander.poll(0.2)
    # Durable, but its confirmation was never sent: as a lander that is killed in between.
    lander.consumer.close()
    again = SmallLander(consumer(broker.port), checkpoint=lander.checkpoint).open().count(10)
    assert sorted(numbers(again)) == list(range(11, 21))
    assert all(message.redelivered for message in again.landed)
    assert min(message.sequence for message in again.landed) == 21
    again.consumer.close()


def test_a_broker_that_is_killed_keeps_what_was_not_confirmed(broker: Server) -> None:
    lander = SmallLander(consumer(broker.port)).open()
    publish(broker.port, readings(1, 30))
    lander.count(30)
    publish(broker.port, readings(31, 60))
    broker.kill()
    with pytest.raises(SourceUnreachable, match="cannot be reached") as caught:
        lander.count(61)
    assert caught.value.may_pass
    taken = len(lander.landed)
    broker.start()
    lander.consumer.open(lander.checkpoint)
    lander.until(lambda grown: {*numbers(grown)} == {*range(1, 61)})
    repeated = [m for m in lander.landed[taken:] if json.loads(m.data)["n"] <= taken]
    assert all(message.redelivered for message in repeated)
    lander.consumer.close()


def test_more_than_a_broker_has_in_flight_is_landed_without_waiting(tmp_path: Path) -> None:
    broker = nats_mqtt(tmp_path, window=20)
    broker.start()
    try:
        reader = consumer(broker.port)
        lander = SmallLander(reader).open()
        publish(broker.port, readings(1, 400))
        files = 0
        started = time.monotonic()
        while len(lander.landed) < 400:
            # A lander that closes a file after half a second, or when the consumer says so.
            opened = time.monotonic()
            while not reader.full() and time.monotonic() - opened < 0.5:
                lander.poll(0.05)
            reader.landed(lander.checkpoint)
            files += 1
            assert time.monotonic() - started < 20, f"{len(lander.landed)} in {files} files"
        # Twenty files by time alone would take ten seconds; learned after the second of them.
        assert time.monotonic() - started < 5
        assert numbers(lander) == list(range(1, 401))
        reader.close()
    finally:
        broker.kill()


def test_retained_messages_come_once(broker: Server) -> None:
    publish(broker.port, readings(1, 1), retain=True)
    lander = SmallLander(consumer(broker.port)).open().count(1)
    assert lander.landed[0].headers == {"retained": "true"}
    lander.consumer.close()
    again = SmallLander(consumer(broker.port), checkpoint=lander.checkpoint).open()
    assert again.poll(0.7) == []
    again.consumer.close()


def test_a_session_that_never_subscribed_subscribes(broker: Server) -> None:
    """As a lander that is killed between connecting and subscribing."""
    from paho.mqtt import client as mqtt

    reader = consumer(broker.port)
    half = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=reader.client_id, clean_session=False
    )
    half.connect("127.0.0.1", broker.port)
    while not half.is_connected():
        half.loop(0.1)
    half.disconnect()
    lander = SmallLander(reader).open()
    publish(broker.port, readings(1, 2))
    assert numbers(lander.count(2)) == [1, 2]
    reader.close()


def test_a_lost_session_is_told(tmp_path: Path, broker: Server) -> None:
    lander = SmallLander(consumer(broker.port)).open()
    publish(broker.port, readings(1, 3))
    lander.count(3).consumer.close()
    other = tmp_path / "other"
    other.mkdir()
    fresh = nats_mqtt(other)
    fresh.start()
    try:
        again = SmallLander(consumer(fresh.port), checkpoint=lander.checkpoint).open()
        (gap,) = again.consumer.gaps()
        assert (gap.first, gap.last) == (4, 4)
        assert "no session" in gap.reason
        assert again.consumer.gaps() == []
        publish(fresh.port, readings(4, 4))
        assert [m.sequence for m in again.count(1).landed] == [5]
        again.consumer.close()
    finally:
        fresh.kill()


def test_tls_and_login(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    pem = tmp_path / "server.pem"
    tls = f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}'
    broker = nats_mqtt(tmp_path, tls=tls, user="meter")
    broker.start()
    url, trust = f"mqtts://127.0.0.1:{broker.port}", {"ca_file": str(tmp_path / "ca.pem")}
    try:
        right = {"username": "meter", "password": "s3cret", **trust}
        reader = MqttConsumer(*stream_of(url, "a/b", right))
        reader.open({})
        reader.close()
        wrong = MqttConsumer(*stream_of(url, "a/b", {**right, "password": "hunter2"}))
        with pytest.raises(SourceUnreachable, match="refuses the connection") as refused:
            wrong.open({})
        assert not refused.value.may_pass
        assert "hunter2" not in str(refused.value)
        stranger = MqttConsumer(*stream_of(url, "a/b", {**right, "ca_file": ""}))
        with pytest.raises(SourceUnreachable, match="certificate"):
            stranger.open({})
    finally:
        broker.kill()


def test_nobody_there_and_a_wrong_address(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match="cannot be reached") as caught:
        consumer(1).open({})
    assert caught.value.may_pass
    with pytest.raises(SettingsError, match="expected mqtt://host:1883"):
        MqttConsumer(*stream_of("amqp://127.0.0.1", "a/b"))
