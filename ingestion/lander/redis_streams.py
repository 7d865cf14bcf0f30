"""Redis Streams: entries read by their ids, without a consumer group.

key of a stream -> XREAD behind the last id -> `poll`; nothing is confirmed

An entry's id is its place: milliseconds and a number within them, both of 64 bits, as one number.
Its fields become a JSON object of texts; an entry whose only field is called `payload` or `data` is
that field's value. What was trimmed before it was landed is a gap, looked for at each connection by
the newest id that Redis remembers to have deleted, and before version 7 by whether the last landed
entry is still there. Left out: clusters, where a stream lives on one node anyway; give its address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import IngestionError, SourceFailed, SourceUnreachable, first_line
from ingestion.lander.addresses import address
from ingestion.lander.consumer import Checkpoint, Consumer, Gap, Message

if TYPE_CHECKING:
    from redis import Redis

PORTS = {"redis": 6379, "rediss": 6379}
_HALF = 1 << 64
_CONNECT_SECONDS = 10
# A poll waits in the server; beyond that and this, a silent server is a broken connection.
_PATIENCE_SECONDS = 20
_WHOLE = ({b"payload"}, {b"data"})


class RedisStreamConsumer(Consumer):
    """Reads one stream.

    Args:
        declaration: The source.
        table: Its table: `from` is the stream's key.
        connection: `redis://user:password@host:6379/0`, or `rediss://` for TLS; `ca_file`,
            `cert_file` and `key_file` are its options.
    """

    # Two numbers of 64 bits have 39 digits.
    width = 39

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, connection: Connection
    ) -> None:
        import redis

        self._errors = redis.exceptions
        self._source, self._table = declaration.name, table.name
        self._key, self._start = table.stream.origin, table.stream.start
        self._connection = connection
        self._address = address(connection, PORTS)
        self._client: Redis | None = None
        self._last = 0
        self._gaps: list[Gap] = []

    def open(self, checkpoint: Checkpoint) -> None:
        """Connects; a stream that does not exist yet is waited for."""
        self.close()
        self._client = self._new_client()
        try:
            kind = _told(self._client.type(self._key))
            if kind not in ("stream", "none"):
                raise SourceFailed(
                    f"the key {self._key!r} is no stream but a {kind}",
                    source=self._source,
                    table=self._table,
                    hint="Declare the key of a stream as `from`.",
                )
            if "" in checkpoint:
                self._last = checkpoint[""]
                self._look_for_gap()
            else:
                self._last = self._begin()
        except IngestionError:
            self.close()
            raise
        except (self._errors.RedisError, OSError) as error:
            self.close()
            raise self._ours(error) from error

    def _new_client(self) -> Redis:
        import redis

        options = self._connection.options
        tls: dict[str, Any] = {}
        if self._address.scheme == "rediss":
            tls = {
                "ssl": True,
                "ssl_ca_certs": options.get("ca_file") or None,
                "ssl_certfile": options.get("cert_file") or None,
                "ssl_keyfile": options.get("key_file") or None,
            }
        return redis.Redis(
            host=self._address.host,
            port=self._address.port,
            db=int(self._address.path or 0) if (self._address.path or "0").isdigit() else 0,
            username=self._address.user,
            password=self._address.password,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_PATIENCE_SECONDS,
            **tls,
        )

    def _begin(self) -> int:
        """The place behind which a first landing goes on."""
        if self._start == "earliest":
            return 0
        if self._start == "latest":
            return (self.end() or {}).get("", 0)
        moment = datetime.fromisoformat(self._start)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(int(aware.timestamp() * 1000) * _HALF - 1, 0)

    def _look_for_gap(self) -> None:
        """Whether entries behind the checkpoint were trimmed.

        Raises:
            SourceFailed: The stream was made anew, with ids that lie before what is landed.
        """
        assert self._client is not None
        if not self._client.exists(self._key):
            return
        told = self._client.xinfo_stream(self._key)
        newest, entry = _place(told["last-generated-id"]), told.get("first-entry")
        if newest < self._last:
            raise SourceFailed(
                f"the stream {self._key!r} ends at {_id(newest)}, before what was landed last "
                f"({_id(self._last)}): it was made anew",
                source=self._source,
                table=self._table,
                hint="Land it as another table, or move the old table's folder out of landing.",
            )
        first = _place(entry[0]) if entry else newest + 1
        last, reason = first - 1, "they were trimmed from the stream before they were landed"
        if told.get("max-deleted-entry-id") is not None:
            last = min(last, _place(told["max-deleted-entry-id"]))
        elif entry and self._is_there(self._last):
            last = self._last
        elif entry:
            reason = "they may have been trimmed before they were landed: Redis 6 does not tell"
        if last > self._last:
            self._gaps.append(Gap("", self._last + 1, last, reason))

    def _is_there(self, place: int) -> bool:
        assert self._client is not None
        return bool(self._client.xrange(self._key, _id(place), _id(place)))

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """Entries behind the last one."""
        if self._client is None:
            raise self._ours(ConnectionError("the connection is closed"))
        # For Redis, 0 means to wait for ever.
        block = int(seconds * 1000) or None
        try:
            answer = self._client.xread({self._key: _id(self._last)}, count=limit, block=block)
        except (self._errors.RedisError, OSError) as error:
            raise self._ours(error) from error
        entries = _entries(answer)
        messages = [self._message(name, fields) for name, fields in entries]
        if messages:
            self._last = messages[-1].sequence
        return messages

    def _message(self, name: bytes, fields: Mapping[bytes, bytes]) -> Message:
        place = _place(name)
        return Message(place, _data(fields), self._key, published_at=(place // _HALF) * 1000)

    def landed(self, checkpoint: Checkpoint) -> None:
        """Nothing is confirmed: Redis keeps entries until somebody trims them."""

    def end(self) -> Checkpoint | None:
        """Id of the last entry."""
        assert self._client is not None
        try:
            last: Any = self._client.xrevrange(self._key, count=1)
        except (self._errors.RedisError, OSError) as error:
            raise self._ours(error) from error
        return {"": _place(last[0][0])} if last else {}

    def gaps(self) -> Sequence[Gap]:
        """Entries that were trimmed before they were landed."""
        found, self._gaps = self._gaps, []
        return found

    def close(self) -> None:
        """Ends the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ours(self, error: Exception) -> SourceUnreachable:
        refused = isinstance(
            error, self._errors.AuthenticationError | self._errors.NoPermissionError
        )
        return SourceUnreachable(
            f"Redis at {self._connection.safe_url} "
            f"{'refuses' if refused else 'cannot be read'}: {first_line(error)}",
            source=self._source,
            table=self._table,
            may_pass=not refused,
            hint=f"Check the connection {self._connection.name!r}"
            + (", its user and password." if refused else ", and that the server runs."),
        )


def _entries(answer: Any) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
    """Entries of an XREAD, which protocol 2 gives as pairs and protocol 3 as a mapping."""
    if not answer:
        return []
    if isinstance(answer, Mapping):
        (found,) = answer.values()
        nested = bool(found) and isinstance(found[0], list)
        return list(found[0]) if nested else list(found)
    return list(answer[0][1])


def _told(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _place(name: bytes | str) -> int:
    """An entry's id as one number."""
    milliseconds, _, number = _told(name).partition("-")
    return int(milliseconds) * _HALF + int(number or 0)


def _id(place: int) -> str:
    return f"{place // _HALF}-{place % _HALF}"


def _data(fields: Mapping[bytes, bytes]) -> bytes:
    """The message that an entry holds."""
    import orjson

    if set(fields) in _WHOLE:
        (only,) = fields.values()
        return only
    try:
        return orjson.dumps({key.decode(): value.decode() for key, value in fields.items()})
    except UnicodeDecodeError:
        # Bytes that are no text: kept as they are, and decoding will tell.
        return b"".join(b"%b=%b\n" % pair for pair in fields.items())
