"""What tells that a message was landed before, where a system may deliver it under a new number.

declared `identity` fields, or topic and bytes of what the system calls redelivered -> digest ->
known from the last files in landing, or from this process? -> passed over

A system that numbers nothing redelivers what was landed but not yet confirmed when the connection
broke: only the last files can hold it. Left out: systems with numbers of their own, whose
checkpoint is enough.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from ingestion.lander.consumer import Message
from ingestion.landing import LandedFile

# Far more than a broker keeps unconfirmed.
_REMEMBERED = 200_000
_NOTHING = b"\x00"


class Identities:
    """Knows the last messages of one stream.

    Args:
        fields: Fields of the payload that a message keeps; empty if none are declared.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = tuple(fields)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def recall(self, files: Sequence[LandedFile]) -> None:
        """Reads the newest files, as many as there may be unconfirmed messages in."""
        import pyarrow.parquet as pq

        rows: list[tuple[str, bytes]] = []
        for file in reversed(files):
            if len(rows) >= _REMEMBERED or file.part is not None:
                break
            content = pq.read_table(file.path, columns=["_topic", "payload", "original"])
            own = [
                (row["_topic"] or "", row["original"] or (row["payload"] or "").encode())
                for row in content.to_pylist()
            ]
            rows[:0] = own
        for topic, data in rows:
            self._remember(self._digest(topic, data))

    def new(self, messages: Iterable[Message]) -> list[Message]:
        """Those that were not landed before; from now on they are known, too."""
        found = []
        for message in messages:
            digest = self._digest(message.topic, message.data)
            asked = bool(self._fields) or message.redelivered
            if asked and digest in self._known:
                continue
            self._remember(digest)
            found.append(message)
        return found

    def _remember(self, digest: bytes) -> None:
        self._known[digest] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _digest(self, topic: str, data: bytes) -> bytes:
        """A digest of the declared fields; of topic and bytes where there are none of them."""
        import orjson

        if self._fields:
            try:
                payload = orjson.loads(data)
                values = [payload[field] for field in self._fields]
                return blake2b(orjson.dumps(values), digest_size=16).digest()
            except (ValueError, KeyError, TypeError):
                # Without these fields it is known by its bytes, like others.
                pass
        return blake2b(topic.encode() + _NOTHING + data, digest_size=16).digest()
