"""Where messages go: a program, webhooks, mail.

`[notifications]` -> `Target`s -> one attempt to deliver a message -> nothing, or `DeliveryFailed`

Addresses that are secrets are connections (`.dlt/secrets.toml`): a webhook's URL, a mail server
with user and password. Left out: when to try again, which the outbox knows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ingestion.errors import IngestionError, SettingsError, first_line
from ingestion.redaction import redact, register_secret
from ingestion.settings import Settings

if TYPE_CHECKING:
    import smtplib

_SECONDS = 10.0
_COMMAND_SECONDS = 30.0
_PASSING = (408, 425, 429)


class DeliveryFailed(Exception):
    """A message could not be delivered.

    Args:
        text: Why, for people; without secrets.
        may_pass: Whether trying again soon can help.
    """

    def __init__(self, text: str, may_pass: bool = True) -> None:
        super().__init__(redact(text))
        self.may_pass = may_pass


@dataclass(frozen=True)
class Target:
    """Somebody who is told.

    Attributes:
        name: `command`, `webhook <connection>` or `mail`.
        deliver: Tries once to deliver the content of a message, and raises `DeliveryFailed`.
    """

    name: str
    deliver: Callable[[dict[str, Any]], None]


def targets(settings: Settings) -> list[Target]:
    """Everybody who is told, by the project's settings.

    Raises:
        SettingsError: Mail has no sender or no recipient.
    """
    told = settings.notifications
    if told.mail_server and not (told.mail_from and told.mail_to):
        raise SettingsError(
            "mail has no sender or no recipient",
            key="notifications.mail_server",
            hint="Set [notifications] mail_from and mail_to as well.",
        )
    found = []
    if told.command:
        found.append(Target("command", lambda content: _run(settings, content)))
    for name in told.webhooks:
        found.append(Target(f"webhook {name}", _poster(name)))
    if told.mail_server:
        found.append(Target("mail", lambda content: _mail(settings, content)))
    return found


# -- a program ---------------------------------------------------------------------------------


def _run(settings: Settings, content: dict[str, Any]) -> None:
    command = settings.notifications.command
    environment = {
        **os.environ,
        "WELLSPRING_MESSAGE": content["text"],
        "WELLSPRING_MESSAGE_ID": content["wellspring"]["message_id"],
    }
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=settings.project_dir,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise DeliveryFailed(f"{command[0]}: {error.strerror or error}", may_pass=False) from error
    with process:
        try:
            said = process.communicate(json.dumps(content), timeout=_COMMAND_SECONDS)[1]
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise DeliveryFailed(
                f"{command[0]} did not end within {_COMMAND_SECONDS:.0f} s", may_pass=False
            ) from error
    if process.returncode:
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise DeliveryFailed(f"{command[0]} ended with code {process.returncode}: {last}")


# -- webhooks ----------------------------------------------------------------------------------


def _poster(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: _post(_address(name), content)


def _address(name: str) -> str:
    from ingestion.connections import resolve

    try:
        url = resolve(name).url
    except IngestionError as error:
        raise DeliveryFailed(error.sentence, may_pass=False) from error
    # Whoever knows the address may write there: all of it is a secret.
    register_secret(url)
    register_secret(urlsplit(url).path)
    return url


def _post(url: str, content: dict[str, Any]) -> None:
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Staying(HTTPRedirectHandler):
        """Follows no redirection: a POST would arrive as a GET, at a place nobody named."""

        def redirect_request(self, *ignored: Any) -> None:
            """Declines."""
            return

    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Idempotency-Key": content["wellspring"]["message_id"],
        "User-Agent": "wellspring",
    }
    body = json.dumps(content).encode()
    try:
        request = Request(url, body, headers)
        with build_opener(Staying).open(request, timeout=_SECONDS) as answer:
            answer.read(1)
    except HTTPError as error:
        may_pass = error.code >= 500 or error.code in _PASSING
        raise DeliveryFailed(f"answered {error.code} {error.reason}", may_pass) from error
    except (OSError, ValueError) as error:
        raise DeliveryFailed(first_line(error)) from error


# -- mail --------------------------------------------------------------------------------------


def _mail(settings: Settings, content: dict[str, Any]) -> None:
    from email.message import EmailMessage
    from email.utils import formatdate
    from smtplib import SMTPException

    told = settings.notifications
    message = EmailMessage()
    fields = content["wellspring"]
    message["Subject"] = content["text"].splitlines()[0]
    message["From"] = told.mail_from
    message["To"] = ", ".join(told.mail_to)
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{fields['message_id']}@{fields['host']}>"
    message.set_content(content["text"])
    try:
        with _mail_server(told.mail_server) as server:
            server.send_message(message)
    except (SMTPException, OSError, ValueError) as error:
        raise DeliveryFailed(first_line(error)) from error


def _mail_server(name: str) -> smtplib.SMTP:
    """A connection to the mail server; a password goes out only over TLS."""
    import smtplib
    import ssl

    from ingestion.connections import resolve

    try:
        connection = resolve(name)
    except IngestionError as error:
        raise DeliveryFailed(error.sentence, may_pass=False) from error
    parts = urlsplit(connection.url)
    host = parts.hostname or ""
    context = ssl.create_default_context(cafile=connection.options.get("ca_file"))
    if parts.scheme == "smtps":
        port = parts.port or 465
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_SECONDS, context=context)
    elif parts.scheme == "smtp":
        server = smtplib.SMTP(host, parts.port or 587, timeout=_SECONDS)
        if dict(parse_qsl(parts.query)).get("starttls") != "never":
            server.starttls(context=context)
        elif parts.username:
            server.close()
            raise DeliveryFailed("a password is not sent without TLS", may_pass=False)
    else:
        raise DeliveryFailed(
            f"connection {name}: its url begins with {parts.scheme}:, expected smtp: or smtps:",
            may_pass=False,
        )
    if parts.username:
        server.login(unquote(parts.username), unquote(parts.password or ""))
    return server
