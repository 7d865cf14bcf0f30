"""Kafka: a topic's partitions, read by offsets that landing remembers, not a consumer group.

topic -> partitions assigned behind their last landed offsets -> `poll`; nothing is committed

Only what transactions have committed is read. Offsets that are missing, as in compacted topics,
are no losses; what retention removed before it was landed is a gap. Partitions that are added are
noticed. Left out: schema registries (`decoding` reads schemas from files), and rights, which the
broker decides: reading the topic is enough.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import IngestionError, SourceFailed, SourceUnreachable, first_line
from ingestion.lander.addresses import address
from ingestion.lander.consumer import Checkpoint, Consumer, Gap, Message

if TYPE_CHECKING:
    from confluent_kafka import Consumer as Client

log = logging.getLogger(__name__)

PORTS = {"kafka": 9092}
_SECONDS = 15.0
_LOOK_SECONDS = 30.0


class KafkaConsumer(Consumer):
    """Reads one topic.

    Args:
        declaration: The source.
        table: Its table: `from` is the topic.
        connection: `kafka://host:9092`; `brokers` (several, as `a:9092,b:9092`), `username`,
            `password`, `sasl_mechanism`, `tls`, `ca_file`, `cert_file` and `key_file` are its
            options.
    """

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, connection: Connection
    ) -> None:
        import confluent_kafka

        self._kafka = confluent_kafka
        self._source, self._table = declaration.name, table.name
        self._topic, self._start = table.stream.origin, table.stream.start
        self._connection = connection
        self._address = address(connection, PORTS)
        self._client: Client | None = None
        self._checkpoint: Checkpoint = {}
        self._places: dict[int, int] = {}
        self._looked = 0.0
        self._fault: Any = None
        self._gaps: list[Gap] = []

    def open(self, checkpoint: Checkpoint) -> None:
        """Connects, and begins behind the checkpoint in each partition."""
        self.close()
        self._checkpoint = dict(checkpoint)
        self._places, self._fault = {}, None
        self._client = self._kafka.Consumer(self._configuration())
        try:
            self._assign(self._partitions())
        except IngestionError:
            self.close()
            raise
        except self._kafka.KafkaException as error:
            self.close()
            raise self._ours(error.args[0]) from error

    def _configuration(self) -> dict[str, Any]:
        options, place = self._connection.options, self._address
        has_tls = str(options.get("tls", "")).lower() == "true" or bool(options.get("ca_file"))
        given = {
            "bootstrap.servers": options.get("brokers") or f"{place.host}:{place.port}",
            "security.protocol": ("SASL_" if place.user else "")
            + ("SSL" if has_tls else "PLAINTEXT"),
            "sasl.mechanism": (options.get("sasl_mechanism") or "PLAIN") if place.user else None,
            "sasl.username": place.user,
            "sasl.password": place.password,
            "ssl.ca.location": options.get("ca_file") or None,
            "ssl.certificate.location": options.get("cert_file") or None,
            "ssl.key.location": options.get("key_file") or None,
            # It has to have one, but is in no group: nothing is committed, nobody shares.
            "group.id": f"wellspring-{self._source}-{self._table}",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "error_cb": self._take_fault,
            "logger": log,
        }
        return {key: value for key, value in given.items() if value is not None}

    def _take_fault(self, error: Any) -> None:
        """What the client tells from its own threads."""
        codes = self._kafka.KafkaError
        if error.fatal() or error.code() in (codes._ALL_BROKERS_DOWN, codes._AUTHENTICATION):
            self._fault = error

    def _partitions(self) -> list[int]:
        """Numbers of the topic's partitions."""
        assert self._client is not None
        topic = self._client.list_topics(self._topic, timeout=_SECONDS).topics[self._topic]
        if topic.error is not None:
            raise self._ours(topic.error)
        self._looked = time.monotonic()
        return sorted(topic.partitions)

    def _assign(self, partitions: Sequence[int]) -> None:
        """Begins to read partitions."""
        assert self._client is not None
        begun = []
        for partition in partitions:
            place = self._begin(partition)
            self._places[partition] = place - 1
            begun.append(self._kafka.TopicPartition(self._topic, partition, place))
        self._client.incremental_assign(begun)

    def _begin(self, partition: int) -> int:
        """The offset to begin at."""
        assert self._client is not None
        where = self._kafka.TopicPartition(self._topic, partition)
        low, high = self._client.get_watermark_offsets(where, timeout=_SECONDS)
        landed = self._checkpoint.get(str(partition))
        if landed is None:
            return self._first(partition, low, high)
        if landed >= high:
            raise SourceFailed(
                f"partition {partition} of the topic {self._topic!r} ends at {high - 1}, before "
                f"what was landed last ({landed}): the topic was made anew",
                source=self._source,
                table=self._table,
                hint="Land it as another table, or move the old table's folder out of landing.",
            )
        if landed + 1 < low:
            reason = "the topic's retention removed them before they were landed"
            self._gaps.append(Gap(str(partition), landed + 1, low - 1, reason))
        return max(low, landed + 1)

    def _first(self, partition: int, low: int, high: int) -> int:
        """Where a partition begins of which nothing has landed."""
        assert self._client is not None
        if self._start == "earliest":
            return low
        if self._start == "latest":
            # One that has come since the first landing is read from its beginning.
            return low if self._checkpoint else high
        moment = datetime.fromisoformat(self._start)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        asked = self._kafka.TopicPartition(self._topic, partition, int(aware.timestamp() * 1000))
        (found,) = self._client.offsets_for_times([asked], timeout=_SECONDS)
        return high if found.offset < 0 else int(found.offset)

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """Messages of all partitions, of each in order."""
        if self._client is None:
            raise self._unreachable("the connection is closed")
        try:
            found = self._client.consume(limit, 0)
            if not found and seconds > 0:
                found = self._client.consume(1, seconds)
                found += self._client.consume(limit - 1, 0) if found and limit > 1 else []
            if time.monotonic() - self._looked > _LOOK_SECONDS:
                self._assign([p for p in self._partitions() if p not in self._places])
        except self._kafka.KafkaException as error:
            raise self._ours(error.args[0]) from error
        if not found and self._fault is not None:
            raise self._ours(self._fault)
        return [self._message(message) for message in found]

    def _message(self, message: Any) -> Message:
        if message.error() is not None:
            raise self._ours(message.error())
        kind, milliseconds = message.timestamp()
        known = kind != self._kafka.TIMESTAMP_NOT_AVAILABLE
        partition, offset = message.partition(), message.offset()
        self._places[partition] = offset
        return Message(
            sequence=offset,
            data=message.value() or b"",
            topic=self._topic,
            key=None if message.key() is None else _text(message.key()),
            headers=_headers(message.headers()),
            published_at=milliseconds * 1000 if known else None,
            shard=str(partition),
        )

    def landed(self, checkpoint: Checkpoint) -> None:
        """Nothing is committed: landing is what remembers."""

    def end(self) -> Checkpoint | None:
        """Last offset of each partition that has something to read."""
        assert self._client is not None
        ends: dict[str, int] = {}
        try:
            for partition in self._places:
                where = self._kafka.TopicPartition(self._topic, partition)
                low, high = self._client.get_watermark_offsets(where, timeout=_SECONDS)
                if high > low:
                    ends[str(partition)] = high - 1
        except self._kafka.KafkaException as error:
            raise self._ours(error.args[0]) from error
        return ends

    def gaps(self) -> Sequence[Gap]:
        """What retention removed before it was landed."""
        found, self._gaps = self._gaps, []
        return found

    def waiting(self) -> int | None:
        """Offsets between what was read last and the ends that were told last."""
        if self._client is None:
            return None
        waiting = 0
        for partition, place in self._places.items():
            where = self._kafka.TopicPartition(self._topic, partition)
            _, high = self._client.get_watermark_offsets(where, cached=True)
            waiting += max(high - 1 - place, 0)
        return waiting

    def close(self) -> None:
        """Ends the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ours(self, error: Any) -> IngestionError:
        codes = self._kafka.KafkaError
        if error.code() in (codes.UNKNOWN_TOPIC_OR_PART, codes._UNKNOWN_TOPIC):
            return SourceFailed(
                f"Kafka has no topic {self._topic!r}",
                source=self._source,
                table=self._table,
                may_pass=True,
                hint="Create it, or declare another `from`.",
            )
        refused = error.code() in (
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.SASL_AUTHENTICATION_FAILED,
            codes._AUTHENTICATION,
        )
        return self._unreachable(str(error.str()), refused)

    def _unreachable(self, said: str, refused: bool = False) -> SourceUnreachable:
        return SourceUnreachable(
            f"Kafka at {self._connection.safe_url} "
            f"{'refuses' if refused else 'cannot be read'}: {first_line(ValueError(said))}",
            source=self._source,
            table=self._table,
            may_pass=not refused,
            hint=f"Check the connection {self._connection.name!r}"
            + (", its user and rights." if refused else ", and that the brokers run."),
        )


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def _headers(given: Sequence[tuple[str, bytes | str | None]] | None) -> Mapping[str, str] | None:
    """Headers by name; one that stands there twice has both values, with a comma between them."""
    found: dict[str, str] = {}
    for name, value in given or ():
        text = "" if value is None else _text(value)
        found[name] = f"{found[name]},{text}" if name in found else text
    return found or None
