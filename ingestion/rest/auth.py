"""How requests to an API are authorised, with secrets that only connections hold.

declaration + connection -> `authorisation` -> a signed request
401 while a token of OAuth 2 is in use -> a new token -> the same request once more

Every secret, a token that was given included, is made known to `redact` before it is used. Left
out: flows in which a person has to agree, whose tokens a source of kind `python` can bring.
"""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from ingestion.connections import Connection
from ingestion.errors import SourceUnreachable, first_line
from ingestion.redaction import redact, register_secret
from ingestion.rest.declared import (
    ApiKeyAuth,
    BasicAuth,
    BearerAuth,
    HeadersAuth,
    OAuth2Auth,
    RestSource,
)

if TYPE_CHECKING:
    import requests

_LIFETIME = 3600.0
# A token is renewed so long before it ends: requests take their time.
_MARGIN = 30.0
_SECONDS = 60.0


def authorisation(source: RestSource, connection: Connection) -> Any:
    """Authorisation of the declared type, with the connection's secrets.

    Args:
        source: The declaration of the API.
        connection: Where its secrets are.

    Returns:
        What `requests` takes as `auth`; None if there is none.

    Raises:
        ConnectionMissing: The connection lacks a key that the authorisation needs.
    """
    auth = source.auth

    def secret(key: str) -> str:
        value = str(connection.option(key))
        register_secret(value)
        return value

    match auth:
        case BearerAuth():
            return _signer({"Authorization": f"{auth.prefix} {secret(auth.key)}"})
        case ApiKeyAuth(location="header"):
            return _signer({auth.name: secret(auth.key)})
        case ApiKeyAuth(location="cookie"):
            return _signer({"Cookie": f"{auth.name}={secret(auth.key)}"})
        case ApiKeyAuth():
            return _signer({}, {auth.name: secret(auth.key)})
        case BasicAuth():
            # Without a password, the name is the secret.
            user = (
                secret(auth.username_key) if not auth.key else connection.option(auth.username_key)
            )
            password = secret(auth.key) if auth.key else ""
            return _signer({"Authorization": basic(str(user), password)})
        case HeadersAuth():
            return _signer({name: secret(key) for name, key in auth.headers.items()})
        case OAuth2Auth():
            client = (secret(auth.id_key), secret(auth.secret_key))
            return _tokens(Tokens(auth, connection, client))
        case _:
            return None


def basic(user: str, password: str) -> str:
    """The value of an `Authorization` header for a name and a password."""
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    register_secret(encoded)
    return f"Basic {encoded}"


def _signer(headers: Mapping[str, str], params: Mapping[str, str] | None = None) -> Any:
    """An authorisation that sets headers and query parameters."""
    from requests.auth import AuthBase

    class Signer(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers.update(headers)
            if params:
                request.url = with_params(str(request.url), params)
            return request

    return Signer()


def with_params(url: str, params: Mapping[str, str]) -> str:
    """An address with these query parameters, each of them once: links may repeat the secret."""
    parts = urlsplit(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(key, value) for key, value in given if key not in params]
    if len(kept) < len(given):
        parts = parts._replace(query=urlencode(kept))
    query = "&".join(filter(None, [parts.query, urlencode(params)]))
    return urlunsplit(parts._replace(query=query))


class Tokens:
    """Gives the token of an API, and asks for a new one when it has ended.

    Args:
        auth: The declaration.
        connection: Where the API is.
        client: The client's id and secret.
        clock: Tells the seconds.
    """

    def __init__(
        self,
        auth: OAuth2Auth,
        connection: Connection,
        client: tuple[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auth = auth
        self._connection = connection
        self._client = client
        self._clock = clock
        self._url = urljoin(connection.url.rstrip("/") + "/", auth.token_url.lstrip("/"))
        self._lock = threading.Lock()
        self._token = ""
        self._ends = 0.0

    def current(self, refused: str = "") -> str:
        """The token to use now.

        Args:
            refused: A token that the API did not take any more.
        """
        with self._lock:
            if not self._token or self._clock() >= self._ends or self._token == refused:
                self._token, self._ends = self._ask()
            return self._token

    def _ask(self) -> tuple[str, float]:
        import requests

        try:
            response = requests.post(self._url, timeout=_SECONDS, **self._question())
            content = response.json() if response.ok else {}
        except requests.JSONDecodeError:
            content = {}
        except requests.RequestException as error:
            raise self._refused(f"does not answer: {first_line(error)}") from None
        token = content.get("access_token") if isinstance(content, dict) else None
        if not token:
            told = "" if not response.ok else " without an access_token"
            raise self._refused(f"answered {response.status_code} {response.reason}{told}")
        register_secret(str(token))
        lifetime = _seconds(content.get("expires_in"))
        # Half of a short life is better than asking before each request.
        return str(token), self._clock() + max(lifetime - _MARGIN, lifetime / 2)

    def _question(self) -> dict[str, Any]:
        ident, secret = self._client
        fields = {"grant_type": "client_credentials", **self._auth.fields}
        if self._auth.scope:
            fields["scope"] = self._auth.scope
        if self._auth.client_in == "header":
            return {"data": fields, "headers": {"Authorization": basic(ident, secret)}}
        return {"data": {**fields, "client_id": ident, "client_secret": secret}}

    def _refused(self, what: str) -> SourceUnreachable:
        name, auth = self._connection.name, self._auth
        return SourceUnreachable(
            f"no token was given: {redact(self._url)} {what}",
            key="ingest.rest.auth",
            hint=f"Check connections.{name}.{auth.id_key} and .{auth.secret_key}, and `token_url` "
            "and `scope` of `rest.auth` in the declaration.",
        )


def _tokens(tokens: Tokens) -> Any:
    """An authorisation by a token that is asked for again once it is refused."""
    from requests.auth import AuthBase

    class Signer(AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {tokens.current()}"
            request.register_hook("response", self._again)
            return request

        def _again(self, response: requests.Response, **options: Any) -> requests.Response:
            request = response.request
            used = str(request.headers.get("Authorization", "")).removeprefix("Bearer ")
            if response.status_code != 401 or getattr(request, "renewed", False):
                return response
            _ = response.content
            response.close()
            request.headers["Authorization"] = f"Bearer {tokens.current(refused=used)}"
            # Once a request: a new token that is refused as well is a matter of rights.
            request.renewed = True  # type: ignore[attr-defined]  # a mark of our own
            again: requests.Response = response.connection.send(request, **options)
            again.history.append(response)
            again.request = request
            return again

    return Signer()


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return _LIFETIME
    return seconds if seconds > 0 else _LIFETIME
