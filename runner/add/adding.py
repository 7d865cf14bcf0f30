"""`wellspring add`: from an address to a declaration that `wellspring load` takes.

request -> `Place` -> asked and tested -> what is there -> what is wanted -> `Offer`s -> YAML and
connection, shown and, if that is agreed to, written

Nothing is written before the system has answered and the declaration has been checked. The
connection is written first: a declaration without one would fail every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ingestion.connections import Connection, offered, resolve, variable
from ingestion.durable import write_whole
from ingestion.errors import BadInput
from ingestion.failpoints import failpoint
from ingestion.redaction import register_secret
from ingestion.settings import Settings
from runner.add import places, secrets
from runner.add.offers import Found, Kind, Offer, Place
from runner.add.report import Shown
from runner.add.request import Asker, Request, chosen
from runner.add.writing import Draft, compose

_ASKED_FOR_PASSWORD = ("postgresql", "postgres", "mysql", "mariadb")


@dataclass(frozen=True)
class Added:
    """What came of it.

    Attributes:
        source: Name of the source.
        draft: Its declaration.
        is_written: Whether it was written.
        is_connection_written: Whether the connection was.
        connection: Name of the connection.
    """

    source: str
    draft: Draft
    is_written: bool
    is_connection_written: bool
    connection: str


@dataclass(frozen=True)
class _Target:
    """Where to look, and what will be written about how to get there."""

    place: Place
    pattern: str
    name: str
    keys: dict[str, Any]


def add(settings: Settings, request: Request, ask: Asker, shown: Shown) -> Added:
    """Adds a source, or tables to one.

    Args:
        settings: The project's settings.
        request: The command line.
        ask: Asks what it leaves open.
        shown: Tells what is found.

    Raises:
        BadInput: The request cannot be met.
        SourceUnreachable: The system does not answer or refuses the login.
    """
    target = _target(settings, request, ask)
    place = target.place
    with (
        offered(Connection(place.connection, place.url, place.options)),
        _looked(settings, target, request, ask) as found,
    ):
        shown.found(place, found)
        wanted = chosen(request, ask, found.listings)
        offers = _different([shown.looking(listing) for listing in wanted])
    shown.offers(offers)
    draft = compose(
        settings.project_dir,
        target.name,
        place,
        found.shared,
        offers,
        description=_description(request, ask, place),
        owner=request.owner,
    )
    if request.is_dry:
        shown.draft(draft)
        return Added(target.name, draft, False, False, place.connection)
    if not draft.added or not ask.is_agreed(f"Write {shown.path(draft.path)}", request.is_agreed):
        return Added(target.name, draft, False, False, place.connection)
    is_new = bool(target.keys) and secrets.write_connection(
        settings.project_dir, place.connection, target.keys
    )
    failpoint("add.between_connection_and_declaration")
    write_whole(draft.path, draft.text)
    return Added(target.name, draft, True, is_new, place.connection)


def _target(settings: Settings, request: Request, ask: Asker) -> _Target:
    """Where the system is, from the command line, the environment or what is configured."""
    keys: dict[str, Any] = {}
    if request.location and request.from_env:
        raise BadInput(
            "an address and --connection-from-env are both given", hint="Give one of them."
        )
    if request.from_env:
        url = places.from_environment(request.from_env)
    elif request.location:
        url = request.location
    elif request.connection:
        return _configured(request, ask)
    else:
        url = ask.text(
            "Address, file, folder or glob", "LOCATION or --connection-from-env", None, None
        )
    kind, url, pattern = places.locate(url, request.kind)
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in _ASKED_FOR_PASSWORD and not request.from_env and places.lacks_password(url):
        password = ask.secret("Password")
        url = places.with_password(url, password) if password else url
    name = _name(request, ask, kind, url, pattern)
    connection = request.connection or name
    keys["url"] = f"${{{request.from_env}}}" if request.from_env else url
    if request.from_env == variable(connection, "url"):
        keys = {}
    options = _options(request, ask, kind, keys)
    _register(url, options)
    place = Place(kind, connection, url, options)
    return _Target(replace(place, told=places.told(place, pattern)), pattern, name, keys)


def _configured(request: Request, ask: Asker) -> _Target:
    assert request.connection is not None
    connection = resolve(request.connection)
    kind, url, pattern = places.locate(connection.url, request.kind)
    name = _name(replace(request, name=request.name or request.connection), ask, kind, url, pattern)
    place = Place(kind, connection.name, connection.url, connection.options)
    return _Target(replace(place, told=places.told(place, pattern)), pattern, name, {})


def _name(request: Request, ask: Asker, kind: Kind, url: str, pattern: str) -> str:
    default = places.proposed_name(kind, url, pattern) or None
    return places.check_name(ask.text("Name of the source", "--name", request.name, default))


def _options(request: Request, ask: Asker, kind: Kind, keys: dict[str, Any]) -> dict[str, Any]:
    """Further keys of the connection, as values; `keys` gains what is to be written of them."""
    if kind != "rest":
        return {}
    if request.token_from_env:
        keys["token"] = f"${{{request.token_from_env}}}"
        return {"token": places.from_environment(request.token_from_env)}
    if request.auth in (None, "none"):
        return {}
    token = ask.secret("Token")
    if not token:
        raise BadInput(
            f"--auth {request.auth} needs a token", hint="Say --token-from-env VARIABLE."
        )
    keys["token"] = token
    return {"token": token}


def _register(url: str, options: dict[str, Any]) -> None:
    """Makes known what must never be shown."""
    from urllib.parse import unquote, urlsplit

    password = urlsplit(url).password if "://" in url else None
    for value in (password, unquote(password) if password else None, *options.values()):
        if isinstance(value, str):
            register_secret(value)


@contextmanager
def _looked(settings: Settings, target: _Target, request: Request, ask: Asker) -> Iterator[Found]:
    if target.place.kind == "database":
        from runner.add.databases import look

        with look(target.place, request.schema) as found:
            yield found
        return
    if target.place.kind == "files":
        from runner.add.files import look as look_at_files

        patterns = [target.pattern] if target.pattern else list(request.path)
        with look_at_files(settings, target.place, target.name, patterns) as found:
            yield found
        return
    if target.place.kind == "rest":
        from runner.add.apis import look as look_at_api

        with look_at_api(target.place, request) as found:
            yield found
        return
    from runner.add.streams import look as look_at_streams

    with look_at_streams(settings, target.place, request.tables) as found:
        yield found


def _different(offers: Sequence[Offer]) -> list[Offer]:
    """Offers under names of their own, where two become the same."""
    taken: dict[str, int] = {}
    found = []
    for offer in offers:
        taken[offer.name] = taken.get(offer.name, 0) + 1
        number = taken[offer.name]
        found.append(offer if number == 1 else replace(offer, name=f"{offer.name}_{number}"))
    return found


def _description(request: Request, ask: Asker, place: Place) -> str:
    told = request.description or f"{place.told}."
    if not request.is_agreed and not request.is_dry:
        told = ask.text("What the source is", "--description", request.description, told)
    return told
