"""MQTT 3.1.1: messages of topic filters, kept by the broker in a session until they are landed.

broker -> persistent session, QoS 1 -> `poll` -> file durable -> PUBACK

MQTT has no places: messages are numbered as they come, by session, and what a broker delivers again
is known by its packet number while it is in hand, and by its declared identity once it has landed.
A broker holds back when too many messages are not confirmed. How many that are it does not say, so
that it is learned: where twice the same number came and then nothing, files are closed at that
number. Left out: MQTT 5, and what was published with QoS 0, which a broker keeps for nobody.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import IngestionError, SourceFailed, SourceUnreachable, first_line
from ingestion.failpoints import failpoint
from ingestion.lander.addresses import address, tls_context, whole
from ingestion.lander.consumer import Checkpoint, Consumer, Gap, Message

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

log = logging.getLogger(__name__)

PORTS = {"mqtt": 1883, "mqtts": 8883}
_CONNECT_SECONDS = 15.0
# Fewer than this say nothing of a broker's limit: so many may have come by chance.
_SMALLEST_WINDOW = 10
# Below the 1,024 of nats-server, so that its usual limit does not cost a second of waiting.
_WINDOW = 1000
_SILENT_SECONDS = 0.2
# MQTT tells no end. A broker that was slow to answer the login is slow to send what waits, too.
# What comes later than that is landed by the next run.
_QUIET_SECONDS = 1.0
_LONGEST_QUIET_SECONDS = 15.0
_LOGINS_OF_SILENCE = 40
_REFUSED = {
    1: "it does not speak MQTT 3.1.1",
    2: "it refuses the client id",
    3: "it is not available",
    4: "it refuses user or password",
    5: "it does not authorise this client",
}
_PASSES = 3
_SUBSCRIPTION_REFUSED = 0x80


class MqttConsumer(Consumer):
    """Reads the topics of one table.

    Args:
        declaration: The source.
        table: Its table: `from` is a topic filter, `subjects` are further ones.
        connection: The broker; its options are `client_id`, `keepalive` and `in_flight`.
    """

    redelivers = True
    quiet = _QUIET_SECONDS

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, connection: Connection
    ) -> None:
        self._source, self._table = declaration.name, table.name
        self._filters = [table.stream.origin, *table.stream.subjects]
        self._connection = connection
        self._address = address(connection, PORTS)
        self._window = whole(connection, "in_flight", _WINDOW)
        self._keepalive = whole(connection, "keepalive", 60)
        self._client: Client | None = None
        self._arrived: deque[Message] = deque()
        # Packet number by sequence number, of what is not confirmed yet.
        self._unconfirmed: dict[int, int] = {}
        self._in_hand: set[int] = set()
        self._last = 0
        self._resent = False
        self._arrived_at = 0.0
        self._confirmed_before = 0
        self._answer: tuple[int, bool] | None = None
        self._granted: list[int] = []
        self._gaps: list[Gap] = []

    @cached_property
    def client_id(self) -> str:
        """Name of the session, and of the shard: another one for other filters.

        A session remembers its filters, and keeps messages of those that are declared no more.
        """
        filters = hashlib.sha256("\n".join(sorted(self._filters)).encode()).hexdigest()[:8]
        given = self._connection.options.get("client_id") or "wellspring"
        return f"{given}-{self._source}-{self._table}-{filters}"

    def open(self, checkpoint: Checkpoint) -> None:
        """Takes the session up, or begins one."""
        self._last = checkpoint.get(self.client_id, 0)
        had_landed = self._last > 0
        self._client = client = self._new_client()
        began = time.monotonic()
        try:
            client.connect(self._address.host, self._address.port, keepalive=self._keepalive)
            present = self._connected(client)
            patience = _LOGINS_OF_SILENCE * (time.monotonic() - began)
            self.quiet = min(max(_QUIET_SECONDS, patience), _LONGEST_QUIET_SECONDS)
            failpoint("mqtt.connected")
            # What has landed from this session came by its subscription: to subscribe again would
            # bring every retained message again. A session without it may have none yet.
            self._resent = had_landed and not present
            if not (present and had_landed):
                self._subscribe(client)
        except (OSError, ValueError) as error:
            self.close()
            raise self._unreachable(first_line(error)) from error
        except IngestionError:
            self.close()
            raise
        if self._resent:
            self._session_lost()

    def _new_client(self) -> Client:
        from paho.mqtt import client as mqtt
        from paho.mqtt.enums import CallbackAPIVersion

        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._address.scheme == "mqtts":
            client.tls_set_context(tls_context(self._connection))
        client.connect_timeout = _CONNECT_SECONDS
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, _c: Any, _u: Any, flags: Any, reason: Any, _p: Any) -> None:
        from paho.mqtt.packettypes import PacketTypes

        assert reason.packetType == PacketTypes.CONNACK
        self._answer = (_code(reason), bool(flags.session_present))

    def _on_subscribe(self, _c: Any, _u: Any, _mid: int, codes: Any, _p: Any) -> None:
        self._granted = [int(code.value) for code in codes]

    def _on_message(self, _c: Any, _u: Any, message: MQTTMessage) -> None:
        if message.qos and message.mid in self._in_hand:
            # Packet numbers are not used again before they are confirmed: this one is in hand.
            return
        self._last += 1
        self._arrived_at = time.monotonic()
        if message.qos:
            self._in_hand.add(message.mid)
            self._unconfirmed[self._last] = message.mid
        self._arrived.append(
            Message(
                sequence=self._last,
                data=bytes(message.payload),
                topic=message.topic,
                headers={"retained": "true"} if message.retain else None,
                shard=self.client_id,
                redelivered=message.dup or (message.retain and self._resent),
            )
        )

    def _connected(self, client: Client) -> bool:
        """Waits for the broker's answer; whether it kept the session."""
        self._answer = None
        self._wait_for(client, lambda: self._answer is not None, "no answer to the login")
        assert self._answer is not None
        code, present = self._answer
        if code:
            raise SourceUnreachable(
                f"the broker at {self._connection.safe_url} refuses the connection: "
                f"{_REFUSED.get(code, f'code {code}')}",
                source=self._source,
                table=self._table,
                may_pass=code == _PASSES,
                hint=f"Check url, username and password of the connection "
                f"{self._connection.name!r}, and what its user may do (client id "
                f"{self.client_id}).",
            )
        return present

    def _subscribe(self, client: Client) -> None:
        self._granted = []
        client.subscribe([(name, 1) for name in self._filters])
        self._wait_for(client, lambda: len(self._granted) > 0, "no answer to the subscription")
        for name, granted in zip(self._filters, self._granted, strict=True):
            if granted >= _SUBSCRIPTION_REFUSED:
                raise SourceFailed(
                    f"the broker refuses the topic filter {name!r}",
                    source=self._source,
                    table=self._table,
                    hint="Give the user the right to subscribe to it, or declare another `from`.",
                )
            if granted == 0:
                log.warning(
                    "%s.%s: the broker delivers %s with QoS 0 only: what it sends while nothing "
                    "is landed is lost",
                    self._source,
                    self._table,
                    name,
                )

    def _wait_for(self, client: Client, arrived: Any, otherwise: str) -> None:
        end = time.monotonic() + _CONNECT_SECONDS
        while not arrived():
            if time.monotonic() > end:
                raise self._unreachable(otherwise)
            code = client.loop(timeout=0.2)
            if code and not arrived():
                raise self._unreachable(_said(code))

    def _session_lost(self) -> None:
        """The broker knows nothing of this client: what came meanwhile, it kept for nobody."""
        self._last += 1
        reason = (
            "the broker had no session of this client any more: messages that came while nothing "
            "was landed are lost"
        )
        self._gaps.append(Gap(self.client_id, self._last, self._last, reason))

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """What has arrived; waits for the first."""
        if self._client is None:
            raise self._unreachable("the connection is closed")
        end = time.monotonic() + seconds
        while True:
            self._read(limit, max(0.0, end - time.monotonic()))
            if self._arrived or time.monotonic() >= end:
                break
        return [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]

    def _read(self, limit: int, seconds: float) -> None:
        assert self._client is not None
        code = self._client.loop(timeout=0.0 if self._arrived else min(seconds, 1.0))
        # One packet a call: the further ones that are here need no waiting.
        count = -1
        while not code and count != len(self._arrived) < limit:
            count = len(self._arrived)
            code = self._client.loop_read()
        if code and not self._arrived:
            raise self._unreachable(_said(code))

    def full(self) -> bool:
        """Whether the broker waits for confirmations, as far as can be told."""
        return len(self._unconfirmed) >= self._window

    def landed(self, checkpoint: Checkpoint) -> None:
        """Confirms every message up to there."""
        last = checkpoint.get(self.client_id, 0)
        due = [sequence for sequence in self._unconfirmed if sequence <= last]
        self._learn_window(len(due))
        failpoint("mqtt.before_confirming")
        for sequence in due:
            packet = self._unconfirmed.pop(sequence)
            self._in_hand.discard(packet)
            if self._client is not None:
                self._client.ack(packet, 1)
        failpoint("mqtt.confirmed")

    def _learn_window(self, count: int) -> None:
        if time.monotonic() - self._arrived_at < _SILENT_SECONDS:
            count = 0
        if count == self._confirmed_before and _SMALLEST_WINDOW <= count < self._window:
            log.info("%s.%s: files of %d messages, as the broker waits then", *self._place, count)
            self._window = count
        self._confirmed_before = count

    @property
    def _place(self) -> tuple[str, str]:
        return self._source, self._table

    def end(self) -> Checkpoint | None:
        """A broker does not tell how much it has kept."""
        return None

    def gaps(self) -> Sequence[Gap]:
        """Sessions that the broker lost."""
        found, self._gaps = self._gaps, []
        return found

    def close(self) -> None:
        """Disconnects; the broker keeps the session, and what was not confirmed."""
        client, self._client = self._client, None
        self._arrived.clear()
        self._unconfirmed.clear()
        self._in_hand.clear()
        if client is not None:
            client.disconnect()
            client.loop(timeout=0.1)

    def _unreachable(self, said: str) -> SourceUnreachable:
        return SourceUnreachable(
            f"the MQTT broker at {self._connection.safe_url} cannot be reached: {said}",
            source=self._source,
            table=self._table,
            may_pass=True,
            hint=f"Check the connection {self._connection.name!r}, and that the broker runs.",
        )


def _said(code: int) -> str:
    from paho.mqtt.client import error_string

    return error_string(code).rstrip(".")


def _code(reason: Any) -> int:
    """The number of a CONNACK of MQTT 3.1.1, which paho turns into one of MQTT 5."""
    if not reason.is_failure:
        return 0
    value = int(reason.value)
    return {0x84: 1, 0x85: 2, 0x88: 3, 0x86: 4, 0x87: 5}.get(value, value)
