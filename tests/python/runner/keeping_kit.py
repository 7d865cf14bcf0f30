"""What tests of backup, rebuild and compaction compare: files, raw rows, the ledger, marts."""

from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
from toyshop import Answer, ToyShop, command

# When something was written down, which differs without the content being another one.
MOMENTS = ("loaded_at", "replayed_at")
# Tables that tell of runs, not of rows.
OF_RUNS = {"runs"}


def sums(folder: Path) -> dict[str, str]:
    """Checksum of each file below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def content(shop: ToyShop) -> dict[str, Any]:
    """All tables and views of the warehouse, with their columns, types and rows in order."""
    path = shop.data / "warehouse" / "wellspring.duckdb"
    found: dict[str, Any] = {}
    with closing(duckdb.connect(str(path), read_only=True)) as connection:
        tables = connection.execute(
            "select table_schema, table_name from information_schema.tables order by all"
        ).fetchall()
        for schema, table in tables:
            if schema in OF_RUNS:
                continue
            name = f'"{schema}"."{table}"'
            columns = [row[:2] for row in connection.execute(f"describe {name}").fetchall()]
            kept = [f'"{column}"' for column, _ in columns if column not in MOMENTS]
            rows = connection.execute(f"select {', '.join(kept)} from {name} order by all")
            found[name] = (columns, rows.fetchall())
    return found


def good(answer: Answer) -> Answer:
    """The answer of a command that went well."""
    assert answer.code == 0, answer.out + answer.err
    return answer


def killed(shop: ToyShop, point: str, *arguments: str, times: int = 1) -> None:
    """Lets a command die at a failpoint."""
    answer = command(shop, *arguments, WELLSPRING_FAILPOINT=f"{point}:{times}")
    assert answer.code == -9, (point, answer)
