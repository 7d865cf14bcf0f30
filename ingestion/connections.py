"""Where the systems are and how to log in: connections by name, read through dlt's configuration.

.dlt/secrets.toml, .dlt/config.toml, CONNECTIONS__<NAME>__<KEY> -> `resolve` -> `Connection`

A declaration names a connection; the address and the secret never stand in the repository. Left
out: opening the connection, which each kind of source does by itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ingestion.errors import ConnectionMissing
from ingestion.redaction import redact, register_secret
from ingestion.settings import Settings

__all__ = ["Connection", "is_configured", "offered", "redact", "resolve", "variable"]

_SECRET_KEY = re.compile(r"pass(word|wd)?|pwd|token|secret|key|credential|sas|signature", re.I)
_VARIABLE = re.compile(r"^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$")
# Connections that are tried before anything is written down.
_offered: dict[str, dict[str, Any]] = {}
_OPEN_KEY = re.compile(r"^(key_?file|.*_path|.*_name|api_key_name)$", re.I)


@dataclass(frozen=True)
class Connection:
    """A resolved connection.

    Attributes:
        name: The name that declarations use.
        url: Address of the system, with user and password where it takes them there.
        options: Every further key of the connection, such as `token` or `endpoint_url`.
    """

    name: str
    url: str = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def safe_url(self) -> str:
        """The address with its password masked, fit for messages."""
        return redact(self.url)

    def option(self, key: str) -> Any:
        """The value of a further key.

        Raises:
            ConnectionMissing: The connection has no such key.
        """
        if self.options.get(key) in (None, ""):
            raise _missing(self.name, key)
        return self.options[key]


def variable(name: str, key: str) -> str:
    """The environment variable that sets a key of a connection."""
    return f"CONNECTIONS__{name.upper()}__{key.upper()}"


def resolve(name: str) -> Connection:
    """Looks a connection up and makes its secrets known to `redact`.

    Args:
        name: Name of the connection as the declaration states it.

    Raises:
        ConnectionMissing: No `url` is configured under this name.
    """
    options = _configured(name)
    url = options.pop("url", None)
    if not isinstance(url, str) or not url.strip():
        raise _missing(name, "url")
    _register(url, options)
    return Connection(name=name, url=url.strip(), options=options)


def is_configured(name: str, settings: Settings) -> bool:
    """Whether a connection has an address, found without the cost of loading dlt."""
    if os.environ.get(variable(name, "url")):
        return True
    folder = settings.project_dir / ".dlt"
    found = (_toml_connections(folder / file) for file in ("secrets.toml", "config.toml"))
    return any(_expanded(keys[name]["url"]) for keys in found if name in keys)


@contextmanager
def offered(connection: Connection) -> Iterator[None]:
    """Lets `resolve` find a connection that is not written down anywhere yet."""
    _offered[connection.name] = {"url": connection.url, **connection.options}
    try:
        yield
    finally:
        del _offered[connection.name]


def remember_environment() -> None:
    """Makes the secrets of `CONNECTIONS__*` variables known to `redact`."""
    for key, value in os.environ.items():
        if key.startswith("CONNECTIONS__"):
            last = key.rpartition("__")[2].lower()
            _register(value if last == "url" else "", {} if last == "url" else {last: value})


def _toml_connections(path: os.PathLike[str]) -> Mapping[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as handle:  # noqa: PTH123 - any path-like
            found = tomllib.load(handle).get("connections", {})
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: keys for name, keys in found.items() if isinstance(keys, dict) and keys.get("url")
    }


def _configured(name: str) -> dict[str, Any]:
    """All keys of a connection; the environment wins, as it does everywhere in dlt."""
    if name in _offered:
        return dict(_offered[name])
    import dlt

    keys: dict[str, Any] = {}
    for accessor in (dlt.config, dlt.secrets):
        found = accessor.get(f"connections.{name}")
        if isinstance(found, Mapping):
            keys.update({key: _plain(value) for key, value in found.items()})
    prefix = variable(name, "")
    for key, value in os.environ.items():
        if key.startswith(prefix) and "__" not in key.removeprefix(prefix):
            keys[key.removeprefix(prefix).lower()] = value
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return _expanded(value)


def _expanded(value: Any) -> Any:
    """`${NAME}` as what the environment variable of that name holds, nothing if it is not set."""
    found = _VARIABLE.match(value) if isinstance(value, str) else None
    return os.environ.get(found.group(1), "") if found else value


def _register(url: str, options: Mapping[str, Any]) -> None:
    try:
        parts = urlsplit(url)
        password = parts.password
        query = parse_qsl(parts.query)
    except ValueError:
        password, query = None, []
    if password:
        register_secret(password)
        register_secret(unquote(password))
    for key, value in [*options.items(), *query]:
        if isinstance(value, Mapping):
            _register("", value)
        elif isinstance(value, str) and _SECRET_KEY.search(key) and not _OPEN_KEY.match(key):
            register_secret(value)


def _missing(name: str, key: str) -> ConnectionMissing:
    value = '"..."'
    return ConnectionMissing(
        f"the connection {name!r} has no {key!r}",
        key=f"connections.{name}.{key}",
        hint=(
            f"Set it in .dlt/secrets.toml under [connections.{name}]: {key} = {value}, or in the "
            f"environment as {variable(name, key)}."
        ),
    )
