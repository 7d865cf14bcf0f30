"""Sources compared with what was loaded: equal, not yet extracted, different, not compared."""

from __future__ import annotations

import gzip
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import pytest
from databases_by_hand import change_orders
from files_kit import Lab
from sources_kit import declared, run, settings_in

from ingestion.load import load
from ingestion.reconcile import Comparison, reconcile
from ingestion.settings import Settings
from ingestion.warehouse import connect

INSERT = "insert or replace into orders values (?, ?, ?)"


def compare(declaration: Any, settings: Settings) -> Comparison:
    connection = connect(settings, read_only=True)
    try:
        (made,) = reconcile(connection, [declaration], settings)
    finally:
        connection.close()
    return made


def take(declaration: Any, settings: Settings) -> None:
    """Extracts and loads."""
    assert run(declaration, settings).error is None
    assert load([declaration], settings).error is None


class Orders:
    """Three orders in SQLite, extracted and loaded."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **ingest: Any) -> None:
        self.path = folder / "shop.db"
        self.settings = settings_in(folder)
        known = {"primary_key": "id", "cursor": "updated_at", "deletes": "sweep", **ingest}
        self.declaration = declared("database", {"orders": known}, "shop")
        monkeypatch.setenv("CONNECTIONS__SHOP__URL", f"sqlite:///{self.path}")
        self.put(*((n, f"o{n}", f"2026-01-0{n} 10:00:00") for n in (1, 2, 3)))
        take(self.declaration, self.settings)

    def put(self, *rows: tuple[int, str, str]) -> None:
        change_orders(self.path, INSERT, *rows)

    def compare(self) -> Comparison:
        return compare(self.declaration, self.settings)

    def execute(self, sql: str) -> None:
        with duckdb.connect(str(self.settings.warehouse_path)) as connection:
            connection.execute(sql)


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Orders:
    return Orders(tmp_path, monkeypatch)


def test_a_table_that_was_extracted_is_equal_by_count_and_checksum(orders: Orders) -> None:
    made = orders.compare()
    assert (made.verdict, made.here, made.there) == ("equal", 3, 3)
    assert made.checksums[0] == made.checksums[1] != ""


def test_versions_and_deletions_count_as_the_source_has_them(orders: Orders) -> None:
    orders.put((2, "changed", "2026-01-05 10:00:00"))
    change_orders(orders.path, "delete from orders where id = ?", (1,))
    take(orders.declaration, orders.settings)
    made = orders.compare()
    assert (made.verdict, made.here, made.there) == ("equal", 2, 2)


def test_what_is_newer_than_the_last_extraction_is_no_fault(orders: Orders) -> None:
    orders.put((3, "changed", "2026-01-06 10:00:00"), (4, "new", "2026-01-07 10:00:00"))
    made = orders.compare()
    assert (made.verdict, made.new, made.wrong) == ("not yet extracted", 2, 0)
    assert (made.here, made.there) == (3, 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("delete from raw_shop.orders where id = 2", "missing here 2"),
        ("update raw_shop.orders set id = 20 where id = 2", "gone there 20"),
        (
            "update raw_shop.orders set updated_at = '2026-01-01' where id = 2",
            "other updated_at 2",
        ),
        ("update raw_shop.orders set _deleted = true where id = 2", "missing here 2"),
    ],
)
def test_rows_lost_made_up_or_changed_here_are_named(
    orders: Orders, change: str, told: str
) -> None:
    orders.execute(change)
    made = orders.compare()
    assert made.verdict == "different"
    assert told in made.examples
    assert told in made.message
    assert made.checksums[0] != made.checksums[1]


def test_no_more_than_ten_keys_are_named(orders: Orders) -> None:
    orders.put(*((n, "x", "2026-01-01 10:00:00") for n in range(10, 40)))
    made = orders.compare()
    assert (made.verdict, made.wrong, len(made.examples)) == ("different", 30, 10)


def test_deletions_that_are_not_followed_are_told_and_are_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = Orders(tmp_path, monkeypatch, deletes="none")
    change_orders(orders.path, "delete from orders where id = ?", (1,))
    made = orders.compare()
    assert made.verdict == "equal"
    assert "1 row is gone there, which is not followed" in made.message


def test_a_table_without_cursor_or_key_is_compared_as_far_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = Orders(tmp_path, monkeypatch, cursor=None)
    assert orders.compare().verdict == "equal"
    with sqlite3.connect(orders.path) as connection:
        connection.execute("create table notes (text)")
        connection.execute("insert into notes values ('a'), ('a')")
    keyless = declared("database", {"notes": {}}, "shop")
    take(keyless, orders.settings)
    made = compare(keyless, orders.settings)
    assert (made.verdict, made.here, made.there) == ("not compared", 2, 2)
    assert "declare `primary_key`" in made.message


def test_types_that_changed_since_compare_by_their_values(orders: Orders) -> None:
    orders.put((4, "x", "2026-01-04 10:00:00"))
    change_orders(orders.path, INSERT, (5, "y", "some day"))
    take(orders.declaration, orders.settings)
    made = orders.compare()
    assert (made.verdict, made.here) == ("equal", 5)


def test_a_table_never_loaded_is_not_yet_extracted(orders: Orders) -> None:
    orders.execute("drop table raw_shop.orders")
    made = orders.compare()
    assert (made.verdict, made.here, made.there) == ("not yet extracted", 0, 3)


def test_a_source_that_does_not_answer_is_told_with_its_error(orders: Orders) -> None:
    orders.path.unlink()
    made = orders.compare()
    assert made.verdict == "failed"
    assert made.error is not None
    assert made.error.exit_code == 4


# Files


def files(lab: Lab) -> Comparison:
    return compare(lab.declaration, lab.settings)


def test_files_are_equal_new_sent_again_or_changed_in_secret(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", 'n,m\n1,x\n2,"y\nz"\n\n', age=1)
    lab.put("b.csv", "n,m\n3,x\n", age=1)
    lab.run()
    made = files(lab)
    assert (made.verdict, made.here, made.there, made.unit) == ("equal", 2, 2, "files")

    lab.put("c.csv", "n,m\n4,x\n", age=2)
    lab.put("b.csv", "n,m\n3,y\n", age=2)
    made = files(lab)
    assert (made.verdict, made.new, made.there) == ("not yet extracted", 2, 3)

    lab.run()
    lab.put("b.csv", "n,m\n3,z\n", age=2)
    (lab.drop / "a.csv").unlink()
    made = files(lab)
    # Where the listing's date is all there is, bytes under the same date are a fault.
    assert made.verdict == "different"
    assert "b.csv: other content under the same date" in made.message
    assert made.here == 2


@pytest.mark.parametrize(
    ("name", "content", "ingest"),
    [
        ("a.csv", b"# told\n\nn;m\n1;a\n2;b\n", {"csv": {"delimiter": ";", "comment": "#"}}),
        ("a.csv.gz", gzip.compress(b"n\n1\n2\n", mtime=0), {}),
        ("a.csv", b"head\nn\n1\n2", {"csv": {"skip_lines": 1}}),
        ("a.csv", b"1,2\n3,4\n", {"csv": {"header": False, "columns": ["a", "b"]}}),
        ("a.ndjson", b'{"n": 1}\n\n{"n": 2}\n', {}),
    ],
)
def test_lines_are_counted_as_the_declaration_reads_them(
    lab: Lab, name: str, content: bytes, ingest: dict[str, Any]
) -> None:
    lab.tables["t"] = {"path": "*", **ingest}
    lab.put(name, content)
    lab.run()
    assert lab.ledger()[0][2] == 2
    made = files(lab)
    assert (made.verdict, made.message) == ("equal", "")


def test_a_ledger_that_counts_other_rows_than_the_file_has_is_told(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n2\n")
    lab.run()
    with duckdb.connect(str(lab.settings.warehouse_path)) as connection:
        connection.execute("update ledger.files set rows_read = 1, rows_loaded = 1")
    assert "it has 2 records by its lines, 1 were loaded" in files(lab).message


def test_faulty_records_leave_lines_uncounted_and_are_no_fault(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", 'n,m\n1,"open\n2,b\n3\n4,d\n')
    lab.run()
    assert files(lab).verdict == "equal"


def test_what_landed_but_is_not_loaded_is_told(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n")
    lab.run()
    lab.put("b.csv", "n\n2\n")
    assert lab.extract().error is None
    made = files(lab)
    assert made.verdict == "different"
    assert "b.csv: it landed but is not loaded" in made.message


# APIs and Python


class Records:
    """An API over a list of records that states their number."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = [{"id": n, "at": 1_767_225_600 + n} for n in (1, 2, 3)]
        self.total: Any = None
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                since = int(query.get("since", ["0"])[0])
                shown = [r for r in api.records if r["at"] >= since]
                total = len(shown) if api.total is None else api.total
                body = json.dumps({"items": shown, "meta": {"total": total}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    server = Records()
    monkeypatch.setenv("CONNECTIONS__SRC__URL", server.url)
    yield server
    server.close()


def items(**rest: Any) -> Any:
    known = {"path": "/items", "records": "items", **rest}
    return declared("rest", {"items": {"primary_key": "id", "cursor": "at", "rest": known}})


INCREMENTAL = {"param": "since", "format": "epoch", "initial": "2026-01-01"}


def test_an_api_is_compared_with_the_total_that_it_states(api: Records, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    source = items(total="meta.total", incremental=INCREMENTAL)
    take(source, settings)
    assert compare(source, settings).verdict == "equal"

    api.records.append({"id": 4, "at": 1_767_225_700})
    made = compare(source, settings)
    assert (made.verdict, made.new, made.here, made.there) == ("not yet extracted", 1, 3, 4)

    api.records[3]["at"] = 1_767_225_600
    made = compare(source, settings)
    assert (made.verdict, made.wrong) == ("different", 1)
    assert "1 too few here" in made.message

    api.records = api.records[:2]
    assert "1 too many here" in compare(source, settings).message


def test_an_api_without_a_total_is_said_so(api: Records, tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    take(items(), settings)
    made = compare(items(), settings)
    assert (made.verdict, made.here) == ("not compared", 3)
    assert "declare `rest.total`" in made.message


@pytest.mark.parametrize("total", ["many", None, True, -1])
def test_a_total_that_is_no_number_is_told(api: Records, tmp_path: Path, total: Any) -> None:
    settings = settings_in(tmp_path)
    take(items(), settings)
    api.total = "" if total is None else total
    made = compare(items(total="meta.total"), settings)
    assert made.verdict == "failed"
    assert "there is no number at 'meta.total'" in made.message


def test_a_python_source_is_compared_with_what_it_counts(tmp_path: Path) -> None:
    (tmp_path / "counted_source.py").write_text(
        "def rows(number):\n    yield from ({'id': n} for n in range(number))\n"
        "def count(number):\n    return {'things': number + 1}\n"
    )
    settings = settings_in(tmp_path)

    def source(**more: Any) -> Any:
        given = {"callable": "counted_source:rows", "arguments": {"number": 2}, **more}
        return declared("python", {"things": {"primary_key": "id"}}, **given)

    take(source(), settings)
    assert compare(source(), settings).verdict == "not compared"
    made = compare(source(count="counted_source:count"), settings)
    assert (made.verdict, made.here, made.there) == ("different", 2, 3)
    made = compare(source(count="counted_source:absent"), settings)
    assert made.verdict == "failed"
