"""Which consumer reads a stream: the scheme of its connection's address decides.

declaration + connection -> scheme -> module, imported only now -> `Consumer`, not yet opened
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import SourceFailed
from ingestion.lander.consumer import Consumer
from ingestion.settings import Settings

if TYPE_CHECKING:
    from ingestion.declarations import StreamEndpoint


@dataclass(frozen=True)
class Place:
    """What a consumer is told of the stream that it reads.

    Attributes:
        source: Name of the source.
        table: Name of the table.
        endpoint: Which messages these are, as declared.
        connection: Where the system is.
        settings: The project's settings.
    """

    source: str
    table: str
    endpoint: StreamEndpoint
    connection: Connection
    settings: Settings


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
    settings: Settings,
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
        consumer: Consumer = kind(
            Place(declaration.name, table.name, table.stream, connection, settings)
        )
    except ImportError as error:
        raise SourceFailed(
            f"the client for {scheme} is not installed: {error}",
            hint=f"`uv sync --extra {extra}` brings it." if extra else "",
            source=declaration.name,
            table=table.name,
        ) from error
    return consumer
