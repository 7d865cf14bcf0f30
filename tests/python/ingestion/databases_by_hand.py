"""A small SQLite database that tests change by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def add_orders(path: Path, *orders: tuple[int, str]) -> None:
    """Writes orders, in place of those with the same id."""
    change_orders(path, "insert or replace into orders (id, name) values (?, ?)", *orders)


def change_orders(path: Path, sql: str, *values: tuple[object, ...]) -> None:
    """Changes the table `orders`, made if absent, by one statement for each tuple of values."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "create table if not exists orders "
            "(id integer primary key, name text, updated_at timestamp)"
        )
        connection.executemany(sql, values)
