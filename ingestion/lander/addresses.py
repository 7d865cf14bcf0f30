"""Where a broker is and how to log in, from a connection.

connection -> `address`, `tls_context` -> what client libraries want to know

Left out: options that only one system has, which its consumer reads.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ingestion.connections import Connection
from ingestion.errors import BadInput, SettingsError


@dataclass(frozen=True)
class Address:
    """The parts of a connection's address.

    Attributes:
        scheme: What stands before `://`.
        host: Name or number of the machine.
        port: Port, the system's usual one if the address has none.
        user: User; None if there is none.
        password: Password; None if there is none.
        path: What follows host and port, without the slash.
        query: What follows the question mark.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict, repr=False)


def address(connection: Connection, ports: Mapping[str, int]) -> Address:
    """The parts of a connection's address.

    Args:
        connection: The connection; its `username` and `password` win over those in the address.
        ports: Usual port by scheme.

    Raises:
        SettingsError: It is no address of one of these schemes.
    """
    expected = " or ".join(f"{scheme}://host:{port}" for scheme, port in ports.items())
    try:
        parts = urlsplit(connection.url)
        port = parts.port
    except ValueError as error:
        raise _wrong(connection, f"{error}", expected) from error
    if parts.scheme not in ports or not parts.hostname:
        raise _wrong(connection, f"found {connection.safe_url}", expected)
    options = connection.options
    user = options.get("username") or (unquote(parts.username) if parts.username else None)
    password = options.get("password") or (unquote(parts.password) if parts.password else None)
    return Address(
        scheme=parts.scheme,
        host=parts.hostname,
        port=ports[parts.scheme] if port is None else port,
        user=user,
        password=None if password is None else str(password),
        path=parts.path.strip("/"),
        query=dict(parse_qsl(parts.query)),
    )


def _wrong(connection: Connection, found: str, expected: str) -> SettingsError:
    return SettingsError(
        f"the address of the connection {connection.name!r} cannot be used: {found}; "
        f"expected {expected}",
        key=f"connections.{connection.name}.url",
    )


def tls_context(connection: Connection) -> ssl.SSLContext:
    """How to trust a server, and to be trusted by it: `ca_file`, `cert_file`, `key_file`.

    Raises:
        SettingsError: One of these files cannot be read.
    """
    options = connection.options
    try:
        context = ssl.create_default_context(cafile=options.get("ca_file") or None)
        if options.get("cert_file"):
            context.load_cert_chain(options["cert_file"], options.get("key_file") or None)
    except OSError as error:
        raise SettingsError(
            f"the certificates of the connection {connection.name!r} cannot be read: {error}",
            key=f"connections.{connection.name}",
            hint="Look at ca_file, cert_file and key_file: each is the path of a PEM file.",
        ) from error
    return context


def whole(connection: Connection, key: str, default: int, least: int = 1) -> int:
    """A further key of a connection that is a whole number.

    Raises:
        SettingsError: It is none, or too small.
    """
    given: Any = connection.options.get(key)
    if given in (None, ""):
        return default
    try:
        number = int(given)
    except (TypeError, ValueError):
        number = least - 1
    if number < least:
        raise SettingsError(
            f"found {given!r}, expected a whole number of at least {least}",
            key=f"connections.{connection.name}.{key}",
        )
    return number


def not_installed(extra: str, error: ImportError) -> BadInput:
    """The error to tell when the library of a broker is missing."""
    return BadInput(
        f"the library for {extra} is not installed ({error.name})",
        hint=f"Install it with `uv sync --extra {extra}` or `pip install 'wellspring[{extra}]'`.",
    )
