"""What comes again is known; what is merely equal is not taken for it."""

from __future__ import annotations

from ingestion.declarations import StreamEndpoint
from ingestion.lander.consumer import Message
from ingestion.lander.decoding import decode_json
from ingestion.lander.identities import Identities


def identities(*fields: str, by_key: bool = False) -> Identities:
    endpoint = StreamEndpoint.model_validate({"from": "meters", "identity": list(fields)})
    return Identities(endpoint, decode_json, by_key=by_key)


def message(number: int, data: bytes, *, again: bool = False, key: str | None = None) -> Message:
    return Message(number, data, "meters/1", key, redelivered=again)


def landed(known: Identities, *messages: Message) -> list[int]:
    return [message.sequence for message in known.new(messages)]


def test_the_declared_fields_name_a_message() -> None:
    known = identities("meter", "n")
    first = b'{"meter": 1, "n": 1, "kwh": 5}'
    assert landed(known, message(1, first), message(2, b'{"meter": 1, "n": 2}')) == [1, 2]
    assert landed(known, message(3, b'{"kwh": 6, "n": 1, "meter": 1}')) == []


def test_equal_messages_without_a_name_are_two_unless_the_broker_says_otherwise() -> None:
    for known, data in ((identities("meter", "n"), b'{"meter": 1, "n'), (identities(), b"{}")):
        assert landed(known, message(1, data), message(2, data)) == [1, 2]
        assert landed(known, message(3, data, again=True)) == []


def test_a_key_names_a_message_where_the_system_says_so() -> None:
    known = identities(by_key=True)
    assert landed(known, message(1, b"{}", key="a"), message(2, b"{}", key="b")) == [1, 2]
    assert landed(known, message(3, b'{"x": 1}', key="a")) == []
    assert landed(identities(), message(1, b"{}", key="a"), message(2, b"{}", key="a")) == [1, 2]
