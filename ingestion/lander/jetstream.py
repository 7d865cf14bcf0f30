"""Reads a JetStream stream of NATS, by the stream's own sequence numbers.

checkpoint -> pull consumer that begins behind it -> batches asked for ahead -> messages

Streams that keep messages by limits are read without confirming anything: landing alone knows how
far it is. The moment at which a stream was made is its shard, because one that is made anew counts
from 1 again. Streams that keep a message until it is confirmed (work queue, interest) get a durable
consumer, and a confirmation once a message is landed. Each opening makes a consumer anew, so that
messages come in order; one that was missed on the way is noticed by the consumer's own count.
Left out: finding another server of a cluster, which the client does when it connects.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import IngestionError, SourceFailed, SourceUnreachable, first_line
from ingestion.lander.addresses import address, tls_context
from ingestion.lander.consumer import Checkpoint, Consumer, Gap, Message

if TYPE_CHECKING:
    from nats.js.api import ConsumerConfig, StreamInfo


T = TypeVar("T")
PORTS = {"nats": 4222, "tls": 4222}
_CONNECT_SECONDS = 5.0
_BATCH = 20_000
_BATCH_BYTES = 64 * 2**20
_EXPIRES_SECONDS = 30.0
_HEARTBEAT_SECONDS = 5.0
_GATHER_SECONDS = 0.005
# An ephemeral consumer that nobody asks any more is removed by the server after this time.
_INACTIVE_SECONDS = 120.0
# Longer than any file stays open: what is not confirmed by then would come again, out of order.
_ACK_SECONDS = 3_600.0
_BEFORE_LAST = ("no messages", "request timeout", "batch completed", "message size exceeds")


class JetStreamConsumer(Consumer):
    """Reads one stream, or those of its messages that have one of the declared subjects.

    Args:
        declaration: The source.
        table: Its table: `from` is the stream, `subjects` restrict its messages.
        connection: Where the server is. Its address may hold user and password, or a token; options
            are `username`, `password`, `token`, `creds` (a file), `nkey_seed`, `servers` (further
            ones of the cluster), `domain`, `ca_file`, `cert_file` and `key_file`.
    """

    width = 20

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, connection: Connection
    ) -> None:
        self._source, self._table = declaration.name, table.name
        self._endpoint = table.stream
        self._connection = connection
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._name = ""
        self._shard = ""
        self._stream: StreamInfo | None = None
        self._confirms = False
        self._reset()

    def _reset(self) -> None:
        self._asked = self._got = 0
        self._delivered = 0
        self._last = 0
        self._waiting: int | None = None
        self._gaps: list[Gap] = []
        self._unconfirmed: list[tuple[int, str]] = []
        self._silent = 0.0

    # The interface

    def open(self, checkpoint: Checkpoint) -> None:
        """Connects and makes a consumer that begins behind the checkpoint."""
        self.close()
        self._reset()
        self._loop = asyncio.new_event_loop()
        self._do(self._open(checkpoint))

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """Messages that have arrived."""
        client = self._client
        if not client.arrived:
            self._do(self._wait(seconds))
        elif self._asked - self._got < _BATCH // 2:
            self._do(self._ask())
        raw, client.arrived = client.arrived[:limit], client.arrived[limit:]
        return self._messages(raw)

    def landed(self, checkpoint: Checkpoint) -> None:
        """Confirms, where the stream keeps messages until then."""
        if not self._confirms:
            return
        last = checkpoint.get(self._shard, 0)
        due = [reply for sequence, reply in self._unconfirmed if sequence <= last]
        self._unconfirmed = [pair for pair in self._unconfirmed if pair[0] > last]
        self._do(self._confirm(due))

    def end(self) -> Checkpoint | None:
        """Last sequence number of the stream, or of its messages of the declared subjects."""
        return self._do(self._end())

    def gaps(self) -> Sequence[Gap]:
        """What has expired or was deleted before it was read."""
        found, self._gaps = self._gaps, []
        return found

    def waiting(self) -> int | None:
        """What the server still had when it sent the last message."""
        return self._waiting

    def close(self) -> None:
        """Ends the connection."""
        loop, self._loop = self._loop, None
        client, self._client = self._client, None
        if loop is None:
            return
        try:
            if client is not None:
                loop.run_until_complete(self._close(client))
            loop.run_until_complete(_end_tasks(loop))
        finally:
            loop.close()

    # Opening

    def _do(self, work: Awaitable[T]) -> T:
        """Waits for something of the client; its faults become ours."""
        import nats.errors

        assert self._loop is not None
        try:
            return self._loop.run_until_complete(work)
        except IngestionError:
            raise
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> IngestionError:
        from nats.errors import AuthorizationError
        from nats.js.errors import NotFoundError, ServiceUnavailableError

        where: dict[str, Any] = {"source": self._source, "table": self._table}
        told = first_line(error)
        url = self._connection.safe_url
        refused = isinstance(error, AuthorizationError) or "authorization" in told.lower()
        if refused:
            hint = "Check user, password, token or credentials of the connection."
            return SourceUnreachable(f"{url} refuses the login: {told}", hint=hint, **where)
        if isinstance(error, NotFoundError):
            return SourceFailed(
                f"there is no stream {self._endpoint.origin!r} on {url}",
                hint="Check `stream.from`, or have it made: a lander waits for it.",
                may_pass=True,
                **where,
            )
        if isinstance(error, ServiceUnavailableError):
            told = "it has no JetStream, or none for this account, at the moment"
        hint = "Check the connection's address, and that the server runs."
        return SourceUnreachable(f"{url}: {told}", hint=hint, may_pass=True, **where)

    async def _open(self, checkpoint: Checkpoint) -> None:
        self._client = _client()
        failed: list[Exception] = []

        async def note(error: Exception) -> None:
            failed.append(error)

        self._client.failed = failed
        try:
            await self._client.connect(
                **login(self._connection),
                name=f"wellspring {self._source}.{self._table}",
                allow_reconnect=False,
                max_reconnect_attempts=0,
                connect_timeout=_CONNECT_SECONDS,
                error_cb=note,
            )
        except Exception as error:
            # The client raises what it met last, which may be less telling.
            raise next((e for e in failed if "uthorization" in str(e)), error) from error
        failed.clear()
        js = self._jetstream()
        self._stream = await js.stream_info(self._endpoint.origin)
        self._confirms = self._stream.config.retention != "limits"
        self._shard = _incarnation(self._stream)
        self._last = checkpoint.get(self._shard, 0)
        self._check_end()
        self._note_expired(checkpoint)
        config = self._config(checkpoint)
        if self._confirms:
            await self._replace_consumers(config)
        else:
            made = await js.add_consumer(self._endpoint.origin, config)
            self._name = made.name
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(inbox)
        self._client.own, self._inbox = subscription._id, inbox
        await self._ask()

    def _jetstream(self) -> Any:
        domain = self._connection.options.get("domain")
        return self._client.jetstream(domain=domain, timeout=_CONNECT_SECONDS)

    def _check_end(self) -> None:
        """A stream that lost its end gives new messages numbers that are landed already."""
        assert self._stream is not None
        end = self._stream.state.last_seq
        if end >= self._last:
            return
        raise SourceFailed(
            f"the stream {self._endpoint.origin!r} ends at {end:,}, but {self._last:,} was landed "
            "from it: it was put back to an earlier state",
            source=self._source,
            table=self._table,
            hint="New messages would bear numbers that are landed. Delete the stream and make it "
            "anew: it is then landed from its first message.",
        )

    def _note_expired(self, checkpoint: Checkpoint) -> None:
        """Messages behind the checkpoint that the stream does not have any more."""
        assert self._stream is not None
        first = self._stream.state.first_seq
        if self._shard not in checkpoint or self._confirms or first <= self._last + 1:
            return
        reason = "the stream let go of them before they were landed"
        if self._endpoint.subjects:
            reason += "; some may have had other subjects"
        self._gaps.append(Gap(self._shard, self._last + 1, first - 1, reason))
        self._last = first - 1

    def _config(self, checkpoint: Checkpoint) -> ConsumerConfig:
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT if self._confirms else AckPolicy.NONE,
            deliver_policy=DeliverPolicy.ALL,
        )
        if len(self._endpoint.subjects) == 1:
            config.filter_subject = self._endpoint.subjects[0]
        elif self._endpoint.subjects:
            config.filter_subjects = list(self._endpoint.subjects)
        if self._confirms:
            config.ack_wait, config.max_ack_pending = _ACK_SECONDS, -1
        else:
            config.inactive_threshold, config.mem_storage = _INACTIVE_SECONDS, True
        assert self._stream is not None
        if self._stream.config.retention == "workqueue":
            # It holds nothing but what was not confirmed, and allows no other beginning.
            return config
        if self._shard in checkpoint:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = checkpoint[self._shard] + 1
        elif checkpoint:
            # The stream was made anew: all of it has come since the last landing.
            return config
        elif self._endpoint.start == "latest":
            config.deliver_policy = DeliverPolicy.NEW
        elif self._endpoint.start != "earliest":
            config.deliver_policy = DeliverPolicy.BY_START_TIME
            config.opt_start_time = _utc(self._endpoint.start)
        return config

    async def _replace_consumers(self, config: ConsumerConfig) -> None:
        """Puts a new durable consumer in place of ours: it delivers in order what is left.

        A stream that keeps messages for those who are interested must never be without ours, so
        there the new one comes first; a work queue allows but one.
        """
        js, origin = self._jetstream(), self._endpoint.origin
        stem = f"wellspring-{self._source}-{self._table}-"
        names = [info.name for info in await js.consumers_info(origin)]
        former = [name for name in names if name.startswith(stem)]
        assert self._stream is not None
        if self._stream.config.retention == "workqueue":
            for name in former:
                await js.delete_consumer(origin, name)
            former = []
        self._name = f"{stem}{time.time_ns()}"
        config.durable_name = self._name
        await js.add_consumer(origin, config)
        for name in former:
            await js.delete_consumer(origin, name)

    async def _close(self, client: Any) -> None:
        import nats.errors

        faults = (nats.errors.Error, OSError, TimeoutError)
        if self._name and not self._confirms and client.is_connected:
            js = client.jetstream(domain=self._connection.options.get("domain"))
            # The server removes it by itself after a while.
            with suppress(*faults):
                await asyncio.wait_for(js.delete_consumer(self._endpoint.origin, self._name), 1.0)
        # Where it was broken, nothing of it is used any more.
        with suppress(*faults):
            await client.close()

    # Reading

    async def _ask(self) -> None:
        """Asks for messages ahead, so that the server never waits for us."""
        request = {
            "batch": _BATCH,
            "max_bytes": max(_BATCH_BYTES, 2 * self._client.max_payload),
            "expires": int(_EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_SECONDS * 1e9),
        }
        prefix = self._jetstream()._prefix
        subject = f"{prefix}.CONSUMER.MSG.NEXT.{self._endpoint.origin}.{self._name}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._inbox)
        self._asked += _BATCH

    async def _wait(self, seconds: float) -> None:
        """Waits for the first messages, and a moment more for those behind them."""
        client = self._client
        if self._asked - self._got < _BATCH // 2:
            await self._ask()
        began = time.monotonic()
        deadline = began + seconds
        while not client.arrived:
            if client.is_closed or not client.is_connected:
                raise SourceUnreachable(
                    f"{self._connection.safe_url}: the connection is lost", may_pass=True
                )
            client.woken.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                # What has arrived in the meantime is read even if there is no time to wait.
                await asyncio.sleep(0)
                break
            try:
                await asyncio.wait_for(client.woken.wait(), left)
            except TimeoutError:
                break
        until = min(deadline, time.monotonic() + _GATHER_SECONDS)
        while client.arrived and len(client.arrived) < _BATCH and time.monotonic() < until:
            before = len(client.arrived)
            await asyncio.sleep(0)
            if len(client.arrived) == before:
                break
        self._check_alive(time.monotonic() - began)

    def _check_alive(self, waited: float) -> None:
        """A server that says nothing for long is not there, whatever the connection says."""
        self._silent = 0.0 if self._client.arrived else self._silent + waited
        if self._silent > 3 * _HEARTBEAT_SECONDS:
            raise SourceUnreachable(
                f"{self._connection.safe_url}: nothing was heard of the consumer",
                may_pass=True,
            )

    def _messages(self, raw: Sequence[tuple[bytes, bytes, bytes, bytes | None]]) -> list[Message]:
        """What has arrived, without what the server says about its work."""
        found: list[Message] = []
        append, new = found.append, tuple.__new__
        delivered, last, shard = self._delivered, self._last, self._shard
        for subject, reply, data, headers in raw:
            if not reply.startswith(b"$JS.ACK."):
                self._take_status(headers)
                continue
            parts = reply.split(b".")
            place = parts[5:9] if len(parts) < 11 else parts[7:11]
            sequence = int(place[0])
            if int(place[1]) != delivered + 1:
                self._delivered, self._last = delivered, last
                raise self._missed(delivered + 1, int(place[1]))
            delivered += 1
            if sequence > last + 1 and last:
                self._note_hole(last + 1, sequence - 1)
            last = sequence
            told = _headers(headers) if headers else None
            moment = int(place[2]) // 1000
            # Without the call that would name the fields again for each message.
            append(
                new(Message, (sequence, data, subject.decode(), None, told, moment, shard, False))
            )
            if self._confirms:
                self._unconfirmed.append((sequence, reply.decode()))
        if found:
            self._waiting = int(place[3])
        self._got += len(found)
        self._delivered, self._last = delivered, last
        return found

    def _note_hole(self, first: int, last: int) -> None:
        """A number that is missing was deleted, unless the stream is meant to have holes."""
        assert self._stream is not None
        is_whole = not self._endpoint.subjects and self._stream.config.max_msgs_per_subject <= 0
        if is_whole and not self._confirms:
            self._gaps.append(Gap(self._shard, first, last, "they were deleted from the stream"))

    def _missed(self, expected: int, found: int) -> SourceUnreachable:
        return SourceUnreachable(
            f"{self._connection.safe_url}: delivery {found} came where {expected} was due",
            may_pass=True,
        )

    def _take_status(self, headers: bytes | None) -> None:
        """What the server says instead of a message."""
        line = (headers or b"").split(b"\r\n", 1)[0].decode()
        _, _, status = line.partition(" ")
        code = status[:3]
        if code == "100":
            return
        if code in ("404", "408") or any(told in status.lower() for told in _BEFORE_LAST):
            # The request has ended; the next one asks anew.
            self._asked = self._got
            return
        raise SourceUnreachable(
            f"{self._connection.safe_url}: the consumer of {self._endpoint.origin!r} is "
            f"gone: {status or 'no answer'}",
            source=self._source,
            table=self._table,
            may_pass=True,
        )

    async def _confirm(self, replies: Sequence[str]) -> None:
        for number, reply in enumerate(replies):
            await self._client.publish(reply, b"+ACK")
            if number % 1_000 == 999:
                await asyncio.sleep(0)
        await self._client.flush(timeout=int(_CONNECT_SECONDS))

    async def _end(self) -> Checkpoint:
        from nats.js.errors import NotFoundError

        js = self._jetstream()
        if not self._endpoint.subjects:
            last = (await js.stream_info(self._endpoint.origin)).state.last_seq
            return {self._shard: last} if last else {}
        found = []
        for subject in self._endpoint.subjects:
            try:
                found.append((await js.get_last_msg(self._endpoint.origin, subject)).seq)
            except NotFoundError:
                continue
        return {self._shard: max(found)} if found else {}


def _client() -> Any:
    """A client that hands messages of one subscription over without looking into them.

    Its own way, a task and a queue for each message, takes several times as long.
    """
    from nats.aio.client import Client

    class Quick(Client):
        own = -1

        def __init__(self) -> None:
            super().__init__()
            self.arrived: list[tuple[bytes, bytes, bytes, bytes | None]] = []
            self.woken = asyncio.Event()

        async def _process_msg(
            self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
        ) -> None:
            if sid != self.own:
                await super()._process_msg(sid, subject, reply, data, headers)
                return
            self.arrived.append((subject, reply, data, headers))
            self.woken.set()

    return Quick()


async def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Ends what the client left running, so that nothing is told of it later."""
    left = [task for task in asyncio.all_tasks(loop) if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def login(connection: Connection) -> dict[str, Any]:
    """What the client needs to know to connect."""
    at = address(connection, PORTS)
    options = connection.options
    host = f"[{at.host}]" if ":" in at.host else at.host
    further = options.get("servers") or []
    known: dict[str, Any] = {"servers": [f"{at.scheme}://{host}:{at.port}", *further]}
    if at.user is not None and at.password is not None:
        known["user"], known["password"] = at.user, at.password
    elif at.user is not None:
        known["token"] = at.user
    for option, name in (
        ("token", "token"),
        ("creds", "user_credentials"),
        ("nkey_seed", "nkeys_seed_str"),
    ):
        if options.get(option):
            known[name] = options[option]
    if at.scheme == "tls" or options.get("ca_file"):
        known["tls"] = tls_context(connection)
    return known


def _incarnation(stream: StreamInfo) -> str:
    """The moment at which a stream was made: one that is made anew counts from 1 again."""
    made = stream.created
    return made.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if made else ""


def _headers(raw: bytes) -> dict[str, str] | None:
    """Headers of a message; values of a repeated one are joined by a comma."""
    found: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            name, value = name.strip(), value.strip()
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found or None


def _utc(moment: str) -> datetime:
    """A declared time; without a zone it is UTC."""
    parsed = datetime.fromisoformat(moment)
    return parsed.replace(tzinfo=parsed.tzinfo or UTC)
