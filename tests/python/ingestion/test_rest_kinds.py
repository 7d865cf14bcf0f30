"""Every kind of paging, authorisation, parameter and answer that an API may be declared to have."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_kit import TOKEN, Api
from sources_kit import declared, landed, rows_of, run, settings_in

from ingestion.connections import Connection
from ingestion.errors import IngestionError, SourceFailed, SourceUnreachable
from ingestion.redaction import redact
from ingestion.rest.asking import Api as Asked
from ingestion.rest.asking import Ask, Asking
from ingestion.rest.declared import RateLimit, RestEndpoint, RestSource
from ingestion.rest.limits import Pace, pause_of
from ingestion.settings import Settings

RECORDS = [{"id": n, "name": f"thing {n}"} for n in range(1, 8)]
SIZE = 3


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    api = Api()
    yield api
    api.close()


@pytest.fixture
def api(server: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """The module's server, without routes and memories of other tests."""
    for kept in (server.routes, server.posts, server.requests, server.headers):
        kept.clear()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.url)
    monkeypatch.setenv("CONNECTIONS__SRC__TOKEN", TOKEN)
    # Retries as in real life, without their waiting.
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.001")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "3")
    return server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def asked(api: Api, shared: dict[str, Any], secrets: dict[str, str], **rest: Any) -> list[Any]:
    """All records of one endpoint, read as an extraction reads them but not landed."""
    endpoint = RestEndpoint.model_validate({"path": "/things", **rest})
    source = RestSource.model_validate(shared)
    asking = Asking(Asked(source, Connection("src", api.url, secrets)), endpoint, {"source": "src"})
    pages = asking(Ask(endpoint.path, dict(endpoint.params), json.loads(json.dumps(endpoint.body))))
    return [record for page in pages for record in page]


def part(first: int) -> list[dict[str, Any]]:
    return RECORDS[first : first + SIZE]


def after(first: int) -> int | None:
    return first + SIZE if first + SIZE < len(RECORDS) else None


def with_header(name: str, form: str) -> Callable[..., Any]:
    """A route whose answers name what follows in a header."""

    def route(query: dict[str, str], _: dict[str, str]) -> Any:
        first = int(query.get("from", 0))
        headers = {name: form.format(after(first))} if after(first) else {}
        return 200, headers, json.dumps(part(first)).encode()

    return route


def by_number(key: str, first: int, step: int) -> Callable[..., Any]:
    """A route for pages that are counted by a parameter or a key of the body."""

    def route(query: dict[str, Any], _: dict[str, str]) -> Any:
        start = (int(query.get("at", query).get(key, first)) - first) * step
        has_more = start + SIZE < len(RECORDS)
        return {"data": {"items": part(start)}, "total": len(RECORDS), "pages": 3, "more": has_more}

    return route


