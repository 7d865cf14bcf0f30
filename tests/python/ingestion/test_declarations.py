"""Declarations are typed, inherit from their source, and report every fault at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ingestion.declarations import load_declarations
from ingestion.errors import DeclarationError

FILE = "models/staging/shop/_shop__sources.yml"


def manifest(source: str, shared: Any, tables: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What dbt's manifest says of a source; a table without `ingest` shows the source's."""
    nodes = {}
    for name, own in tables.items():
        ingest = shared if own is None else own
        unique_id = f"source.x.{source}.{name}"
        nodes[unique_id] = {
            "unique_id": unique_id,
            "source_name": source,
            "name": name,
            "identifier": name,
            "schema": f"raw_{source}",
            "original_file_path": FILE,
            "source_meta": {"ingest": shared} if shared is not None else {},
            "config": {"meta": {"ingest": ingest} if ingest is not None else {}},
            "columns": {"id": {"name": "id", "data_type": "bigint"}, "note": {"name": "note"}},
            **more,
        }
    return {"sources": nodes}


def faults(content: dict[str, Any]) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        load_declarations(content)
    assert caught.value.exit_code == 3
    return [str(fault) for fault in caught.value.faults]


def test_a_table_inherits_from_its_source_and_overrides_it() -> None:
    shared = {
        "kind": "files",
        "connection": "erp",
        "csv": {"delimiter": ";", "quote": "'"},
        "encodings": ["utf-8", "cp1252"],
        "path": "*.csv",
    }
    own = {"path": "orders/*.csv", "csv": {"quote": '"'}, "primary_key": "id", "on_refused": "warn"}
    (source,) = load_declarations(manifest("erp", shared, {"orders": own, "plain": None}))
    orders, plain = source.tables
    assert (source.kind, source.connection, source.schema) == ("files", "erp", "raw_erp")
    assert (orders.files.csv.delimiter, orders.files.csv.quote) == (";", '"')
    assert orders.files.path == "orders/*.csv"
    assert orders.files.primary_key == ["id"]
    assert orders.files.encodings == ["utf-8", "cp1252"]
    assert (plain.files.path, plain.files.csv.quote) == ("*.csv", "'")
    assert [(c.name, c.data_type) for c in orders.columns] == [("id", "bigint"), ("note", None)]


def test_spans_and_aliases_are_understood() -> None:
    shared = {"kind": "database", "connection": "shop", "schema": "public"}
    own = {
        "from": "Orders",
        "cursor": "updated_at",
        "window": "36 hours",
        "primary_key": ["a", "b"],
    }
    (source,) = load_declarations(manifest("shop", shared, {"orders": own}))
    table = source.table("orders").database
    assert (table.schema_name, table.origin, table.window) == (
        "public",
        "Orders",
        timedelta(hours=36),
    )


def test_only_selected_tables_are_given_and_other_sources_are_not_ours() -> None:
    shared = {"kind": "database", "connection": "shop"}
    content = manifest("shop", shared, {"orders": None, "items": None})
    content["sources"] |= manifest("ledger", None, {"files": None})["sources"]
    (source,) = load_declarations(content, {"source.x.shop.items"})
    assert [table.name for table in source.tables] == ["items"]
    assert [s.name for s in load_declarations(content)] == ["shop"]
    assert load_declarations(content, set()) == []


def test_every_fault_of_every_source_is_reported_at_once() -> None:
    content = manifest("one", {"kind": "databse", "connection": "x"}, {"a": None})
    content["sources"] |= manifest(
        "two", {"kind": "files"}, {"b": {"pth": "*"}, "c": {"path": "*", "window": "3 dayz"}}
    )["sources"]
    found = faults(content)
    assert len(found) == 5
    assert any('source one, ingest.kind: found "databse"; expected database' in f for f in found)
    assert any("source two, ingest.connection: found nothing" in f for f in found)
    assert any("table b, ingest.pth: found the unknown key pth; expected path" in f for f in found)
    assert any("table b, ingest.path: found nothing" in f for f in found)
    assert any('table c, ingest.window: found "3 dayz"; expected a span' in f for f in found)
    assert all(fault.startswith(FILE) for fault in found)


@pytest.mark.parametrize(
    ("shared", "own", "told"),
    [
        ({"kind": "files"}, {"path": "x", "csv": {"delimiter": "||"}}, "ingest.csv.delimiter"),
        ({"kind": "database"}, {"primary_key": ["id", False]}, "YAML takes an unquoted no, yes"),
        ({"kind": "files"}, {"path": "x", "encodings": ["utf8", "klingon"]}, "ingest.encodings.1"),
        ({"kind": "files"}, {"path": "x", "format": "xml"}, "the tag of the element"),
        ({"kind": "files"}, {"path": "x", "deletes": "sweep"}, "only a database can be swept"),
        ({"kind": "files"}, {"path": "x", "cursor": "day"}, "new and changed files are found"),
        ({"kind": "files", "csv": {"header": "yes"}}, {"path": "x"}, "source s, ingest.csv.header"),
        (
            {"kind": "files"},
            {"path": "x", "format": "csv", "csv": {"header": False}},
            "ingest.csv.columns",
        ),
        ({"kind": "database"}, {"window": "1 day"}, "a cursor beside it"),
        ({"kind": "database"}, {"deletes": "swep", "primary_key": "a"}, "expected sweep"),
        ({"kind": "database", "curser": "x"}, {}, "source s, ingest.curser"),
        ({"kind": "database"}, "orders", "keys such as primary_key"),
        ({"kind": "rest"}, {"rest": {"path": "/a", "paginator": {"type": "cursr"}}}, "cursor (one"),
        (
            {"kind": "rest"},
            {"rest": {"path": "/a", "paginator": {"type": "offset", "limt": 5}}},
            "paginator.limt: found the unknown key limt; expected limit",
        ),
        (
            {"kind": "rest", "rest": {"auth": {"type": "beerer"}}},
            {"rest": {"path": "/a"}},
            'ingest.rest.auth.type: found "beerer"; expected bearer',
        ),
        (
            {"kind": "rest"},
            {"rest": {"path": "/a", "incremental": {"param": "since", "initial": "2025-01-01"}}},
            "ingest.cursor",
        ),
        ({"kind": "python", "python": {"callable": "no colon"}}, {}, "ingest.python.callable"),
    ],
)
def test_a_fault_names_its_key_and_what_was_expected(shared: Any, own: Any, told: str) -> None:
    found = faults(manifest("s", {"connection": "c", **shared}, {"t": own}))
    assert any(told in fault for fault in found), found


def test_a_sweep_may_rest_on_the_key_that_the_catalog_has() -> None:
    shared = {"kind": "database", "connection": "c", "deletes": "sweep"}
    (source,) = load_declarations(manifest("shop", shared, {"orders": None}))
    assert source.tables[0].database.deletes == "sweep"


def test_names_must_fit_dlt_and_the_warehouse() -> None:
    shared = {"kind": "database", "connection": "c"}
    assert any("Bad-Name" in f for f in faults(manifest("s", shared, {"Bad-Name": None})))
    renamed = manifest("s", shared, {"orders": None}, identifier="ORDERS")
    assert any("meta.ingest.from" in fault for fault in faults(renamed))
    twice = manifest("a", shared, {"t": None}, schema="raw")
    twice["sources"] |= manifest("b", shared, {"t": None}, schema="raw")["sources"]
    assert any("source a has raw.t already" in fault for fault in faults(twice))
