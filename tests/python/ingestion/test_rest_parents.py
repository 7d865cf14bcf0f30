"""Tables of an API that are asked for by the rows of another table, increments, and what moves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from api_kit import Api
from sources_kit import declared, landed, rows_of, run, settings_in

from ingestion.declarations import load_declarations
from ingestion.errors import DeclarationError
from ingestion.rest.bounds import NoTime, end_of, start_of
from ingestion.rest.declared import RestIncremental
from ingestion.settings import Settings


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
    monkeypatch.setenv("RUNTIME__REQUEST_BACKOFF_FACTOR", "0.001")
    monkeypatch.setenv("RUNTIME__REQUEST_MAX_ATTEMPTS", "2")
    return server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


class Forum:
    """Posts, and the comments below each: the second page of a post's comments has the last one."""

    def __init__(self, api: Api, posts: int) -> None:
        self.api = api
        self.posts: list[dict[str, Any]] = [
            {"id": n, "title": f"post {n}", "team": {"slug": f"team {n % 2}/x"}}
            for n in range(1, posts + 1)
        ]
        self.comments = {
            str(n): [{"id": f"{n}-{c}", "at": f"2026-01-0{c}"} for c in (1, 2, 3)]
            for n in range(1, posts + 1)
        }
        api.routes["/posts"] = lambda *_: self.posts
        api.routes["/comments/*"] = self.below

    def below(self, query: dict[str, str], _: dict[str, str]) -> Any:
        if query["below"] not in self.comments:
            return 404, {}, b"{}"
        found = [c for c in self.comments[query["below"]] if c["at"] >= query.get("since", "")]
        pages = {"": found, "1": found[:2], "2": found[2:]}
        return pages.get(query.get("page", ""), [])

    def asked(self) -> list[tuple[str, str]]:
        """Posts whose comments were asked for, each with the named beginning; then forgotten."""
        found = [
            (path.rpartition("/")[2], query.get("since", ""))
            for path, query in self.api.requests
            if path.startswith("/comments/") and query.get("page", "1") == "1"
        ]
        self.api.requests.clear()
        return sorted(found)


def forum(**rest: Any) -> Any:
    parent = {"table": "posts", "include": {"post_id": "id"}, **rest.pop("parent", {})}
    table = {
        "primary_key": ["id"],
        "rest": {"path": "/comments/{id}", "parent": parent, **rest},
    }
    if "incremental" in rest:
        table["cursor"] = "at"
    posts = {"primary_key": ["id"], "rest": {"path": "/posts"}}
    return declared("rest", {"comments": table, "posts": posts})


def test_children_of_every_row_are_read_side_by_side_and_land_in_order(
    api: Api, settings: Settings
) -> None:
    site = Forum(api, 12)
    together = threading.Barrier(4)

    def below(query: dict[str, str], headers: dict[str, str]) -> Any:
        if query.get("page") == "1" and int(query["below"]) in range(5, 9):
            # Answered only once four posts are asked for at the same time.
            together.wait(timeout=20)
        return site.below(query, headers)

    api.routes["/comments/*"] = below
    source = forum(paginator={"type": "page"})
    result = run(source, settings)
    assert rows_of(result) == {"comments": 36, "posts": 12}
    assert result.tables[0].message == "read 36 records in 36 pages for 12 rows of its parent"
    rows = landed(settings, "comments")
    assert [(row["post_id"], row["id"]) for row in rows] == [
        (str(n), f"{n}-{c}") for n in range(1, 13) for c in (1, 2, 3)
    ]
    site.comments["3"].append({"id": "3-4", "at": "2026-01-09"})
    assert rows_of(run(forum(), settings)) == {"comments": 1, "posts": 0}


def test_placeholders_stand_in_path_parameters_and_body(api: Api, settings: Settings) -> None:
    api.routes["/posts"] = lambda *_: [{"id": "a b/c", "team": {"slug": "x&y"}}, {"id": None}]
    asked: list[Any] = []
    api.posts["/search/a%20b%2Fc"] = lambda body, _: asked.append(body) or [{"id": 1}]
    tables = {
        "posts": {"rest": {"path": "/posts"}},
        "found": {
            "rest": {
                "path": "/search/{id}",
                "method": "POST",
                "params": {"team": "{team.slug}"},
                "body": {"filter": [{"post": "{id}", "kind": 7}]},
                "parent": {"table": "posts", "include": {"team_slug": "team.slug"}},
            }
        },
    }
    result = run(declared("rest", tables), settings)
    assert rows_of(result)["found"] == 1
    assert asked == [{"filter": [{"post": "a b/c", "kind": 7}]}]
    assert api.requests[-1] == ("/search/a%20b%2Fc", {"team": "x&y"})
    assert landed(settings, "found")[0]["team_slug"] == "x&y"