# One example of each kind of paging: method, declaration, route.
PAGING: dict[str, tuple[str, dict[str, Any], Callable[..., Any]]] = {
    "cursor": (
        "GET",
        {"cursor_path": "meta.next", "cursor_param": "from"},
        lambda q, _: {
            "data": {"items": part(int(q.get("from", 0)))},
            "meta": {"next": after(int(q.get("from", 0)))},
        },
    ),
    "cursor with a flag": (
        "GET",
        {
            "type": "cursor",
            "cursor_path": "data.items[-1].id",
            "cursor_param": "from",
            "has_more_path": "more",
        },
        lambda q, _: {
            "data": {"items": part(int(q.get("from", 0)))},
            "more": after(int(q.get("from", 0))) is not None,
        },
    ),
    "cursor in the body": (
        "POST",
        {"type": "cursor", "cursor_path": "next", "cursor_body_path": "page.from"},
        lambda body, _: {
            "data": {"items": part((body.get("page") or {}).get("from", 0))},
            "next": after((body.get("page") or {}).get("from", 0)),
        },
    ),
    "header_cursor": (
        "GET",
        {"cursor_header": "X-Next", "cursor_param": "from"},
        with_header("X-Next", "{}"),
    ),
    "link_header": ("GET", {}, with_header("Link", '</link_header?from={}>; rel="next"')),
    "next_url": (
        "GET",
        {"next_url_path": "links.next"},
        lambda q, _: {
            "data": {"items": part(int(q.get("from", 0)))},
            "links": {
                "next": f"/next_url?from={n}" if (n := after(int(q.get("from", 0)))) else None
            },
        },
    ),
    "offset": ("GET", {"limit": SIZE, "total_path": "total"}, by_number("offset", 0, 1)),
    "offset in the body": (
        "POST",
        {
            "type": "offset",
            "limit": SIZE,
            "offset_body_path": "at.offset",
            "limit_body_path": "at.limit",
        },
        by_number("offset", 0, 1),
    ),
    "page": ("GET", {"has_more_path": "more"}, by_number("page", 1, SIZE)),
    "page until an empty one": (
        "GET",
        {"type": "page", "base_page": 0},
        by_number("page", 0, SIZE),
    ),
    "page in the body": (
        "POST",
        {"type": "page", "page_body_path": "at.page", "total_path": "pages"},
        by_number("page", 1, SIZE),
    ),
    "single": ("GET", {}, lambda *_: {"data": {"items": RECORDS}}),
}


def test_every_kind_of_paging_gives_every_record_once_and_in_order(
    api: Api, settings: Settings
) -> None:
    tables = {}
    for kind, (method, paginator, route) in PAGING.items():
        name = kind.replace(" ", "_")
        (api.routes if method == "GET" else api.posts)[f"/{name}"] = route
        tables[name] = {
            "primary_key": ["id"],
            "rest": {
                "path": f"/{name}",
                "method": method,
                "records": None if "header" in kind else "data.items",
                "paginator": {"type": kind, **paginator},
            },
        }
    result = run(declared("rest", tables, auth={"type": "bearer"}), settings)
    assert rows_of(result) == dict.fromkeys(tables, len(RECORDS))
    for name in tables:
        assert [row["id"] for row in landed(settings, name)] == list("1234567"), name
    assert {headers["Authorization"] for headers in api.headers} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_counted_pages_are_asked_for_ahead_also_in_a_body(api: Api, method: str) -> None:
    together = threading.Barrier(4)

    def route(asked: dict[str, Any], _: dict[str, str]) -> Any:
        page = int(asked["page"])
        if 8 <= page < 16:
            # Answered only once four of these are under way.
            together.wait(timeout=20)
        return [{"id": page}] if page < 30 else []

    routes, key = (api.routes, "page_param") if method == "GET" else (api.posts, "page_body_path")
    routes["/things"] = route
    paginator = {"type": "page", "base_page": 0, key: "page"}
    found = asked(api, {}, {}, method=method, paginator=paginator)
    assert [record["id"] for record in found] == list(range(30))


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        ((200, {"Link": '</things?page=2>; rel="next"'}, b"[{}]"), "a Link header with rel=next"),
        ({"things": [{}], "links": {"next": "/things?page=2"}}, "links.next"),
        ({"things": [{}], "meta": {"nextCursor": "abc"}}, "meta.nextCursor"),
        ({"things": [{}], "has_more": True}, "has_more = true"),
        ({"things": [{}], "total_count": 250}, "total_count = 250, with 1 records here"),
    ],
)
def test_a_first_page_is_not_taken_for_all_of_them(api: Api, answer: Any, sign: str) -> None:
    api.routes["/things"] = lambda *_: answer
    records = "things" if isinstance(answer, dict) else None
    with pytest.raises(SourceFailed) as caught:
        asked(api, {}, {}, records=records)
    assert f"it tells of further pages ({sign})" in str(caught.value)
    assert "paginator: {type: single}" in str(caught.value)
    assert asked(api, {}, {}, records=records, paginator={"type": "single"}) == [{}]


