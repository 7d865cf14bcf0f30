"""What the YAML may say of an HTTP API, and which of it goes together.

`ingest.rest` of a source -> `RestSource`; of a table -> `RestEndpoint` -> `faults_of` -> reading

Every kind of authorisation and of paging is a model with its own keys, so that a key that belongs
to another kind is refused. Secrets stand in connections, never here; only their keys are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ingestion.strict import Span, Strict, Text

PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")
SIMPLE_PATH = re.compile(r"^[\w.-]+$")
Fault = tuple[str, Any, str]


class NoAuth(Strict):
    """Requests that need no authorisation."""

    type: Literal["none"] = "none"


class BearerAuth(Strict):
    """A token in the `Authorization` header.

    Attributes:
        key: Key of the connection that holds the token.
        prefix: The word before it.
    """

    type: Literal["bearer"]
    key: Text = "token"
    prefix: Text = "Bearer"


class ApiKeyAuth(Strict):
    """A key in a header, in the query or in a cookie.

    Attributes:
        key: Key of the connection that holds it.
        name: Name of the header, query parameter or cookie.
        location: Where it goes.
    """

    type: Literal["api_key"]
    key: Text = "api_key"
    name: Text = "Authorization"
    location: Literal["header", "query", "cookie"] = "header"


class BasicAuth(Strict):
    """A name and a password.

    Attributes:
        username_key: Key of the connection that holds the name.
        key: Key of the connection that holds the password; empty where there is none.
    """

    type: Literal["basic"]
    username_key: Text = "username"
    key: str = "password"


class HeadersAuth(Strict):
    """Secrets in several headers of any name.

    Attributes:
        headers: Key of the connection by name of the header.
    """

    type: Literal["headers"]
    headers: Annotated[dict[str, Text], Field(min_length=1)]


class OAuth2Auth(Strict):
    """A token that is given for an id and a secret, for a while (client credentials).

    Attributes:
        token_url: Where tokens are given; below the connection's address unless it is whole.
        id_key: Key of the connection that holds the client's id.
        secret_key: Key of the connection that holds the client's secret.
        scope: What is asked for, as the API names it.
        fields: Further fields of the request for a token, such as `audience`; no secrets.
        client_in: Whether id and secret go into the request's body or its `Authorization` header.
    """

    type: Literal["oauth2"]
    token_url: Text
    id_key: Text = "client_id"
    secret_key: Text = "client_secret"
    scope: Text | None = None
    fields: dict[str, str] = {}
    client_in: Literal["body", "header"] = "body"


RestAuth = Annotated[
    NoAuth | BearerAuth | ApiKeyAuth | BasicAuth | HeadersAuth | OAuth2Auth,
    Field(discriminator="type"),
]


class RateLimit(Strict):
    """How many requests an API allows.

    Attributes:
        requests: Their number.
        per: The time in which so many are allowed.
    """

    requests: Annotated[int, Field(ge=1)]
    per: Span = timedelta(seconds=1)


class RestSource(Strict):
    """What all tables of an API share.

    Attributes:
        auth: How requests are authorised.
        headers: Further headers of every request; no secrets.
        page_timeout: Seconds to wait for one page.
        connections: How many pages may be asked for at the same time, over all tables.
        rate_limit: How many requests are made in a time at most, over all tables.
    """

    auth: RestAuth = NoAuth()
    headers: dict[str, str] = {}
    page_timeout: Annotated[float, Field(gt=0, strict=False)] = 60.0
    connections: Annotated[int, Field(ge=1)] = 8
    rate_limit: RateLimit | None = None


class CursorPaginator(Strict):
    """Pages that name the cursor of the next one in their body."""

    type: Literal["cursor"]
    cursor_path: Text = "cursors.next"
    cursor_param: Text | None = None
    cursor_body_path: Text | None = None
    has_more_path: Text | None = None
    end_path: Text | None = None
    stop_after_empty_page: bool | None = None


class HeaderCursorPaginator(Strict):
    """Pages that name the cursor of the next one in a header of the answer."""

    type: Literal["header_cursor"]
    cursor_header: Text
    cursor_param: Text = "cursor"


class NextUrlPaginator(Strict):
    """Pages that hold the address of the next one in their body."""

    type: Literal["next_url"]
    next_url_path: Text = "next"
    has_more_path: Text | None = None
    end_path: Text | None = None


class OffsetPaginator(Strict):
    """Pages asked for by the number of the first record."""

    type: Literal["offset"]
    limit: Annotated[int, Field(ge=1)]
    offset: Annotated[int, Field(ge=0)] = 0
    offset_param: Text | None = None
    offset_body_path: Text | None = None
    limit_param: Text | None = None
    limit_body_path: Text | None = None
    total_path: Text | None = None
    maximum_offset: Annotated[int, Field(ge=1)] | None = None
    stop_after_empty_page: bool = True
    has_more_path: Text | None = None

    @property
    def counter(self) -> tuple[str | None, str | None]:
        """The query parameter that counts, or the path in the body."""
        return (None if self.offset_body_path else self.offset_param or "offset"), (
            self.offset_body_path
        )


class PagePaginator(Strict):
    """Pages asked for by their number."""

    type: Literal["page"]
    base_page: Annotated[int, Field(ge=0)] = 1
    page_param: Text | None = None
    page_body_path: Text | None = None
    total_path: Text | None = None
    maximum_page: Annotated[int, Field(ge=1)] | None = None
    stop_after_empty_page: bool = True
    has_more_path: Text | None = None

    @property
    def counter(self) -> tuple[str | None, str | None]:
        """The query parameter that counts, or the path in the body."""
        return (None if self.page_body_path else self.page_param or "page"), self.page_body_path


class LinkHeaderPaginator(Strict):
    """Pages whose `Link` header holds the address of the next one."""

    type: Literal["link_header"]
    links_next_key: Text = "next"


class SinglePaginator(Strict):
    """One page holds everything."""

    type: Literal["single"]


Paginator = Annotated[
    CursorPaginator
    | HeaderCursorPaginator
    | NextUrlPaginator
    | OffsetPaginator
    | PagePaginator
    | LinkHeaderPaginator
    | SinglePaginator,
    Field(discriminator="type"),
]


def _time_format(value: Any) -> Any:
    if value in ("epoch", "epoch_ms", "iso", "date") or (isinstance(value, str) and "%" in value):
        return value
    raise ValueError("epoch, epoch_ms, iso, date, or a pattern such as %d.%m.%Y")


class RestIncremental(Strict):
    """How an API is asked only for what is new.

    Attributes:
        param: Query parameter that takes the last cursor value.
        body_path: Path in the request's body that takes it instead.
        until_param: Query parameter that takes an end, which is not read any more.
        until_body_path: Path in the request's body that takes it instead.
        until: What it takes in a run that reads on: `now`, or a date or time; nothing if absent,
            so that only a backfill sets an end.
        format: How the API writes times: seconds or milliseconds since 1970, ISO 8601, a date, or
            a pattern of strftime.
        template: A text around the value, such as `updated:>={value}`.
        initial: Where the first extraction begins: a date, time or number, as a text.
    """

    param: Text | None = None
    body_path: Text | None = None
    until_param: Text | None = None
    until_body_path: Text | None = None
    until: Text | None = None
    format: Text = "iso"
    template: Text = "{value}"
    initial: Text

    @property
    def has_until(self) -> bool:
        """Whether the API can be given an end."""
        return bool(self.until_param or self.until_body_path)


class RestParent(Strict):
    """The table whose rows an endpoint is asked for, one after the other.

    Attributes:
        table: Its name; a table of the same source.
        include: Columns that records get from it: the parent's column by the name of the new one.
        rows: Whether it is asked for all rows of the parent, or only for those that are new or have
            changed since it was read last.
    """

    table: Text
    include: dict[str, Text] = {}
    rows: Literal["all", "changed"] = "all"


class RestResponse(Strict):
    """What is to be made of an answer that is no page of records.

    Attributes:
        status: Its status; any if absent.
        contains: A text that it holds; any if absent.
        action: `empty`: there are no records, or no more of them; `fail`: the table fails;
            `retry`: it is asked for again, within bounds.
    """

    status: Annotated[int, Field(ge=100, le=599)] | None = None
    contains: Text | None = None
    action: Literal["empty", "fail", "retry"]


class RestEndpoint(Strict):
    """Where an API keeps a table.

    Attributes:
        path: Path below the connection's URL.
        method: `POST` for searches that take their question in the body.
        params: Further query parameters.
        body: The request's body, sent as JSON.
        headers: Further headers of its requests; no secrets.
        records: JSON path to the array of records in a page; the page itself if absent.
        paginator: How one page leads to the next; if absent, one page holds everything, and an
            answer that tells of further pages is refused.
        incremental: How the API is asked only for what is new.
        parent: The table whose rows fill the `{placeholders}` of path, params and body.
        responses: What is to be made of answers that are no page of records; the first that fits.
        total: Path of keys to the number of all records in a page, if the API states one.
    """

    path: Text
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, str | int | float | bool] = {}
    body: dict[str, Any] = {}
    headers: dict[str, str] = {}
    records: Text | None = None
    paginator: Paginator | None = None
    incremental: RestIncremental | None = None
    parent: RestParent | None = None
    responses: list[RestResponse] = []
    total: Text | None = None

    @property
    def placeholders(self) -> list[str]:
        """Names of the parent's columns that path, params and body take."""
        return list(dict.fromkeys(_placeholders([self.path, self.params, self.body])))


