"""Asks one endpoint for its pages, and tells what goes wrong with them.

`Ask` (path, parameters, body) -> dlt's REST client -> sessions that try again, wait and read ahead
-> pages of records

What goes wrong is told with the address, the number of the page and how often it was tried. Left
out: what is asked for and what becomes of it, which is `reading`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from ingestion.connections import Connection
from ingestion.errors import IngestionError, SourceFailed, SourceUnreachable, first_line
from ingestion.progress import counted, interruption
from ingestion.rest.ahead import ReadAhead
from ingestion.rest.auth import authorisation
from ingestion.rest.declared import SIMPLE_PATH, RestEndpoint, RestResponse, RestSource
from ingestion.rest.limits import Budget, Pace, is_limited
from ingestion.rest.pages import PageFault, Pages, has_path, safe, value_at, whole
from ingestion.rest.records import parsed

if TYPE_CHECKING:
    import requests

_LONGEST_TOLD = 300


@dataclass(frozen=True)
class Ask:
    """What is asked for.

    Attributes:
        path: Path below the API's address.
        params: Query parameters.
        body: What is sent as JSON; nothing if empty.
        include: Columns of the parent's row that every record gets.
    """

    path: str
    params: Mapping[str, Any]
    body: Mapping[str, Any]
    include: Mapping[str, str] = field(default_factory=dict)


class Api:
    """An API, as all tables of its source share it.

    Args:
        source: What the tables share.
        connection: Where it is, and the secrets.

    Raises:
        ConnectionMissing: A key that the authorisation needs is not configured.
    """

    def __init__(self, source: RestSource, connection: Connection) -> None:
        from dlt.common.configuration import resolve_configuration
        from dlt.common.configuration.specs import RuntimeConfiguration
        from dlt.sources.helpers.requests.retry import Client

        self.source = source
        self.connection = connection
        self.auth = authorisation(source, connection)
        self.budget = Budget(source.connections)
        self.runtime = resolve_configuration(RuntimeConfiguration())
        pace = Pace(source.rate_limit, self.runtime.request_max_retry_delay)
        self._adapter = pace.adapter(source.connections)
        shared: dict[str, Any] = {
            "request_timeout": source.page_timeout,
            "raise_for_status": False,
        }
        self._again = Client(
            **shared,
            request_max_attempts=self.runtime.request_max_attempts,
            request_backoff_factor=self.runtime.request_backoff_factor,
            request_max_retry_delay=self.runtime.request_max_retry_delay,
            retry_condition=_is_passing,
        )
        self._once = Client(**shared, request_max_attempts=1, status_codes=(), exceptions=())

    def session(self) -> Any:
        """This thread's session that tries again."""
        return self._paced(self._again.session)

    def session_for_once(self) -> Any:
        """This thread's session that does not try again."""
        return self._paced(self._once.session)

    def _paced(self, session: Any) -> Any:
        for scheme in ("http://", "https://"):
            session.mount(scheme, self._adapter)
        return session


