"""Each format is read exactly, and a fault says where it is."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ingestion.declarations import CsvOptions, FilesTable
from ingestion.errors import BadInput
from ingestion.formats.csvfile import Tokeniser
from ingestion.formats.preparing import Unit, prepare
from ingestion.formats.streams import CHUNK, Content, Encoding, TextLook, find_encoding
from ingestion.formats.tables import rejected_path
from ingestion.stage import DueFile, Stager


def units(folder: Path, name: str, content: bytes, **declared: Any) -> list[Unit]:
    original = folder / f"0-{name}"
    original.write_bytes(content)
    table = FilesTable.model_validate({"path": "*", **declared})
    return prepare(original, name, table, folder / "prepared")


def unit(folder: Path, name: str, content: bytes, **declared: Any) -> Unit:
    (only,) = units(folder, name, content, **declared)
    return only


def records(one: Unit) -> list[dict[str, Any]]:
    """Rows of a unit that was turned into Parquet, without their position."""
    assert one.refused == ""
    return [
        {k: v for k, v in row.items() if k != "_row"} for row in pq.read_table(one.path).to_pylist()
    ]


def rejected(one: Unit) -> list[tuple[int, str]]:
    rows = pq.read_table(rejected_path(one.path)).to_pylist()
    return [(row["record_number"], row["reason"]) for row in rows]


# JSON


def test_json_keeps_digits_and_nested_text(tmp_path: Path) -> None:
    document = (
        b'{"out": {"items": [{"a": 1.10, "b": 12345678901234567890, "c": 1e5, "d": -0, "e": null,'
        b' "f": "\\u00e9\\n", "g": true, "h": {"x": [1.50, "\xc3\xa9", null, {}]}, "Some Key": ""},'
        b' {"a": "text", "i": []}]}}'
    )
    assert records(unit(tmp_path, "a.json", document, records="out.items")) == [
        {
            "a": "1.10",
            "b": "12345678901234567890",
            "c": "1e5",
            "d": "-0",
            "e": None,
            "f": "é\n",
            "g": "true",
            "h": '{"x":[1.50,"é",null,{}]}',
            "some_key": "",
            "i": None,
        },
        {
            "a": "text",
            "b": None,
            "c": None,
            "d": None,
            "e": None,
            "f": None,
            "g": None,
            "h": None,
            "some_key": None,
            "i": "[]",
        },
    ]


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        (b"", []),
        (b" \n\n", []),
        (b"[]", []),
        (b'{"a": 1}', [{"a": "1"}]),
        (b'\xef\xbb\xbf[{"a": 1}]', [{"a": "1"}]),
        ('[{"a": "ł"}]'.encode("utf-16"), [{"a": "ł"}]),
        (b"[{}, {}]", [{}, {}]),
    ],
)
def test_json_documents_of_every_shape(
    tmp_path: Path, document: bytes, rows: list[dict[str, Any]]
) -> None:
    assert records(unit(tmp_path, "a.json", document)) == rows


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b'[{"a": 1},\n{"a": }]', "no valid JSON: Expecting value, line 2 column 7"),
        (b'[{"a": 1}', "no valid JSON"),
        (b'{"a": 1}\n{"a": 2}', "more than one JSON document: the second begins in line 2"),
        (b'{"a": 1, "a": 2}', "the key 'a' stands twice"),
        (b'{"id": 1, "Id": 2}', "'id' and 'Id' both become 'id'"),
        (b'{"_row": 1}', "a name that Wellspring uses itself"),
        (b'{"a": NaN}', "no valid JSON"),
        (b"42", "a number stands where an array of records is expected"),
        (b'{"a": "\xe9"}', "it is not utf-8: byte 0xe9 at position 7, line 1"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_faulty_json_document_is_refused(tmp_path: Path, document: bytes, told: str) -> None:
    assert told in unit(tmp_path, "a.json", document).refused


def test_a_json_path_that_leads_nowhere_names_what_is_there(tmp_path: Path) -> None:
    refused = unit(tmp_path, "a.json", b'{"x": {"y": [], "z": 1}}', records="x.items").refused
    assert "no key 'items' at x; its keys: y, z" in refused
    assert "an array, not an object" in unit(tmp_path, "a.json", b"[]", records="x").refused


def test_records_that_are_no_objects_are_rejected(tmp_path: Path) -> None:
    one = unit(tmp_path, "a.json", b'[1, {"a": 1}, [], {"a": 2}]')
    assert pq.read_table(one.path).to_pylist() == [{"_row": 2, "a": "1"}, {"_row": 4, "a": "2"}]
    assert rejected(one) == [(1, "a number, not an object"), (3, "an array, not an object")]
    assert one.rows == 4


# XML

ORDERS = """<?xml version="1.0"?>
<o:orders xmlns:o="urn:o"><meta><order-count>2</order-count></meta>
  <o:order id="D-1" note=""><lines><line no="1" code="A"/><line no="2"><part>x</part></line></lines>
    <total>5.50</total><comment/><tag>a</tag><tag>b</tag>
    <address kind="x"><city>Graz</city></address>
  </o:order>
  <o:order id="D-2"><lines><line no="1"/></lines><total> 7 </total></o:order>
