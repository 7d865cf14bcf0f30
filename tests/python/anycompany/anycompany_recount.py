"""An independent recount of the truth from what the systems hand out, by the README's rules alone.

database, files, API ─> DuckDB tables of text ─> rules in SQL ─> sales, refunds, tickets, rows in
quarantine

Shares no code with the generator: reads files with the standard library and counts in SQL.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa

SHOP_TABLES = ("customers", "addresses", "products", "orders", "order_items", "payments", "refunds")
DESK_LISTS = {
    "tickets": "/api/v2/incremental/tickets/cursor.json?start_time=0",
    "users": "/api/v2/incremental/users/cursor.json?start_time=0",
    "comments": "/api/v2/incremental/comments.json?start_time=0",
    "satisfaction_ratings": "/api/v2/satisfaction_ratings.json?start_time=0",
}


def get(url: str, token: str) -> dict[str, Any]:
    """Fetches a page, waiting where the API asks for it."""
    for _ in range(3):
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.load(response)
        except urllib.error.HTTPError as problem:
            if problem.code != 429:
                raise
            time.sleep(int(problem.headers["Retry-After"]))
    raise AssertionError("limited three times in a row")


def fetch_all(base: str, token: str, name: str) -> list[dict[str, Any]]:
    """Fetches a whole list by following its pages."""
    url, rows = base + DESK_LISTS[name], []
    while url:
        page = get(url, token)
        rows += page[name]
        url = page.get("after_url") or page.get("next_page") or page.get("links", {}).get("next")
    return rows


def _load(
    db: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, Any]], columns: list[str]
) -> None:
    data = pa.table(
        {
            name: pa.array(
                [
                    None
                    if row.get(name) is None
                    else row[name]
                    if isinstance(row[name], str)
                    else json.dumps(row[name])
                    for row in rows
                ],
                pa.string(),
            )
            for name in columns
        }
    )
    db.register("incoming", data)
    db.execute(f"create or replace table {table} as select * from incoming")
    db.unregister("incoming")


def read_shop(db: duckdb.DuckDBPyConnection, url: str) -> None:
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        for table in SHOP_TABLES:
            cursor = connection.execute(f"select * from public.{table}")
            names = [column.name for column in cursor.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            text = [
                {name: None if value is None else str(value) for name, value in row.items()}
                for row in rows
            ]
            _load(db, f"shop_{table}", text, names)


def read_erp(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    for table in ("customers", "materials", "orders", "order_lines", "credit_notes"):
        rows: list[dict[str, Any]] = []
        names: dict[str, None] = {}
        for path in sorted((folder / table).glob("*.csv")):
            content = path.read_bytes()
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                text = content.decode("cp1252")
            lines = list(csv.reader(io.StringIO(text), delimiter=";"))
            header = ["UNIT_PRICE" if name == "NET_PRICE" else name for name in lines[0]]
            names.update(dict.fromkeys(header))
            rows += [
                {**dict(zip(header, line, strict=True)), "file": path.name}
                for line in lines[1:]
                if len(line) == len(header)
            ]
        _load(db, f"erp_{table}", rows, [*names, "file"])


def read_marketplace(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    for table in ("orders", "buyers", "listings", "refunds"):
        readable = []
        for path in sorted((folder / table).glob("date=*/*.parquet")):
            try:
                db.execute("select count(*) from read_parquet(?)", [str(path)])
            except duckdb.Error:
                continue
            readable.append(str(path))
        db.execute(
            f"create or replace table marketplace_{table} as "
            "select * from read_parquet(?, union_by_name = true, hive_partitioning = false)",
            [readable],
        )


def _elements(content: bytes) -> list[dict[str, Any]]:
    rows = []
    for element in ElementTree.fromstring(content):
        row: dict[str, Any] = dict(element.attrib)
        for child in element:
            row[child.tag] = (
                json.dumps([line.attrib for line in child]) if len(child) else child.text
            )
        rows.append(row)
    return rows


def read_distributor(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    for table in ("orders", "returns"):
        rows = []
        for path in sorted((folder / table).glob("*.zip")):
            with zipfile.ZipFile(path) as archive:
                rows += [
                    row for name in archive.namelist() for row in _elements(archive.read(name))
                ]
        fixed = {
            "orders": [
                "id",
                "retailer",
                "placed",
                "currency",
                "country",
                "status",
                "lines",
                "total",
                "comment",
            ],
            "returns": ["id", "order", "line", "amount", "currency", "date", "reason"],
        }[table]
        _load(db, f"distributor_{table}", rows, fixed)
    _load(
        db,
        "distributor_retailers",
        _elements((folder / "retailers/retailers.xml").read_bytes()),
        ["id", "name", "country"],
    )
    catalog = _elements(sorted((folder / "catalog").glob("*.xml"))[-1].read_bytes())
    _load(db, "distributor_catalog", catalog, ["code", "ean", "title", "family"])


def read_desks(db: duckdb.DuckDBPyConnection, api: dict[str, str], folder: Path) -> None:
    for name in DESK_LISTS:
        rows = fetch_all(api["url"], api["token"], name)
        _load(db, f"helpdesk_{name}", rows, list(rows[0]))
    [extract] = folder.glob("pixelco_*.json")
    content = json.loads(extract.read_text(encoding="utf-8"))
    for name in ("accounts", "cases"):
        _load(db, f"pixelco_{name}", content[name], list(content[name][0]))


def read_web(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    rows = []
    for path in sorted(folder.rglob("*.ndjson.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            # a line that was cut is no row
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    _load(db, "web_events", rows, list(rows[0]))


def read_all(connections: dict[str, dict[str, str]]) -> duckdb.DuckDBPyConnection:
    """Returns a database that holds every table as the systems hand it out now."""
    db = duckdb.connect()
    db.execute("set timezone = 'UTC'")
    read_shop(db, connections["shop"]["url"])
    read_erp(db, Path(connections["erp"]["url"]))
    read_marketplace(db, Path(connections["marketplace"]["url"]))
    read_distributor(db, Path(connections["distributor"]["url"]))
    read_desks(db, connections["helpdesk"], Path(connections["pixelco"]["url"]))
    read_web(db, Path(connections["web"]["url"]))
    rates = Path(connections["reference"]["url"]) / "fx_rates" / "*.csv"
    db.execute(
        "create table rates as "
        "select date, currency, usd_per_unit::decimal(18, 8) as rate from read_csv(?)",
        [str(rates)],
    )
    exceptions = Path(__file__).parents[3] / "seeds" / "product_code_exceptions.csv"
    db.execute("create table code_exceptions as select * from read_csv(?)", [str(exceptions)])
    db.execute((Path(__file__).parent / "recount.sql").read_text(encoding="utf-8"))
    return db
