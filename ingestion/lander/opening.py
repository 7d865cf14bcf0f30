"""Which consumer reads a stream: the scheme of its connection's address decides.

declaration + connection -> scheme -> module, imported only now -> `Consumer`, not yet opened
"""

from __future__ import annotations

import importlib
from urllib.parse import urlsplit

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import SourceFailed
from ingestion.lander.consumer import Consumer

# Scheme -> module below `ingestion.lander`, class, optional extra that brings its client.
_CONSUMERS = {
    "nats": ("jetstream", "JetStreamConsumer", ""),
    "tls": ("jetstream", "JetStreamConsumer", ""),
    "redis": ("redis_streams", "RedisStreamConsumer", "redis"),
    "rediss": ("redis_streams", "RedisStreamConsumer", "redis"),
    "kafka": ("kafka", "KafkaConsumer", "kafka"),
    "kinesis": ("kinesis", "KinesisConsumer", "kinesis"),
    "mqtt": ("mqtt", "MqttConsumer", ""),
    "mqtts": ("mqtt", "MqttConsumer", ""),
    "http": ("http", "HttpConsumer", ""),
    "https": ("http", "HttpConsumer", ""),
}


def open_consumer(
    declaration: SourceDeclaration,
    table: TableDeclaration,
    connection: Connection,
) -> Consumer:
    """The consumer of a stream; it connects once it is opened.

    Raises:
        SourceFailed: No consumer knows the address, or its client is not installed.
    """
    scheme = urlsplit(connection.url).scheme.lower()
    if scheme not in _CONSUMERS:
        raise SourceFailed(
            f"the connection {connection.name!r} has an address of the scheme {scheme!r}",
            hint=f"Streams are read from {', '.join(_CONSUMERS)}.",
            source=declaration.name,
            table=table.name,
        )
    module, name, extra = _CONSUMERS[scheme]
    try:
        kind = getattr(importlib.import_module(f"ingestion.lander.{module}"), name)
        consumer: Consumer = kind(declaration, table, connection)
    except ImportError as error:
        raise SourceFailed(
            f"the client for {scheme} is not installed: {error}",
            hint=f"`uv sync --extra {extra}` brings it." if extra else "",
            source=declaration.name,
            table=table.name,
        ) from error
    return consumer