PAGINATORS: dict[str, type[BaseModel]] = {
    "cursor": CursorPaginator,
    "header_cursor": HeaderCursorPaginator,
    "next_url": NextUrlPaginator,
    "offset": OffsetPaginator,
    "page": PagePaginator,
    "link_header": LinkHeaderPaginator,
    "single": SinglePaginator,
}
AUTHS: dict[str, type[BaseModel]] = {
    "bearer": BearerAuth,
    "api_key": ApiKeyAuth,
    "basic": BasicAuth,
    "headers": HeadersAuth,
    "oauth2": OAuth2Auth,
    "none": NoAuth,
}


def filled(value: Any, row: Mapping[str, str]) -> Any:
    """A path, parameters or a body with a parent's row in the placeholders."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: row[found.group(1)], value)
    if isinstance(value, Mapping):
        return {key: filled(inner, row) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, row) for inner in value]
    return value


def source_faults(source: RestSource) -> Iterator[Fault]:
    """What does not go together in what all tables share: key, what was found, what is expected."""
    yield from _headers(source.headers)


def faults_of(name: str, endpoint: RestEndpoint, tables: Mapping[str, Any]) -> Iterator[Fault]:
    """What does not go together in a table: key, what was found, what is expected.

    Args:
        name: The table's name.
        endpoint: Its declaration.
        tables: Endpoints of all tables of the source, by name.
    """
    yield from _headers(endpoint.headers)
    yield from _paths(endpoint)
    yield from _paging(endpoint)
    yield from _incremental(endpoint)
    yield from _parent(name, endpoint, tables)
    for number, response in enumerate(endpoint.responses):
        if response.status is None and response.contains is None:
            yield f"responses.{number}", None, "a status, a text that it contains, or both"


def _headers(headers: Mapping[str, str]) -> Iterator[Fault]:
    for header in headers:
        if header.lower() in ("authorization", "proxy-authorization", "cookie"):
            expected = "no secret in a declaration: `auth` names the connection's key"
            yield f"headers.{header}", "***", expected


def _paths(endpoint: RestEndpoint) -> Iterator[Fault]:
    """JSON paths that cannot be read."""
    paths = {"records": endpoint.records}
    if endpoint.paginator is not None:
        given = endpoint.paginator.model_dump()
        named = [key for key in given if key.endswith("_path") and "body" not in key]
        paths |= {f"paginator.{key}": given[key] for key in named}
    for key, path in paths.items():
        if path is None or SIMPLE_PATH.match(path):
            continue
        from dlt.common import jsonpath

        try:
            jsonpath.compile_path(path)
        except Exception:  # the parser of jsonpath raises errors of several libraries
            yield key, path, "a JSON path such as data.items or pages[*].items"


def _paging(endpoint: RestEndpoint) -> Iterator[Fault]:
    declared = endpoint.paginator
    if declared is None:
        return
    given = declared.model_dump()
    for key in ("cursor", "offset", "limit", "page"):
        param, path = given.get(f"{key}_param"), given.get(f"{key}_body_path")
        if param and path:
            expected = f"either {key}_param or {key}_body_path"
            yield f"paginator.{key}_body_path", path, expected
        if path and endpoint.method == "GET":
            yield "method", "GET", f"POST, as the paginator has {key}_body_path"
    if isinstance(declared, OffsetPaginator | PagePaginator):
        limits = (declared.total_path, declared.has_more_path, declared.stop_after_empty_page)
        highest = given.get("maximum_offset") or given.get("maximum_page")
        if not any((*limits, highest)):
            expected = "true, or total_path, has_more_path or a maximum that says where pages end"
            yield "paginator.stop_after_empty_page", False, expected


def _incremental(endpoint: RestEndpoint) -> Iterator[Fault]:
    if endpoint.body and endpoint.method == "GET":
        yield "method", "GET", "POST, as there is a body"
    declared = endpoint.incremental
    if declared is None:
        return
    for names in (("param", "body_path"), ("until_param", "until_body_path")):
        given = [name for name in names if getattr(declared, name)]
        if len(given) == 2:
            yield f"incremental.{names[1]}", getattr(declared, names[1]), f"either {names[0]} or it"
        if any("body" in name for name in given) and endpoint.method == "GET":
            yield "method", "GET", f"POST, as incremental has {names[1]}"
    if not (declared.param or declared.body_path):
        yield "incremental.param", None, "the query parameter that takes the last cursor value"
    if declared.until and not declared.has_until:
        yield "incremental.until", declared.until, "until_param or until_body_path beside it"
    try:
        _time_format(declared.format)
    except ValueError as error:
        yield "incremental.format", declared.format, str(error)
    if "{value}" not in declared.template:
        yield "incremental.template", declared.template, "a text that holds {value}"


def _parent(name: str, endpoint: RestEndpoint, tables: Mapping[str, Any]) -> Iterator[Fault]:
    parent = endpoint.parent
    if parent is None:
        named = PLACEHOLDER.findall(endpoint.path)
        if named:
            expected = f"`parent` beside it: the table whose rows have {named[0]}"
            yield "path", endpoint.path, expected
        return
    if parent.table not in tables:
        yield "parent.table", parent.table, _near(parent.table, [t for t in tables if t != name])
    elif name in _ancestors(parent.table, tables):
        yield "parent.table", parent.table, "a table that is not below this one itself"
    if not endpoint.placeholders:
        expected = "a {column} of the parent in path, params or body"
        yield "path", endpoint.path, expected
    if endpoint.total:
        yield "total", endpoint.total, "no total: each row of the parent has its own"


def _ancestors(name: str, tables: Mapping[str, Any]) -> list[str]:
    """A table, its parent, and so on."""
    found: list[str] = []
    while name in tables and name not in found:
        found.append(name)
        parent = tables[name].parent
        name = parent.table if parent is not None else ""
    return found


def _near(found: str, options: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(found, options, n=1)
    listed = "one of " + ", ".join(options) if options else "a table of this source"
    return f"{near[0]} ({listed})" if near else listed


def _placeholders(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _placeholders(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _placeholders(inner)
