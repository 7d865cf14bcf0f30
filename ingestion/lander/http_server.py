"""The server that takes HTTP POSTs: one a process and address, with a mailbox for each path.

request -> login, size, type -> `Mailbox.offer` -> (the lander makes it durable) -> answer

No request is answered well before its messages are durable. A full mailbox, or one whose messages
are not landed in time, asks senders to come again. Left out: landing itself, which empties the
mailboxes from a thread of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ingestion.declarations import StreamEndpoint
from ingestion.errors import SourceUnreachable, first_line
from ingestion.lander.bodies import (
    ENCODINGS,
    TooLarge,
    accepted_types,
    is_accepted,
    messages_in,
    unpacked,
)
from ingestion.lander.consumer import Message

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

HEALTH = "/health"
_STOP_SECONDS = 10
_STOP_TICK_SECONDS = 0.3
_LONGEST_KEY = 200
_LISTENERS = 128
_HEADER_SECONDS = 10


@dataclass(frozen=True)
class Limits:
    """What one path takes.

    Attributes:
        body: Largest body in bytes, packed and unpacked.
        waiting: Messages that may wait to become durable.
        waiting_bytes: Their bytes.
        body_seconds: A body must have arrived after so long.
        landing_seconds: Messages must be durable after so long; else the sender has to come again.
    """

    body: int = 10_000_000
    waiting: int = 100_000
    waiting_bytes: int = 128_000_000
    body_seconds: int = 30
    landing_seconds: int = 30


@dataclass(frozen=True)
class Login:
    """What a sender must know; at least one of both unless everybody may send.

    Attributes:
        token: `Authorization: Bearer <token>`.
        hmac_key: Key of a SHA-256 signature of the body.
        hmac_header: The header that holds the signature, in hexadecimal, with or without `sha256=`.
    """

    token: str = field(default="", repr=False)
    hmac_key: str = field(default="", repr=False)
    hmac_header: str = "X-Signature-256"

    def knows_token(self, given: str) -> bool:
        """Whether the header `Authorization` is right, where a token is asked for."""
        scheme, _, token = given.partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self.token.encode())
        return not self.token or (scheme.lower() == "bearer" and right)

    def has_signed(self, given: str, body: bytes) -> bool:
        """Whether a body was signed by somebody who has the key, where one is asked for."""
        if not self.hmac_key:
            return True
        signature = hmac.new(self.hmac_key.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(
            given.removeprefix("sha256=").strip().encode(), signature.encode()
        )


@dataclass(frozen=True)
class _Ticket:
    """A request that waits until its last message is durable."""

    last: int
    since: float
    future: asyncio.Future[bool] = field(repr=False)

    def settle(self, is_durable: bool) -> None:
        loop = self.future.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._settle, is_durable)

    def _settle(self, is_durable: bool) -> None:
        if not self.future.done():
            self.future.set_result(is_durable)


class Mailbox:
    """Messages of one path, on their way from the server's thread to the lander's.

    Args:
        path: The path.
        endpoint: What the declaration says of its messages.
        login: What a sender must know.
        limits: What it takes.
        last: Sequence number behind which it goes on.
    """

    def __init__(
        self, path: str, endpoint: StreamEndpoint, login: Login, limits: Limits, last: int
    ) -> None:
        self.path, self.endpoint, self.login, self.limits = path, endpoint, login, limits
        self._last = last
        self._changed = threading.Condition()
        self._unread: deque[Message] = deque()
        self._tickets: deque[_Ticket] = deque()
        # Sequence number and size of what is not durable yet.
        self._sizes: deque[tuple[int, int]] = deque()
        self._bytes = 0
        self._is_open = True

    @property
    def unconfirmed(self) -> int:
        """Number of messages that are not durable yet."""
        return len(self._sizes)

    def refusal(self) -> str:
        """Why nothing is taken at the moment; empty if something is."""
        with self._changed:
            return self._refusal()

    def _refusal(self) -> str:
        if not self._is_open:
            return "the lander is ending"
        if len(self._sizes) >= self.limits.waiting or self._bytes >= self.limits.waiting_bytes:
            return "too much waits to become durable"
        oldest = self._tickets[0].since if self._tickets else time.monotonic()
        if time.monotonic() - oldest > self.limits.landing_seconds:
            return "landing is late"
        return ""

    def offer(
        self, pieces: Sequence[bytes], key: str | None, headers: dict[str, str]
    ) -> asyncio.Future[bool] | str:
        """Takes the messages of a request; called by the server's thread.

        Returns:
            What will tell whether they became durable, or why they are not taken.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        now = time.time_ns() // 1000
        with self._changed:
            refusal = self._refusal()
            if refusal:
                return refusal
            for number, piece in enumerate(pieces):
                self._last += 1
                own = f"{key}/{number}" if key and len(pieces) > 1 else key
                self._unread.append(
                    Message(self._last, piece, self.path, own, headers, published_at=now)
                )
                self._sizes.append((self._last, len(piece)))
                self._bytes += len(piece)
            self._tickets.append(_Ticket(self._last, time.monotonic(), future))
            self._changed.notify()
        return future

    def take(self, limit: int, seconds: float) -> list[Message]:
        """Messages that have arrived; called by the lander's thread."""
        with self._changed:
            if not self._unread and seconds > 0:
                self._changed.wait(seconds)
            return [self._unread.popleft() for _ in range(min(limit, len(self._unread)))]

    def durable(self, last: int) -> None:
        """Answers the requests whose messages are durable up to there."""
        with self._changed:
            while self._sizes and self._sizes[0][0] <= last:
                self._bytes -= self._sizes.popleft()[1]
            while self._tickets and self._tickets[0].last <= last:
                self._tickets.popleft().settle(True)

    def close(self) -> None:
        """Takes nothing more, and sends those away whose messages are not durable."""
        with self._changed:
            self._is_open = False
            while self._tickets:
                self._tickets.popleft().settle(False)


