"""Landing becomes raw: every record once, in raw or in the ledger, with its place."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from files_kit import Lab

from ingestion.errors import BadInput, LockHeld


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_rows_carry_their_place(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", 'id,text\r\n1,"x, y"\r\n2,"two\r\nlines"\r\n3,\r\n')
    result = lab.run()
    assert [(t.table, t.files, t.rows, t.rejected) for t in result.tables] == [("t", 1, 3, 0)]
    (row,) = lab.register("t")
    found = lab.query("select id, text, _file, _row, _load_id, _deleted from raw_src.t order by id")
    assert found == [
        ("1", "x, y", row.file, 1, row.load_id, False),
        ("2", "two\r\nlines", row.file, 2, row.load_id, False),
        ("3", None, row.file, 3, row.load_id, False),
    ]
    (at,) = lab.query("select distinct _extracted_at from raw_src.t")[0]
    assert at.timestamp() - float(row.load_id) < 1 or isinstance(at, datetime)
    assert abs((at - datetime(1970, 1, 1)).total_seconds() - float(row.load_id)) < 1e-5
    assert lab.ledger() == [("t", "a.csv", 3, 3, 0, "loaded")]
    assert lab.query("select bytes, sha256, reader from ledger.files") == [
        (row.size, row.sha256, "csv")
    ]


def test_loading_again_adds_nothing(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n")
    lab.run()
    before = lab.state()
    assert lab.load().rows == 0
    assert lab.run().rows == 0
    assert lab.state() == before


def test_hundreds_of_files_keep_their_rows_apart(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "encodings": ["utf-8", "cp1252"]}
    for number in range(300):
        lines = "".join(f"{number},{i},é\n" for i in range(number % 7))
        lab.put(
            f"{number:03}.csv", ("file,row,x\n" + lines).encode("cp1252" if number % 2 else "utf-8")
        )
    result = lab.run()
    assert result.tables[0].files == 300
    wrong = lab.query(
        "select count(*) from raw_src.t where _row <> row::int + 1 or x <> 'é' "
        "or not _file like '%-' || lpad(file, 3, '0') || '.csv'"
    )
    assert wrong == [(0,)]
    assert lab.query("select count(*) from raw_src.t") == [(sum(i % 7 for i in range(300)),)]


def test_large_files_keep_their_order(lab: Lab) -> None:
    lab.tables |= {"c": {"path": "*.csv"}, "n": {"path": "*.ndjson.gz"}}
    rows = range(300_000)
    lab.put("a.csv", "n\n" + "".join(f"{i}\n" for i in rows))
    lab.put("b.csv", "n\n" + "".join(f"{i}\n" for i in rows))
    lab.put("a.ndjson.gz", gzip.compress("".join(f'{{"n":{i}}}\n' for i in rows).encode(), 1))
    lab.run()
    for table, count in (("c", 600_000), ("n", 300_000)):
        found = lab.query(f"select count(*), count(*) filter (n <> _row - 1) from raw_src.{table}")
        assert found == [(count, 0)]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_compressed_files_are_read(lab: Lab, suffix: str) -> None:
    pack = {
        "": lambda data: data,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
    }[suffix]
    for table, name, content in (
        ("c", "a.csv", b"\xef\xbb\xbfn,m\n1,x\n2,y\n"),
        ("n", "a.ndjson", b'{"n": 1, "m": "x"}\n\n{"n": 2, "m": "y"}\n'),
        ("j", "a.json", b'[{"n": 1, "m": "x"}, {"n": 2, "m": "y"}]'),
        ("p", "a.parquet", parquet(pa.table({"n": ["1", "2"], "m": ["x", "y"]}))),
        ("x", "a.xml", b'<r><e n="1"><m>x</m></e><e n="2"><m>y</m></e></r>'),
    ):
        lab.put(f"{table}/{name}{suffix}", pack(content))
        lab.tables[table] = {"path": f"{table}/*", "xml": {"record": "e"}}
    lab.run()
    for table in lab.tables:
        assert lab.raw(table) == [{"n": "1", "m": "x"}, {"n": "2", "m": "y"}], table


def test_ndjson_keeps_digits_and_nested_text(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.ndjson"}
    lab.put("a.ndjson", '{"id":1,"Nested Key":{"x":[1,"é"]},"b":true}\n{"id":"x","c":null}\n')
    lab.put(
        "b.ndjson",
        '{"id":1.10,"b":12345678901234567890}\n'
        '{"id":1e5,"b":{"v": 0.10}}\n{"id":-0,"c":"\\u00e9"}\n',
    )
    lab.run()
    assert [
        tuple(row.values()) for row in lab.raw("t", order="_load_id, right(_file, 8), _row")
    ] == [
        ("1", '{"x":[1,"é"]}', "true", None),
        ("x", None, None, None),
        ("1.10", None, "12345678901234567890", None),
        ("1e5", None, '{"v":0.10}', None),
        ("-0", None, None, "é"),
    ]
    assert list(lab.types("t"))[:4] == ["id", "nested_key", "b", "c"]


def test_faulty_records_are_rejected_and_the_rest_loads(lab: Lab) -> None:
    lab.tables |= {"c": {"path": "*.csv"}, "n": {"path": "*.ndjson"}}
    lab.put("good.csv", "a,b\n9,9\n")
    lab.put("x.csv", 'a,b\n1,2\n3\n4,5,6\n"x"y,7\n8,"9\n10,11\n12,13,,\n')
    lab.put("x.ndjson", '{"a": 1}\n{"a": 2\n[3]\n{"a": 4} {"a": 5}\n{"a": 6, "a": 7}\n{"a": 8}\n')
    result = lab.run()
    assert lab.raw("c", order="_file like '%x.csv', _row") == [
        {"a": "9", "b": "9"},
        {"a": "1", "b": "2"},
        {"a": "10", "b": "11"},
        {"a": "12", "b": "13"},
    ]
    assert lab.query("select a, _row from raw_src.n order by _row") == [("1", 1), ("8", 6)]
    assert {(t.table, t.rows, t.rejected) for t in result.tables} == {("c", 4, 4), ("n", 2, 4)}
    rejected = {(number, raw): reason for number, reason, raw in lab.rejected()}
    assert rejected == {
        (3, "3"): "too few fields: 1, expected 2",
        (4, "4,5,6"): "too many fields: 3, expected 2",
        (5, '"x"y,7'): "text after the closing quote of a field",
        (6, '8,"9'): "a quote that is never closed",
        (2, '{"a": 2'): rejected[(2, '{"a": 2')],
        (3, "[3]"): "an array, not an object",
        (4, '{"a": 4} {"a": 5}'): "more than one value on the line",
        (5, '{"a": 6, "a": 7}'): "the key 'a' stands twice in one object",
    }
    assert "no valid JSON" in rejected[(2, '{"a": 2')]
    assert {entry[2:5] for entry in lab.ledger()} == {(1, 1, 0), (7, 3, 4), (6, 2, 4)}


def test_faulty_bytes_are_rejected_where_that_is_declared(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "encoding_errors": "reject"}
    lab.put("a.csv", b"n,m\n1,\xe9\n2,\xc3\xa9\n")
    lab.run()
    assert lab.raw("t") == [{"n": "2", "m": "é"}]
    assert lab.rejected() == [(2, "bytes that are not utf-8", "1,\\xe9")]


def test_dialects_reach_duckdb(lab: Lab) -> None:
    options = {
        "delimiter": ";",
        "quote": "'",
        "skip_lines": 1,
        "null_values": ["", "N/A"],
        "escape": "\\",
    }
    lab.tables |= {
        "t": {"path": "a.csv", "csv": options},
        "u": {"path": "b.csv", "csv": {"header": False, "columns": ["A", "B"], "comment": "#"}},
    }
    lab.put("a.csv", "made by x\na;b\n'1;\\'';N/A\n'';2\n")
    lab.put("b.csv", "#note\n1,2#3\n")
    lab.run()
    assert lab.raw("t") == [{"a": "1;'", "b": None}, {"a": None, "b": "2"}]
    assert lab.raw("u") == [{"a": "1", "b": "2#3"}]


def test_parquet_keeps_its_types(lab: Lab) -> None:
    lab.tables["t"] = {"path": "day=*/*.parquet"}
    table = pa.table(
        {
            "OrderId": pa.array([1, 2], pa.int64()),
            "total": pa.array([Decimal("1.10"), None], pa.decimal128(14, 2)),
            "placed": pa.array([datetime(2026, 1, 1, 12), None], pa.timestamp("us")),
            "stored": pa.array([datetime(2026, 1, 1), None], pa.timestamp("us", "UTC")),
            "filename": ["mine", "yours"],
            "items": [[{"line": 1, "price": 2.5}], []],
        }
    )
    lab.put("day=2026-01-01/part-0.parquet", parquet(table))
    lab.run()
    types = lab.types("t")
    assert types["order_id"] == "BIGINT"
    assert types["total"] == "DECIMAL(14,2)"
    assert types["placed"] == "TIMESTAMP"
    assert types["stored"] == "TIMESTAMP WITH TIME ZONE"
    assert types["items"] == "STRUCT(line BIGINT, price DOUBLE)[]"
    assert "day" not in types
    assert lab.query("select total, items, filename, _row from raw_src.t where order_id = 1") == [
        (Decimal("1.10"), [{"line": 1, "price": 2.5}], "mine", 1)
    ]


def test_damaged_data_behind_a_whole_footer_is_refused_alone(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.parquet", "on_refused": "warn"}
    good = parquet(pa.table({"n": list(range(50_000))}))
    bad = bytearray(good)
    bad[4000:30_000] = b"\xff" * 26_000
    lab.put("a.parquet", good)
    lab.put("b.parquet", bytes(bad))
    lab.put("c.parquet", good[: len(good) // 2])
    result = lab.run()
    assert result.rows == 50_000
    reasons = {refused.origin_name: refused.reason for refused in result.refused}
    assert set(reasons) == {"b.parquet", "c.parquet"}
    assert "no whole Parquet file" in reasons["c.parquet"]
    assert sorted(entry[1:] for entry in lab.ledger()) == [
        ("a.parquet", 50_000, 50_000, 0, "loaded"),
        ("b.parquet", 0, 0, 0, "refused"),
        ("c.parquet", 0, 0, 0, "refused"),
    ]


def test_a_refused_file_fails_the_run_unless_it_may_not(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.json"}
    lab.put("a.json", "[{]")
    lab.put("b.json", '[{"n": 1}]')
    result = lab.run()
    assert result.rows == 1
    error = result.error
    assert isinstance(error, BadInput)
    assert error.exit_code == 6
    assert "src.t: a.json is refused: it is no valid JSON" in str(error)
    assert "line 1 column 3" in str(error)
    assert "on_refused: warn" in str(error)


# Columns over time


def test_every_declared_table_exists_with_its_declared_columns(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.columns["t"] = {
        "id": "bigint",
        "made": "timestamp",
        "odd": "array<struct<x: int>>",
        "_file": "string",
    }
    lab.run()
    assert lab.types("t") == {
        "id": "BIGINT",
        "made": "TIMESTAMP",
        "odd": "VARCHAR",
        "_file": "VARCHAR",
        "_row": "BIGINT",
        "_load_id": "VARCHAR",
        "_extracted_at": "TIMESTAMP",
        "_deleted": "BOOLEAN",
    }
    lab.columns["t"]["later"] = "string"
    lab.load()
    assert lab.types("t")["later"] == "VARCHAR"


def test_the_first_value_decides_the_type_not_the_declaration(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.parquet"}
    lab.columns["t"] = {"id": "string", "price": "double", "late": "int"}
    lab.put("a.parquet", parquet(pa.table({"id": [1], "price": [Decimal("1.5")]})))
    assert lab.run().changes == []
    types = lab.types("t")
    assert [types[n] for n in ("id", "price", "late")] == ["BIGINT", "DECIMAL(2,1)", "INTEGER"]
    lab.put("b.parquet", parquet(pa.table({"id": [2], "late": ["x"]})))
    assert lab.run().changes == []
    assert lab.types("t")["late"] == "VARCHAR"


def test_new_columns_are_added_and_noted(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "id,unit_price\n1,5\n")
    lab.run()
    lab.put("b.csv", "id,net_price\n2,6\n")
    assert lab.run().changes == ["src.t: added net_price"]
    assert lab.raw("t") == [
        {"id": "1", "unit_price": "5", "net_price": None},
        {"id": "2", "unit_price": None, "net_price": "6"},
    ]
    found = lab.query("select column_name, change, old_type, new_type from ledger.schema_changes")
    assert found == [("net_price", "added", None, "VARCHAR")]


def test_numbers_widen_and_anything_else_becomes_text(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.parquet"}
    nested = [[{"x": 1}]]
    lab.put(
        "a.parquet",
        parquet(pa.table({"n": pa.array([1], pa.int32()), "d": [Decimal("1.10")], "s": nested})),
    )
    lab.run()
    lab.put(
        "b.parquet",
        parquet(pa.table({"n": pa.array([2**40]), "d": [Decimal("1000.125")], "s": ["plain"]})),
    )
    lab.run()
    lab.put("c.parquet", parquet(pa.table({"n": [date(2026, 1, 2)], "d": [3], "s": [[{"x": 2}]]})))
    changes = lab.run().changes
    assert lab.raw("t") == [
        {"n": "1", "d": Decimal("1.100"), "s": '[{"x":1}]'},
        {"n": "1099511627776", "d": Decimal("1000.125"), "s": "plain"},
        {"n": "2026-01-02", "d": Decimal("3.000"), "s": '[{"x":2}]'},
    ]
    assert lab.types("t")["d"] == "DECIMAL(22,3)"
    assert changes == [
        "src.t: to text n (BIGINT -> VARCHAR)",
        "src.t: widened d (DECIMAL(7,3) -> DECIMAL(22,3))",
    ]
    state = lab.state()
    lab.settings.warehouse_path.unlink()
    lab.load()
    assert lab.state() == state


def test_types_that_differ_within_one_load_are_reconciled(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.parquet"}
    lab.put("a.parquet", parquet(pa.table({"n": [1, None]})))
    lab.put("b.parquet", parquet(pa.table({"n": ["x"]})))
    lab.put("c.parquet", parquet(pa.table({"n": [2]})))
    lab.run()
    assert [row["n"] for row in lab.raw("t", order="right(_file, 9), _row")] == [
        "1",
        None,
        "x",
        "2",
    ]


def test_a_frozen_contract_refuses_what_would_change_the_table(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "contract": "freeze"}
    lab.put("a.csv", "id\n1\n")
    lab.run()
    lab.put("b.csv", "id,extra\n2,x\n")
    lab.put("c.csv", "id\n3\n")
    result = lab.run()
    assert [row["id"] for row in lab.raw("t")] == ["1", "3"]
    assert isinstance(result.error, BadInput)
    assert "b.csv is refused: the contract is frozen, but it brings a new column extra" in str(
        result.error
    )
    assert len(lab.load().refused) == 1, "it is told until somebody decides"
    lab.tables["t"]["contract"] = "evolve"
    assert lab.load().error is None
    assert {row["id"] for row in lab.raw("t")} == {"1", "2", "3"}


def test_declared_columns_are_the_frozen_contract(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "contract": "freeze"}
    lab.columns["t"] = {"id": "string"}
    lab.put("a.csv", "id,extra\n1,x\n")
    assert "a new column extra" in lab.run().refused[0].reason
    lab.columns["t"]["extra"] = "string"
    assert lab.load().rows == 1


def test_reserved_names_are_refused(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.parquet"}
    lab.put("a.parquet", parquet(pa.table({"_row": [1]})))
    assert "a name that Wellspring uses itself" in lab.run().refused[0].reason


# The warehouse as a function of landing


def test_a_lost_warehouse_is_loaded_again_from_landing(lab: Lab) -> None:
    lab.tables |= {
        "c": {"path": "*.csv", "encodings": ["utf-8", "cp1252"]},
        "j": {"path": "*.json"},
        "p": {"path": "*.parquet"},
    }
    lab.put("a.csv", "n\né\n".encode("cp1252"))
    lab.put("b.csv", "n,m\n1\n2,3\n")
    lab.put("a.json", '[{"n": 1.10}, 2]')
    lab.put("a.parquet", parquet(pa.table({"n": [1]})))
    lab.run()
    lab.put("a.csv", "n,k\nü,1\n".encode("cp1252"), age=9)
    lab.put("b.parquet", parquet(pa.table({"n": [1.5]})))
    lab.run()
    state = lab.state()
    assert len(state) > 10
    lab.settings.warehouse_path.unlink()
    for prepared in lab.settings.landing_dir.rglob("prepared/**/*"):
        if prepared.is_file():
            prepared.unlink()
    lab.load()
    assert lab.state() == state


def test_a_mended_dialect_counts_for_files_that_have_landed(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "a;b\n1;2\n")
    lab.run()
    assert lab.raw("t") == [{"a_b": "1;2"}]
    lab.tables["t"]["csv"] = {"delimiter": ";"}
    lab.settings.warehouse_path.unlink()
    lab.load()
    assert lab.raw("t") == [{"a": "1", "b": "2"}]


def test_a_file_missing_from_landing_is_refused(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n")
    lab.put("b.csv", "n\n2\n")
    lab.extract()
    (lab.settings.landing_dir / lab.register("t")[0].original).unlink()
    result = lab.load()
    assert result.rows == 1
    assert "missing from landing" in result.refused[0].reason


def test_a_prepared_file_that_was_cut_is_made_again(lab: Lab) -> None:
    lab.tables |= {"c": {"path": "*.csv", "encodings": ["cp1252"]}, "j": {"path": "*.json"}}
    lab.put("a.csv", "n\né\nü\n".encode("cp1252"))
    lab.put("a.json", '[{"n": 1}]')
    lab.extract()
    for table in ("c", "j"):
        read = lab.settings.landing_dir / lab.register(table)[0].read_path
        assert "prepared" in read.parts
        read.write_bytes(read.read_bytes()[:5])
    lab.load()
    assert [row["n"] for row in lab.raw("c")] == ["é", "ü"]
    assert lab.raw("j") == [{"n": "1"}]


def test_an_original_that_was_cut_in_landing_is_refused(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv", "on_refused": "warn"}
    original = lab.put("a.csv", "n\n1\n2\n")
    lab.extract()
    original = lab.settings.landing_dir / lab.register("t")[0].original
    original.write_bytes(original.read_bytes()[:-2])
    result = lab.load()
    assert result.rows == 0
    assert "other bytes in landing" in result.refused[0].reason


def test_a_held_warehouse_is_told_with_its_holder(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.run()
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True);"
        "sys.stdin.read()"
    )
    path = str(lab.settings.warehouse_path)
    with subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld, match=f"process {holder.pid}") as caught:
            lab.load()
        assert caught.value.exit_code == 5
        holder.communicate()


def test_a_file_that_is_no_database_is_told(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.settings.warehouse_path.parent.mkdir(parents=True)
    lab.settings.warehouse_path.write_bytes(b"not a database" * 1000)
    with pytest.raises(BadInput, match="the warehouse is damaged") as caught:
        lab.load()
    assert "wellspring rebuild" in str(caught.value)


def test_register_options_are_json(lab: Lab) -> None:
    lab.tables["t"] = {"path": "*.csv"}
    lab.put("a.csv", "n\n1\n")
    lab.extract()
    (row,) = lab.register("t")
    assert json.loads(row.reader_options)["names"] == ["n"]
    assert Path(row.original).name.endswith("-a.csv")