class Asking:
    """Asks for the pages of one `Ask`.

    Args:
        api: The API.
        endpoint: The table's declaration.
        where: `source` and `table`, for messages.

    Attributes:
        pages: The pages read so far.
    """

    def __init__(self, api: Api, endpoint: RestEndpoint, where: Mapping[str, Any]) -> None:
        self._api = api
        self._endpoint = endpoint
        self._where = where
        self._session = api.session()
        self._address = api.connection.url
        self.pages = Pages(endpoint, api.connection.url)

    def __call__(self, ask: Ask) -> Iterator[list[dict[str, Any]]]:
        """The pages' records, page by page.

        Raises:
            SourceUnreachable: The API does not answer or refuses the login.
            SourceFailed: It answers otherwise than expected.
        """
        for page in self._answers(ask):
            interruption.check()
            yield self._records(page, ask.include)

    def first_page(self, ask: Ask) -> Any:
        """The content of the first page; None if there is none."""
        for page in self._answers(ask):
            return page.response.json()
        return None

    def _answers(self, ask: Ask) -> Iterator[Any]:
        endpoint = self._endpoint
        self._address = f"{self._api.connection.url.rstrip('/')}/{ask.path.lstrip('/')}"
        with self._explained(), self._client() as client:
            yield from client.paginate(
                ask.path,
                method=endpoint.method,
                params=dict(ask.params),
                json=dict(ask.body) or None,
                headers=dict(endpoint.headers),
                paginator=self.pages,
                data_selector=endpoint.records or "$",
                hooks={"response": [self._received]},
            )

    @contextmanager
    def _client(self) -> Iterator[Any]:
        api = self._api
        once, declared = api.session_for_once, self._endpoint.paginator
        session = ReadAhead(self._session, once, declared, api.budget, self._look)
        try:
            yield _client_class()(
                base_url=api.connection.url,
                headers=dict(api.source.headers),
                auth=api.auth,
                session=session,
                config=api.runtime,
            )
        finally:
            session.close()

    def _look(self, page: Any) -> tuple[int | None, bool | None, int | None]:
        """What a page says of those behind it: see `ReadAhead`."""
        declared, path = self._endpoint.paginator, self._endpoint.records
        found = value_at(page, path) if path and SIMPLE_PATH.match(path) else page
        more = value_at(page, getattr(declared, "has_more_path", None) or "")
        total = value_at(page, getattr(declared, "total_path", None) or "")
        count = len(found) if isinstance(found, list) else None
        return count, more if isinstance(more, bool) else None, whole(total)

    def _received(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """Called for every response, also for those that will be tried again."""
        import requests

        action = self._action(response)
        if action == "empty":
            from dlt.sources.helpers.rest_client.exceptions import IgnoreResponseException

            raise IgnoreResponseException
        if action == "retry":
            again = requests.HTTPError(str(response.status_code), response=response)
            again.may_pass = True  # type: ignore[attr-defined]  # a mark for `_is_passing`
            raise again
        if action == "fail":
            raise PageFault(
                f"it answered {response.status_code} with what `rest.responses` calls a failure: "
                f"{response.text[:_LONGEST_TOLD].strip()!r}",
                url=response.url,
            )
        if response.status_code >= 400:
            raise requests.HTTPError(str(response.status_code), response=response)
        if response.is_redirect:
            self.pages.check_host(urljoin(response.url, response.headers["Location"]))
            return
        page = [] if response.status_code == 204 else parsed(response)
        self._check_records(page)
        # dlt asks for the JSON several times; it is parsed once.
        response.json = lambda **_: page  # type: ignore[method-assign]

    def _action(self, response: requests.Response) -> str:
        for declared in self._endpoint.responses:
            if _fits(declared, response):
                return declared.action
        return ""

    def _check_records(self, page: Any) -> None:
        records = self._endpoint.records
        if page == [] or not records or not SIMPLE_PATH.match(records):
            return
        if not has_path(page, records):
            keys = ", ".join(page) if isinstance(page, dict) else f"a {type(page).__name__}"
            raise PageFault(
                f"there is no {records!r} in the answer, which has: {keys}",
                "Correct `rest.records`: the path of keys to the array of records.",
            )

    def _records(self, page: Any, include: Mapping[str, str]) -> list[dict[str, Any]]:
        hint = "Correct `rest.records`: the path of keys to the array of records."
        for position, record in enumerate(page, start=1):
            if not isinstance(record, dict):
                raise self._failed_record(
                    f"page {self.pages.read}: record {position} is a {type(record).__name__}, an "
                    "object is expected",
                    "ingest.rest.records",
                    hint,
                )
            if clash := include.keys() & record.keys():
                raise self._failed_record(
                    f"records have a field {min(clash)!r} of their own",
                    "ingest.rest.parent.include",
                    "Give the parent's column another name.",
                )
        return [{**include, **record} for record in page] if include else list(page)

    def _failed_record(self, message: str, key: str, hint: str) -> SourceFailed:
        return SourceFailed(message, key=key, hint=hint, **self._where)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what goes wrong with a page into an error that says which page, where and why."""
        import requests

        connection, number = self._api.connection, self.pages
        try:
            yield
        except IngestionError as error:
            error.source = error.source or self._where.get("source")
            error.table = error.table or self._where.get("table")
            raise
        except PageFault as fault:
            raise self._failed(fault.url, fault.message, fault.hint) from None
        except requests.HTTPError as error:
            raise self._refused(error) from error
        except requests.RequestException as error:
            url = str(error.request.url) if error.request is not None else self._address
            reason = why_unanswered(error, self._api.source.page_timeout)
            raise SourceUnreachable(
                f"{safe(url)} does not answer: {reason} (page {number.read + 1}, {self._tries})",
                hint=f"Check connections.{connection.name}.url and that the service runs; "
                "nothing of this table was landed.",
                **self._where,
            ) from error
        except ValueError as error:
            raise self._failed(None, first_line(error)[:_LONGEST_TOLD], "") from error

    @property
    def _tries(self) -> str:
        # Tenacity, which dlt's session retries with, counts on the function that it wraps.
        count = getattr(getattr(self._session, "send", None), "statistics", {})
        return counted(int(count.get("attempt_number", 1)), "attempt")

    def _failed(self, url: str | None, message: str, hint: str) -> SourceFailed:
        return SourceFailed(
            f"{safe(url or self._address)}, page {self.pages.read + 1}: {message}",
            hint=f"{hint} Nothing of this table was landed.".strip(),
            **self._where,
        )

    def _refused(self, error: requests.HTTPError) -> IngestionError:
        response = error.response
        assert response is not None
        status = response.status_code
        text = (
            f"{safe(response.url)} answered {status} {response.reason or ''}".rstrip()
            + f" (page {self.pages.read + 1}, {self._tries})"
        )
        if status in (401, 403, 407) and not is_limited(response):
            key = f"connections.{self._api.connection.name}"
            hint = f"Check the secret in {key} and `rest.auth` in the declaration."
            return SourceUnreachable(f"the login is refused: {text}", hint=hint, **self._where)
        missing = "Check `rest.path` in the declaration and the URL of the connection."
        if self._endpoint.parent is not None:
            missing = (
                "If there is nothing for some rows of the parent, declare `rest.responses: "
                "[{status: 404, action: empty}]`; else check `rest.path`."
            )
        hint = {404: missing, 429: "The API limits requests; run again later."}.get(
            status, "Run again later." if status >= 500 else "Check `rest.params`."
        )
        return SourceFailed(text, hint=f"{hint} Nothing of this table was landed.", **self._where)


@lru_cache(maxsize=1)
def _client_class() -> type[Any]:
    """Dlt's client, whose records are those of every place that the path finds."""
    from dlt.common import jsonpath
    from dlt.sources.helpers.rest_client import RESTClient

    class Client(RESTClient):  # type: ignore[misc]  # dlt is not typed
        def extract_response(self, response: requests.Response, data_selector: Any) -> list[Any]:
            found: list[Any] = []
            for value in jsonpath.find_values(data_selector, response.json()):
                if isinstance(value, list):
                    found.extend(value)
                elif value is not None:
                    found.append(value)
            return found

    return Client


def _fits(declared: RestResponse, response: requests.Response) -> bool:
    if declared.status is not None and declared.status != response.status_code:
        return False
    return declared.contains is None or declared.contains in response.text


def _is_passing(response: requests.Response | None, error: BaseException | None) -> bool:
    """Whether an answer that is no 429 or 5xx may be another one a little later."""
    return getattr(error, "may_pass", False) or is_limited(response)


def why_unanswered(error: requests.RequestException, timeout: float) -> str:
    """Why a request got no answer, in a few words."""
    import requests

    if isinstance(error, requests.Timeout):
        return f"no answer within {timeout:g} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "it broke off in the middle of a page"
    text = str(error)
    for sign, meaning in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "the host's name is not known"),
        ("name resolution", "the host's name is not known"),
        ("CERTIFICATE", "its certificate is not accepted"),
        ("Remote end closed", "it closed the connection"),
        ("Connection aborted", "it closed the connection"),
        ("IncompleteRead", "it broke off in the middle of a page"),
    ):
        if sign in text:
            return meaning
    return first_line(error)
