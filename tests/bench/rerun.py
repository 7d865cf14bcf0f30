"""What a run costs when little is new: first run, nothing new, one row in a hundred new.

SQLite of customers, orders, lines -> scratch project (staging by key, facts by key) -> first run ->
nothing new -> 1 % new -> shares of the first run, step by step, and the slowest models

    .venv/bin/python tests/bench/rerun.py [--rows 2000000] [--repeat 3] [--example 1]

Each run is a process of its own, as a user starts it. A run of 1 % follows each first run, so the
two are compared within one data folder; medians are taken over repetitions. `--example` does the
same with the example company at a scale, where a day passes in place of 1 %. Grown tables are
compared with a full refresh at the end of the last repetition. Left out: peers.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RUNS = ("first run", "nothing new", "1 % new")
STEPS = ("extract", "load", "build", "audit", "publish", "all")
Times = dict[str, dict[str, float]]

SOURCES = """
sources:
  - name: store
    schema: raw_store
    config: {meta: {ingest: {kind: database, connection: store}}}
    tables:
      - name: customers
        config: {meta: {ingest: {primary_key: [customer_id], cursor: updated_at}}}
      - name: orders
        config: {meta: {ingest: {primary_key: [order_id], cursor: updated_at}}}
      - name: lines
        config: {meta: {ingest: {primary_key: [line_id], cursor: updated_at}}}
