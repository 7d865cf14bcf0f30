"""A whole run by its steps, beside the same statements in one DuckDB connection; and a rebuild.

line items as Parquet -> extract, load, build (staging, a fact, sums by day), audit, publish
(DuckDB file and Parquet) -> the published fact of all contenders is the same

Each step of Wellspring is a command, so that its start counts. The bare contender does the same to
the rows and nothing for safety: no landing, no ledger, no versions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite import lineitems
from suite.kit import Benchmark, Case, Contender, Made, Target, folder_bytes
from suite.project import call, make_project

STEPS = ("extract", "load", "build", "audit", "publish")
_ITEM = ", ".join(lineitems.COLUMNS)
_ITEM_KEY = "l_orderkey * 8 + l_linenumber"
_DAYS = """
    select l_shipdate, l_returnflag, count(*) as items, sum(l_extendedprice) as price
    from {items} group by l_shipdate, l_returnflag
"""
MODELS = {
    "models/staging/src/stg_src__items.sql": f"""
        select {_ITEM_KEY} as item_key, {_ITEM} from {{{{ source('src', 'items') }}}}
    """,
    "models/marts/sales/fct_items.sql": f"""
        select item_key, {_ITEM}, l_extendedprice * (1 - l_discount) as net
        from {{{{ ref('stg_src__items') }}}}
    """,
    "models/marts/sales/rpt_days.sql": _DAYS.format(items="{{ ref('fct_items') }}"),
    "models/marts/sales/sales.yml": """
        models:
          - name: fct_items
            description: One row per line item.
            access: public
            columns:
              - {name: item_key, description: Its key., data_tests: [unique, not_null]}
              - {name: l_partkey, description: The part., data_tests: [not_null]}
          - name: rpt_days
            description: One row per day and flag.
            access: public
            columns:
              - {name: l_shipdate, description: The day., data_tests: [not_null]}
    """,
}
_CONFIG = """
    models:
      bench:
        staging: {+schema: staging, +materialized: view}
        marts: {+schema: sales, +materialized: table}
"""


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Writes files of a tenth each, for every number of rows that is asked for."""
    for number, rows in enumerate(sizes["rows"]):
        place = folder / str(number)
        place.mkdir()
        for part in range(10):
            lineitems.write(place / f"part_{part}.parquet", rows // 10, part * (rows // 10))


def bare(case: Case) -> Made:
    """The statements alone."""
    import duckdb

    folder = case.data / str(case.options["of"])
    with case.timed("load"):
        connection = duckdb.connect(str(case.scratch / "bare.duckdb"))
        connection.execute(f"create table raw as select * from read_parquet('{folder}/*.parquet')")
        connection.execute("checkpoint")
    with case.timed("build"):
        connection.execute(f"create view stg as select {_ITEM_KEY} as item_key, {_ITEM} from raw")
        connection.execute(
            f"create table fct as select item_key, {_ITEM}, "
            "l_extendedprice * (1 - l_discount) as net from stg"
        )
        connection.execute(f"create table days as {_DAYS.format(items='fct')}")
        connection.execute("checkpoint")
    with case.timed("audit"):
        asked = ("l_partkey from fct where l_partkey", "item_key from fct where item_key")
        for question in (*asked, "l_shipdate from days where l_shipdate"):
            connection.execute(f"select count(*) from (select {question} is null)").fetchone()
        connection.execute(
            "select count(*) from (select item_key from fct group by item_key having count(*) > 1)"
        ).fetchone()
    with case.timed("publish"):
        published = case.scratch / "published.duckdb"
        connection.execute(f"attach '{published}' as published")
        for table in ("fct", "days"):
            connection.execute(f"create table published.{table} as select * from {table}")
            path = case.scratch / f"{table}.parquet"
            connection.execute(f"copy {table} to '{path}' (format parquet, compression zstd)")
        connection.close()
    return _made(published, "fct", case.scratch)


def wellspring(case: Case) -> Made:
    """The steps, a command each."""
    root = _project(case)
    for step in STEPS:
        with case.timed(step):
            call(root, step)
    return _published(case, root)


def rebuild(case: Case) -> Made:
    """`wellspring rebuild`, after a run that does not count."""
    root = _project(case)
    call(root, "run")
    with case.timed("rebuild"):
        call(root, "rebuild")
    return _published(case, root)


def again(case: Case) -> Made:
    """`wellspring run` with nothing new, after a run that does not count."""
    root = _project(case)
    call(root, "run")
    with case.timed("nothing new"):
        call(root, "run")
    return _published(case, root)


def _project(case: Case) -> Path:
    root = make_project(
        case.scratch / "project",
        str(case.data / str(case.options["of"])),
        "{kind: files, connection: src, format: parquet}",
        '{path: "*.parquet"}',
        MODELS,
    )
    with (root / "dbt_project.yml").open("a", encoding="utf-8") as file:
        file.write(_CONFIG.replace("\n    ", "\n").lstrip("\n"))
    if "memory" in case.options:
        os.environ["WELLSPRING__LIMITS__MEMORY"] = str(case.options["memory"])
    return root


def _published(case: Case, root: Path) -> Made:
    current = (root / "data" / "published" / "current").resolve()
    return _made(current / "wellspring.duckdb", "sales.fct_items", root / "data")


def _made(database: Path, table: str, folder: Path) -> Made:
    rows, checksum = lineitems.checksum(database, table)
    return Made(rows, checksum, folder_bytes(folder))


_HERE = "suite/cases/run.py"


def _growth(position: int) -> Contender:
    times = 10**position
    return Contender(
        f"{times} x",
        f"{_HERE}:wellspring",
        options={"of": position},
        group=f"{times} x",
        rounds=3 if times == 100 else None,
    )


def _growth_targets() -> tuple[Target, ...]:
    """A row of a hundred times as many in at most 1.1 times the time, for each step."""
    return tuple(
        Target("100 x", against, speed=1 / 1.1, step=step, text="acceptance 7")
        for against in ("1 x", "10 x")
        for step in STEPS
    )


def _contender(name: str, function: str) -> Contender:
    return Contender(name, f"{_HERE}:{function}", options={"of": 0})


BENCHMARKS = (
    Benchmark(
        name="run",
        title="a whole run of one source, a fact and its sums, by steps",
        baseline="bare DuckDB",
        contenders=(
            _contender("bare DuckDB", "bare"),
            _contender("wellspring", "wellspring"),
            _contender("wellspring rebuild", "rebuild"),
            _contender("wellspring again", "again"),
        ),
        prepare=prepare,
        sizes={"rows": [6_000_000]},
        quick={"rows": [100_000]},
        about=(
            "Bare DuckDB runs the same statements in one connection, without landing, ledger, "
            "versions or safety; the others are commands, starts of the interpreter included. "
            "`wellspring again` is a run with nothing new; only that run counts."
        ),
    ),
    Benchmark(
        name="growth",
        title="a whole run on 1, 10 and 100 times the rows, by steps",
        baseline="1 x",
        contenders=tuple(_growth(position) for position in range(3)),
        prepare=prepare,
        sizes={"rows": [60_000, 600_000, 6_000_000]},
        quick={"rows": [1_000, 10_000, 100_000]},
        targets=_growth_targets(),
        about=(
            "Speed is rows a second by those of the smallest: above 1, a row of more rows costs "
            "less. The smallest is mostly starts of the interpreter, so steps are also compared "
            "with ten times the rows."
        ),
    ),
)
