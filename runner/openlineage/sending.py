"""Where OpenLineage events go: a file, a server, or both.

event -> one line of a file; a queue -> a thread of its own -> POST

A run never waits while it goes on; at its end it waits for the server as long as `timeout_seconds`
says, and no longer. What a server does not take is counted and told, not kept. Left out: buffering
of events on disk; whoever must not lose one writes them to a file and ships that.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ingestion.errors import IngestionError, SourceFailed, first_line
from ingestion.redaction import redact, register_secret
from ingestion.settings import Settings

KEY_VARIABLE = "OPENLINEAGE__API_KEY"
# After so many refusals in a row the server is taken to be away.
_REFUSALS = 3


class Sender(Protocol):
    """Takes events."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Takes one, without delay."""

    def finish(self) -> None:
        """No more will come.

        Raises:
            IngestionError: Not all of them arrived.
        """


def as_text(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON without secrets."""
    return redact(json.dumps(event, ensure_ascii=False, default=str))


class FileSender:
    """Appends events to a file, one a line.

    Args:
        path: The file; made with its folder if absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, event: Mapping[str, Any]) -> None:
        """Appends it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as handle:
            handle.write(as_text(event) + "\n")

    def finish(self) -> None:
        """Nothing is left to do."""


class HttpSender:
    """Posts events from a thread of its own.

    Args:
        url: The server's address for events.
        timeout_seconds: How long `finish` waits, and a request at most.
        api_key: Sent as a bearer token; None for none.
    """

    def __init__(self, url: str, timeout_seconds: float, api_key: str | None) -> None:
        self._url, self._timeout, self._key = url, timeout_seconds, api_key
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._sent = self._taken = 0
        self._problem = ""
        self._thread = threading.Thread(target=self._work, name="openlineage", daemon=True)
        self._thread.start()

    def send(self, event: Mapping[str, Any]) -> None:
        """Puts it into the queue."""
        self._sent += 1
        self._queue.put(as_text(event))

    def finish(self) -> None:
        """Waits for the server, for a while.

        Raises:
            IngestionError: It did not take all of them.
        """
        self._queue.put(None)
        self._thread.join(self._timeout)
        missing = self._sent - self._taken
        if missing:
            why = self._problem or f"it did not answer within {self._timeout:g} s"
            raise SourceFailed(
                f"{missing} of {self._sent} events were not taken by {redact(self._url)}: {why}",
                key="openlineage.url",
                hint="See whether the server is up; [openlineage] file keeps events for later.",
            )

    def _work(self) -> None:
        import requests

        refusals = 0
        with requests.Session() as session:
            session.headers["Content-Type"] = "application/json"
            if self._key:
                session.headers["Authorization"] = f"Bearer {self._key}"
            while (text := self._queue.get()) is not None:
                if refusals >= _REFUSALS:
                    continue
                try:
                    body = text.encode("utf-8")
                    session.post(self._url, data=body, timeout=self._timeout).raise_for_status()
                except requests.RequestException as error:
                    refusals += 1
                    self._problem = first_line(error)
                else:
                    refusals = 0
                    self._taken += 1


def api_key() -> str | None:
    """The server's key: from the environment, or `[openlineage] api_key` of `.dlt/secrets.toml`."""
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        import dlt

        key = dlt.secrets.get("openlineage.api_key")
    if key:
        register_secret(str(key))
    return str(key) if key else None


def moment(ago: float = 0.0) -> str:
    """An ISO moment, UTC.

    Args:
        ago: So many seconds before now.
    """
    at = time.time() - ago
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{whole}.{int(at % 1 * 1000):03d}Z"


def sender_of(settings: Settings) -> Sender:
    """Whoever takes the events of a project, by its settings."""
    wanted = settings.openlineage
    senders: list[Sender] = []
    if wanted.file:
        senders.append(FileSender(settings.project_dir / Path(wanted.file).expanduser()))
    if wanted.url:
        senders.append(HttpSender(wanted.url, wanted.timeout_seconds, api_key()))
    return Senders(senders)


class Senders:
    """Several senders as one.

    Args:
        senders: Who takes each event.
    """

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = senders

    def send(self, event: Mapping[str, Any]) -> None:
        """Hands it to each."""
        for sender in self._senders:
            sender.send(event)

    def finish(self) -> None:
        """Lets each finish.

        Raises:
            IngestionError: The first that one of them met.
        """
        errors: list[IngestionError] = []
        for sender in self._senders:
            try:
                sender.finish()
            except IngestionError as error:
                errors.append(error)
        if errors:
            raise errors[0]