def test_only_children_of_changed_rows_are_asked_for_where_that_is_declared(
    api: Api, settings: Settings
) -> None:
    site = Forum(api, 3)
    source = forum(parent={"rows": "changed"})
    run(source, settings)
    assert len(site.asked()) == 3
    site.posts[1]["title"] = "changed"
    site.posts.append({"id": 4, "title": "new"})
    site.comments["2"].append({"id": "2-9", "at": "2026-01-09"})
    failed = run(source, settings)
    assert "declare `rest.responses: [{status: 404, action: empty}]`" in str(failed.error)
    assert len(landed(settings, "posts")) == 5, "the parent landed"
    site.asked()
    site.comments["4"] = [{"id": "4-1", "at": "2026-01-01"}]
    assert rows_of(run(source, settings)) == {"comments": 2, "posts": 0}
    assert [post for post, _ in site.asked()] == ["2", "4"], "what failed is asked for again"
    run(source, settings)
    assert site.asked() == []
    run(source, settings, full_refresh=True)
    assert len(site.asked()) == 4


def test_a_new_row_is_asked_for_from_the_beginning(api: Api, settings: Settings) -> None:
    site = Forum(api, 2)
    incremental = {"param": "since", "format": "date", "initial": "2025-01-01"}
    source = forum(incremental=incremental)
    assert rows_of(run(source, settings)) == {"comments": 6, "posts": 2}
    assert site.asked() == [("1", "2025-01-01"), ("2", "2025-01-01")]
    site.posts.append({"id": 3})
    site.comments["3"] = [{"id": "3-1", "at": "2025-06-01"}]
    assert rows_of(run(source, settings)) == {"comments": 1, "posts": 1}
    assert site.asked() == [("1", "2026-01-03"), ("2", "2026-01-03"), ("3", "2025-01-01")]


def test_children_without_a_parent_to_ask_for(api: Api, settings: Settings) -> None:
    site = Forum(api, 2)
    site.comments.pop("2")
    source = forum(responses=[{"status": 404, "action": "empty"}])
    assert rows_of(run(source, settings)) == {"comments": 3, "posts": 2}
    api.routes["/posts"] = lambda *_: (500, {}, b"")
    result = run(source, settings)
    errors = {table.table: str(table.error) for table in result.tables}
    assert "not read, because its parent posts failed" in errors["comments"]
    wrong = forum(parent={"include": {"post_id": "number"}})
    api.routes["/posts"] = lambda *_: site.posts
    assert "its parent posts has no column 'number'" in str(run(wrong, settings).error)
    clash = forum(parent={"include": {"at": "id"}})
    assert "records have a field 'at' of their own" in str(run(clash, settings).error)


def test_a_child_alone_reads_the_landed_rows_of_its_parent(api: Api, settings: Settings) -> None:
    from dataclasses import replace

    site = Forum(api, 2)
    source = forum()
    alone = replace(source, tables=source.tables[:1], all_tables=source.tables)
    assert "its parent posts has not been read yet" in str(run(alone, settings).error)
    run(replace(source, tables=source.tables[1:]), settings)
    assert rows_of(run(alone, settings)) == {"comments": 6}
    assert len(site.asked()) == 2