"""
STAGED = {
    "customers": ("customer_id", {}, "nullif(trim(full_name), '') as full_name, country"),
    "orders": (
        "order_id", {"customer_id": "customers"},
        "customer_id, status, {{ non_blank('notes') }} as notes",
    ),
    "lines": (
        "line_id", {"order_id": "orders"},
        "order_id, quantity, try_cast(price as decimal(12, 2)) as price",
    ),
}  # fmt: skip
FACTS = {
    "fct_order_lines": """
        {{ config(materialized='by_key', unique_key='line_id', contract={'enforced': false},
            meta={'touched_key': 'order_id', 'touched_by': {
                'stg_store__lines': 'order_id', 'stg_store__orders': 'order_id'}}) }}
        select lines.line_id, lines.order_id, orders.customer_id, orders.status, lines.quantity,
            lines.price,
            cast(lines.quantity * lines.price as decimal(18, 2)) as amount
        from {{ ref('stg_store__lines') }} as lines
        inner join {{ ref('stg_store__orders') }} as orders on lines.order_id = orders.order_id
        where {{ in_touched('lines.order_id') }}
        """,
    "fct_orders": """
        {{ config(materialized='by_key', unique_key='order_id', contract={'enforced': false},
            meta={'touched_by': {
                'stg_store__orders': 'order_id', 'fct_order_lines': 'order_id'}}) }}
        with lines as (
            select order_id, count(*) as line_count,
                cast(sum(amount) as decimal(18, 2)) as amount
            from {{ ref('fct_order_lines') }} where {{ in_touched('order_id') }} group by order_id
        )
        select orders.order_id, orders.customer_id, orders.status, lines.line_count, lines.amount
        from {{ ref('stg_store__orders') }} as orders
        left join lines on orders.order_id = lines.order_id
        where {{ in_touched('orders.order_id') }}
        """,
    "fct_customer_totals": """
        {{ config(materialized='by_key', unique_key='customer_id', contract={'enforced': false},
            meta={'touched_by': {'fct_orders': 'customer_id'}}) }}
        select customer_id, count(*) as order_count,
            cast(sum(amount) as decimal(18, 2)) as amount
        from {{ ref('fct_orders') }} where {{ in_touched('customer_id') }} group by customer_id
        """,
}


def make_project(root: Path) -> None:
    """Writes the project: this one's macros, staging of three tables, three facts."""
    for name in ("macros", "tests/dbt/generic"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(ROOT / name, root / name)
    folder = root / "models" / "staging" / "store"
    folder.mkdir(parents=True)
    (folder / "_store__sources.yml").write_text(SOURCES)
    for table, (key, refers, columns) in STAGED.items():
        head = "".join(f"{{{{ refers_to('stg_store__{other}') }}}}\n" for other in refers.values())
        (folder / f"stg_store__{table}.sql").write_text(
            f"{head}with source as (select * from {{{{ source('store', '{table}') }}}}),\n"
            f"cleaned as (select {key}, {columns}, {{{{ utc_timestamp('updated_at') }}}} as"
            " updated_at, _file, _row, _load_id, _deleted, {{ raw_record('source') }} as _record"
            " from source)\nselect * from cleaned\n"
        )
        columns_yml = [
            {"name": own, "config": {"meta": {"rules": [{"required": True}, {"reference": {
                "model": f"stg_store__{other}", "column": own}}]}}}
            for own, other in refers.items()
        ]  # fmt: skip
        model = {
            "name": f"stg_store__{table}",
            "config": {"meta": {"staging": {"key": [key], "version_order": ["updated_at"]}}},
            "columns": [*columns_yml, {"name": key, "data_tests": ["unique", "not_null"]}],
        }
        (folder / f"stg_store__{table}.yml").write_text(json.dumps({"models": [model]}))
    facts = root / "models" / "marts" / "store"
    facts.mkdir(parents=True)
    for name, sql in FACTS.items():
        (facts / f"{name}.sql").write_text(dedent(sql).strip() + "\n")
    listed = [{"name": name, "access": "public", "config": {"schema": "store"}} for name in FACTS]
    (facts / "store.yml").write_text(json.dumps({"models": listed}))


def fill(database: Path, rows: int) -> None:
    """Makes customers, five orders and twelve lines for each."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, columns in (
            ("customers", "customer_id integer primary key, full_name text, country text"),
            (
                "orders",
                "order_id integer primary key, customer_id integer, status text, notes text",
            ),
            (
                "lines",
                "line_id integer primary key, order_id integer, quantity integer, price text",
            ),
        ):
            connection.execute(f"create table {table} ({columns}, updated_at text)")
        add(connection, 1, rows // 18 + 1, "2025-06-01 00:00:00")


def add(connection: sqlite3.Connection, first: int, last: int, at: str) -> None:
    """Adds customers of these numbers, with orders and lines."""
    moment = f"datetime('{at}', '+' || (i - {first - 1}) || ' seconds')"
    numbers = "with recursive n(i) as (select {} union all select i + 1 from n where i < {}) "
    for table, times, columns in (
        ("customers", 1, "i, 'Customer ' || i, 'C' || (i % 40)"),
        (
            "orders",
            5,
            "i, (i - 1) / 5 + 1, 'status ' || (i % 4), case when i % 9 = 0 then 'gift' end",
        ),
        ("lines", 12, "i, (i - 1) * 5 / 12 + 1, i % 7 + 1, printf('%.2f', (i % 900) / 7.0)"),
    ):
        span = numbers.format((first - 1) * times + 1, last * times)
        connection.execute(f"insert into {table} {span} select {columns}, {moment} from n")


def renew(database: Path, number: int) -> None:
    """Half a per cent of new rows, and half a per cent of changed ones all over the tables."""
    at = f"2026-06-{number + 1:02} 00:00:00"
    with closing(sqlite3.connect(database)) as connection, connection:
        (most,) = connection.execute("select max(customer_id) from customers").fetchone()
        add(connection, most + 1, most + most // 200, at)
        for table, change in (
            ("orders", "status = 'changed'"),
            ("lines", "quantity = quantity + 1"),
        ):
            key = table[:-1] + "_id"
            connection.execute(
                f"update {table} set {change}, updated_at = '{at}' where {key} % 200 = 7"
            )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="wellspring-rerun-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def run(root: Path, environment: dict[str, str], *more: str) -> dict[str, float]:
    """Does one `wellspring run`; returns seconds by step.

    Raises:
        SystemExit: The run did not end well.
    """
    began = time.monotonic()
    done = subprocess.run(
        [BIN / "wellspring", "run", "--log-format", "json", "--quiet", *more],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"the run ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    result = json.loads(done.stdout.splitlines()[-1])
    return {step["step"]: step["seconds"] for step in result["steps"]} | {"all": seconds}


def models(data: Path) -> dict[str, float]:
    """Seconds of each model in the last run."""
    with closing(sqlite3.connect(data / "state" / "history.sqlite")) as connection:
        rows = connection.execute(
            "select name, seconds from step_items where step = 'build' and run_id = "
            "(select max(run_id) from step_items where step = 'build')"
        ).fetchall()
    return dict(rows)


def tables(data: Path) -> dict[str, object]:
    """By table that models make, a number over its rows, whatever their order."""
    import duckdb

    path = str(data / "warehouse" / "wellspring.duckdb")
    with closing(duckdb.connect(path, read_only=True)) as connection:
        names = connection.execute(
            "select schema_name, table_name from duckdb_tables() where schema_name in ('staging',"
            " 'quarantine', 'rejected', 'absent_keys', 'ledger_outcomes', 'findings', 'store')"
        ).fetchall()
        return {
            f"{schema}.{table}": connection.execute(
                f"select count(*), coalesce(sum(hash(t)), 0) from {schema}.{table} as t"
            ).fetchone()
            for schema, table in names
        }


def measure(rows: int, check: bool) -> tuple[Times, dict[str, dict[str, float]]]:
    """Three runs in a fresh project: seconds by step, and by model."""
    times: Times = {}
    nodes: dict[str, dict[str, float]] = {}
    with scratch() as root:
        make_project(root)
        database = root / "store.sqlite"
        fill(database, rows)
        environment = os.environ | {
            "WELLSPRING_DATA": str(root / "data"),
            "CONNECTIONS__STORE__URL": f"sqlite:///{database}",
        }
        for number, name in enumerate(RUNS):
            if name == "1 % new":
                renew(database, number)
            times[name] = run(root, environment)
            nodes[name] = models(root / "data")
        if check:
            grown = tables(root / "data")
            subprocess.run(
                [BIN / "wellspring", "build", "--full-refresh", "--quiet"],
                cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            rebuilt = tables(root / "data")
            wrong = sorted(name for name in rebuilt if rebuilt[name] != grown.get(name))
            if wrong:
                raise SystemExit(f"grown and rebuilt differ: {', '.join(wrong)}")
    return times, nodes


def measure_example(scale: str) -> tuple[Times, dict[str, dict[str, float]]]:
    """The same with the example company, where a day passes."""
    times: Times = {}
    nodes: dict[str, dict[str, float]] = {}
    with scratch() as folder:
        environment = os.environ | {
            "WELLSPRING_DATA": str(folder / "data"),
            "DBT_TARGET_PATH": str(folder / "target"),
            "WELLSPRING__COMPANION__COMMAND": f"anycompany serve --scale {scale}",
        }
        for name in RUNS:
            if name == "1 % new":
                subprocess.run(
                    [BIN / "anycompany", "advance"],
                    cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL,
                )  # fmt: skip
            times[name] = run(ROOT, environment)
            nodes[name] = models(folder / "data")
    return times, nodes


def report(found: list[tuple[Times, dict[str, dict[str, float]]]]) -> list[str]:
    """Medians as Markdown: seconds, and shares of the first run."""

    def median(name: str, step: str) -> float:
        return statistics.median(times[name].get(step, 0.0) for times, _ in found)

    lines = [f"| run | {' | '.join(STEPS)} |", f"|---|{'---:|' * len(STEPS)}"]
    for name in RUNS:
        lines.append(f"| {name}, s | {' | '.join(f'{median(name, step):.2f}' for step in STEPS)} |")
    for name in RUNS[1:]:
        shares = [
            statistics.median(
                times[name].get(step, 0.0) / max(times["first run"][step], 0.001)
                for times, _ in found
            )
            for step in STEPS
        ]
        lines.append(f"| {name}, share | {' | '.join(f'{share:.2f}' for share in shares)} |")
    last = found[-1][1]
    slowest = sorted(last["1 % new"].items(), key=lambda item: -item[1])[:8]
    lines += ["", "| slowest models with 1 % new | first, s | now, s |", "|---|---:|---:|"]
    for name, seconds in slowest:
        lines.append(f"| {name} | {last['first run'].get(name, 0.0):.2f} | {seconds:.2f} |")
    return lines


def main() -> None:
    """Prints the medians as Markdown tables."""
    parser = argparse.ArgumentParser(description="Time runs in which little is new.")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of the source, in all")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure")
    parser.add_argument("--example", metavar="SCALE", help="also the example company at a scale")
    options = parser.parse_args()
    found = [
        measure(options.rows, check=number == options.repeat - 1)
        for number in range(options.repeat)
    ]
    lines = [f"{options.rows:,} rows, medians of {options.repeat}", "", *report(found)]
    if options.example:
        example = [measure_example(options.example) for _ in range(options.repeat)]
        lines += ["", f"The example at scale {options.example}", "", *report(example)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
