"""Asks a source whether it answers, and reads nothing from it.

declaration -> its connection is opened, listed or called once -> `Answer`, or the error that an
extraction would meet

Left out: sources of kind `python`, whose code alone knows how to ask.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ingestion.connections import resolve
from ingestion.declarations import SourceDeclaration
from ingestion.errors import SourceUnreachable
from ingestion.settings import Settings

_SECONDS = 10.0
_REFUSED = (401, 403)
_PORTS = {
    **{"nats": 4222, "tls": 4222, "mqtt": 1883, "mqtts": 8883},
    **{"redis": 6379, "rediss": 6379, "kafka": 9092},
}


@dataclass(frozen=True)
class Answer:
    """What a source answered.

    Attributes:
        text: What was done and found, in words.
        skew_seconds: How far its clock is ahead of ours; None where it does not say.
    """

    text: str
    skew_seconds: float | None = None


def probe(declaration: SourceDeclaration, settings: Settings) -> Answer:
    """Asks a source whether it answers.

    Args:
        declaration: The source.
        settings: The project's settings.

    Raises:
        IngestionError: It does not, or its connection is not configured.
    """
    match declaration.kind:
        case "database":
            from ingestion.database import probe_database

            probe_database(declaration)
            return Answer("logged in")
        case "cdc":
            from ingestion.cdc.lander import probe

            return Answer(probe(declaration))
        case "rest":
            return _ask(declaration)
        case "stream":
            return _knock(declaration)
        case "files":
            from ingestion.files import list_origin

            _, found = list_origin(declaration, declaration.tables[0], settings)
            return Answer(f"{len(found):,} files of {declaration.tables[0].name} are there")
        case _:
            return Answer("not asked: its own code knows how")


def _knock(declaration: SourceDeclaration) -> Answer:
    """Whether a broker's port is open; to log in would take a session from a lander at work."""
    connection = resolve(declaration.connection or "")
    parts = urlsplit(connection.url)
    port = parts.port or _PORTS.get(parts.scheme)
    if parts.hostname is None or port is None or parts.scheme in ("http", "https"):
        return Answer("not asked: it is not ours to call")
    try:
        socket.create_connection((parts.hostname, port), timeout=_SECONDS).close()
    except OSError as error:
        raise SourceUnreachable(
            f"{connection.safe_url}: {error.strerror or error}",
            source=declaration.name,
            hint=f"Check connections.{connection.name}.url, and whether the broker is up.",
        ) from error
    return Answer(f"{parts.hostname}:{port} is open")


def _ask(declaration: SourceDeclaration) -> Answer:
    """Calls the API's address; an answer that is no fault of the server or the login will do."""
    import requests

    from ingestion.rest.asking import why_unanswered
    from ingestion.rest.auth import authorisation

    connection = resolve(declaration.connection or "")
    assert declaration.rest is not None
    login = authorisation(declaration.rest, connection)
    began = time.time()
    try:
        answer = requests.get(
            connection.url,
            auth=login,
            headers=declaration.rest.headers,
            timeout=_SECONDS,
            stream=True,
        )
    except requests.RequestException as error:
        raise SourceUnreachable(
            f"{connection.safe_url}: {why_unanswered(error, _SECONDS)}",
            source=declaration.name,
            hint=f"Check connections.{connection.name}.url, and whether the API is up.",
        ) from error
    with answer:
        if answer.status_code >= 500 or answer.status_code in _REFUSED:
            raise SourceUnreachable(
                f"{connection.safe_url} answered {answer.status_code} {answer.reason}",
                source=declaration.name,
                hint=f"Check the login in connections.{connection.name}, or wait until it is up.",
            )
        return Answer(f"answered {answer.status_code}", _skew(answer.headers.get("Date"), began))


def _skew(date: str | None, began: float) -> float | None:
    """The header has whole seconds, and the answer took its time: both are no skew."""
    try:
        told = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    now = time.time()
    if told < began - 1:
        return told - (began - 1)
    return max(0.0, told - now)
