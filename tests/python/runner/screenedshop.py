"""A toy shop whose staging is screened: this project's macros, books and limits, models of its own.

toyshop's systems ─> stg_stock__toys, stg_till__sales ─> fct_sales, rpt_sales_by_colour

What is tried on it must hold for any project that is made from this one.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import yaml
from toyshop import FILES, ToyShop

PROJECT = Path(__file__).resolve().parents[3]
COPIED = (
    "macros",
    "tests/dbt/generic",
    "tests/dbt/singular/_ledger__tests.yml",
    "tests/dbt/singular/assert_every_raw_row_has_one_outcome.sql",
    "tests/dbt/singular/assert_quarantine_stays_within_limits.sql",
    "models/docs/loader.md",
    "models/staging/_staging__docs.md",
    "models/ledger/_ledger__sources.yml",
    *(
        f"models/ledger/{name}.{suffix}"
        for name in ("loaded_files", "quarantined_rows", "rejected_records", "row_outcomes")
        for suffix in ("sql", "yml")
    ),
    "seeds/quarantine_acceptances.csv",
    "seeds/quarantine_acceptances.yml",
    "profiles.yml",
)
SALES_SQL = """
    with
    source as (select * from {{ source('till', 'sales') }}),
    cleaned as (
        select
            try_cast(sale_id as bigint) as sale_id,
            try_cast(article as bigint) as toy_id,
            try_cast(amount as decimal(12, 2)) as amount,
            nullif(clerk, '') as clerk,
            _file, _row, _load_id, _deleted,
            {{ raw_record('source') }} as _record
        from source
    )
    select * from cleaned
    """
SALES_YML = """
    models:
      - name: stg_till__sales
        description: One row per sale.
        config:
          meta:
            staging:
              key: [sale_id]
              limits: {share: 0.5}
        columns:
          - {name: sale_id, description: Number of the sale.}
          - name: toy_id
            description: Number of the toy.
            config: {meta: {rules: [{required: true}, {typed_from: article}]}}
          - name: amount
            description: Price paid.
            config: {meta: {rules: [{typed_from: amount}, {between: [0, 1000]}]}}
    """
OWN = {
    "models/staging/till/_till__sources.yml": """
        sources:
          - name: till
            schema: raw_till
            description: What the till writes, as CSV.
            config:
              meta:
                ingest: {kind: files, connection: till, format: csv, csv: {delimiter: ";"}}
            tables:
              - name: sales
                description: One row per sale.
                columns:
                  - {name: sale_id, data_type: string}
                  - {name: article, data_type: string}
                  - {name: amount, data_type: string}
                  - {name: clerk, data_type: string}
                config:
                  meta: {ingest: {path: "sales_*.csv", on_refused: warn}}
        """,
    "models/staging/till/stg_till__sales.sql": SALES_SQL,
    "models/staging/till/stg_till__sales.yml": SALES_YML,
    "models/staging/stock/stg_stock__toys.sql": """
        with
        source as (select * from {{ source('stock', 'toys') }}),
        cleaned as (
            select toy_id, toy_name, colour, _file, _row, _load_id, _deleted,
                {{ raw_record('source') }} as _record
            from source
        )
        select * from cleaned
        """,
    "models/staging/stock/stg_stock__toys.yml": """
        models:
          - name: stg_stock__toys
            config: {meta: {staging: {key: [toy_id]}}}
        """,
    "models/marts/sales/fct_sales.sql": """
        select sale_id, toy_id, amount, clerk from {{ ref('stg_till__sales') }}
        """,
    "models/marts/sales/rpt_sales_by_colour.sql": """
        select colours.is_bright, sum(sales.amount) as amount, count(*) as sale_count
        from {{ ref('stg_till__sales') }} as sales
        inner join {{ ref('stg_stock__toys') }} as toys using (toy_id)
        left join {{ ref('colours') }} as colours using (colour)
        group by colours.is_bright
        """,
}
FROM_TOYSHOP = ("models/staging/stock/_stock__sources.yml", "seeds/colours.csv", "wellspring.toml")
FIRST = (
    "sale_id;article;amount;clerk\n1;1;9.90;Zoë\n2;2;5.00;Bo\n3;1;9.90;Bo\n"
    "4;1;lots;Bo\n5;;-1;Bo\n6;2\n"
)
SECOND = "sale_id;article;amount;clerk\n1;1;8.90;Zoë\n7;2;1.50;Chloé\n8;2;2.50;Bo\n"


def make_screened_shop(root: Path) -> ToyShop:
    """Writes the project and its sources to a folder."""
    shop = ToyShop(root)
    for path in COPIED:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / path).is_dir() else shutil.copy
        copy(PROJECT / path, root / path)
    for path in FROM_TOYSHOP:
        shop.write(path, FILES[path])
    for path, text in OWN.items():
        shop.write(path, text)
    _list_staging_models(root / "macros/ledger/staging_models.sql")
    _configure(root / "dbt_project.yml")
    shop.add_toys((1, "bear", "grey"), (2, "robot", "red"))
    shop.add_sales("sales_1.csv", FIRST)
    shop.add_sales("sales_2.csv", SECOND)
    (shop.systems / "till" / "sales_3.csv").write_bytes("sale_id;article\n9;é".encode("cp1252"))
    return shop


def _list_staging_models(macro: Path) -> None:
    names = '"stg_stock__toys", "stg_till__sales"'
    text = re.sub(r"(?s)(set names = \[).*?\]", rf"\g<1>{names}]", macro.read_text(), count=1)
    macro.write_text(text)


def _configure(path: Path) -> None:
    config = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
    models = config["models"]["wellspring"]
    marts = {"+materialized": "table", "+access": "public", "sales": {"+schema": "sales"}}
    config["models"]["wellspring"] = {
        "staging": models["staging"],
        "ledger": models["ledger"],
        "marts": marts,
    }
    # A small shop: five rows are a flood.
    config["vars"]["quarantine_min_rows"] = 5
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def rows(shop: ToyShop, sql: str) -> list[tuple[Any, ...]]:
    """Answers a query over the warehouse."""
    place = shop.data / "warehouse" / "wellspring.duckdb"
    with duckdb.connect(str(place), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def checksums(shop: ToyShop) -> dict[str, Any]:
    """Columns, count and checksum of each table but those that tell what was done when and how."""
    found: dict[str, Any] = {}
    tables = rows(
        shop,
        "select schema_name, table_name from duckdb_tables() "
        "where schema_name not in ('ledger', 'runs', 'marks', 'changes')",
    )
    for schema, table in tables:
        columns = [row[0] for row in rows(shop, f"describe {schema}.{table}")]
        content = ", ".join(set(columns) - {"loaded_at", "replay_count"})
        (sums,) = rows(
            shop,
            f"select count(*), sum(hash(content)) from "
            f"(select {content} from {schema}.{table}) as content",
        )
        found[f"{schema}.{table}"] = (columns, sums)
    return found