class HttpServer:
    """Listens on one address, in a thread of its own.

    Args:
        host: Where to listen.
        port: The port.
        certificate: Files of certificate and key for https; None for http.
        connections: How many connections are served at once.
    """

    def __init__(
        self, host: str, port: int, certificate: tuple[str, str | None] | None, connections: int
    ) -> None:
        import uvicorn

        self._boxes: dict[str, Mailbox] = {}
        try:
            self._socket = socket.create_server((host, port), backlog=_LISTENERS)
        except OSError as error:
            raise SourceUnreachable(
                f"cannot listen on {host}:{port}: {first_line(error)}",
                may_pass=True,
                hint="Another program, or another lander, listens there; or the machine has no "
                "such address.",
            ) from error
        config = uvicorn.Config(
            self._app,
            http=_protocol(),
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=connections,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
        try:
            config.load()
        except OSError as error:
            self._socket.close()
            raise SourceUnreachable(
                f"certificate or key for {host}:{port} cannot be read: {first_line(error)}",
                hint="Look at cert_file and key_file of the connection: each is a PEM file.",
            ) from error
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=f"http {port}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    @property
    def paths(self) -> list[str]:
        """Paths that are served."""
        return sorted(self._boxes)

    def add(self, box: Mailbox) -> None:
        """Serves a path."""
        self._boxes[box.path] = box

    def remove(self, box: Mailbox) -> None:
        """Serves a path no more."""
        box.close()
        self._boxes.pop(box.path, None)

    def stop(self) -> None:
        """Answers what can be answered, and ends."""
        self._server.should_exit = True
        end = time.monotonic() + _STOP_SECONDS
        self._thread.join(_STOP_TICK_SECONDS)
        while self._thread.is_alive() and time.monotonic() < end:
            # Connections without a request are not waited for: under TLS they end when they like.
            self._server.force_exit = not self._server.server_state.tasks
            self._thread.join(_STOP_TICK_SECONDS)
        self._server.force_exit = True
        self._thread.join(_STOP_SECONDS)
        self._socket.close()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request

        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        if path == HEALTH and request.method in ("GET", "HEAD"):
            waiting = {name: box.unconfirmed for name, box in sorted(self._boxes.items())}
            return _said(200, {"status": "ok", "waiting": waiting})
        box = self._boxes.get(path)
        if box is None:
            return _fault(404, "nothing is taken at this path")
        if request.method != "POST":
            return _fault(405, "only POST is taken", Allow="POST")
        if not box.login.knows_token(request.headers.get("authorization", "")):
            return _fault(401, "the token is wrong or missing", **{"WWW-Authenticate": "Bearer"})
        refusal = box.refusal()
        if refusal:
            return _later(refusal)
        return await self._taken(request, box)

    async def _taken(self, request: Request, box: Mailbox) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        key = request.headers.get("idempotency-key")
        if not is_accepted(kind, box.endpoint):
            return _fault(415, f"Content-Type: one of {', '.join(accepted_types(box.endpoint))}")
        if encoding not in ENCODINGS:
            return _fault(415, f"Content-Encoding: one of {', '.join(ENCODINGS)}")
        if key is not None and not 0 < len(key) <= _LONGEST_KEY:
            return _fault(400, f"Idempotency-Key: 1 to {_LONGEST_KEY} characters")
        too_large = f"a body may hold {box.limits.body:,} bytes"
        try:
            async with asyncio.timeout(box.limits.body_seconds):
                body = await _body(request, box.limits.body)
            if not box.login.has_signed(request.headers.get(box.login.hmac_header, ""), body):
                return _fault(401, f"the signature in {box.login.hmac_header} is wrong or missing")
            plain = unpacked(body, encoding, box.limits.body)
        except TooLarge:
            return _fault(413, too_large, Connection="close")
        except TimeoutError:
            return _fault(408, "the body did not arrive in time", Connection="close")
        pieces = messages_in(plain, kind, box.endpoint)
        if not pieces:
            return _said(202, {"landed": 0})
        return await _landed(box, pieces, key, kind)


async def _landed(box: Mailbox, pieces: Sequence[bytes], key: str | None, kind: str) -> Response:
    """The answer once the messages are durable, or cannot become so in time."""
    offered = box.offer(pieces, key, {"content-type": kind})
    if isinstance(offered, str):
        return _later(offered)
    try:
        async with asyncio.timeout(box.limits.landing_seconds):
            is_durable = await offered
    except TimeoutError:
        is_durable = False
    return _said(202, {"landed": len(pieces)}) if is_durable else _later("landing is late")


async def _body(request: Request, largest: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > largest:
        raise TooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise TooLarge
    return bytes(body)


def _said(status: int, content: Any, **headers: str) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status, headers)


def _fault(status: int, why: str, **headers: str) -> Response:
    return _said(status, {"error": why}, **headers)


def _later(why: str) -> Response:
    return _fault(503, f"{why}: send it again", **{"Retry-After": "1"})


@lru_cache
def _protocol() -> Any:
    """The HTTP protocol of uvicorn, which by itself waits for ever for the end of a header."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait_for_header()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _wait_for_header(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self._forget()
            elif self._patience is None:
                self._patience = self.loop.call_later(_HEADER_SECONDS, self._give_up)

        def _forget(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _give_up(self) -> None:
            self._patience = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return Impatient


_servers: dict[tuple[str, int], HttpServer] = {}
_servers_lock = threading.Lock()


def serve(
    box: Mailbox,
    host: str,
    port: int,
    certificate: tuple[str, str | None] | None,
    connections: int,
) -> None:
    """Serves a mailbox; its address is listened on from its first path on.

    Raises:
        SourceUnreachable: Nobody can listen there, or the path is served already.
    """
    with _servers_lock:
        server = _servers.get((host, port))
        if server is None:
            server = _servers[host, port] = HttpServer(host, port, certificate, connections)
        if box.path in server.paths:
            raise SourceUnreachable(
                f"the path {box.path} of {host}:{port} is taken by another table",
                hint="Declare another `from`.",
            )
        server.add(box)


def dismiss(box: Mailbox, host: str, port: int) -> None:
    """Serves a mailbox no more, and listens no more behind the last one."""
    with _servers_lock:
        server = _servers.get((host, port))
        if server is None:
            return
        server.remove(box)
        if not server.paths:
            del _servers[host, port]
            server.stop()
