"""Kinesis against moto's server: the real client, and a server that imitates the service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import boto3
import botocore.exceptions
import pytest
from brokers_kit import SmallLander, stream_of

from ingestion.errors import SourceFailed, SourceUnreachable
from ingestion.lander.kinesis import KinesisConsumer

REGION = "eu-west-1"
KEYS = {"access_key_id": "test", "secret_access_key": "hunter2"}


class Service:
    """A stream `r` of two shards."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client: Any = boto3.client(
            "kinesis",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.client.create_stream(StreamName="r", ShardCount=2)

    def send(self, first: int, last: int) -> None:
        records = [
            {"Data": b'{"n": %d}' % n, "PartitionKey": f"k{n}"} for n in range(first, last + 1)
        ]
        self.client.put_records(StreamName="r", Records=records)

    def shards(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.list_shards(StreamName="r")["Shards"]
        return found

    def consumer(self, **stream: Any) -> KinesisConsumer:
        options = {"endpoint_url": self.url, **KEYS}
        return KinesisConsumer(*stream_of(f"kinesis://{REGION}", "r", options, **stream))

    def lander(self, checkpoint: dict[str, int] | None = None, **stream: Any) -> SmallLander:
        return SmallLander(self.consumer(**stream), checkpoint=dict(checkpoint or {})).open()


@pytest.fixture
def service() -> Iterator[Service]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    service = Service(server.get_host_and_port()[1])
    yield service
    service.client.delete_stream(StreamName="r")
    server.stop()


def texts(first: int, last: int) -> list[str]:
    return sorted(f'{{"n": {n}}}' for n in range(first, last + 1))


def test_records_of_all_shards_land_once(service: Service) -> None:
    service.send(1, 40)
    lander = service.lander().count(40)
    assert sorted(lander.texts) == texts(1, 40)
    assert len({message.shard for message in lander.landed}) == 2
    assert {message.key for message in lander.landed} == {f"k{n}" for n in range(1, 41)}
    lander.consumer.close()
    service.send(41, 45)
    again = service.lander(lander.checkpoint).count(5)
    assert sorted(again.texts) == texts(41, 45)
    assert again.poll(0.6) == []
    assert again.consumer.end() is None


def test_children_of_a_split_and_a_merge_are_read_after_their_parents(service: Service) -> None:
    service.send(1, 20)
    first = service.shards()[0]
    middle = int(first["HashKeyRange"]["EndingHashKey"]) // 2
    service.client.split_shard(
        StreamName="r", ShardToSplit=first["ShardId"], NewStartingHashKey=str(middle)
    )
    service.send(21, 40)
    lander = service.lander().count(40)
    assert sorted(lander.texts) == texts(1, 40)
    order = [message.shard for message in lander.landed]
    children = [s["ShardId"] for s in service.shards() if s.get("ParentShardId")]
    assert len(children) == 2
    last_of_parent = max(i for i, shard in enumerate(order) if shard == first["ShardId"])
    assert all(order.index(child) > last_of_parent for child in children if child in order)
    # Nothing comes twice where parents are at their end already.
    service.client.merge_shards(
        StreamName="r", ShardToMerge=children[0], AdjacentShardToMerge=children[1]
    )
    service.send(41, 60)
    again = service.lander(lander.checkpoint).count(20)
    assert sorted(again.texts) == texts(41, 60)


def test_a_split_while_it_is_read(service: Service) -> None:
    service.send(1, 10)
    lander = service.lander().count(10)
    first = service.shards()[0]
    middle = int(first["HashKeyRange"]["EndingHashKey"]) // 2
    service.client.split_shard(
        StreamName="r", ShardToSplit=first["ShardId"], NewStartingHashKey=str(middle)
    )
    service.send(11, 30)
    consumer = lander.consumer
    assert isinstance(consumer, KinesisConsumer)
    consumer._looked = 0.0
    assert sorted(lander.count(30).texts) == texts(1, 30)


def _failing(consumer: KinesisConsumer, method: str, *codes: str) -> list[str]:
    """Lets the first calls of a method fail with these codes; returns what is left of them."""
    left = list(codes)
    original = getattr(consumer._client, method)

    def call(**asked: Any) -> Any:
        if left:
            told = {"Error": {"Code": left.pop(0), "Message": "no"}}
            raise botocore.exceptions.ClientError(told, method)  # type: ignore[arg-type]  # enough of an answer
        return original(**asked)

    setattr(consumer._client, method, call)
    return left


def test_throttling_and_expired_iterators_are_waited_out(service: Service) -> None:
    service.send(1, 10)
    lander = service.lander()
    assert isinstance(lander.consumer, KinesisConsumer)
    left = _failing(
        lander.consumer,
        "get_records",
        "ProvisionedThroughputExceededException",
        "ExpiredIteratorException",
    )
    assert sorted(lander.count(10).texts) == texts(1, 10)
    assert left == []


def test_what_retention_may_have_removed_is_a_gap(service: Service) -> None:
    service.send(1, 10)
    shard = service.lander().count(10).landed[0].shard
    lander = service.lander({shard: -5})
    assert isinstance(lander.consumer, KinesisConsumer)
    # Which moto does not refuse by itself.
    _failing(lander.consumer, "get_shard_iterator", "InvalidArgumentException")
    lander.consumer._shards = {shard: lander.consumer._shards[shard]}
    first = lander.until(lambda grown: bool(grown.landed)).landed[0]
    (gap,) = lander.consumer.gaps()
    assert (gap.shard, gap.first, gap.last) == (shard, -4, first.sequence - 1)


def test_where_a_first_landing_begins(service: Service) -> None:
    service.send(1, 10)
    latest = service.lander(start="latest")
    assert latest.poll(0.6) == []
    service.send(11, 12)
    assert sorted(latest.count(2).texts) == texts(11, 12)
    assert len(service.lander(start="2020-01-01T00:00:00Z").count(12).landed) == 12


def test_no_stream_refused_and_nobody_there(service: Service) -> None:
    options = {"endpoint_url": service.url, **KEYS}
    with pytest.raises(SourceFailed, match="no stream 'none' in eu-west-1") as missing:
        KinesisConsumer(*stream_of(f"kinesis://{REGION}", "none", options)).open({})
    assert missing.value.may_pass
    lander = service.lander()
    assert isinstance(lander.consumer, KinesisConsumer)
    _failing(lander.consumer, "get_shard_iterator", "AccessDeniedException")
    with pytest.raises(SourceUnreachable, match="cannot be read") as refused:
        lander.poll(1)
    assert not refused.value.may_pass
    nobody = {**options, "endpoint_url": "http://127.0.0.1:1"}
    with pytest.raises(SourceUnreachable, match="cannot be read") as unreachable:
        KinesisConsumer(*stream_of(f"kinesis://{REGION}", "r", nobody)).open({})
    assert unreachable.value.may_pass
