"""How fast a table of MySQL is read by columns, beside a row at a time and bare receiving.

line items -> MariaDB -> a bare loop that only receives
                      -> by columns, in their types as they come in
                      -> by columns, as text first: what a table with a zero date takes
                      -> PyMySQL's cursor a row at a time, as text first

    .venv/bin/python tests/bench/mysql_reading.py [--rows 1000000] [--rounds 3]

Needs `mariadbd` (Debian: mariadb-server). Contenders take turns in one process; prints the medians
of seconds and of own processor seconds, and ratios within a round. What each wrote is compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import duckdb
import pyarrow as pa
import pymysql
from pymysql.cursors import SSCursor

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "tests" / "bench"), str(ROOT / "tests/python/ingestion")]

from mysql_servers import PASSWORD, USER, mariadb  # noqa: E402  # by the line above
from suite import lineitems  # noqa: E402  # the same

from ingestion.connections import Connection  # noqa: E402  # the same
from ingestion.databases.base import (  # noqa: E402  # the same
    Raw,
    Relation,
    Target,
    TextWriter,
    batches,
)
from ingestion.databases.mysql import MySQL, MySQLSession  # noqa: E402  # the same
from ingestion.databases.texts import typed  # noqa: E402  # the same

Contender = Callable[[MySQLSession, Relation, Path], Path | None]


def bare(session: MySQLSession, relation: Relation, out: Path) -> None:
    """Receives all bytes and looks at none."""
    cursor = SSCursor(session._connection)
    cursor.execute(f"select * from {relation.name}")
    stream, last = session._connection._rfile, b""  # type: ignore[attr-defined]  # private
    # The packet that ends the rows: five bytes, the first of them 254.
    while not (last[-9:-6] == b"\x05\0\0" and last[-5:-4] == b"\xfe"):
        last = last[-9:] + stream.read1(2**18)
    cursor._result.unbuffered_active = False  # type: ignore[attr-defined]  # private


def by_columns(session: MySQLSession, relation: Relation, out: Path) -> Path:
    """What Wellspring does."""
    with _duckdb() as connection:
        target = Target(connection, _names(relation), out.with_suffix(""), relation.label)
        parts = session.read_columns(relation, relation.columns, None, target)
    assert parts is not None
    return parts.files[0]


def by_columns_as_text(session: MySQLSession, relation: Relation, out: Path) -> Path:
    """What Wellspring does where a value does not fit its type, the first attempt aside."""
    raw = session.read(relation, relation.columns, None, out.with_name("raw.parquet"))
    return _typed(raw, relation, out)


def by_rows(session: MySQLSession, relation: Relation, out: Path) -> Path:
    """Rows as tuples from PyMySQL's cursor, and text from them."""
    with session._connection.cursor(SSCursor) as cursor:
        cursor.execute(f"select * from {relation.name}")
        writer = TextWriter(out.with_suffix(".raw"), [c.name for c in relation.columns])
        raw = writer.write(
            [
                pa.array([None if value is None else str(value) for value in values], pa.string())
                for values in zip(*rows, strict=True)
            ]
            for rows in batches(cursor.fetchmany)
        )
    return _typed(raw, relation, out)


CONTENDERS: dict[str, Contender] = {
    "bare receiving": bare,
    "by columns": by_columns,
    "by columns, as text first": by_columns_as_text,
    "a row at a time": by_rows,
}


def _typed(raw: Raw, relation: Relation, out: Path) -> Path:
    with _duckdb() as connection:
        typed(connection, raw, relation.columns, _names(relation), out)
    raw.path.unlink()
    return out


def _names(relation: Relation) -> dict[str, str]:
    return {column.name: column.name for column in relation.columns}


def _duckdb() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    return connection


def fill(port: int, folder: Path, rows: int) -> None:
    """Makes the table `items`."""
    path = folder / "items.csv"
    with duckdb.connect() as maker:
        query = lineitems.select(rows)
        maker.execute(f"copy ({query}) to '{path}' (header false, nullstr '\\N')")
    columns = ", ".join(
        f"{name} {'varchar(60)' if kind == 'varchar' else kind}"
        for name, kind in lineitems.COLUMNS.items()
    )
    with (
        closing(
            pymysql.connect(
                host="127.0.0.1", port=port, user="root", database="shop", local_infile=True
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"create table items ({columns}, primary key (l_orderkey, l_linenumber))")
        cursor.execute(
            f"load data local infile '{path}' into table items fields terminated by ',' "
            "optionally enclosed by '\"'"
        )
        connection.commit()
    path.unlink()


def checksum(file: Path) -> str:
    """Rows and a sum over all values, in their order."""
    with duckdb.connect() as connection:
        row = connection.execute(
            f"select count(*), sum(hash(row_number, *columns(*)) % 1000000007) from "
            f"(select *, row_number() over () as row_number from '{file}')"
        ).fetchone()
    return str(row)


def main() -> None:
    """Prints a line a contender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as place, mariadb(Path(place)) as server:
        server.execute("select 1")
        fill(server.port, Path(place), asked.rows)
        url = f"mysql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/shop"
        database = MySQL(Connection("bench", url))
        for _ in range(asked.rounds):
            for name, contender in CONTENDERS.items():
                with database.consistent_view(), database.session() as session:
                    assert isinstance(session, MySQLSession)
                    relation = session.describe(None, "items")
                    wall, own = time.perf_counter(), time.process_time()
                    file = contender(session, relation, Path(place) / "out.parquet")
                    taken[name].append((time.perf_counter() - wall, time.process_time() - own))
                if file is not None:
                    found.add(checksum(file))
                    file.unlink()
    assert len(found) == 1, f"contenders differ: {found}"
    base = [wall for wall, _ in taken["by columns"]]
    for name, times in taken.items():
        ratio = statistics.median(wall / own for (wall, _), own in zip(times, base, strict=True))
        wall, own = (statistics.median(values) for values in zip(*times, strict=True))
        sys.stdout.write(f"{name:<28}{wall:7.2f} s{own:7.2f} s of processor{ratio:7.2f}\n")


if __name__ == "__main__":
    main()
