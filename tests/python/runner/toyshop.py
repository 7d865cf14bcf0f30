"""A small project of its own: a toy shop with an SQLite database and a folder of CSV files.

It has what the runner must handle (sources of two kinds, a seed, staging, two public marts, tests,
an account of rows) and nothing of the example company, because the runner serves any project.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import warm

FILES = {
    "dbt_project.yml": """
        name: toyshop
        version: "1.0.0"
        profile: toyshop
        flags: {send_anonymous_usage_stats: false}
        model-paths: [models]
        test-paths: [tests/dbt]
        models:
          toyshop:
            staging: {+schema: staging, +materialized: view}
            marts:
              +materialized: table
              core: {+schema: core}
              sales: {+schema: sales}
            books: {+schema: books, +materialized: table}
        seeds:
          toyshop: {+schema: lookups}
        """,
    "profiles.yml": """
        toyshop:
          target: duckdb
          outputs:
            duckdb:
              type: duckdb
              path: "{{ env_var('WELLSPRING_DATA', 'data') }}/warehouse/wellspring.duckdb"
              threads: 2
              plugins: [{module: ingestion.dbt_plugin}]
        """,
    "wellspring.toml": """
        [publish]
        keep = 3
        """,
    "macros/generate_schema_name.sql": """
        {% macro generate_schema_name(custom_schema_name, node) -%}
            {{ custom_schema_name or target.schema }}
        {%- endmacro %}
        """,
    "seeds/colours.csv": """
        colour,is_bright
        red,true
        grey,false
        """,
    "models/staging/stock/_stock__sources.yml": """
        sources:
          - name: stock
            schema: raw_stock
            description: The shop's stock, in SQLite.
            config:
              meta:
                ingest: {kind: database, connection: stock}
            tables:
              - name: toys
                description: One row per toy.
                columns:
                  - {name: toy_id, data_type: bigint}
                  - {name: toy_name, data_type: string}
                  - {name: colour, data_type: string}
                config:
                  loaded_at_field: _extracted_at
                  freshness: {warn_after: {count: 1000, period: day}}
                  meta: {ingest: {primary_key: [toy_id]}}
        """,
    "models/staging/till/_till__sources.yml": """
        sources:
          - name: till
            schema: raw_till
            description: What the till writes, as CSV.
            config:
              meta:
                ingest: {kind: files, connection: till, format: csv}
            tables:
              - name: sales
                description: One row per sale.
                columns:
                  - {name: sale_id, data_type: string}
                  - {name: toy_id, data_type: string}
                  - {name: amount, data_type: string}
                config:
                  meta: {ingest: {primary_key: [sale_id], path: "sales_*.csv"}}
        """,
    "models/staging/stock/stg_stock__toys.sql": """
        select toy_id, toy_name, colour
        from {{ source('stock', 'toys') }}
        qualify row_number() over (
            partition by toy_id order by _load_id desc, _row desc
        ) = 1
        """,
    "models/staging/till/stg_till__sales.sql": """
        select
            sale_id::bigint as sale_id,
            toy_id::bigint as toy_id,
            amount::decimal(12, 2) as amount
        from {{ source('till', 'sales') }}
        """,
    "models/marts/core/dim_toys.sql": """
        select toys.toy_id, toys.toy_name, colours.is_bright
        from {{ ref('stg_stock__toys') }} as toys
        left join {{ ref('colours') }} as colours using (colour)
        """,
    "models/marts/core/dim_toys.yml": """
        models:
          - name: dim_toys
            description: One row per toy; it's "the" list.
            access: public
            columns:
              - name: toy_id
                description: Number of the toy.
                data_tests: [unique, not_null]
              - name: toy_name
                description: What it is called.
        """,
    "models/marts/sales/fct_sales.sql": """
        select sale_id, toy_id, amount from {{ ref('stg_till__sales') }}
        """,
    "models/marts/sales/fct_sales.yml": """
        models:
          - name: fct_sales
            description: One row per sale.
            access: public
            columns:
              - name: sale_id
                description: Number of the sale.
                data_tests: [unique, not_null]
              - name: toy_id
                data_tests:
                  - relationships:
                      arguments: {to: ref('dim_toys'), field: toy_id}
          - name: sales_by_toy
            description: One row per toy, for insiders.
        """,
    "models/marts/sales/sales_by_toy.sql": """
        select toy_id, sum(amount) as amount from {{ ref('fct_sales') }} group by toy_id
        """,
    "models/books/row_outcomes.sql": """
        select 'stock' as source, 'staged' as outcome, count(*) as row_count
        from {{ ref('stg_stock__toys') }}
        union all
        select 'till', 'staged', count(*) from {{ ref('stg_till__sales') }}
        union all
        select 'till', 'quarantined', 2
        """,
    "tests/dbt/assert_amounts_are_positive.sql": """
        select sale_id, amount from {{ ref('fct_sales') }} where amount <= 0
        """,
}
SALES = "sale_id,toy_id,amount\n1,1,9.90\n2,2,5.00\n3,1,9.90\n"


@dataclass(frozen=True)
class ToyShop:
    """The project and the systems it reads.

    Attributes:
        root: The project's folder.
    """

    root: Path

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.root / "data"

    @property
    def published(self) -> Path:
        """The folder of published versions."""
        return self.data / "published"

    @property
    def systems(self) -> Path:
        """Where the sources lie."""
        return self.root / "systems"

    @property
    def environment(self) -> dict[str, str]:
        """The connections; what fails is tried again at once."""
        return {
            "WELLSPRING__RETRY__LONGEST_WAIT_SECONDS": "0",
            "CONNECTIONS__STOCK__URL": f"sqlite:///{self.systems / 'stock.sqlite'}",
            "CONNECTIONS__TILL__URL": str(self.systems / "till"),
        }

    def write(self, path: str, text: str) -> None:
        """Writes a file of the project."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(dedent(text).lstrip("\n"), encoding="utf-8")

    def add_sales(self, name: str, text: str) -> None:
        """The till writes a file."""
        folder = self.systems / "till"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def add_toys(self, *toys: tuple[int, str, str]) -> None:
        """The stock gets toys."""
        self.systems.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.systems / "stock.sqlite")
        with connection:
            connection.execute(
                "create table if not exists toys "
                "(toy_id integer primary key, toy_name text, colour text)"
            )
            connection.executemany("insert or replace into toys values (?, ?, ?)", toys)
        connection.close()

    @property
    def current(self) -> str | None:
        """Name of the current version."""
        link = self.published / "current"
        return link.readlink().name if link.is_symlink() else None

    @property
    def versions(self) -> list[str]:
        """What lies in the published folder, but for the link."""
        if not self.published.is_dir():
            return []
        return sorted(path.name for path in self.published.iterdir() if path.name != "current")


def make_toyshop(root: Path) -> ToyShop:
    """Writes the project and its sources to a folder."""
    shop = ToyShop(root)
    for path, text in FILES.items():
        shop.write(path, text)
    shop.add_toys((1, "bear", "grey"), (2, "robot", "red"))
    shop.add_sales("sales_1.csv", SALES)
    return shop


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str


Call = Callable[..., Answer]


def command(shop: ToyShop, *arguments: str, **environment: str) -> Answer:
    """Calls `wellspring` in a process of its own, with more environment, and waits for it."""
    done = warm.run(
        ["-m", "runner", *arguments],
        cwd=shop.root,
        env={**surroundings(shop), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def surroundings(shop: ToyShop) -> dict[str, str]:
    """The environment of a process that works on this shop."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return {**kept, **shop.environment, "WELLSPRING_DATA": str(shop.data)}
