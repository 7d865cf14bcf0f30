"""A record studio whose models are still to be drafted: this project's macros, one SQLite source.

systems/stock.sqlite (artists, albums, sales, a log) ─> declared, not staged

Names, formats and faults are those that real sources have; nothing is of the example company.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import yaml
from screenedshop import COPIED, PROJECT
from toyshop import FILES, ToyShop

SOURCES = """
    sources:
      - name: studio
        schema: raw_studio
        description: The studio's database.
        config:
          meta:
            ingest: {kind: database, connection: stock}
        tables:
          - name: artist
            description: One row per version of an artist.
            config: {meta: {ingest: {from: Artist, primary_key: [ArtistId]}}}
          - name: album
            description: One row per version of an album.
            config: {meta: {ingest: {from: Album, primary_key: [AlbumId]}}}
          - name: sale
            description: One row per version of a sale.
            config: {meta: {ingest: {from: Sale, primary_key: [SaleNo]}}}
          - name: log
            description: One row per line of the log.
    """
TABLES = """
    create table Artist (ArtistId integer primary key, Name text, EMail text, ManagerId integer);
    create table Album (AlbumId integer primary key, Title text, ArtistId integer, Released text);
    create table Sale (
        SaleNo text primary key, AlbumId integer, "Sale Date" text, Price text, Paid text,
        "order" text, source text, shelf text
    );
    create table log (said_at text, message text);
    """


def make_studio(root: Path) -> ToyShop:
    """Writes the project and its source to a folder."""
    shop = ToyShop(root)
    for path in COPIED:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / path).is_dir() else shutil.copy
        copy(PROJECT / path, root / path)
    shop.write("wellspring.toml", FILES["wellspring.toml"])
    shop.write("models/staging/studio/_studio__sources.yml", SOURCES)
    macro = root / "macros/ledger/staging_models.sql"
    text = re.sub(r"(?s)(set names = \[).*?\]", r"\g<1>]", macro.read_text(), count=1)
    macro.write_text(text)
    _configure(root / "dbt_project.yml")
    _fill(shop)
    return shop


def _configure(path: Path) -> None:
    """The project's configuration without the areas of the example; comments stay elsewhere."""
    config = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())
    models = config["models"]["wellspring"]
    models["marts"] = {k: v for k, v in models["marts"].items() if k.startswith("+")}
    del models["ops"]
    path.write_text("# of the studio\n" + yaml.safe_dump(config, sort_keys=False))


def _fill(shop: ToyShop) -> None:
    shop.systems.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(shop.systems / "stock.sqlite") as connection:
        connection.executescript(TABLES)
        put(
            connection,
            "Artist",
            [
                (i, f"Artist {i}", f"artist{i}@mail.example", 1 + i % 3 if i > 3 else None)
                for i in range(1, 41)
            ],
        )
        put(
            connection,
            "Album",
            [
                (i, f"Album {i}", 1 + i % 40, f"{1990 + i % 30}-05-{1 + i % 28:02d}")
                for i in range(1, 121)
            ],
        )
        put(connection, "Sale", [sale(i) for i in range(1, 401)])
        put(connection, "log", [("2026-01-01T08:00:00Z", "started")] * 3)
    connection.close()


def sale(number: int) -> tuple[Any, ...]:
    """A sale; the 7th has no readable price, the 9th is of an album that is not there."""
    price = "viel" if number == 7 else f"{number % 3}.{number:03d},{number % 100:02d}"
    return (
        f"S{number:05d}",
        999 if number == 9 else 1 + (number * 7) % 120,
        f"{1 + number % 28:02d}.{1 + number % 12:02d}.2025",
        "n/a" if number % 50 == 0 else price,
        "ja" if number % 3 else "nein",
        ("web", "shop")[number % 2],
        f"note {number}",
        f"{number:06d}",
    )


def put(connection: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Puts rows into a table."""
    marks = ", ".join("?" * len(rows[0]))
    connection.executemany(f"insert into {table} values ({marks})", rows)
