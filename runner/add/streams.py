"""Streams: what a broker has, and what its first messages hold.

address -> NATS JetStream: its streams and their first messages; elsewhere: the port is asked, and
the names that are given are taken -> `Offer`

Nothing is confirmed or taken away from the broker. Left out: brokers that name no streams, where a
person does (`--table`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ingestion.errors import BadInput, SourceUnreachable, first_line
from ingestion.settings import Settings
from runner.add.offers import Found, Listing, Offer, OfferedColumn, Place

_SECONDS = 10
_MESSAGES = 50


@contextmanager
def look(settings: Settings, place: Place, wanted: Sequence[str]) -> Iterator[Found]:
    """Lists streams.

    Args:
        settings: The project's settings.
        place: The broker.
        wanted: Names that were given, for brokers that are not asked for theirs.

    Raises:
        SourceUnreachable: The broker does not answer.
        BadInput: It has no streams, or none was named.
    """
    if place.url.partition("://")[0] in ("nats", "tls"):
        yield Found(_of_jetstream(place), {}, "logged in")
        return
    from ingestion.declarations import SourceDeclaration
    from ingestion.probing import probe

    source = SourceDeclaration(place.connection, "", "stream", place.connection, "", ())
    answer = probe(source, settings)
    if not wanted:
        raise BadInput(
            f"{place.told} was found ({answer.text}), but not which streams it has",
            hint="Name topics, keys or filters: --table readings --table 'plant/+/state'.",
        )
    yield Found([_named(name) for name in wanted], {}, answer.text)


def _named(name: str) -> Listing:
    def offer() -> Offer:
        return Offer(
            name=_table(name),
            description=f"One row per message of `{name}`.",
            columns=(),
            ingest={"stream": {"from": name}},
            notes=("its messages were not looked at",),
        )

    return Listing(name, _table(name), "", "stream", offer)


def _table(name: str) -> str:
    from ingestion.landing import normalise

    return "_".join(part for part in normalise(name).split("_") if part) or "messages"


def _of_jetstream(place: Place) -> list[Listing]:
    from ingestion.connections import Connection

    connection = Connection(place.connection, place.url, place.options)
    try:
        found = asyncio.run(asyncio.wait_for(_ask(connection), _SECONDS))
    except Exception as error:
        # nats-py raises errors of many kinds, those of the network among them.
        raise SourceUnreachable(
            f"{connection.safe_url}: {first_line(error)}",
            hint="Check the address and the login, and whether the broker has JetStream.",
        ) from error
    if not found:
        raise BadInput(f"{connection.safe_url} has no stream", hint="Make one, then add it.")
    return [_listing(*one) for one in found]


async def _ask(connection: Any) -> list[tuple[str, list[str], int, list[bytes]]]:
    """Name, subjects, number of messages and the first messages of each stream."""
    import nats

    from ingestion.lander.jetstream import login

    async def quiet(_: Exception) -> None:
        """What goes wrong is raised where it is asked for."""

    client = await nats.connect(
        **login(connection),
        connect_timeout=5,
        allow_reconnect=False,
        max_reconnect_attempts=0,
        error_cb=quiet,
    )
    try:
        stream = client.jetstream()
        found = []
        for info in await stream.streams_info():
            name = str(info.config.name)
            first, last = info.state.first_seq, info.state.last_seq
            bodies = []
            for number in range(max(first, 1), min(last, first + _MESSAGES) + 1):
                try:
                    message = await stream.get_msg(name, number)
                except nats.js.errors.NotFoundError:
                    continue
                bodies.append(bytes(message.data or b""))
            found.append((name, list(info.config.subjects or []), info.state.messages, bodies))
        return found
    finally:
        await client.close()


def _listing(name: str, subjects: list[str], messages: int, bodies: list[bytes]) -> Listing:
    def offer() -> Offer:
        stream: dict[str, Any] = {"from": name}
        records = [_object(body) for body in bodies]
        notes = [f"of {len(bodies)} first messages"] if bodies else ["it has no message yet"]
        if bodies and not all(record is not None for record in records):
            stream["format"] = "text"
            notes = ["its first messages are no JSON objects, so each is a text"]
        fields = dict.fromkeys(key for record in records if record for key in record)
        return Offer(
            name=_table(name),
            description=f"One row per message of the stream `{name}` ({', '.join(subjects)}).",
            columns=tuple(_columns([] if "format" in stream else list(fields))),
            ingest={"stream": stream},
            notes=tuple(notes),
        )

    return Listing(name, _table(name), f"{messages:,} messages", ", ".join(subjects), offer)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _columns(names: list[str]) -> Iterator[OfferedColumn]:
    from ingestion.landing import column_mapping

    for origin, name in column_mapping(names).items():
        yield OfferedColumn(name, "string", f"Field `{origin}` of the message.")
