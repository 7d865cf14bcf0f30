"""A paged API that takes its time: every page comes after 50 ms, whoever else is being served.

`python paged_api.py <pages> <records> <milliseconds>` -> prints its address, serves until killed

Records are of the usual kinds: numbers, decimals, texts, times, a flag, a nested object. Pages are
made before the first request, so that only waiting and sending take time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


def record(number: int) -> dict[str, object]:
    """A made-up record, always the same for its number."""
    mixed = number * 2_654_435_761 % 2**32
    return {
        "id": number,
        "name": f"thing {mixed % 100_000} of many",
        "price": (mixed % 1_000_000) / 100,
        "quantity": mixed % 97,
        "is_open": mixed % 3 == 0,
        "created_at": f"2026-01-{mixed % 28 + 1:02d}T10:{mixed % 60:02d}:00Z",
        "note": None if mixed % 5 else "as agreed",
        "address": {"city": f"city {mixed % 500}", "zip": str(mixed % 99_999)},
    }


def main(pages: int, size: int, delay: float) -> None:
    """Serves pages 1 to `pages`, and empty ones behind them."""
    made = [
        json.dumps(
            {"pages": pages, "things": [record(page * size + n) for n in range(size)]}
        ).encode()
        for page in range(pages)
    ]
    empty = json.dumps({"pages": pages, "things": []}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
            threading.Event().wait(delay)
            body = made[page - 1] if page <= pages else empty
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


@contextmanager
def serving(sizes: Mapping[str, int]) -> Iterator[str]:
    """The address of such an API, in a process of its own."""
    given = [str(sizes[name]) for name in ("pages", "records", "milliseconds")]
    command = [sys.executable, str(Path(__file__)), *given]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) / 1000)
