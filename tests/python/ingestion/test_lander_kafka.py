"""Kafka against librdkafka's mock cluster: the real client, and a server that only pretends."""

from __future__ import annotations

import time
from typing import Any

import confluent_kafka as kafka
import pytest
from brokers_kit import SmallLander, stream_of

from ingestion.errors import SourceFailed, SourceUnreachable
from ingestion.lander import kafka as kafka_module
from ingestion.lander.kafka import KafkaConsumer


class Cluster:
    """A mock cluster that lives as long as its producer; topics have four partitions."""

    def __init__(self) -> None:
        self.producer = kafka.Producer(
            {"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0}
        )
        (broker,) = self.producer.list_topics(timeout=10).brokers.values()
        self.url = f"kafka://{broker.host}:{broker.port}"

    def send(self, first: int, last: int, topic: str = "r", **options: Any) -> None:
        for n in range(first, last + 1):
            self.producer.produce(topic, b'{"n": %d}' % n, **{"key": f"k{n}", **options})
        assert self.producer.flush(20) == 0

    def lander(self, checkpoint: dict[str, int] | None = None, **stream: Any) -> SmallLander:
        consumer = KafkaConsumer(*stream_of(self.url, "r", **stream))
        return SmallLander(consumer, checkpoint=dict(checkpoint or {})).open()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_all_partitions_land_once_and_go_on_behind_the_checkpoint(cluster: Cluster) -> None:
    cluster.send(1, 200, headers=[("a", b"1"), ("a", b"2"), ("b", None)])
    lander = cluster.lander().count(200)
    assert sorted(lander.texts) == sorted(f'{{"n": {n}}}' for n in range(1, 201))
    assert {message.shard for message in lander.landed} == {"0", "1", "2", "3"}
    one = lander.landed[0]
    assert (one.key, one.topic) == (f"k{one.data[6:-1].decode()}", "r")
    assert one.headers == {"a": "1,2", "b": ""}
    assert one.published_at is not None
    assert abs(one.published_at / 1e6 - time.time()) < 60
    assert lander.consumer.end() == lander.checkpoint
    assert lander.consumer.waiting() == 0
    lander.consumer.close()
    cluster.send(201, 210)
    again = cluster.lander(lander.checkpoint).count(10)
    assert sorted(again.texts) == sorted(f'{{"n": {n}}}' for n in range(201, 211))
    assert again.consumer.gaps() == []
    again.consumer.close()


def test_a_poll_gives_what_is_there_without_waiting_for_more(cluster: Cluster) -> None:
    cluster.send(1, 1)
    lander = cluster.lander()
    started = time.monotonic()
    assert len(lander.poll(10)) == 1
    assert time.monotonic() - started < 5
    assert lander.poll(0) == []
    lander.consumer.close()


def test_what_retention_removed_is_a_gap(cluster: Cluster) -> None:
    cluster.send(1, 10, partition=2)
    lander = cluster.lander().count(10)
    lander.consumer.close()
    # The mock keeps 5 MB a partition.
    for _ in range(30):
        cluster.producer.produce("r", b"x" * 400_000, partition=2)
    cluster.producer.flush(20)
    again = cluster.lander(lander.checkpoint)
    (gap,) = again.consumer.gaps()
    assert (gap.shard, gap.first) == ("2", 10)
    first = again.poll(10)[0]
    assert first.sequence == gap.last + 1
    again.consumer.close()


def test_a_topic_that_was_made_anew_is_told(cluster: Cluster) -> None:
    cluster.send(1, 3, partition=0)
    with pytest.raises(SourceFailed, match="made anew"):
        cluster.lander({"0": 17})


class Growing(KafkaConsumer):
    """A topic whose second partition is added after the first look, which the mock cannot do."""

    looks = 0

    def _partitions(self) -> list[int]:
        super()._partitions()
        self.looks += 1
        return [0] if self.looks == 1 else [0, 1]


def test_partitions_that_are_added_are_read_from_their_beginning(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "_LOOK_SECONDS", 0.0)
    cluster.send(1, 3, partition=0)
    cluster.send(4, 5, partition=1)
    lander = SmallLander(Growing(*stream_of(cluster.url, "r"))).open().count(5)
    assert sorted(lander.texts) == [f'{{"n": {n}}}' for n in range(1, 6)]
    assert lander.checkpoint == {"0": 2, "1": 1}
    lander.consumer.close()


def test_latest_begins_at_the_end_and_new_partitions_at_their_beginning(cluster: Cluster) -> None:
    cluster.send(1, 3, partition=0)
    lander = cluster.lander(start="latest")
    assert lander.poll(0.3) == []
    cluster.send(4, 4, partition=0)
    assert lander.count(1).texts == ['{"n": 4}']
    lander.consumer.close()
    cluster.send(5, 5, partition=1)
    again = cluster.lander(lander.checkpoint, start="latest")
    assert again.count(1).texts == ['{"n": 5}']
    again.consumer.close()


def test_no_topic_and_no_broker(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceFailed, match="no topic 'none'"):
        KafkaConsumer(*stream_of(cluster.url, "none")).open({})
    monkeypatch.setattr(kafka_module, "_SECONDS", 1.0)
    with pytest.raises(SourceUnreachable, match="cannot be read") as caught:
        KafkaConsumer(*stream_of("kafka://127.0.0.1:1", "r", {"password": "hunter2"})).open({})
    assert caught.value.may_pass
    assert "hunter2" not in str(caught.value)


def test_a_cluster_that_ends_is_told() -> None:
    cluster = Cluster()
    cluster.send(1, 1)
    lander = cluster.lander().count(1)
    del cluster
    with pytest.raises(SourceUnreachable) as caught:
        lander.count(2, seconds=30)
    assert caught.value.may_pass
    lander.consumer.close()