def test_a_misspelt_cursor_is_told_and_does_not_end_the_pages(api: Api) -> None:
    api.routes["/things"] = lambda *_: {"things": [{}], "meta": {"next_cursor": "abc"}}
    paginator = {"type": "cursor", "cursor_path": "meta.cursor", "cursor_param": "from"}
    with pytest.raises(SourceFailed, match=r"further pages \(meta.next_cursor\)"):
        asked(api, {}, {}, records="things", paginator=paginator)
    paginator = {"type": "page", "total_path": "meta.pages"}
    with pytest.raises(SourceFailed, match=r"no 'meta.pages' that is a whole number.* things, me"):
        asked(api, {}, {}, records="things", paginator=paginator)


@pytest.mark.parametrize("paginator", [{"type": "page"}, {"type": "offset", "limit": 1}])
def test_an_api_that_does_not_count_is_not_asked_for_ever(api: Api, paginator: Any) -> None:
    api.routes["/things"] = lambda *_: RECORDS[:1]
    with pytest.raises(SourceFailed, match="page 2: it holds the same records as the page before"):
        asked(api, {}, {}, paginator=paginator)


@pytest.mark.parametrize(
    ("path", "answer", "ids"),
    [
        ("result.things", {"result": {"things": [{"id": 1}]}}, [1]),
        (
            "pages[*].things",
            {"pages": [{"things": [{"id": 1}, {"id": 2}]}, {"things": []}]},
            [1, 2],
        ),
        ("things.*", {"things": {"a": {"id": 1}, "b": {"id": 2}}}, [1, 2]),
        ("things[*].thing", {"things": [{"thing": {"id": 1}}, {"thing": {"id": 2}}]}, [1, 2]),
        (None, {"id": 1, "name": "only one"}, [1]),
        ("things", {"things": None}, []),
    ],
)
def test_records_are_found_wherever_they_lie(
    api: Api, path: str | None, answer: Any, ids: list[int]
) -> None:
    api.routes["/things"] = lambda *_: answer
    assert [record["id"] for record in asked(api, {}, {}, records=path)] == ids


# One example of each kind of authorisation: declaration, secrets, what the server must see.
AUTHS: dict[str, tuple[dict[str, Any], dict[str, str], tuple[str, str]]] = {
    "bearer": ({}, {"token": "tok-1111"}, ("Authorization", "Bearer tok-1111")),
    "bearer with another word": (
        {"type": "bearer", "prefix": "Token", "key": "mine"},
        {"mine": "tok-2222"},
        ("Authorization", "Token tok-2222"),
    ),
    "api_key": ({"name": "X-Key"}, {"api_key": "key-3333"}, ("X-Key", "key-3333")),
    "api_key in a cookie": (
        {"type": "api_key", "name": "session", "location": "cookie"},
        {"api_key": "key-4444"},
        ("Cookie", "session=key-4444"),
    ),
    "basic": (
        {},
        {"username": "me", "password": "word-5"},
        ("Authorization", "Basic " + base64.b64encode(b"me:word-5").decode()),
    ),
    "basic with a key for a name": (
        {"type": "basic", "username_key": "api_key", "key": ""},
        {"api_key": "key-6666"},
        ("Authorization", "Basic " + base64.b64encode(b"key-6666:").decode()),
    ),
    "headers": (
        {"headers": {"X-App-Id": "app_id", "X-App-Key": "app_key"}},
        {"app_id": "app-7777", "app_key": "key-8888"},
        ("X-App-Key", "key-8888"),
    ),
}


@pytest.mark.parametrize("kind", AUTHS)
def test_every_kind_of_authorisation(api: Api, kind: str) -> None:
    declaration, secrets, (header, value) = AUTHS[kind]
    api.routes["/things"] = lambda *_: RECORDS
    shared = {"auth": {"type": kind, **declaration}, "headers": {"X-Plain": "yes"}}
    assert asked(api, shared, secrets, headers={"X-Own": "also"}) == RECORDS
    sent = api.headers[0]
    assert (sent[header], sent["X-Plain"], sent["X-Own"]) == (value, "yes", "also")
    told = redact(f"{sent}")
    assert not [secret for key, secret in secrets.items() if key != "username" and secret in told]


