"""Rows of MySQL by columns: the values that a row at a time gives, however they arrive."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pymysql
import pytest
import trustme
from mysql_servers import PASSWORD, USER, Server, mariadb
from pymysql.cursors import SSCursor
from sources_kit import declared, landed, landed_types, rows_of, run, settings_in
from test_database_mysql import REAL

from ingestion.connections import Connection
from ingestion.databases import mysqlrows
from ingestion.databases.base import Relation, Target, TextWriter
from ingestion.databases.mysql import MySQL, MySQLSession
from ingestion.databases.texts import typed
from ingestion.errors import SourceFailed, SourceUnreachable
from ingestion.progress import Interrupted, interruption

real = pytest.mark.parametrize("started", [REAL], indirect=True)
KINDS = """
    id bigint unsigned primary key, tiny tinyint, flag tinyint(1), small smallint unsigned,
    medium mediumint, filled int(8) zerofill, whole int unsigned, big bigint, amount decimal(12, 2),
    most decimal(38, 10), wide decimal(65, 30), single float, twice double, bit1 bit(1),
    bits bit(64), word varchar(40), old varchar(40) character set latin1, fixed char(10),
    long_ longtext, bytes varbinary(9), block longblob, place point, mood enum('glad', 'sad'),
    moods set('a', 'b', 'c'), doc json, day date, instant timestamp(6) null, plain timestamp null,
    local datetime(3), seconds datetime, span time(6), born year, address inet6, mark uuid,
    raw_mood enum('x', 'y') character set binary, `per%cent "of" it` int
"""
LARGEST = """
    18446744073709551615, -128, 1, 65535, -8388608, 42, 4294967295, -9223372036854775808, -12.30,
    -1234567890123456789012345678.0123456789,
    12345678901234567890123456789012345.123456789012345678901234567890, 0.1234567, -1.5e-300, b'1',
    0xFFFFFFFFFFFFFFFF, 'naïve "q", 日本 😀', 'déjà', 'end  ', repeat('long ', 20000),
    x'00ff5c', repeat(x'00ff', 40000), point(1, -2.5), 'sad', 'a,c', '{"a": 1.10}', '9999-12-31',
    '2026-01-31 10:00:00.123456', '2026-01-31 10:00:00', '2026-01-31 10:00:00.123',
    '1000-01-01 00:00:00', '23:59:59.999999', 2155, '::ffff:1.2.3.4',
    '123e4567-e89b-12d3-a456-426655440000', 'y', 7
"""
EMPTY = """
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'0', b'0', '', '', '', '', '', '', null, 'glad', '',
    '[]', '0000-01-01', '1970-01-02 00:00:00', '1970-01-02 00:00:00', '0001-01-01 00:00:00',
    '2026-12-31 23:59:59', '00:00:00', 0, '::', '00000000-0000-0000-0000-000000000000', 'x', 0
"""
COLUMNS = 36


@pytest.fixture(scope="module")
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with request.param(tmp_path_factory.mktemp("db")) as server:
        yield server


@pytest.fixture
def server(started: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("CONNECTIONS__SRC__URL", _address(started))
    started.execute(
        "drop view if exists seen; drop table if exists kinds; drop table if exists orders"
    )
    return started


def _address(server: Server, options: str = "") -> str:
    password = quote(PASSWORD, safe="")
    return f"mysql://{USER}:{password}@127.0.0.1:{server.port}/shop{options}"


@contextmanager
def _opened(server: Server) -> Iterator[MySQLSession]:
    database = MySQL(Connection("src", _address(server)))
    with database.consistent_view(), database.session() as session:
        assert isinstance(session, MySQLSession)
        yield session


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def _names(relation: Relation) -> dict[str, str]:
    return {column.name: column.name for column in relation.columns}


def _by_rows(session: MySQLSession, relation: Relation, out: Path) -> Path:
    """What PyMySQL's own cursor gives, a row at a time, as text and then in its types."""

    def text(value: Any) -> str | None:
        return "\\x" + value.hex() if isinstance(value, bytes) else value

    names = [column.name for column in relation.columns]
    listed = ", ".join(
        (column.select or "{}").format(f"`{column.name}`") for column in relation.columns
    )
    with session._connection.cursor(SSCursor) as cursor:
        cursor.execute(f"select {listed} from {relation.name}")
        rows = list(cursor.fetchall())
    raw = TextWriter(out.with_suffix(".text"), names).write(
        [[pa.array(map(text, values), pa.string()) for values in zip(*rows, strict=True)]]
    )
    with _duckdb() as connection:
        typed(connection, raw, relation.columns, _names(relation), out)
    return out


