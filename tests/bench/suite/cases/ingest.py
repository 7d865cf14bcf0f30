"""Ingest by kind: files from their path to a raw table, beside bare DuckDB and other tools.

line items as Parquet or CSV | orders as nested NDJSON -> each contender's own DuckDB file

Wellspring lands the file, checks it, books it and loads it; the others load it. The warm contender
starts its clock after imports, as bare DuckDB and dlt do; the command is timed from its start to
its end, as ingestr is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite import lineitems
from suite.kit import Benchmark, Case, Contender, Made, Target, folder_bytes

_READERS = {"parquet": "read_parquet", "csv": "read_csv", "ndjson": "read_json"}
# dlt's default of a dictionary a row is a hundred times slower: it gets so many rows of all.
_DICT_ROWS = 20_000


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Writes the file, and a smaller one for what would take an hour."""
    kind = str(sizes["format"])
    for name, rows in (("items", int(sizes["rows"])), ("few", _DICT_ROWS)):
        place = folder / name
        place.mkdir()
        lineitems.write(place / f"items.{kind}", min(rows, int(sizes["rows"])))


def bare(case: Case) -> Made:
    """DuckDB alone, on its defaults: one statement, the file closed at the end."""
    import duckdb

    kind = case.options["format"]
    database = case.scratch / "bare.duckdb"
    with case.timed():
        connection = duckdb.connect(str(database))
        connection.execute(
            f"create table items as select * from {_READERS[kind]}('{case.data}/items/*.{kind}')"
        )
        connection.close()
    return _made(case, database, "items")


def wellspring(case: Case) -> Made:
    """Extract and load in a process that has been warmed up."""
    from ingestion.extract import extract, prepare_extraction
    from ingestion.load import load
    from suite.project import declared, make_project, settings_of

    kind = case.options["format"]
    table = {"path": f"*.{kind}", "format": kind}
    root = make_project(case.scratch / "project", str(case.data / "items"), "{}", "{}")
    settings = settings_of(root)
    source = declared("files", table)
    prepare_extraction(settings)
    with case.timed("extract"):
        (result,) = extract([source], settings)
    assert result.error is None, result.error
    with case.timed("load"):
        loaded = load([source], settings)
    assert loaded.error is None, loaded.error
    return _made(case, settings.warehouse_path, "raw_src.items", settings.landing_dir)


def wellspring_command(case: Case) -> Made:
    """`wellspring extract load`, from the start of the interpreter to its end.

    The project has been run before, when there was no file yet, as on any day but the first.
    """
    from suite.project import call, make_project

    kind = case.options["format"]
    place = case.scratch / "arrivals"
    place.mkdir()
    root = make_project(
        case.scratch / "project",
        str(place),
        f"{{kind: files, connection: src, format: {kind}}}",
        f'{{path: "*.{kind}"}}',
    )
    call(root, "extract", "load")
    for path in (case.data / "items").iterdir():
        (place / path.name).hardlink_to(path)
    with case.timed():
        call(root, "extract", "load")
    database = root / "data" / "warehouse" / "wellspring.duckdb"
    return _made(case, database, "raw_src.items", root / "data" / "landing")


def ingestr(case: Case) -> Made:
    """ingestr's command on its defaults, into a DuckDB file."""
    from suite.ingestr import environment

    kind = case.options["format"]
    database = case.scratch / "ingestr.duckdb"
    scheme = {"ndjson": "jsonl"}.get(kind, kind)
    command = [str(Path(sys.executable).with_name("ingestr")), "ingest", "--yes"]
    command += ["--progress", "log", "--source-table", "items"]
    command += ["--source-uri", f"{scheme}://{case.data}/items/items.{kind}"]
    command += ["--dest-uri", f"duckdb:///{database}", "--dest-table", "main.items"]
    surroundings = environment(case.scratch)
    with case.timed():
        subprocess.run(command, env=surroundings, check=True)
    return _made(case, database, "items")


def dlt_columnar(case: Case) -> Made:
    """dlt's documented fast road: Arrow tables through Parquet files into DuckDB."""
    import dlt
    import duckdb

    kind = case.options["format"]
    path = next((case.data / "items").glob(f"*.{kind}"))

    @dlt.resource(name="items")
    def items() -> Any:
        if kind == "parquet":
            import pyarrow.parquet as pq

            yield from pq.ParquetFile(path).iter_batches(batch_size=500_000)
        else:
            relation = duckdb.sql(f"select * from {_READERS[kind]}('{path}')")
            yield from relation.fetch_record_batch(500_000)

    database = case.scratch / "dlt.duckdb"
    with case.timed():
        pipeline = dlt.pipeline(
            "columnar",
            destination=dlt.destinations.duckdb(str(database)),
            dataset_name="raw",
            pipelines_dir=str(case.scratch / "pipelines"),
        )
        pipeline.run(items(), loader_file_format="parquet").raise_on_failed_jobs()
    return _made(case, database, "raw.items")


