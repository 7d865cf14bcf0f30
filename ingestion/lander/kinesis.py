"""Kinesis: a stream's shards, read behind their last landed sequence numbers.

stream -> shards, parents before children -> GetRecords -> `poll`; nothing is confirmed

When shards are split or merged, the new ones are read once all of the old ones has been, so that
what belongs together stays in order. The service's limit (five reads a second and shard) is kept
to, and waited for where others use it up. Sequence numbers are no count: after a loss by retention
the gap says between which numbers it lies. With `start: latest`, a shard that had nothing landed
yet is read from its beginning after a restart. Left out: records that the producer library packs
into one, and enhanced fan-out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ingestion.connections import Connection
from ingestion.declarations import SourceDeclaration, TableDeclaration
from ingestion.errors import SourceFailed, SourceUnreachable, first_line
from ingestion.lander.addresses import address
from ingestion.lander.consumer import Checkpoint, Consumer, Gap, Message

log = logging.getLogger(__name__)

PORTS = {"kinesis": 443}
_LARGEST_READ = 10_000
# Five reads a second are allowed to all readers of a shard together.
_READ_SECONDS = 0.25
_LOOK_SECONDS = 30.0
_LONGEST_PAUSE = 10.0
_BUSY = {
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
}
_REFUSED = {
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "IncompleteSignature",
}


@dataclass
class _Shard:
    """A shard that is read.

    Attributes:
        name: Its id.
        parents: Ids of the shards that it was made of.
        is_closed: Whether nothing is written to it any more.
        last: Sequence number read last; None if none was.
        iterator: Where to read next; empty if that has to be asked for.
        read_at: When to read next.
        pause: How long to wait after the next refusal.
        is_done: Whether it was read to its end.
        lost_behind: Retention removed what followed this number; the next record ends the gap.
    """

    name: str
    parents: tuple[str, ...]
    is_closed: bool = False
    last: int | None = None
    iterator: str = ""
    read_at: float = 0.0
    pause: float = 1.0
    is_done: bool = False
    lost_behind: int | None = None


class KinesisConsumer(Consumer):
    """Reads one stream.

    Args:
        declaration: The source.
        table: Its table: `from` is the stream's name.
        connection: `kinesis://<region>`; `access_key_id`, `secret_access_key`, `session_token` and
            `endpoint_url` are its options, else the machine's own login is used.
    """

    # The service's numbers have up to 56 digits.
    width = 56
    quiet = 10.0

    def __init__(
        self, declaration: SourceDeclaration, table: TableDeclaration, connection: Connection
    ) -> None:
        import botocore.exceptions

        self._errors = botocore.exceptions
        self._source, self._table = declaration.name, table.name
        self._stream, self._start = table.stream.origin, table.stream.start
        self._connection = connection
        self._address = address(connection, PORTS)
        self._client: Any = None
        self._checkpoint: Checkpoint = {}
        self._shards: dict[str, _Shard] = {}
        self._looked = 0.0
        self._gaps: list[Gap] = []

    def open(self, checkpoint: Checkpoint) -> None:
        """Makes a client and finds the shards."""
        import boto3
        from botocore.config import Config

        self.close()
        self._checkpoint = dict(checkpoint)
        self._shards = {}
        options = self._connection.options
        self._client = boto3.session.Session().client(
            "kinesis",
            region_name=self._address.host,
            endpoint_url=options.get("endpoint_url") or None,
            aws_access_key_id=options.get("access_key_id") or None,
            aws_secret_access_key=options.get("secret_access_key") or None,
            aws_session_token=options.get("session_token") or None,
            config=Config(connect_timeout=10, read_timeout=20, retries={"mode": "standard"}),
        )
        self._look()

    def _look(self) -> None:
        """Takes new shards up, and notes which ones are closed."""
        self._looked = time.monotonic()
        asked: dict[str, Any] = {"StreamName": self._stream}
        while asked:
            answer = self._ask("list_shards", **asked)
            for told in answer["Shards"]:
                name = told["ShardId"]
                parents = (told.get("ParentShardId"), told.get("AdjacentParentShardId"))
                shard = self._shards.setdefault(
                    name,
                    _Shard(name, tuple(p for p in parents if p), last=self._checkpoint.get(name)),
                )
                shard.is_closed = "EndingSequenceNumber" in told["SequenceNumberRange"]
            token = answer.get("NextToken")
            asked = {"NextToken": token} if token else {}

    def poll(self, limit: int, seconds: float) -> Sequence[Message]:
        """Records of the first shard that has some."""
        end = time.monotonic() + seconds
        while True:
            if time.monotonic() - self._looked > _LOOK_SECONDS:
                self._look()
            for shard in self._due():
                messages = self._read(shard, min(limit, _LARGEST_READ))
                if messages:
                    return messages
            now = time.monotonic()
            if now >= end:
                return []
            readable = [shard.read_at for shard in self._readable()]
            time.sleep(max(min([end, *readable]) - now, 0.01))

    def _readable(self) -> list[_Shard]:
        """Shards that are not read to their end, whose parents are."""
        shards = self._shards
        return [
            shard
            for shard in shards.values()
            if not shard.is_done
            # A parent that is listed no more has expired.
            and all(p not in shards or shards[p].is_done for p in shard.parents)
        ]

    def _due(self) -> list[_Shard]:
        now = time.monotonic()
        return sorted((s for s in self._readable() if s.read_at <= now), key=lambda s: s.read_at)

    def _read(self, shard: _Shard, limit: int) -> list[Message]:
        shard.read_at = time.monotonic() + _READ_SECONDS
        if not shard.iterator:
            shard.iterator = self._iterator(shard)
        try:
            answer = self._ask("get_records", ShardIterator=shard.iterator, Limit=limit)
        except _Busy:
            shard.read_at = time.monotonic() + shard.pause
            shard.pause = min(2 * shard.pause, _LONGEST_PAUSE)
            return []
        except _Expired:
            shard.iterator = ""
            shard.read_at = 0.0
            return []
        shard.pause = 1.0
        shard.iterator = answer.get("NextShardIterator") or ""
        records = answer["Records"]
        at_end = not records and answer.get("MillisBehindLatest", 0) == 0
        # The service gives no further iterator behind the end of a closed shard.
        if not shard.iterator or (shard.is_closed and at_end):
            shard.is_done = True
            self._look()
        messages = [self._message(shard, record) for record in records]
        if messages:
            self._end_gap(shard, messages[0].sequence)
            shard.last = messages[-1].sequence
        return messages

    def _iterator(self, shard: _Shard) -> str:
        """Where a shard is read on."""
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if shard.last is not None:
            where = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": str(shard.last),
            }
        elif self._start == "latest" and not self._checkpoint and not shard.parents:
            where = {"ShardIteratorType": "LATEST"}
        elif self._start not in ("earliest", "latest"):
            moment = datetime.fromisoformat(self._start)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": aware}
        asked = {"StreamName": self._stream, "ShardId": shard.name}
        try:
            return str(self._ask("get_shard_iterator", **asked, **where)["ShardIterator"])
        except _Invalid:
            if shard.last is None:
                raise
            # The number that was landed last has expired, and what followed it perhaps as well.
            shard.lost_behind = shard.last
            where = {"ShardIteratorType": "TRIM_HORIZON"}
            return str(self._ask("get_shard_iterator", **asked, **where)["ShardIterator"])

    def _end_gap(self, shard: _Shard, first: int) -> None:
        if shard.lost_behind is not None and first > shard.lost_behind + 1:
            reason = "the stream's retention may have removed records before they were landed"
            self._gaps.append(Gap(shard.name, shard.lost_behind + 1, first - 1, reason))
        shard.lost_behind = None

    def _message(self, shard: _Shard, record: Mapping[str, Any]) -> Message:
        arrived: datetime | None = record.get("ApproximateArrivalTimestamp")
        return Message(
            sequence=int(record["SequenceNumber"]),
            data=record["Data"],
            topic=self._stream,
            key=record.get("PartitionKey"),
            published_at=None if arrived is None else round(arrived.timestamp() * 1_000_000),
            shard=shard.name,
        )

    def landed(self, checkpoint: Checkpoint) -> None:
        """Nothing is confirmed: landing is what remembers."""

    def end(self) -> Checkpoint | None:
        """The service does not tell the last number."""
        return None

    def gaps(self) -> Sequence[Gap]:
        """Where retention may have removed records."""
        found, self._gaps = self._gaps, []
        return found

    def close(self) -> None:
        """Ends the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, name: str, **asked: Any) -> Any:
        try:
            return getattr(self._client, name)(**asked)
        except self._errors.ClientError as error:
            raise self._ours(error, error.response["Error"]["Code"]) from error
        except self._errors.BotoCoreError as error:
            has_login = not isinstance(error, self._errors.NoCredentialsError)
            raise self._unreachable(first_line(error), may_pass=has_login) from error

    def _ours(self, error: Exception, code: str) -> Exception:
        if code in _BUSY:
            return _Busy(code)
        if code == "ExpiredIteratorException":
            return _Expired(code)
        if code in ("InvalidArgumentException", "ValidationException"):
            return _Invalid(first_line(error), source=self._source, table=self._table)
        if code == "ResourceNotFoundException":
            return SourceFailed(
                f"Kinesis has no stream {self._stream!r} in {self._address.host}",
                source=self._source,
                table=self._table,
                may_pass=True,
                hint="Create it, or declare another `from`.",
            )
        return self._unreachable(first_line(error), may_pass=code not in _REFUSED)

    def _unreachable(self, said: str, *, may_pass: bool) -> SourceUnreachable:
        return SourceUnreachable(
            f"Kinesis in {self._address.host} cannot be read: {said}",
            source=self._source,
            table=self._table,
            may_pass=may_pass,
            hint=f"Check the connection {self._connection.name!r}: its keys need the rights "
            "kinesis:ListShards, GetShardIterator and GetRecords.",
        )


class _Busy(SourceUnreachable):
    """Others use up what the service allows."""

    may_pass = True


class _Expired(SourceUnreachable):
    """An iterator is five minutes old."""

    may_pass = True


class _Invalid(SourceFailed):
    """The service does not know the place that was asked for."""
