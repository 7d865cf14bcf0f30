"""HTTP POSTs by real clients: an answer only once durable, limits, logins, coming again."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from brokers_kit import SmallLander, free_port, stream_of

from ingestion.errors import ConnectionMissing, SourceUnreachable
from ingestion.lander import http_server
from ingestion.lander.http import HttpConsumer

TOKEN = "let-me-in"
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


class Inbox:
    """A lander at work in a thread, and a client."""

    def __init__(self, options: dict[str, Any] | None = None, **stream: Any) -> None:
        self.port = free_port()
        given = {"token": TOKEN} if options is None else options
        url = f"http://127.0.0.1:{self.port}"
        self.consumer = HttpConsumer(*stream_of(url, "/readings", given, **stream))
        self.lander = SmallLander(self.consumer).open()
        self._is_landing = threading.Event()
        self._is_landing.set()
        self._pausing = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._is_landing.is_set():
                self._pausing.set()
                time.sleep(0.01)
                continue
            self.lander.poll(0.05)
            self.consumer.landed(self.lander.checkpoint)

    def pause(self) -> None:
        """From now on nothing becomes durable."""
        self._is_landing.clear()
        assert self._pausing.wait(10)

    def resume(self) -> None:
        self._is_landing.set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.consumer.close()

    def post(
        self, body: bytes | str, headers: dict[str, str] = JSON, path: str = "/readings"
    ) -> requests.Response:
        login = {"Authorization": f"Bearer {TOKEN}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        return requests.post(url, data=body, headers={**login, **headers}, timeout=20)

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close()


def test_an_object_an_array_and_lines(inbox: Inbox) -> None:
    answers = [
        inbox.post('{"n": 1.10}'),
        inbox.post('[{"n": 2}, {"n": 1e400, "t": "a]b"} ,{"n": 12345678901234567890}]'),
        inbox.post('{"n": 5}\n\n{"n": \n{"n": 7}\r\n', LINES),
        inbox.post(gzip.compress(b'{"n": 8}\n') + gzip.compress(b'{"n": 9}\n'),
                   {**LINES, "Content-Encoding": "gzip"}),
        inbox.post("[ ]"),
    ]  # fmt: skip
    assert [(a.status_code, a.json()["landed"]) for a in answers] == [
        (202, 1),
        (202, 3),
        (202, 3),
        (202, 2),
        (202, 0),
    ]
    assert [text.strip() for text in inbox.lander.texts] == [
        '{"n": 1.10}',
        '{"n": 2}',
        '{"n": 1e400, "t": "a]b"}',
        '{"n": 12345678901234567890}',
        '{"n": 5}',
        '{"n":',
        '{"n": 7}',
        '{"n": 8}',
        '{"n": 9}',
    ]
    assert [m.sequence for m in inbox.lander.landed] == list(range(1, 10))
    assert {m.topic for m in inbox.lander.landed} == {"/readings"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'[{"n": 1}, {"n": ]', JSON),
        (b'[{"n": 1}', JSON),
        (b'[{"n": 1}] x', JSON),
        (b"\xff\xfe not text", LINES),
        (b"[" * 100_000, JSON),
        (b"\x1f\x8b broken", {**JSON, "Content-Encoding": "gzip"}),
    ],
)
def test_what_cannot_be_taken_apart_is_kept_whole(
    inbox: Inbox, body: bytes, headers: dict[str, str]
) -> None:
    assert inbox.post(body, headers).status_code == 202
    assert [m.data for m in inbox.lander.landed] == [body]


def test_records_of_csv_are_taken_apart_at_their_ends() -> None:
    inbox = Inbox(format="csv", csv={"columns": ["n", "text"]})
    try:
        answer = inbox.post('1,"two\nlines"\n2,b\n', {"Content-Type": "text/csv; charset=utf-8"})
        assert answer.json() == {"landed": 2}
        assert inbox.lander.texts == ['1,"two\nlines"', "2,b"]
    finally:
        inbox.close()


def test_no_answer_before_it_is_durable(inbox: Inbox) -> None:
    inbox.pause()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(inbox.post, '{"n": 1}')
        time.sleep(0.4)
        assert not answer.done()
        inbox.resume()
        assert answer.result().status_code == 202


def test_who_may_not_send(inbox: Inbox) -> None:
    for given in ("", "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \u00e9"):
        answer = inbox.post('{"n": 1}', {**JSON, "Authorization": given.encode("latin-1")})  # type: ignore[dict-item]  # requests takes bytes, too
        assert answer.status_code == 401, given
        assert TOKEN not in answer.text
    assert inbox.post("{}", path="/other").status_code == 404
    assert requests.get(f"http://127.0.0.1:{inbox.port}/readings", timeout=5).status_code == 405
    assert inbox.lander.landed == []


def test_signed_bodies() -> None:
    inbox = Inbox({"hmac_key": "shared"})
    body = gzip.compress(b'{"n": 1}')
    right = hmac.new(b"shared", body, hashlib.sha256).hexdigest()
    packed = {**JSON, "Content-Encoding": "gzip"}
    try:
        for given, status in (
            (f"sha256={right}", 202),
            (right, 202),
            (right[::-1], 401),
            ("", 401),
        ):
            assert inbox.post(body, {**packed, "X-Signature-256": given}).status_code == status
        changed = inbox.post(body + b"x", {**packed, "X-Signature-256": right})
        assert changed.status_code == 401
        assert inbox.lander.texts == ['{"n": 1}'] * 2
    finally:
        inbox.close()


def test_content_types_and_keys_that_are_not_taken(inbox: Inbox) -> None:
    answer = inbox.post("n=1", {"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]
    assert inbox.post("{}", {**JSON, "Content-Encoding": "br"}).status_code == 415
    assert inbox.post("{}", {**JSON, "Idempotency-Key": "k" * 201}).status_code == 400
    assert inbox.post("{}", {"Content-Type": "application/vnd.plant+json"}).status_code == 202


def test_attempts_bear_the_senders_key(inbox: Inbox) -> None:
    inbox.post('[{"n": 1}, {"n": 2}]', {**JSON, "Idempotency-Key": "abc"})
    inbox.post('{"n": 3}', {**JSON, "Idempotency-Key": "def"})
    assert [m.key for m in inbox.lander.landed] == ["abc/0", "abc/1", "def"]


def test_bodies_that_are_too_large() -> None:
    inbox = Inbox({"token": TOKEN, "max_bytes": "1000"})
    try:
        assert inbox.post(b'"' + b"x" * 998 + b'"').status_code == 202
        assert inbox.post(b'"' + b"x" * 1000 + b'"').status_code == 413
        small = gzip.compress(b" " * 100_000)
        assert len(small) < 1000
        assert inbox.post(small, {**JSON, "Content-Encoding": "gzip"}).status_code == 413

        def chunks() -> Iterator[bytes]:
            yield from (b"x" * 400 for _ in range(5))

        assert inbox.post(chunks()).status_code == 413  # type: ignore[arg-type]  # requests sends it in chunks
        assert len(inbox.lander.landed) == 1
    finally:
        inbox.close()


def test_senders_are_sent_away_when_too_much_waits_and_come_again() -> None:
    inbox = Inbox({"token": TOKEN, "max_waiting": "10"})
    inbox.pause()
    try:
        with ThreadPoolExecutor(30) as pool:
            first = [pool.submit(inbox.post, f'{{"n": {n}}}') for n in range(30)]
            end = time.monotonic() + 10
            while sum(answer.done() for answer in first) < 20 and time.monotonic() < end:
                time.sleep(0.02)
            assert inbox.consumer.full()
            sent_away = [answer.result() for answer in first if answer.done()]
            assert {answer.status_code for answer in sent_away} == {503}
            assert {answer.headers["Retry-After"] for answer in sent_away} == {"1"}
            inbox.resume()
            assert [a.result().status_code for a in first].count(202) == 10
        assert inbox.post('{"n": 99}').status_code == 202
        assert len(inbox.lander.landed) == 11
    finally:
        inbox.close()


def test_late_landing_is_told_and_nothing_more_is_taken() -> None:
    inbox = Inbox({"token": TOKEN, "landing_seconds": "1"})
    inbox.pause()
    try:
        assert inbox.post('{"n": 1}').status_code == 503
        late = inbox.post('{"n": 2}')
        assert (late.status_code, "late" in late.text) == (503, True)
        inbox.resume()
        time.sleep(0.3)
        assert inbox.lander.texts == ['{"n": 1}']
        assert inbox.post('{"n": 3}').status_code == 202
    finally:
        inbox.close()


def test_a_slow_header_and_a_slow_body_do_not_last(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_HEADER_SECONDS", 0.5)
    object.__setattr__(inbox.consumer._limits, "body_seconds", 0.5)
    with inbox.raw() as silent, inbox.raw() as dripping, inbox.raw() as bodiless:
        bodiless.sendall(
            f"POST /readings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{".encode()
        )
        started = time.monotonic()
        closed = False
        while not closed and time.monotonic() - started < 5:
            try:
                dripping.sendall(b"P")
                time.sleep(0.1)
            except OSError:
                closed = True
        assert closed
        assert silent.recv(10) == b""
        assert b" 408 " in bodiless.recv(100)
    assert inbox.post('{"n": 1}').status_code == 202


def test_keep_alive_survives_a_pause_between_requests(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = http.client.HTTPConnection("127.0.0.1", inbox.port, timeout=5)
    login = {"Authorization": f"Bearer {TOKEN}", **JSON}
    for _ in range(3):
        client.request("POST", "/readings", b'{"n": 1}', login)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (202, b'{"landed":1}')
        time.sleep(0.2)
    client.close()


def test_two_tables_share_an_address_and_health_tells_of_both() -> None:
    inbox = Inbox()
    place = stream_of(f"http://127.0.0.1:{inbox.port}", "alarms", {"token": "other"})
    second = SmallLander(HttpConsumer(*place)).open()
    try:
        health = requests.get(f"http://127.0.0.1:{inbox.port}/health", timeout=5).json()
        assert health == {"status": "ok", "waiting": {"/alarms": 0, "/readings": 0}}
        with pytest.raises(SourceUnreachable, match="taken by another table"):
            HttpConsumer(*place).open({})
        second.consumer.close()
        assert inbox.post("{}").status_code == 202
        assert inbox.post("{}", path="/alarms").status_code == 404
    finally:
        inbox.close()
    with pytest.raises(OSError, match="refused"):
        inbox.raw()


def test_ending_sends_waiting_senders_away() -> None:
    inbox = Inbox()
    inbox.pause()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(inbox.post, '{"n": 1}')
        end = time.monotonic() + 10
        while not inbox.consumer._box.unconfirmed and time.monotonic() < end:  # type: ignore[union-attr]  # it is open
            time.sleep(0.01)
        inbox.close()
        assert answer.result().status_code == 503


def test_https(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server.pem")
    )
    port = free_port()
    options = {"token": TOKEN, "cert_file": str(tmp_path / "server.pem")}
    lander = SmallLander(HttpConsumer(*stream_of(f"https://localhost:{port}", "x", options))).open()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            requests.post,
            f"https://localhost:{port}/x",
            data="{}",
            headers={**JSON, "Authorization": f"Bearer {TOKEN}"},
            verify=str(tmp_path / "ca.pem"),
            timeout=10,
        )
        lander.count(1)
        assert answer.result().status_code == 202
    lander.consumer.close()


def test_faults_of_a_connection_are_told(inbox: Inbox) -> None:
    with pytest.raises(ConnectionMissing, match="neither 'token' nor 'hmac_key'"):
        HttpConsumer(*stream_of("http://127.0.0.1:1", "x"))
    HttpConsumer(*stream_of("http://127.0.0.1:1", "x", {"anonymous": "true"}))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SourceUnreachable, match="cannot listen on") as caught:
            HttpConsumer(*stream_of(url, "x", {"token": "t"})).open({})
        assert caught.value.may_pass


def test_many_clients_at_once_lose_and_double_nothing(inbox: Inbox) -> None:
    def send(sender: int) -> int:
        session = requests.Session()
        session.headers.update({"Authorization": f"Bearer {TOKEN}", **LINES})
        done = 0
        for batch in range(20):
            rows = [{"sender": sender, "n": 25 * batch + n} for n in range(25)]
            body = "\n".join(map(json.dumps, rows))
            answer = session.post(f"http://127.0.0.1:{inbox.port}/readings", body, timeout=20)
            done += answer.json()["landed"]
        return done

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(8))) == 8 * 500
    sent = {(row["sender"], row["n"]) for row in map(json.loads, inbox.lander.texts)}
    assert len(inbox.lander.landed) == len(sent) == 8 * 500