def dlt_defaults(case: Case) -> Made:
    """dlt's own readers of files on their defaults, which yield a dictionary a row."""
    import dlt
    from dlt.sources import filesystem as files

    kind = case.options["format"]
    reader = {"parquet": files.read_parquet, "csv": files.read_csv, "ndjson": files.read_jsonl}
    database = case.scratch / "dlt.duckdb"
    with case.timed():
        found = files.filesystem(bucket_url=str(case.data / "few"), file_glob=f"*.{kind}")
        pipeline = dlt.pipeline(
            "defaults",
            destination=dlt.destinations.duckdb(str(database)),
            dataset_name="raw",
            pipelines_dir=str(case.scratch / "pipelines"),
        )
        pipeline.run((found | reader[kind]()).with_name("items")).raise_on_failed_jobs()
    return _made(case, database, "raw.items")


def _made(case: Case, database: Path, table: str, *more: Path) -> Made:
    """What lies in a DuckDB file; the size is of that and of what else was written."""
    if case.options["format"] == "ndjson":
        rows, checksum = _orders(database, table)
    else:
        rows, checksum = lineitems.checksum(database, table)
    size = sum(folder_bytes(place) for place in (database, *more))
    return Made(rows, checksum, size)


def _orders(database: Path, table: str) -> tuple[int, str]:
    """Orders of a nested file: their number, keys and the items of all."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as connection:
        kinds = dict(
            connection.execute(
                f"select column_name, column_type from (describe {table})"
            ).fetchall()
        )
        items = "items" if "items" in kinds else None
        lines = (
            f"sum(json_array_length({items}::json))"
            if items and "[]" not in kinds["items"]
            else "sum(len(items))"
            if items
            else "null"
        )
        found = connection.execute(
            f"select count(*), sum(order_id::bigint), {lines} from {table}"
        ).fetchone()
    assert found is not None
    if found[2] is None:  # dlt's defaults make a table of their own of a list
        with duckdb.connect(str(database), read_only=True) as connection:
            nested = connection.execute(f"select count(*) from {table}__items").fetchone()
        assert nested is not None
        found = (found[0], found[1], nested[0])
    return found[0], f"{found[1]}-{found[2]}"


_HERE = "suite/cases/ingest.py"
_ABOUT = (
    "`bare DuckDB` is `create table as select` on its defaults. `wellspring` is extract and load "
    "in a warm process: landing with checksums, ledger, raw table. `wellspring command` and "
    "`ingestr` are commands from start to end. `dlt columnar` is Arrow through Parquet files"
)


def _benchmark(kind: str, floor: float, ahead: float, *, peer: bool) -> Benchmark:
    rows = 6_000_000
    contenders = [
        Contender("bare DuckDB", f"{_HERE}:bare"),
        Contender("wellspring", f"{_HERE}:wellspring"),
        Contender("wellspring command", f"{_HERE}:wellspring_command"),
        Contender("dlt columnar", f"{_HERE}:dlt_columnar"),
    ]
    few = Contender(
        "dlt defaults",
        f"{_HERE}:dlt_defaults",
        group="few",
        rounds=2,
        # Its reader of CSV is that of pandas, which is no part of the project.
        environment="dlt" if kind == "csv" else "",
    )
    targets = [
        Target("wellspring", "bare DuckDB", speed=floor, text="acceptance 1"),
        Target("wellspring", "dlt columnar", speed=3, memory=1, text="acceptance 2"),
    ]
    about = f"{_ABOUT}; `dlt defaults`, a dictionary a row, gets {_DICT_ROWS:,} of the rows."
    if peer:
        contenders.insert(
            3,
            Contender("ingestr 1.1.21", f"{_HERE}:ingestr", environment="ingestr"),
        )
        targets += [
            Target("wellspring", "ingestr 1.1.21", speed=ahead, memory=1, text="acceptance 2"),
            Target("wellspring command", "ingestr 1.1.21", speed=ahead, text="acceptance 2"),
        ]
    return Benchmark(
        name=f"ingest-{kind}",
        title=f"{kind} files from their path to a raw table",
        baseline="bare DuckDB",
        contenders=(*contenders, few),
        prepare=prepare,
        sizes={"format": kind, "rows": rows},
        quick={"rows": 300_000},
        targets=tuple(targets),
        about=about,
    )


BENCHMARKS = (
    _benchmark("parquet", 0.8, 1.4, peer=True),
    _benchmark("csv", 0.8, 2.0, peer=True),
    _benchmark("ndjson", 0.7, 1.0, peer=False),
)