</o:orders>"""


def test_xml_elements_become_rows(tmp_path: Path) -> None:
    rows = records(unit(tmp_path, "a.xml", ORDERS.encode(), xml={"record": "order"}))
    assert rows == [
        {
            "id": "D-1",
            "note": None,
            "lines": '[{"no":"1","code":"A"},{"no":"2","part":["x"]}]',
            "total": "5.50",
            "comment": None,
            "tag": '["a","b"]',
            "address": '{"kind":"x","city":["Graz"]}',
        },
        {
            "id": "D-2",
            "note": None,
            "lines": '[{"no":"1"}]',
            "total": " 7 ",
            "comment": None,
            "tag": None,
            "address": None,
        },
    ]


def test_xml_says_its_encoding_itself(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="ISO-8859-1"?><r><x n="é">ü</x></r>'
    one = unit(tmp_path, "a.xml", text.encode("latin-1"), xml={"record": "x"})
    assert records(one) == [{"n": "é", "text": "ü"}]
    assert records(unit(tmp_path, "b.xml", b"", xml={"record": "x"})) == []


def test_many_xml_records_are_read_as_a_stream(tmp_path: Path) -> None:
    text = "<r>" + "".join(f'<x i="{i}"><y>{i}</y></x>' for i in range(20_000)) + "</r>"
    rows = records(unit(tmp_path, "a.xml.gz", gzip.compress(text.encode()), xml={"record": "x"}))
    assert rows == [{"i": str(i), "y": str(i)} for i in range(20_000)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<r><x>1</x>\n<x>2</r>", "not well-formed XML.*line 2"),
        ("<r><x>1</x>", "not well-formed XML"),
        ('<!DOCTYPE r [<!ENTITY e "v">]><r><x>&e;</x></r>', "an entity of its own"),
        (
            '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><r><x>&e;</x></r>',
            "an entity of its own",
        ),
        ('<r><x id="1"><id>2</id></x></r>', "'id' both as an attribute and as a child"),
    ],
)
def test_faulty_or_dangerous_xml_is_refused(tmp_path: Path, text: str, told: str) -> None:
    import re

    one = unit(tmp_path, "a.xml", text.encode(), xml={"record": "x"})
    assert re.search(told, one.refused), one.refused


# Excel


def test_a_sheet_becomes_text(tmp_path: Path, workbook: bytes) -> None:
    one = unit(tmp_path, "a.xlsx", workbook, excel={"sheet": "rates", "header_row": 2})
    assert records(one) == [
        {"code": "EUR", "minor_unit": "2", "rate": "0.1", "since": "1999-01-01", "live": "true"},
        {"code": "0042", "minor_unit": "12345678", "rate": None, "since": None, "live": "false"},
    ]


def test_a_missing_sheet_names_those_there_are(tmp_path: Path, workbook: bytes) -> None:
    one = unit(tmp_path, "a.xlsx", workbook, excel={"sheet": "Rates"})
    assert "no sheet 'Rates'; its sheets: rates" in one.refused
    assert "no readable workbook" in unit(tmp_path, "b.xlsx", b"PK\x03\x04 no").refused


# Parquet


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"OrderId": [1, 2], "a b": ["x", "y"]}), sink)
    whole = sink.getvalue()
    one = unit(tmp_path, "a.parquet", whole)
    assert (one.columns, one.rows, one.path.name) == (["order_id", "a_b"], 2, "0-a.parquet")
    cut = unit(tmp_path, "b.parquet", whole[:-10])
    assert f"no whole Parquet file ({len(whole) - 10} bytes)" in cut.refused
    packed = unit(tmp_path, "c.parquet.gz", gzip.compress(whole))
    assert (packed.rows, pq.read_metadata(packed.path).num_rows) == (2, 2)


# Encodings and compression


@pytest.mark.parametrize(
    ("content", "encoding", "codec"),
    [
        ("name\nJosé\n".encode(), "utf-8", None),
        ("name\nJosé\n".encode("cp1252"), "cp1252", "cp1252"),
        ("name\nJosé\n".encode("utf-8-sig"), "utf-8", None),
        ("name\nJosé\n".encode("utf-16"), "utf-16", "utf-16"),
    ],
)
def test_the_first_encoding_that_fits_is_taken(
    tmp_path: Path, content: bytes, encoding: str, codec: str | None
) -> None:
    one = unit(tmp_path, "a.csv", content, encodings=["utf-8", "cp1252"])
    assert (one.encoding, one.columns, one.refused) == (encoding, ["name"], "")
    if codec:
        assert one.path.read_bytes() == "name\nJosé\n".encode()
    else:
        assert one.path.name == "0-a.csv"


def test_a_wrong_encoding_names_byte_and_line_even_across_chunks(tmp_path: Path) -> None:
    content = b"name\n" + "é\n".encode() * 700_000 + b"Jos\xe9\n"
    refused = unit(tmp_path, "a.csv", content).refused
    assert f"byte 0xe9 at position {len(content) - 2}, line 700002" in refused
    assert "under `encodings`" in refused


def test_lines_are_counted_where_chunks_are_ascii_and_where_not(tmp_path: Path) -> None:
    content = b"name\n" * 500_000 + "é\n".encode() * 400_000 + b"a\n" * 600_000 + b"\xe9\n"
    assert "line 1500001" in unit(tmp_path, "a.csv", content).refused


@pytest.mark.parametrize(
    ("content", "is_mixed"),
    [
        (b"a" * (CHUNK - 1) + b"\r\n" + b"b\r\n", False),
        (b"a" * (CHUNK - 2) + "é".encode() + b"\r\nb\r\n", False),
        (b"a" * (CHUNK - 1) + b"\r" + b"b" * CHUNK + b"\n", True),
        (b"a\n" * CHUNK + b"b\r\n", True),
        (b"a\r\n" + b"a\n" * CHUNK, True),
        (b"a\n" * CHUNK, False),
    ],
)
def test_line_ends_of_several_kinds_are_seen_across_chunks(
    tmp_path: Path, content: bytes, is_mixed: bool
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    found = find_encoding(Content(path, "a.csv"), ["utf-8"])
    assert found.mixed_line_ends is is_mixed
    assert looked_at(content) == found


def looked_at(content: bytes) -> Encoding | None:
    look = TextLook("utf-8")
    for start in range(0, len(content), CHUNK):
        look.take(bytearray(content[start : start + CHUNK]))
    look.take(b"")
    return look.found()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b",
        b"a,b\n" * CHUNK + b"\xff",
        b"a" * (CHUNK - 1) + "é".encode()[:1],
        b"a" * (CHUNK - 1) + "é".encode()[:1] + b"b",
        b"\xef\xbb\xbfa,b\n",
        "a,b\n".encode("utf-16"),
        "a,é\n".encode("latin-1"),
        b"a,b\n" * 10,
        "é,ü\r\n".encode() * CHUNK,
    ],
)
def test_a_look_in_passing_says_what_a_second_reading_says_or_nothing(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    try:
        found: Encoding | None = find_encoding(Content(path, "a.csv"), ["utf-8"])
    except BadInput:
        found = None
    seen = looked_at(content)
    assert seen is None or seen == found
    is_told = found is not None and not found.bom and len(content) >= 4
    assert (seen is not None) is is_told


@pytest.mark.parametrize("place", [0, 3, 2_000, -6, -1])
def test_broken_compression_is_refused(tmp_path: Path, place: int) -> None:
    packed = bytearray(gzip.compress(b"".join(b"%d\n" % (i * i) for i in range(50_000))))
    packed[place] ^= 0xFF
    refused = unit(tmp_path, "a.csv.gz", bytes(packed)).refused
    assert "broken" in refused or "truncated" in refused
    assert "bytes of content" in refused


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_truncated_compression_is_refused(tmp_path: Path, suffix: str) -> None:
    content = b"a\n" + b"".join(b"%d\n" % (i * i) for i in range(50_000))
    pack = gzip.compress if suffix == "gz" else zstandard.ZstdCompressor().compress
    assert unit(tmp_path, f"a.csv.{suffix}", pack(content)).refused == ""
    assert unit(tmp_path, f"c.csv.{suffix}", pack(content) + pack(b"1\n2\n")).refused == ""
    refused = unit(tmp_path, f"b.csv.{suffix}", pack(content)[:-2000]).refused
    assert "truncated" in refused
    assert "bytes of content" in refused


def test_each_member_of_an_archive_stands_for_itself(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("a/x.csv", "n\n1\n")
        archive.writestr("b/x.csv", b"n\n\xff\n")
        archive.writestr("notes.txt", "read me")
        archive.writestr("__MACOSX/a/x.csv", "junk")
        archive.writestr("c.json.gz", gzip.compress(b'[{"n": 1}]'))
    found = {one.member: one for one in units(tmp_path, "w.zip", sink.getvalue())}
    assert list(found) == ["a/x.csv", "b/x.csv", "notes.txt", "c.json.gz"]
    assert found["a/x.csv"].path.read_text() == "n\n1\n"
    assert "byte 0xff" in found["b/x.csv"].refused
    assert "tells no format" in found["notes.txt"].refused
    assert records(found["c.json.gz"]) == [{"n": "1"}]
    assert "no readable zip archive" in unit(tmp_path, "v.zip", sink.getvalue()[:40]).refused


def test_preparing_again_gives_the_same(tmp_path: Path) -> None:
    content = "name\nJosé\n".encode("cp1252")
    first = unit(tmp_path, "a.csv", content, encodings=["cp1252"])
    assert unit(tmp_path, "a.csv", content, encodings=["cp1252"]) == first
    assert sorted(p.suffix for p in (tmp_path / "prepared").iterdir()) == [".csv"]


# CSV


def split(text: str, **options: Any) -> list[tuple[int, list[str] | None, str]]:
    lines = iter(text.splitlines(keepends=True))
    tokeniser = Tokeniser(CsvOptions(**options))
    return [(r.line, r.values, r.reason) for r in tokeniser.records(lines)]


def test_one_unclosed_quote_does_not_swallow_what_follows() -> None:
    text = 'a,b\n"x,1\ny,"2"\nz,"3\n4"\n"w,5\n'
    assert split(text) == [
        (1, ["a", "b"], ""),
        (2, None, "text after the closing quote of a field"),
        (3, ["y", "2"], ""),
        (4, ["z", "3\n4"], ""),
        (6, None, "a quote that is never closed"),
    ]


def test_dialects_are_followed() -> None:
    assert split("'a;b';c'd\n", delimiter=";", quote="'") == [(1, ["a;b", "c'd"], "")]
    assert split('"a\\"b","c\\\\"\n', escape="\\") == [(1, ['a"b', "c\\"], "")]
    assert split('"a",b\n', quote="") == [(1, ['"a"', "b"], "")]
    assert split("x\n#c\na,b\n", comment="#", skip_lines=1) == [(3, ["a", "b"], "")]


@pytest.mark.parametrize("seed", range(4))
def test_our_reader_and_duckdbs_agree_wherever_duckdb_reads(tmp_path: Path, seed: int) -> None:
    """The salvage of a faulty file must read its good records as the fast path would have."""
    chance = random.Random(seed)
    agreed = 0
    with duckdb.connect() as connection:
        for number in range(150):
            options, columns, text = _random_csv(chance)
            path = tmp_path / f"{number}.csv"
            path.write_bytes(text.encode())
            table = FilesTable(path="*", format="csv", csv=options)
            (one,) = prepare(path, path.name, table, tmp_path / "prepared")
            if not one.options["plain"]:
                continue
            due = DueFile(
                table="t",
                file="f",
                path=path,
                load_id="1.0",
                reader="csv",
                own="original",
                origin_name="f",
                size=1,
                sha256="",
                options=one.options,
                columns=tuple(columns),
            )
            stager = Stager(connection, tmp_path / "spool")
            try:
                fast = stager._csv([due], table)
            except duckdb.Error:
                continue
            slow = stager._salvaged(due, table)
            order = " order by _row"
            expected = connection.execute(fast.sql + order).fetchall()
            assert connection.execute(slow.sql + order).fetchall() == expected, text
            assert slow.files[0].rejected == (), text
            agreed += 1
            stager.close()
    assert agreed > 40


def _random_csv(chance: random.Random) -> tuple[CsvOptions, list[str], str]:
    options = chance.choice(
        [
            CsvOptions(),
            CsvOptions(delimiter=";"),
            CsvOptions(escape="\\"),
            CsvOptions(quote=""),
            CsvOptions(quote="'", delimiter="|"),
        ]
    )
    quote, escape = options.quote or '"', options.escape or options.quote or '"'
    columns = list("abc"[: chance.choice([1, 2, 3])])
    atoms = ["a", "1", " ", options.delimiter, quote, quote * 2, "\n", "\\", "é", "x y", "NA"]
    end = chance.choice(["\n", "\r\n"])
    lines = [options.delimiter.join(columns)]
    for _ in range(chance.randint(0, 5)):
        if chance.random() < 0.25:
            lines.append("".join(chance.choice(atoms) for _ in range(chance.randint(0, 8))))
            continue
        fields = []
        for _ in columns:
            value = "".join(chance.choice(atoms) for _ in range(chance.randint(0, 3)))
            if options.quote and chance.random() < 0.8:
                if escape != quote:
                    value = value.replace(escape, escape * 2)
                value = quote + value.replace(quote, escape + quote) + quote
            else:
                value = value.replace(options.delimiter, "").replace("\n", "")
            fields.append(value)
        lines.append(options.delimiter.join(fields))
    return options, columns, end.join(lines) + (end if chance.random() < 0.7 else "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"id,ID\n1,2\n", "'id' and 'ID' both become 'id'"),
        (b"id,id\n1,2\n", "the column 'id' stands there twice"),
        (b'"id,x\n1,2\n', "the header in line 1 is faulty"),
    ],
)
def test_an_ambiguous_header_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    assert told in unit(tmp_path, "a.csv", content).refused


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("Beleg-Nr.,Größe (cm),Anteil,Anteil %", ["beleg_nr", "grosse_cm", "anteil", "anteil_pct"]),
        ("名前,住所,Имя,№,🙂", ["ming_qian", "zhu_suo", "imia", "no", "u1f642"]),
        ("class_,_id,InvoiceId,order#,?", ["classx", "_id", "invoice_id", "order_no", "x"]),
    ],
)
def test_names_of_any_script_stay_apart(tmp_path: Path, header: str, columns: list[str]) -> None:
    row = ",".join("1" for _ in columns)
    assert unit(tmp_path, "a.csv", f"{header}\n{row}\n".encode()).columns == columns


def test_names_that_are_empty_get_their_position(tmp_path: Path) -> None:
    assert unit(tmp_path, "a.csv", b"a,,c,,\n").columns == ["a", "column_2", "c"]


def test_a_headerless_file_needs_declared_columns(tmp_path: Path) -> None:
    assert "no header" in unit(tmp_path, "a.csv", b"1,2\n", csv={"header": False}).refused
    one = unit(tmp_path, "a.csv", b"1,2\n", csv={"header": False, "columns": ["A", "b"]})
    assert one.columns == ["a", "b"]


def test_raised_hints_are_whole_sentences() -> None:
    assert BadInput("x is wrong", hint="Mend it.").sentence == "x is wrong. Mend it."