def test_a_secret_in_the_query_is_sent_once_a_page_and_told_nowhere(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "k3y-in-the-query"
    monkeypatch.setenv("CONNECTIONS__SRC__API_KEY", secret)
    caplog.set_level(logging.DEBUG)

    def route(query: dict[str, str], _: dict[str, str]) -> Any:
        first = int(query.get("from", 0))
        if first == 6:
            return 500, {}, secret.encode()
        # Such APIs repeat the whole address, the secret included.
        return {"things": part(first), "next": f"/things?code={secret}&from={after(first)}"}

    api.routes["/things"] = route
    rest = {"path": "/things", "records": "things", "paginator": {"type": "next_url"}}
    auth = {"type": "api_key", "name": "code", "location": "query"}
    source = declared("rest", {"things": {"rest": rest}}, auth=auth)
    result = run(source, settings)
    assert "answered 500" in str(result.error)
    assert [query["code"] for _, query in api.requests] == [secret] * len(api.requests)
    assert len(api.requests) == 5
    assert secret not in str(result.error)
    written = [path for path in settings.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ingestion")]
    assert not [line for line in ours if secret in line]


class TokenGiver:
    """Gives tokens that the API takes for two requests each."""

    def __init__(self, api: Api) -> None:
        self.given: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.uses: dict[str, int] = {}
        self.lifetime = 3600
        api.posts["/oauth/token"] = self.give
        api.routes["/things"] = self.things

    def give(self, form: dict[str, str], headers: dict[str, str]) -> Any:
        self.given.append(form)
        self.headers.append(headers)
        token = f"given-{len(self.given):04d}"
        self.uses[token] = 0
        return {"access_token": token, "expires_in": self.lifetime, "token_type": "bearer"}

    def things(self, query: dict[str, str], headers: dict[str, str]) -> Any:
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        if self.uses.get(token, 2) >= 2:
            return 401, {}, b"{}"
        self.uses[token] += 1
        page = int(query["page"])
        return RECORDS[page - 1 : page]


CLIENT = {"client_id": "ident-1234", "client_secret": "hush-5678"}


def test_a_token_that_ends_in_the_middle_is_renewed(api: Api) -> None:
    giver = TokenGiver(api)
    auth = {
        "type": "oauth2",
        "token_url": "/oauth/token",
        "scope": "read",
        "fields": {"audience": "a"},
    }
    shared = {"auth": auth, "connections": 1}
    assert asked(api, shared, CLIENT, paginator={"type": "page"}) == RECORDS
    assert len(giver.given) == 4
    assert giver.given[0] == {
        "grant_type": "client_credentials",
        "scope": "read",
        "audience": "a",
        **CLIENT,
    }
    assert redact("hush-5678 given-0001") == "*** ***"


def test_a_token_is_renewed_before_it_ends(api: Api) -> None:
    giver = TokenGiver(api)
    auth = {"type": "oauth2", "token_url": f"{api.url}/oauth/token", "client_in": "header"}
    source = RestSource.model_validate({"auth": auth})
    from ingestion.rest.auth import Tokens

    now = [0.0]
    tokens = Tokens(source.auth, Connection("src", api.url), ("me", "it"), lambda: now[0])  # type: ignore[arg-type]  # one form of several
    first = tokens.current()
    now[0] = 3500
    assert tokens.current() == first
    now[0] = 3571
    assert tokens.current() != first
    assert giver.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"me:it").decode()
    assert "client_secret" not in giver.given[0]


def test_a_refused_client_is_told_without_its_secret(api: Api) -> None:
    api.posts["/oauth/token"] = lambda *_: (400, {}, b'{"error": "bad hush-5678"}')
    auth = {"type": "oauth2", "token_url": "/oauth/token"}
    with pytest.raises(SourceUnreachable) as caught:
        asked(api, {"auth": auth}, CLIENT)
    text = str(caught.value)
    assert "no token was given" in text
    assert "answered 400" in text
    assert "connections.src.client_id" in text
    assert "hush" not in text


def test_a_token_that_is_never_taken_is_a_refused_login(api: Api) -> None:
    giver = TokenGiver(api)
    api.routes["/things"] = lambda *_: (401, {}, b"{}")
    with pytest.raises(SourceUnreachable, match="the login is refused"):
        asked(api, {"auth": {"type": "oauth2", "token_url": "/oauth/token"}}, CLIENT)
    assert len(giver.given) == 2


def test_a_redirect_does_not_take_the_secret_elsewhere(api: Api) -> None:
    api.routes["/things"] = lambda *_: (302, {"Location": "http://elsewhere.invalid/x"}, b"")
    auth = {"type": "api_key", "name": "X-Key"}
    with pytest.raises(SourceFailed, match="not on the API's own host"):
        asked(api, {"auth": auth}, {"api_key": "key-3333"})


@pytest.mark.parametrize(
    ("action", "answers", "found"),
    [
        ({"status": 404, "action": "empty"}, [(404, {}, b"gone")], []),
        ({"status": 204, "action": "empty"}, [(204, {}, b"")], []),
        (
            {"status": 200, "contains": "not ready", "action": "retry"},
            [(200, {}, b'{"error": "not ready"}'), RECORDS],
            RECORDS,
        ),
        ({"contains": '"ok": false', "action": "fail"}, [{"ok": False, "error": "boom"}], None),
    ],
)
def test_an_answer_is_made_of_it_what_is_declared(
    api: Api, action: dict[str, Any], answers: list[Any], found: Any
) -> None:
    api.routes["/things"] = lambda *_: answers.pop(0)
    if found is not None:
        assert asked(api, {}, {}, responses=[action]) == found
        return
    with pytest.raises(SourceFailed, match=r"calls a failure.*boom"):
        asked(api, {}, {}, responses=[action])


def test_an_answer_to_ask_for_again_is_asked_for_within_bounds(api: Api) -> None:
    api.routes["/things"] = lambda *_: (202, {}, b"wait")
    with pytest.raises(IngestionError, match=r"answered 202 .*3 attempts"):
        asked(api, {}, {}, responses=[{"status": 202, "action": "retry"}])
    assert len(api.requests) == 3


def test_a_refusal_that_is_only_a_limit_is_waited_for(api: Api) -> None:
    answers: list[Any] = [(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0"}, b"slow")]
    api.routes["/things"] = lambda *_: answers.pop(0) if answers else RECORDS
    assert asked(api, {}, {}) == RECORDS


def test_requests_keep_to_the_declared_pace() -> None:
    now, waits = [100.0], []

    def wait(seconds: float) -> None:
        waits.append(round(seconds, 3))
        now[0] += seconds

    limit = RateLimit.model_validate({"requests": 4, "per": "2 seconds"})
    pace = Pace(limit, 300, lambda: now[0], wait)
    for _ in range(3):
        pace.turn()
    assert waits == [0.5, 0.5]

    class Told:
        status_code = 429
        headers = {"Retry-After": "7"}

    pace.heed(Told())  # type: ignore[arg-type]  # what is read of an answer
    pace.turn()
    assert waits[2:] == [7.0]


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "12"}, 12),
        (503, {"Retry-After": "Thu, 01 Jan 1970 00:20:00 GMT"}, 200),
        (200, {"Retry-After": "12"}, None),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}, 30),
        (403, {"RateLimit-Remaining": "0", "RateLimit-Reset": "2000000000"}, 2_000_000_000 - 1000),
        (200, {"X-RateLimit-Remaining": "3", "X-RateLimit-Reset": "30"}, None),
        (429, {"Retry-After": "soon"}, None),
    ],
)
def test_what_an_answer_says_of_a_pause(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    assert pause_of(status, headers, 1000.0) == seconds