def test_a_page_that_fails_below_one_row_lands_nothing_of_the_table(
    api: Api, settings: Settings
) -> None:
    site = Forum(api, 9)

    def below(query: dict[str, str], headers: dict[str, str]) -> Any:
        if query["below"] == "5" and query["page"] == "2":
            return 200, {"Content-Length": "5000"}, b'[{"id": '
        return site.below(query, headers)

    api.routes["/comments/*"] = below
    source = forum(paginator={"type": "page"})
    result = run(source, settings)
    assert "/comments/5 does not answer: it broke off" in str(result.error)
    assert landed(settings, "comments") == []
    api.routes["/comments/*"] = site.below
    assert rows_of(run(source, settings))["comments"] == 27


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_records_that_move_between_pages_are_told_and_counted_once(
    api: Api, settings: Settings, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    records = [{"id": n} for n in range(6)]

    def route(query: dict[str, str], _: dict[str, str]) -> Any:
        first = int(query["offset"]) if kind == "offset" else int(query["page"]) * 2 - 2
        if first == 2 and len(records) == 6:
            # Something new comes first: the last record of page 1 is the first of page 2 now.
            records.insert(0, {"id": 9})
        return {"things": records[first : first + 2], "total": len(records)}

    api.routes["/things"] = route
    keys = {"limit": 2} if kind == "offset" else {}
    rest = {"path": "/things", "records": "things", "total": "total"}
    table = {"primary_key": ["id"], "rest": {**rest, "paginator": {"type": kind, **keys}}}
    source = declared("rest", {"things": table}, connections=1)
    with caplog.at_level(logging.WARNING):
        result = run(source, settings)
    told = "1 record came twice; the API said 6 records first and 7 at the end; 6 records of 7 were"
    assert told in result.tables[0].message
    assert "records moved between pages" in caplog.text
    assert rows_of(run(source, settings)) == {"things": 1}, "the next run brings what was missed"
    assert "moved" not in run(source, settings).tables[0].message


@pytest.mark.parametrize(
    ("keys", "landed_value", "value"),
    [
        ({}, None, "2025-01-01"),
        ({}, datetime(2026, 1, 5, 12, tzinfo=UTC), "2026-01-05T11:00:00Z"),
        ({"format": "epoch"}, datetime(2026, 1, 5, 12, tzinfo=UTC), 1767610800),
        ({"format": "epoch_ms"}, datetime(2026, 1, 5, 12, tzinfo=UTC), 1767610800000),
        ({"format": "date"}, datetime(2026, 1, 5, 0, 30, tzinfo=UTC), "2026-01-04"),
        ({"format": "%d.%m.%Y %H:%M"}, datetime(2026, 1, 5, 12, tzinfo=UTC), "05.01.2026 11:00"),
        ({"format": "%d.%m.%Y"}, None, "01.01.2025"),
        ({"format": "epoch"}, Decimal(1767614400), 1767610800),
        ({"format": "date"}, Decimal(1767614400000), "2026-01-05"),
        ({"initial": "0000"}, "0042", "0042"),
    ],
)
def test_a_beginning_is_written_as_the_api_writes_times(
    keys: dict[str, str], landed_value: Any, value: Any
) -> None:
    incremental = RestIncremental.model_validate({"param": "p", "initial": "2025-01-01", **keys})
    assert start_of(incremental, landed_value, timedelta(hours=1)) == value


def test_ends_templates_and_bodies_take_bounds(api: Api, settings: Settings) -> None:
    bodies: list[Any] = []
    api.posts["/search"] = lambda body, _: bodies.append(body) or [{"id": 1, "at": "2026-01-05"}]
    incremental = {
        "body_path": "query.changed.from",
        "until_body_path": "query.changed.to",
        "until": "2030-01-01",
        "format": "date",
        "template": ">={value}",
        "initial": "2025-01-01",
    }
    rest = {"path": "/search", "method": "POST", "body": {"query": {"kind": "a"}}}
    table = {"primary_key": ["id"], "cursor": "at", "rest": {**rest, "incremental": incremental}}
    source = declared("rest", {"found": table})
    assert rows_of(run(source, settings)) == {"found": 1}
    run(source, settings)
    changed = {"from": ">=2025-01-01", "to": ">=2030-01-01"}
    assert bodies[0] == {"query": {"kind": "a", "changed": changed}}
    assert bodies[1]["query"]["changed"]["from"] == ">=2026-01-05"
    now = RestIncremental.model_validate({**incremental, "until": "now", "format": "epoch"})
    assert abs(int(end_of(now) or 0) - datetime.now(UTC).timestamp()) < 60
    with pytest.raises(NoTime):
        start_of(now, "no time", timedelta(0))


def manifest(shared: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """A dbt manifest with one source of kind `rest`."""
    ingest = {"kind": "rest", "connection": "src", "rest": shared}
    return {
        "sources": {
            f"source.x.src.{name}": {
                "unique_id": f"source.x.src.{name}",
                "source_name": "src",
                "name": name,
                "identifier": name,
                "schema": "raw_src",
                "original_file_path": "_src__sources.yml",
                "source_meta": {"ingest": ingest},
                "config": {"meta": {"ingest": own}},
                "columns": {},
            }
            for name, own in tables.items()
        }
    }


def test_what_tables_share_is_said_once() -> None:
    paginator = {"type": "offset", "limit": 50}
    tables = {
        "a": {"rest": {"path": "/a"}},
        "b": {"rest": {"path": "/b", "paginator": {"type": "single"}}},
    }
    (source,) = load_declarations(
        manifest({"auth": {"type": "bearer"}, "paginator": paginator}, tables)
    )
    kinds = [table.rest.rest.paginator for table in source.tables]
    assert [kind.type for kind in kinds if kind] == ["offset", "single"]
    assert source.rest is not None
    assert source.rest.auth.type == "bearer"


SINCE = {"param": "since", "initial": "2025-01-01"}


@pytest.mark.parametrize(
    ("shared", "rest", "told"),
    [
        ({"auht": {}}, {}, "ingest.rest.auht: found the unknown key auht; expected auth (one of"),
        ({"auth": {"type": "oauth"}}, {}, 'auth.type: found "oauth"; expected oauth2 (one of'),
        (
            {"auth": {"type": "oauth2", "token_ulr": "/t"}},
            {},
            "auth.token_ulr: found the unknown key token_ulr; expected token_url (one of",
        ),
        (
            {"auth": {"type": "bearer", "location": "query"}},
            {},
            "auth.location: found the unknown key location; expected one of type, key, prefix",
        ),
        ({"auth": {"type": "headers", "headers": {}}}, {}, "auth.headers"),
        ({"headers": {"Authorization": "Bearer x"}}, {}, "no secret in a declaration"),
        ({"rate_limit": {"requests": 5, "per": "fortnight"}}, {}, "rate_limit.per"),
        ({}, {"methd": "POST"}, "ingest.rest.methd: found the unknown key methd; expected method"),
        ({}, {"paginator": {"type": "pages"}}, 'paginator.type: found "pages"; expected page (one'),
        (
            {},
            {"paginator": {"type": "cursor", "cursor_param": "a", "cursor_body_path": "b"}},
            "either cursor_param or cursor_body_path",
        ),
        (
            {},
            {"paginator": {"type": "page", "page_body_path": "b"}},
            "POST, as the paginator has page_body_path",
        ),
        (
            {},
            {"paginator": {"type": "page", "stop_after_empty_page": False}},
            "a maximum that says where pages end",
        ),
        ({}, {"records": "a[["}, 'records: found "a[["; expected a JSON path such as'),
        ({}, {"body": {"a": 1}}, "POST, as there is a body"),
        ({}, {"path": "/a/{id}"}, "`parent` beside it: the table whose rows have id"),
        (
            {},
            {"path": "/a/{id}", "parent": {"table": "othr"}},
            'parent.table: found "othr"; expected other (one of other)',
        ),
        ({}, {"path": "/a/{id}", "parent": {"table": "things"}}, "not below this one itself"),
        ({}, {"parent": {"table": "other"}}, "a {column} of the parent"),
        ({}, {"responses": [{"action": "empty"}]}, "responses.0: found nothing"),
        ({}, {"responses": [{"status": 404, "action": "ignore"}]}, "responses.0.action"),
        ({}, {"incremental": {"initial": "1"}}, "incremental.param: found nothing"),
        ({}, {"incremental": {**SINCE, "format": "iso8601"}}, 'format: found "iso8601"; expected'),
        ({}, {"incremental": {**SINCE, "until": "now"}}, "until_param or until_body_path beside"),
        ({}, {"incremental": {**SINCE, "template": ">="}}, "a text that holds {value}"),
    ],
)
def test_a_faulty_declaration_names_the_key_and_what_is_allowed(
    shared: dict[str, Any], rest: dict[str, Any], told: str
) -> None:
    tables = {
        "things": {"primary_key": "id", "cursor": "at", "rest": {"path": "/a", **rest}},
        "other": {"rest": {"path": "/b"}},
    }
    with pytest.raises(DeclarationError) as caught:
        load_declarations(manifest(shared, tables))
    assert told in str(caught.value)
    assert "Bearer x" not in str(caught.value)
