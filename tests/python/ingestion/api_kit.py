"""A real HTTP server whose answers a test sets by path."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "tok-SECRET-123"
Answer = tuple[int, dict[str, str], bytes]


class Api:
    """A server whose answers a test sets by path; it remembers the requests."""

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[dict[str, str], dict[str, str]], Any]] = {}
        self.posts: dict[str, Callable[[Any, dict[str, str]], Any]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.headers: list[dict[str, str]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(api.routes)

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer(api.posts, sent)

            def _answer(self, routes: dict[str, Any], sent: bytes | None = None) -> None:
                parts = urlsplit(self.path)
                query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
                api.requests.append((parts.path, query))
                api.headers.append(dict(self.headers))
                asked = query if sent is None else _content(sent)
                found = api.answer(routes, parts.path, asked, dict(self.headers))
                status, headers, body = found
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)
                if "Content-Length" in headers:
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(
        self, routes: dict[str, Any], path: str, asked: Any, headers: dict[str, str]
    ) -> Answer:
        """What a route answers; a route `/things/*` stands for every path below it."""
        above = f"{path.rpartition('/')[0]}/*"
        if path not in routes and above not in routes:
            return 404, {}, b"{}"
        if path not in routes:
            asked = {**asked, "below": path.rpartition("/")[2]}
        given = routes.get(path, routes.get(above))(asked, headers)
        if isinstance(given, tuple):
            return given
        return 200, {"Content-Type": "application/json"}, json.dumps(given).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _content(sent: bytes) -> Any:
    """What a POST brought: JSON, or a form."""
    try:
        return json.loads(sent)
    except ValueError:
        return {key: values[-1] for key, values in parse_qs(sent.decode()).items()}
