"""Reading an HTTP API from a real server that pages, limits, fails and breaks off."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from api_kit import TOKEN, Answer, Api
from sources_kit import declared, landed, rows_of, run, run_periods, settings_in

from ingestion.errors import (
    ConnectionMissing,
    DeclarationError,
    IngestionError,
    SourceFailed,
    SourceUnreachable,
)
from ingestion.settings import Settings


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    server = Api()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.url)
    monkeypatch.setenv("CONNECTIONS__SRC__TOKEN", TOKEN)
    # Retries as in real life, without their waiting.
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.001")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "3")
    yield server
    server.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def one(rest: dict[str, Any], shared: dict[str, Any] | None = None, **ingest: Any) -> Any:
    """A source with the table `things`."""
    table = {"primary_key": ["id"], **ingest, "rest": {"path": "/things", **rest}}
    return declared("rest", {"things": table}, **(shared or {"auth": {"type": "bearer"}}))


def failure(source: Any, settings: Settings) -> IngestionError:
    error = run(source, settings).error
    assert error is not None
    assert landed(settings, "things") == []
    assert TOKEN not in str(error)
    return error


THINGS = [{"id": n, "name": f"thing {n}"} for n in range(1, 8)]


def paged(records: list[dict[str, Any]], size: int, more: Callable[[int], dict[str, Any]]) -> Any:
    """A route that serves pages by the parameter `page`, from 0; `more` adds to each page."""

    def route(query: dict[str, str], _: dict[str, str]) -> Any:
        page = int(query.get("page", 0))
        return {"things": records[page * size : (page + 1) * size], **more(page)}

    return route


def test_every_field_is_text_as_it_was_sent(api: Api, settings: Settings) -> None:
    body = (
        '[{"id": 1, "price": 1.10, "big": 12345678901234567890123, "exp": 1e3, "yes": '
        'true, "no": false,'
        ' "none": null, "text": "é\\n", "Tags": ["a", 1.50, {"k": null}], "via": {"n": '
        '0.10}, "empty": ""},'
        ' {"id": 2, "later": "x"}]'
    )
    api.routes["/things"] = lambda *_: (200, {}, body.encode())
    assert rows_of(run(one({}), settings)) == {"things": 2}
    first, second = landed(settings, "things")
    assert first == {
        "id": "1",
        "price": "1.10",
        "big": "12345678901234567890123",
        "exp": "1e3",
        "yes": "true",
        "no": "false",
        "none": None,
        "text": "é\n",
        "tags": '["a",1.50,{"k":null}]',
        "via": '{"n":0.10}',
        "empty": "",
        "later": None,
        "_deleted": False,
    }
    assert (second["id"], second["later"], second["price"]) == ("2", "x", None)
    assert run(one({}), settings).status == "nothing_new"


@pytest.mark.parametrize("kind", ["cursor", "next_url", "offset", "page", "link_header"])
def test_every_way_of_paging(api: Api, settings: Settings, kind: str) -> None:
    def next_page(page: int) -> int | None:
        return page + 1 if (page + 1) * 3 < len(THINGS) else None

    paginators: dict[str, tuple[dict[str, Any], Any]] = {
        "cursor": (
            {"cursor_path": "meta.after", "cursor_param": "page"},
            paged(THINGS, 3, lambda page: {"meta": {"after": next_page(page)}}),
        ),
        "next_url": (
            {"next_url_path": "next"},
            paged(
                THINGS,
                3,
                lambda p: {"next": f"/things?page={next_page(p)}" if next_page(p) else None},
            ),
        ),
        "offset": (
            {"limit": 3},
            lambda q, _: {"things": THINGS[int(q["offset"]) : int(q["offset"]) + int(q["limit"])]},
        ),
        "page": (
            {"base_page": 1, "total_path": "pages"},
            lambda q, _: {
                "things": THINGS[int(q["page"]) * 3 - 3 : int(q["page"]) * 3],
                "pages": 3,
            },
        ),
        "link_header": (
            {},
            lambda q, _: (
                200,
                {"Link": f'<{api.url}/things?page={n}>; rel="next"'}
                if (n := next_page(int(q.get("page", 0))))
                else {},
                json.dumps(paged(THINGS, 3, lambda _: {})(q, {})).encode(),
            ),
        ),
    }
    keys, api.routes["/things"] = paginators[kind]
    source = one({"records": "things", "paginator": {"type": kind, **keys}})
    assert rows_of(run(source, settings)) == {"things": 7}
    assert [row["id"] for row in landed(settings, "things")] == list("1234567")


def test_pages_that_never_say_that_they_end(api: Api, settings: Settings) -> None:
    api.routes["/things"] = paged(
        THINGS, 4, lambda page: {"after": str(page + 1), "end": (page + 1) * 4 >= len(THINGS)}
    )
    paginator = {"type": "cursor", "cursor_path": "after", "cursor_param": "page"}
    rest = {"records": "things", "paginator": {**paginator, "end_path": "end"}}
    assert rows_of(run(one(rest), settings)) == {"things": 7}


def test_paging_in_circles_is_noticed(api: Api, settings: Settings) -> None:
    api.routes["/things"] = paged(THINGS, 4, lambda page: {"next": "/things?page=1"})
    error = failure(one({"records": "things", "paginator": {"type": "next_url"}}), settings)
    assert "a page that has been read already" in str(error)
    assert len(api.requests) == 2


def test_the_secret_goes_to_no_other_host(api: Api, settings: Settings) -> None:
    api.routes["/things"] = paged(
        THINGS, 4, lambda page: {"next": "http://elsewhere.invalid/things"}
    )
    error = failure(one({"records": "things", "paginator": {"type": "next_url"}}), settings)
    assert "elsewhere.invalid" in str(error)
    assert "not on the API's own host" in str(error)


TIMES = [
    {"id": 1, "updated_at": "2026-01-01T00:00:00Z"},
    {"id": 2, "updated_at": "2026-01-05T10:30:00Z"},
    {"id": 3, "updated_at": "2999-01-01T00:00:00Z"},
]


@pytest.mark.parametrize(
    ("form", "first", "second"),
    [
        ("epoch", "1735689600", "1767522600"),
        ("iso", "2025-01-01", "2026-01-04T10:30:00Z"),
    ],
)
def test_the_api_is_asked_from_the_last_cursor_minus_the_window_on(
    api: Api, settings: Settings, form: str, first: str, second: str
) -> None:
    api.routes["/things"] = lambda *_: {"things": TIMES}
    incremental = {"param": "since", "format": form, "initial": "2025-01-01"}
    rest = {"records": "things", "params": {"page[size]": 100}, "incremental": incremental}
    source = one(rest, cursor="updated_at", window="1 day")
    run(source, settings)
    again = run(source, settings)
    assert again.status == "nothing_new"
    run(source, settings, full_refresh=True)
    asked = [query["since"] for _, query in api.requests]
    assert asked == [first, second, first], "a time in the future does not count"
    assert api.requests[0][1]["page[size]"] == "100"


def test_changed_records_land_once(api: Api, settings: Settings) -> None:
    records = [dict(record) for record in THINGS]
    api.routes["/things"] = lambda *_: records
    run(one({}), settings)
    records[2]["name"] = "changed"
    records.append({"id": 9, "name": "new", "extra": {"a": 1}})
    assert rows_of(run(one({}), settings)) == {"things": 2}
    assert [row["id"] for row in landed(settings, "things")[7:]] == ["3", "9"]
    assert run(one({}), settings).status == "nothing_new"


def test_a_limit_and_passing_failures_are_waited_for(api: Api, settings: Settings) -> None:
    troubles: list[Answer] = [
        (429, {"Retry-After": "1"}, b""),
        (503, {}, b"busy"),
        (200, {"Content-Length": "5000", "Content-Type": "application/json"}, b'[{"id": '),
    ]

    def route(*_: Any) -> Any:
        return troubles.pop(0) if len(api.requests) % 2 and troubles else THINGS

    api.routes["/things"] = route
    for _ in range(3):
        assert run(one({}), settings).error is None
    assert len(api.requests) == 6


def test_numbered_pages_are_read_side_by_side_and_land_in_order(
    api: Api, settings: Settings
) -> None:
    records = [{"id": n, "name": f"thing {n}"} for n in range(90)]
    pages, together = paged(records, 2, lambda _: {}), threading.Barrier(4)

    def route(query: dict[str, str], headers: dict[str, str]) -> Any:
        if 8 <= int(query["page"]) < 16:
            # Answered only once four of these are under way.
            together.wait(timeout=20)
        return pages(query, headers)

    api.routes["/things"] = route
    paging = {"records": "things", "paginator": {"type": "page", "base_page": 0}}
    assert rows_of(run(one(paging), settings)) == {"things": 90}
    assert [row["id"] for row in landed(settings, "things")] == [str(n) for n in range(90)]
    asked = [int(query["page"]) for _, query in api.requests]
    assert len(asked) == len(set(asked)), "no page is asked for twice"


def test_only_as_many_pages_as_declared_are_under_way(api: Api, settings: Settings) -> None:
    records, lock = [{"id": n} for n in range(60)], threading.Lock()
    pages = paged(records, 2, lambda _: {"pages": 30})
    now: list[int] = []
    most: list[int] = []

    def route(query: dict[str, str], headers: dict[str, str]) -> Any:
        with lock:
            now.append(1)
            most.append(len(now))
        threading.Event().wait(0.01)
        with lock:
            now.pop()
        return pages(query, headers)

    api.routes["/things"] = route
    paginator = {"type": "page", "base_page": 0, "total_path": "pages"}
    shared = {"auth": {"type": "bearer"}, "connections": 3}
    source = one({"records": "things", "paginator": paginator}, shared)
    assert rows_of(run(source, settings)) == {"things": 60}
    assert max(most) <= 3
    assert len(api.requests) == 30, "nothing is asked for beyond the total"


def test_a_page_that_was_refused_ahead_of_its_turn_is_asked_for_again(
    api: Api, settings: Settings
) -> None:
    records = [{"id": n} for n in range(40)]
    pages, met = paged(records, 2, lambda _: {}), set()

    def route(query: dict[str, str], headers: dict[str, str]) -> Any:
        page = int(query["page"])
        if page >= 20:
            return 404, {}, b"{}"
        if page % 5 == 4 and page not in met:
            met.add(page)
            return 429, {"Retry-After": "0"}, b""
        return {**pages(query, headers), "more": page < 19}

    api.routes["/things"] = route
    paginator = {"type": "page", "base_page": 0, "has_more_path": "more"}
    result = run(one({"records": "things", "paginator": paginator}), settings)
    assert rows_of(result) == {"things": 40}
    assert len(met) == 4
    assert [row["id"] for row in landed(settings, "things")] == [str(n) for n in range(40)]


def test_a_failure_after_some_pages_lands_nothing(api: Api, settings: Settings) -> None:
    def route(query: dict[str, str], _: dict[str, str]) -> Any:
        if query.get("page") == "1":
            return 500, {}, b"database password is hunter2"
        return {"things": THINGS[:4], "next": "/things?page=1&token=" + TOKEN}

    api.routes["/things"] = route
    source = one({"records": "things", "paginator": {"type": "next_url"}})
    error = failure(source, settings)
    assert isinstance(error, SourceFailed)
    text = str(error)
    assert "answered 500" in text
    assert "page 2, 3 attempts" in text
    assert f"{api.url}/things?page=1" in text
    assert "hunter2" not in text
    assert error.exit_code == 4


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((401, {}, b"{}"), SourceUnreachable, "the login is refused"),
        ((404, {}, b"{}"), SourceFailed, "Check `rest.path`"),
        ((400, {}, b"{}"), SourceFailed, "answered 400"),
        ((429, {"Retry-After": "1"}, b""), SourceFailed, "The API limits requests"),
        (
            (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><form>login</form>"),
            SourceFailed,
            "an HTML page, perhaps a login page",
        ),
        ((200, {}, b'{"things": [{"id": 1}, {"id'), SourceFailed, "is not valid JSON"),
        ((200, {}, b""), SourceFailed, "the answer is empty"),
        (
            (200, {}, b'{"items": [], "count": 0}'),
            SourceFailed,
            "no 'things' in the answer, which has: items, count",
        ),
        ((200, {}, b'{"things": ["a"]}'), SourceFailed, "record 1 is a str"),
        ((200, {}, b'{"things": [{"name": "a"}]}'), SourceFailed, "no record has the field 'id'"),
    ],
)
def test_what_is_wrong_with_an_answer_is_told(
    api: Api, settings: Settings, answer: Answer, kind: type[IngestionError], said: str
) -> None:
    api.routes["/things"] = lambda *_: answer
    error = failure(one({"records": "things"}), settings)
    assert type(error) is kind
    assert said in str(error)
    assert "source src, table things" in str(error)


def test_a_page_without_records_is_no_failure(api: Api, settings: Settings) -> None:
    api.routes["/things"] = lambda *_: {"things": []}
    assert run(one({"records": "things"}), settings).status == "nothing_new"


def test_a_service_that_does_not_answer(
    settings: Settings, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", "http://127.0.0.1:1")
    error = failure(one({}), settings)
    assert isinstance(error, SourceUnreachable)
    assert "does not answer: connection refused (page 1, 3 attempts)" in str(error)
    monkeypatch.setenv("CONNECTIONS__SRC__URL", "ftp://files")
    assert isinstance(failure(one({}), settings), DeclarationError)


def test_a_page_that_takes_too_long(api: Api, settings: Settings) -> None:
    release = threading.Event()

    def route(*_: Any) -> Any:
        release.wait(5)
        return THINGS

    api.routes["/things"] = route
    error = failure(one({}, {"page_timeout": 0.2}), settings)
    release.set()
    assert isinstance(error, SourceUnreachable)
    assert "no answer within 0.2 seconds" in str(error)


@pytest.mark.parametrize(
    ("auth", "options", "header", "value"),
    [
        ({"type": "bearer"}, {}, "Authorization", f"Bearer {TOKEN}"),
        (
            {"type": "bearer", "key": "other"},
            {"OTHER": "abcd1234"},
            "Authorization",
            "Bearer abcd1234",
        ),
        ({"type": "api_key", "name": "X-Key"}, {"API_KEY": "key-9999"}, "X-Key", "key-9999"),
        (
            {"type": "basic"},
            {"USERNAME": "me", "PASSWORD": "word-1"},
            "Authorization",
            "Basic bWU6d29yZC0x",
        ),
        ({"type": "none"}, {}, "X-Plain", "yes"),
    ],
)
def test_every_way_of_authorising(
    api: Api,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    auth: dict[str, Any],
    options: dict[str, str],
    header: str,
    value: str,
) -> None:
    for key, option in options.items():
        monkeypatch.setenv(f"CONNECTIONS__SRC__{key}", option)
    api.routes["/things"] = lambda *_: THINGS
    shared = {"auth": auth, "headers": {"X-Plain": "yes"}}
    assert rows_of(run(one({}, shared), settings)) == {"things": 7}
    assert api.headers[0][header] == value


def test_a_missing_secret_is_told_before_anything_is_asked(
    api: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONNECTIONS__SRC__TOKEN")
    error = failure(one({}), settings)
    assert isinstance(error, ConnectionMissing)
    assert "CONNECTIONS__SRC__TOKEN" in str(error)
    assert api.requests == []


def test_one_failing_table_does_not_stop_the_others(api: Api, settings: Settings) -> None:
    api.routes["/things"] = lambda *_: THINGS
    tables = {
        "things": {"primary_key": ["id"], "rest": {"path": "/things"}},
        "lost": {"rest": {"path": "/lost"}},
    }
    result = run(declared("rest", tables), settings)
    assert result.status == "failed"
    assert {table.table: table.rows for table in result.tables} == {"things": 7, "lost": 0}
    assert len(landed(settings, "things")) == 7


@pytest.mark.parametrize(
    ("extra", "asked", "note"),
    [
        (
            {"until_param": "until"},
            [
                {"since": "2026-01-30T00:00:00Z", "until": "2026-02-01T00:00:00Z"},
                {"since": "2026-02-01T00:00:00Z", "until": "2026-02-03T00:00:00Z"},
            ],
            "",
        ),
        (
            {},
            [{"since": "2026-01-30T00:00:00Z"}],
            "read from 2026-01-30 on: rest.incremental has no until_param",
        ),
        (None, [{}], "read whole: the declaration has no rest.incremental"),
    ],
)
def test_a_period_is_asked_for_where_the_api_can_be(
    api: Api, settings: Settings, extra: Any, asked: Any, note: str
) -> None:
    def things(query: dict[str, str], _: dict[str, str]) -> Any:
        days = [f"2026-01-{n}" for n in (29, 30, 31)] + [f"2026-02-0{n}" for n in (1, 2)]
        since, until = query.get("since", "")[:10], query.get("until", "9")[:10]
        return [{"id": day, "at": day} for day in days if since <= day < until]

    api.routes["/things"] = things
    incremental = {"param": "since", "initial": "2025-01-01", **(extra or {})}
    rest = {} if extra is None else {"incremental": incremental}
    results = run_periods(
        one(rest, cursor="at"), settings, date(2026, 1, 30), date(2026, 2, 3), "month"
    )

    assert [query for _, query in api.requests] == asked
    assert {result.tables[0].note for result in results} == {note}
    wanted = ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    assert [row["id"] for row in landed(settings, "things")][-4:] == wanted
