"""What tells that a message was landed before, where a system may deliver it under a new number.

key that names an attempt, declared `identity` fields, or topic and content of what the system calls
redelivered -> digest -> known from the last files in landing, or from this process? -> passed over

A system that numbers nothing redelivers what was landed but not yet confirmed when the connection
broke: only the last files can hold it. Content is compared as it is landed, after decoding. Left
out: systems with numbers of their own, whose checkpoint is enough.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from ingestion.declarations import StreamEndpoint
from ingestion.lander.consumer import Message
from ingestion.lander.decoding import Decode
from ingestion.landing import LandedFile

# Far more than a broker keeps unconfirmed.
_REMEMBERED = 200_000
_NOTHING = b"\x00"


class Identities:
    """Knows the last messages of one stream.

    Args:
        endpoint: The stream's declaration, with the fields of a payload that a message keeps.
        decode: What decodes its messages.
        by_key: Whether messages with the same key are the same.
    """

    def __init__(self, endpoint: StreamEndpoint, decode: Decode, *, by_key: bool = False) -> None:
        self._fields = tuple(endpoint.identity)
        # JSON is landed as it came.
        self._decode = None if endpoint.format == "json" else decode
        self._by_key = by_key
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def recall(self, files: Sequence[LandedFile]) -> None:
        """Reads the newest files, as many as there may be unconfirmed messages in."""
        import pyarrow.parquet as pq

        digests: list[bytes] = []
        for file in reversed(files):
            if len(digests) >= _REMEMBERED or file.part is not None:
                break
            content = pq.read_table(file.path, columns=["_topic", "_key", "payload", "original"])
            digests[:0] = [
                self._digest(
                    row["_topic"] or "",
                    row["_key"],
                    (row["payload"] or "").encode() if row["original"] is None else row["original"],
                )[0]
                for row in content.to_pylist()
            ]
        for digest in digests:
            self._remember(digest)

    def new(self, messages: Sequence[Message]) -> list[Message]:
        """Those that were not landed before; from now on they are known, too."""
        found = []
        for message, content in zip(messages, self._contents(messages), strict=True):
            digest, is_named = self._digest(message.topic, message.key, content)
            if (is_named or message.redelivered) and digest in self._known:
                continue
            self._remember(digest)
            found.append(message)
        return found

    def _contents(self, messages: Sequence[Message]) -> list[bytes]:
        """What is landed of each message."""
        data = [message.data for message in messages]
        if self._decode is None:
            return data
        payloads = self._decode(data).payloads
        pairs = zip(payloads, data, strict=True)
        return [own if payload is None else payload for payload, own in pairs]

    def _remember(self, digest: bytes) -> None:
        self._known[digest] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _digest(self, topic: str, key: str | None, content: bytes) -> tuple[bytes, bool]:
        """A digest of what names a message, or of topic and content; and whether it is named.

        Without a name, two messages may well be equal: only what the system calls redelivered is
        then compared.
        """
        import orjson

        if self._by_key and key is not None:
            return blake2b(key.encode(), digest_size=16, person=b"key").digest(), True
        if self._fields:
            try:
                payload = orjson.loads(content)
                values = [payload[field] for field in self._fields]
                return blake2b(orjson.dumps(values), digest_size=16).digest(), True
            except (ValueError, KeyError, TypeError):
                # Without these fields it is known by its content, like others.
                pass
        return blake2b(topic.encode() + _NOTHING + content, digest_size=16).digest(), False