def _as_text(session: MySQLSession, relation: Relation, out: Path) -> Path:
    """The other road: texts by columns, then types."""
    raw = session.read(relation, relation.columns, None, out.with_name("raw.parquet"))
    with _duckdb() as connection:
        typed(connection, raw, relation.columns, _names(relation), out)
    return out


def _direct(session: MySQLSession, relation: Relation, out: Path) -> Path | None:
    with _duckdb() as connection:
        target = Target(connection, _names(relation), out.with_suffix(""), relation.label)
        parts = session.read_columns(relation, relation.columns, None, target)
    return parts.files[0] if parts else None


def _content(file: Path) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Types and values; the values as DuckDB writes them, which tells 1 from 1.0."""
    with _duckdb() as connection:
        described = connection.execute(f"describe select * from '{file}'").fetchall()
        spelled = ", ".join(
            f'"{name}"' if kind == "BLOB" else f'"{name}"::varchar'
            for name, kind in ((str(row[0]).replace('"', '""'), row[1]) for row in described)
        )
        rows = connection.execute(f"select {spelled} from '{file}'").fetchall()
    return [row[:2] for row in described], rows


@real
def test_all_types_are_read_as_a_row_at_a_time_reads_them(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = ", ".join(["null"] * (COLUMNS - 1))
    some = ", ".join(["tiny", "flag", *["null"] * (COLUMNS - 3)])
    server.execute(
        f"create table kinds ({KINDS}); insert into kinds values ({LARGEST}), ({EMPTY}); "
        f"insert into kinds values (1, {nothing}); "
        f"insert into kinds select 2 + seq, {some} from seq_0_to_4999 join kinds where id = 0"
    )
    server.execute(
        "update kinds set amount = id, word = concat('w', id), block = 'z' where id % 3 = 0"
    )

    monkeypatch.setattr(mysqlrows, "_BLOCK", 2**14)
    with _opened(server) as session:
        relation = session.describe(None, "kinds")
        assert len(relation.columns) == COLUMNS
        expected = _content(_by_rows(session, relation, tmp_path / "rows.parquet"))
        text = _as_text(session, relation, tmp_path / "text.parquet")
        direct = _direct(session, relation, tmp_path / "direct.parquet")

    assert direct is not None
    assert len(expected[1]) == 5003
    assert _content(text) == expected
    assert _content(direct) == expected
    kinds = dict(expected[0])
    assert (kinds["block"], kinds["place"], kinds["day"], kinds["raw_mood"]) == (
        "BLOB",
        "BLOB",
        "DATE",
        "VARCHAR",
    )


@real
@pytest.mark.parametrize(
    ("kind", "odd", "kept"),
    [
        ("date", "0000-00-00", "0000-00-00"),
        ("date", "2026-02-00", "2026-02-00"),
        ("datetime", "0000-00-00 00:00:00", "0000-00-00 00:00:00"),
        ("timestamp(3) null", "0000-00-00", "0000-00-00 00:00:00.000"),
        ("time", "-00:00:01", "-00:00:01"),
        ("time", "24:00:00", "24:00:00"),
        ("time(2)", "-838:59:59", "-838:59:59.00"),
    ],
)
def test_a_value_that_does_not_fit_keeps_its_column_as_text(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    odd: str,
    kept: str,
) -> None:
    """It comes in the last of many blocks, when the others have been written in their types."""
    monkeypatch.setattr(mysqlrows, "_BLOCK", 2**14)
    server.execute(f"create table kinds (id int primary key, at {kind}, word varchar(9))")
    server.execute(
        "insert into kinds select seq, null, 'w' from seq_1_to_20000; "
        f"insert into kinds values (20001, '{odd}', 'last')"
    )
    with _opened(server) as session:
        relation = session.describe(None, "kinds")
        assert _direct(session, relation, tmp_path / "direct.parquet") is None
        assert not (tmp_path / "direct.parquet").exists()
        expected = _content(_by_rows(session, relation, tmp_path / "rows.parquet"))
        assert _content(_as_text(session, relation, tmp_path / "text.parquet")) == expected

    settings = settings_in(tmp_path)
    assert rows_of(run(declared("database", {"kinds": {}}), settings)) == {"kinds": 20_001}
    assert landed(settings, "kinds")[-1] == {
        "id": 20_001,
        "at": kept,
        "word": "last",
        "_deleted": False,
    }
    assert landed_types(settings, "kinds")["at"] == "VARCHAR"


# The first byte of a longer length, and the bytes that it takes.
LONGER = [(0xFC, 2), (0xFD, 3), (0xFE, 8)]


class _Wire:
    """A connection that brings prepared bytes, in pieces of any size."""

    def __init__(self, sent: bytes, most: int = 2**20) -> None:
        self._rfile, self._left, self._most = self, memoryview(sent), most
        self._chance = random.Random(most)
        self.is_closed = False

    def read1(self, size: int) -> bytes:
        size = min(size, self._chance.randint(1, self._most))
        # The end never comes together with what is before it.
        if len(self._left) > len(END):
            size = min(size, len(self._left) - len(END))
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    def _force_close(self) -> None:
        self.is_closed = True


def _value(value: bytes | None) -> bytes:
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    mark, width = next(pair for pair in LONGER if size < 1 << 8 * pair[1])
    return bytes([mark]) + size.to_bytes(width, "little") + value


def _packets(payload: bytes) -> bytes:
    pieces = [payload[at : at + 0xFFFFFF] for at in range(0, len(payload), 0xFFFFFF)]
    if len(payload) % 0xFFFFFF == 0:
        pieces.append(b"")
    return b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)


END = _packets(b"\xfe\x00\x00\x02\x00")


def _sent(rows: Sequence[Sequence[bytes | None]], end: bytes = END) -> bytes:
    return b"".join(_packets(b"".join(map(_value, row))) for row in rows) + end


def _received(wire: _Wire, columns: int) -> list[tuple[bytes | None, ...]]:
    schema = pa.schema([(f"c{n}", pa.large_binary()) for n in range(columns)])
    packets, rows, is_end = mysqlrows._Packets(wire), [], False
    while not is_end:
        block, bounds, is_end = packets.block()
        if len(bounds) > 1:
            arrays = mysqlrows.columns_of(block, bounds, schema)
            rows += list(zip(*(array.to_pylist() for array in arrays), strict=True))
    return rows


@pytest.mark.parametrize("most", [1, 7, 1000, 2**20])
def test_rows_are_told_apart_however_they_arrive(most: int) -> None:
    chance = random.Random(most)
    count = 30 if most == 1 else 2_000
    sizes = [None, 0, 1, 9, 250, 251, 252, *([65_535, 65_536] if most > 7 else [])]
    rows = [
        tuple(
            None if size is None else chance.randbytes(size)
            for size in chance.choices(sizes, weights=[9, 9, 9, 9, *[1] * (len(sizes) - 4)], k=5)
        )
        for _ in range(count)
    ]
    assert _received(_Wire(_sent(rows), most), 5) == rows
    assert _received(_Wire(_sent([]), most), 5) == []


@pytest.mark.parametrize("size", [0xFFFFFE, 0xFFFFFF, 0x1000000, 2 * 0xFFFFFF, 2 * 0xFFFFFF + 9])
def test_a_row_of_several_packets_is_one_row(size: int) -> None:
    """A row that fills its packets exactly is followed by an empty one."""
    marks = len(_value(b"x" * (size - 20))) - (size - 20) + len(_value(b"b"))
    long = random.Random(size).randbytes(size - marks)
    rows: list[tuple[bytes | None, ...]] = [(b"a", None), (b"b", long), (None, b"c"), (b"d", b"")]
    is_of_size = len(b"".join(map(_value, rows[1]))) == size
    is_same = _received(_Wire(_sent(rows)), 2) == rows
    # Not asserted as one: a difference of 33 MB would be shown.
    assert (is_of_size, is_same) == (True, True)


def test_a_long_value_in_front_is_not_taken_for_the_end() -> None:
    """Both begin with the same byte; only their lengths tell them apart."""
    rows = [(b"x" * 0x1000000, b"y")]
    assert _value(rows[0][0])[:1] == END[4:5]
    is_same = _received(_Wire(_sent(rows)), 2) == rows
    assert is_same


def test_an_error_or_a_silence_after_rows_is_told() -> None:
    error = _packets(b"\xff" + struct.pack("<H", 1317) + b"#70100Query execution was interrupted")
    with pytest.raises(pymysql.err.OperationalError, match="interrupted") as told:
        _received(_Wire(_sent([(b"a",)] * 5, error)), 1)
    assert told.value.args[0] == 1317
    wire = _Wire(_sent([(b"a",)] * 5, b""))
    with pytest.raises(pymysql.err.OperationalError, match="Lost connection"):
        _received(wire, 1)
    assert wire.is_closed


@pytest.mark.parametrize(
    "row", [b"\x03ab", b"\x01ab", b"\xfd\xff\xff\xff", b"\x01a\x01a", b"\xfe\xff"]
)
def test_what_is_no_row_is_refused(row: bytes) -> None:
    with pytest.raises(pymysql.err.InternalError, match="no row of this table"):
        _received(_Wire(_sent([(b"a",)])[: -len(END)] + _packets(row) + _sent([(b"b",)])), 1)


@real
def test_a_row_longer_than_a_packet_lands(server: Server, tmp_path: Path) -> None:
    server.execute("set global max_allowed_packet = 67108864")
    server.execute("create table kinds (id int primary key, doc longtext, block longblob)")
    server.execute(
        "insert into kinds values (1, repeat('é', 15000000), repeat(x'00', 7)), "
        "(2, 'short', repeat(x'01', 17000000))"
    )
    settings = settings_in(tmp_path)
    assert rows_of(run(declared("database", {"kinds": {}}), settings)) == {"kinds": 2}
    first, second = landed(settings, "kinds")
    assert (first["doc"], len(first["block"])) == ("é" * 15_000_000, 7)
    assert (second["doc"], second["block"]) == ("short", b"\x01" * 17_000_000)


@real
def test_an_error_in_the_middle_leaves_the_next_table_readable(
    server: Server, tmp_path: Path
) -> None:
    server.execute("create table orders (id int primary key); insert into orders values (1), (2)")
    server.execute("create table kinds (id int primary key, word varchar(90))")
    server.execute("insert into kinds select seq, repeat('w', 90) from seq_1_to_50000")
    server.execute(
        "create view seen as select id, word, "
        "case when id = 49000 then (select id from orders) end as one from kinds"
    )
    result = run(declared("database", {"seen": {}, "orders": {}}), settings_in(tmp_path))
    assert isinstance(result.error, SourceFailed)
    assert "returns more than 1 row" in str(result.error)
    by_name = {table.table: table for table in result.tables}
    assert (by_name["orders"].rows, by_name["orders"].error) == (2, None)


@real
def test_a_reading_that_fails_here_leaves_the_connection_usable(
    server: Server, tmp_path: Path
) -> None:
    server.execute("create table kinds (id int primary key, word varchar(90))")
    server.execute("insert into kinds select seq, repeat('w', 90) from seq_1_to_90000")
    with _opened(server) as session:
        relation = session.describe(None, "kinds")
        with pytest.raises(duckdb.IOException):
            _direct(session, relation, tmp_path / "no folder" / "out.parquet")
        direct = _direct(session, relation, tmp_path / "out.parquet")
        assert direct is not None
        assert len(_content(direct)[1]) == 90_000


@real
def test_an_interrupted_reading_ends_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.execute("create table kinds (id int primary key, word varchar(90))")
    server.execute("insert into kinds select seq, repeat('w', 90) from seq_1_to_90000")
    counted, columns_of = [], mysqlrows.columns_of

    def seen(block: bytearray, bounds: Sequence[int], schema: pa.Schema) -> list[pa.Array]:
        counted.append(len(bounds) - 1)
        interruption.set()
        return columns_of(block, bounds, schema)

    monkeypatch.setattr(mysqlrows, "columns_of", seen)
    try:
        with _opened(server) as session:
            relation = session.describe(None, "kinds")
            with pytest.raises(Interrupted):
                _direct(session, relation, tmp_path / "out.parquet")
            assert not session._connection.open
    finally:
        interruption.clear()
    assert sum(counted) < 90_000
    assert not (tmp_path / "out.parquet").exists()


def test_a_text_that_is_no_utf8_is_refused_by_its_column() -> None:
    schema = pa.schema([("id", pa.large_binary()), ("word", pa.large_string())])
    block, bounds, _ = mysqlrows._Packets(_Wire(_sent([(b"1", b"ok"), (b"\xff", b"\xff")]))).block()
    with pytest.raises(SourceFailed, match="column word is no UTF-8"):
        mysqlrows.columns_of(block, bounds, schema)


@pytest.mark.skipif(REAL.marks[0].args[0], reason=REAL.marks[0].kwargs["reason"])
def test_rows_come_through_an_encrypted_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    for name, blob in (("key", own.private_key_pem), ("cert", own.cert_chain_pems[0])):
        blob.write_to_path(tmp_path / f"{name}.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = [f"--ssl-{name}={tmp_path}/{name}.pem" for name in ("key", "cert", "ca")]
    (tmp_path / "db").mkdir()
    with mariadb(tmp_path / "db", *options, "--require-secure-transport=off") as server:
        server.execute("create table kinds (id int primary key, word varchar(90))")
        server.execute("insert into kinds select seq, repeat('w', 90) from seq_1_to_50000")
        server.execute(f"alter user '{USER}'@'127.0.0.1' require ssl")
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        monkeypatch.setenv(
            "CONNECTIONS__SRC__URL", _address(server, f"?ssl_ca={tmp_path}/other.pem")
        )
        refused = run(declared("database", {"kinds": {}}), settings_in(tmp_path))
        assert isinstance(refused.error, SourceUnreachable)
        monkeypatch.setenv("CONNECTIONS__SRC__URL", _address(server, f"?ssl_ca={tmp_path}/ca.pem"))
        result = run(declared("database", {"kinds": {}}), settings_in(tmp_path))
        assert rows_of(result) == {"kinds": 50_000}
