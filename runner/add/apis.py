"""APIs: which endpoints there are, where their records stand and how one page leads to the next.

base URL -> paths given, of an OpenAPI document, or of an index the base answers with -> asked once
or twice each -> records, paging, columns, key -> `Offer`

How pages follow each other is told by the answer (a link, the next address, a cursor) or tried by
asking for a second page; a guess that was not confirmed is not written. Left out: parameters that
ask only for what is new, which no answer tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from ingestion.errors import BadInput, SourceUnreachable, first_line
from runner.add.evidence import weigh
from runner.add.offers import Found, Listing, Offer, OfferedColumn, Place
from runner.add.request import Request

_SECONDS = 20
_LARGEST = 50_000_000
_DEEP = 3
_DESCRIPTIONS = ("openapi.json", "swagger.json", "openapi.yaml")
_NEXT = ("next", "next_url", "next_page_url", "nextLink", "@odata.nextLink", "next_link")
_CURSORS = {
    "next_cursor": "cursor", "after_cursor": "cursor", "cursor": "cursor", "nextCursor": "cursor",
    "next_page_token": "page_token", "nextPageToken": "pageToken", "next_token": "next_token",
    "continuation": "continuation",
}  # fmt: skip
_SINCE = ("since", "after", "from", "start", "updated", "modified")


@dataclass(frozen=True)
class _Api:
    """An API that is asked."""

    base: str
    headers: Mapping[str, str]

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
        """The JSON of an answer, and the answer.

        Raises:
            SourceUnreachable: It does not come, or is refused.
            BadInput: It is no JSON.
        """
        import requests

        url = path if "://" in path else urljoin(self.base.rstrip("/") + "/", path.lstrip("/"))
        # What the login is for goes nowhere else.
        is_own = urlsplit(url).netloc == urlsplit(self.base).netloc
        try:
            answer = requests.get(
                url,
                params=params,
                headers=dict(self.headers) if is_own else {},
                timeout=_SECONDS,
            )
        except requests.RequestException as error:
            raise SourceUnreachable(
                f"{url} does not answer: {first_line(error)}", hint="Check the address."
            ) from error
        if answer.status_code in (401, 403):
            raise SourceUnreachable(
                f"{url} refuses the request: {answer.status_code} {answer.reason}",
                hint="Say how to log in: --auth bearer or api_key, --token-from-env VARIABLE.",
            )
        if not answer.ok:
            raise SourceUnreachable(
                f"{url} answers {answer.status_code} {answer.reason}",
                hint="Check the address, or name what it has: --path /v1/orders.",
            )
        if len(answer.content) > _LARGEST:
            raise BadInput(f"the answer of {url} is too large to be looked into")
        try:
            return answer.json(), answer
        except ValueError as error:
            raise BadInput(
                f"{url} answers no JSON but {answer.headers.get('Content-Type', 'something else')}",
                hint="Give the API's base URL, or --kind files for a file.",
            ) from error


@dataclass(frozen=True)
class _Paging:
    """How pages follow each other."""

    paginator: dict[str, Any]
    seen: str


@contextmanager
def look(place: Place, request: Request) -> Iterator[Found]:
    """Asks an API what it has.

    Args:
        place: The API.
        request: The command line, for paths, description and login.

    Raises:
        SourceUnreachable: It does not answer, or refuses the login.
        BadInput: Nothing tells which endpoints there are.
    """
    headers, auth = _login(place, request)
    api = _Api(place.url, headers)
    listings, told = _listings(api, request)
    shared: dict[str, Any] = {"rest": {"auth": auth}} if auth else {}
    yield Found(listings, shared, told)


def _login(place: Place, request: Request) -> tuple[dict[str, str], dict[str, Any]]:
    token = place.options.get("token")
    if not token:
        return {}, {}
    if request.auth == "api_key":
        name = request.auth_name or "X-Api-Key"
        return {name: str(token)}, {"type": "api_key", "key": "token", "name": name}
    return {"Authorization": f"Bearer {token}"}, {"type": "bearer"}


def _listings(api: _Api, request: Request) -> tuple[list[Listing], str]:
    if request.path:
        found = [_listing(api, path, "given") for path in request.path]
        return found, f"{len(found)} path{'s' if len(found) > 1 else ''} given"
    if request.openapi:
        document = _description(api, request.openapi)
        return _of_description(api, document), f"described by {request.openapi}"
    for name in _DESCRIPTIONS:
        try:
            document = _description(api, name)
        except (BadInput, SourceUnreachable):
            continue
        if document.get("paths"):
            return _of_description(api, document), f"described by its own {name}"
    content, _ = api.get("")
    if _records(content) is not None:
        return [_listing(api, "", "answer")], "its base address answers with records"
    index = _index(api, content)
    if index:
        return [_listing(api, path, "index") for path in index], "its base address names these"
    raise BadInput(
        f"nothing at {api.base} tells which endpoints there are",
        hint="Name them: --path /v1/orders --path /v1/customers, or --openapi URL.",
    )


def _description(api: _Api, where: str) -> dict[str, Any]:
    """An OpenAPI document, of an address, a path of the API or a file."""
    from pathlib import Path

    import yaml

    path = Path(where)
    if "://" not in where and path.is_file():
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    else:
        document, _ = api.get(where)
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise BadInput(f"{where} is no OpenAPI document", hint="It has an object `paths`.")
    return document


def _of_description(api: _Api, document: Mapping[str, Any]) -> list[Listing]:
    """Endpoints that can be read as they are: GET, without a number in the path."""
    servers = document.get("servers") or [{}]
    prefix = urlsplit(str(servers[0].get("url", ""))).path.rstrip("/")
    prefix = prefix or str(document.get("basePath", "")).rstrip("/")
    # What the base address has already is not said twice.
    if urlsplit(api.base).path.rstrip("/").endswith(prefix):
        prefix = ""
    found = []
    for path, methods in document["paths"].items():
        get = methods.get("get") if isinstance(methods, dict) else None
        if "{" in path or not isinstance(get, dict):
            continue
        given = [parameter for parameter in get.get("parameters", []) if "name" in parameter]
        if any(parameter.get("required") for parameter in given):
            continue
        since = [p["name"] for p in given if str(p["name"]).lower().startswith(_SINCE)]
        summary = " ".join(str(get.get("summary") or "").split())[:60]
        found.append(_listing(api, prefix + path, summary or "described", since))
    if not found:
        raise BadInput("the description has no GET that can be asked without parameters")
    return found


def _index(api: _Api, content: Any) -> list[str]:
    """Paths below the base that an answer names as a mapping of names to addresses."""
    if not isinstance(content, dict):
        return []
    base = api.base.rstrip("/") + "/"
    links = [value for value in content.values() if isinstance(value, str)]
    inside = [value for value in links if value.startswith((base, "/"))]
    return [value.removeprefix(base.rstrip("/")) for value in inside if "{" not in value]


def _listing(api: _Api, path: str, what: str, since: Sequence[str] = ()) -> Listing:
    from ingestion.landing import normalise

    words = [word for word in path.partition("?")[0].split("/") if word] or [
        word for word in urlsplit(api.base).path.split("/") if word
    ]
    last = words[-1].rpartition(".")[0] or words[-1] if words else "records"
    name = "_".join(part for part in normalise(last).split("_") if part) or "records"
    shown = path or "/"
    return Listing(shown, name, "", what, lambda: _offer(api, path, name, since))


def _offer(api: _Api, path: str, name: str, since: Sequence[str]) -> Offer:
    content, answer = api.get(path)
    found = _records(content)
    notes: list[str] = []
    if found is None:
        notes.append("its answer holds no list of records: one row is made of it")
        found = ("", [content] if isinstance(content, dict) else [])
    where, records = found
    paging = _paging(api, path, content, answer, where, records)
    notes.append(f"pages: {paging.seen}")
    if since:
        notes.append(f"may be asked for what is new by {', '.join(since)}: see rest.incremental")
    endpoint: dict[str, Any] = {"path": path or "/"}
    if where:
        endpoint["records"] = where
    endpoint["paginator"] = paging.paginator
    names = list(dict.fromkeys(key for record in records for key in record))
    rows = [tuple(_text(record.get(key)) for key in names) for record in records]
    flat = [key for key in names if not any(isinstance(r.get(key), (dict, list)) for r in records)]
    places = [names.index(key) for key in flat]
    evidence = weigh(
        name,
        dict.fromkeys(flat, "varchar"),
        [[row[place] for place in places] for row in rows],
        is_whole=paging.paginator["type"] == "single",
    )
    if evidence.key is None:
        notes.append("no key: equal records count as one; declare primary_key if you know it")
    return Offer(
        name=name,
        description=f"One row per record of `{path or '/'}`.",
        columns=tuple(_columns(names, flat, evidence.key.columns if evidence.key else ())),
        ingest={"rest": endpoint},
        key=evidence.key,
        notes=tuple(notes),
    )


def _columns(
    names: Sequence[str], flat: Sequence[str], key: Sequence[str]
) -> Iterator[OfferedColumn]:
    from ingestion.landing import column_mapping

    for origin, name in column_mapping(names).items():
        part = ", JSON text" if origin not in flat else ""
        if origin in key:
            part += ", the key" if len(key) == 1 else ", part of the key"
        yield OfferedColumn(name, "string", f"Field `{origin}` of the answer{part}.")


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value)


def _records(content: Any) -> tuple[str, list[dict[str, Any]]] | None:
    """Path and content of the longest list of objects in an answer; an empty list counts."""
    found = list(_lists(content))
    if not found:
        return None
    where, records = max(found, key=lambda one: len(one[1]))
    return where, records


def _lists(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        yield ".".join(path), value
    elif isinstance(value, dict) and len(path) < _DEEP:
        for key, inner in value.items():
            if "." not in key:
                yield from _lists(inner, (*path, key))


def _paging(
    api: _Api,
    path: str,
    content: Any,
    answer: Any,
    where: str,
    records: Sequence[dict[str, Any]],
) -> _Paging:
    """How one page leads to the next: what the answer says, else what a second page shows."""
    if "next" in answer.links:
        return _Paging({"type": "link_header"}, "the header Link names the next one")
    for told, value in _scalars(content):
        last = told.rpartition(".")[2] if not told.endswith("nextLink") else told
        last = "next" if told.endswith((".next.href", "links.next")) else last
        if last in _NEXT and (value is None or "/" in str(value)):
            return _Paging({"type": "next_url", "next_url_path": told}, f"`{told}` names the next")
    for told, value in _scalars(content):
        parameter = _CURSORS.get(told.rpartition(".")[2])
        if parameter and value and _moves(api, path, {parameter: value}, where, records):
            paginator = {"type": "cursor", "cursor_path": told, "cursor_param": parameter}
            return _Paging(paginator, f"`{told}` as `{parameter}` gave other records")
    if records and _moves(api, path, {"page": 2}, where, records):
        return _Paging({"type": "page"}, "`page=2` gave other records")
    if records and _moves(api, path, {"offset": len(records)}, where, records):
        by_offset: dict[str, Any] = {"type": "offset", "limit": len(records)}
        return _Paging(by_offset, "`offset` gave other records")
    return _Paging({"type": "single"}, "one, as nothing in the answer leads to another")


def _moves(
    api: _Api,
    path: str,
    params: Mapping[str, Any],
    where: str,
    records: Sequence[dict[str, Any]],
) -> bool:
    """Whether a parameter gives other records, or none, where there were some."""
    try:
        content, _ = api.get(path, params)
    except (SourceUnreachable, BadInput):
        return False
    found = _records(content)
    return found is not None and found[0] == where and bool(found[1]) and found[1] != list(records)


def _scalars(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Values of an answer that are no lists, with their path."""
    if isinstance(value, dict) and len(path) < _DEEP:
        for key, inner in value.items():
            if not isinstance(inner, list):
                yield from _scalars(inner, (*path, key))
    elif path and not isinstance(value, (dict, list)):
        yield ".".join(path), value
