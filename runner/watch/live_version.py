"""A small version of the live models, swapped in after each cycle that changed them.

warehouse (open) -> published/live/<n>.tmp -> fsync -> published/live/<n> -> `current` swapped ->
older ones removed

Readers open `published/live/current/wellspring.duckdb` and keep what they have opened. A kill at
any point leaves the former one current. Of a model with `meta: live: {time: ..., keep: ...}` only
recent rows are copied; the versions that a batch publishes hold all of them. Left out: Parquet,
checksums and documentation, which the batch's versions have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestion.durable import sync
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.errors import BuildFailed
from runner.history import now
from runner.project import Relation
from runner.versions import CURRENT, DATABASE, MANIFEST, UNFINISHED

if TYPE_CHECKING:
    import duckdb

FOLDER = "live"
_NEW = "live_version"
_SPAN = re.compile(r"[1-9][0-9]* (minute|hour|day)s?")


@dataclass(frozen=True)
class LiveTable:
    """A table of a live version.

    Attributes:
        relation: The model.
        time: Column by which rows are recent; None to copy all.
        keep: How recent, such as `2 days`.
    """

    relation: Relation
    time: str | None = None
    keep: str | None = None

    @property
    def sql(self) -> str:
        """The rows that are copied."""
        table = f'"{self.relation.schema}"."{self.relation.name}"'
        if self.time is None:
            return f"select * from {table}"
        number, unit = str(self.keep).split(" ")
        newest = f'select max("{self.time}") from {table}'
        span = f"interval '{number}' {unit.rstrip('s')}"
        return f'select * from {table} where "{self.time}" >= ({newest}) - {span}'


def live_tables(relations: Sequence[Relation], nodes: Mapping[str, Any]) -> list[LiveTable]:
    """The tables of a live version.

    Args:
        relations: What a batch publishes.
        nodes: dbt's nodes of the models tagged `live`, by unique id.

    Raises:
        BuildFailed: `meta.live` of a model is wrong.
    """
    found = []
    for relation in relations:
        node = nodes.get(relation.unique_id)
        if node is None:
            continue
        declared = (node.config.meta or {}).get("live", {})
        if not declared:
            found.append(LiveTable(relation))
            continue
        keys = sorted(declared) if isinstance(declared, dict) else []
        time, keep = (declared.get("time"), declared.get("keep")) if keys else (None, None)
        columns = {name.lower() for name in node.columns}
        if keys != ["keep", "time"] or not _SPAN.fullmatch(str(keep)) or time not in columns:
            raise BuildFailed(
                f"{relation.name}: meta.live is {declared}",
                file=node.original_file_path,
                hint="Expected {time: a column of the model, keep: 2 days}.",
            )
        found.append(LiveTable(relation, time, keep))
    return found


def live_folder(settings: Settings) -> Path:
    """Where live versions lie."""
    return settings.published_dir / FOLDER


def current_live(settings: Settings) -> dict[str, Any] | None:
    """What the manifest of the current live version says; None before the first."""
    try:
        text = (live_folder(settings) / CURRENT / MANIFEST).read_text(encoding="utf-8")
    except OSError:
        return None
    content: dict[str, Any] = json.loads(text)
    return content


def publish_live(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    tables: Sequence[LiveTable],
    marks: Mapping[str, Sequence[Any]],
) -> int:
    """Makes a live version from the open warehouse and gives it to readers.

    Args:
        connection: The warehouse.
        settings: The project's settings.
        tables: What it holds.
        marks: By live model, the newest load that it has taken, and its generation.

    Returns:
        Its number.
    """
    folder = live_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    tidy_live(settings)
    number = max(_numbers(folder), default=0) + 1
    unfinished = folder / f"{number}{UNFINISHED}"
    unfinished.mkdir()
    rows = _copy(connection, unfinished / DATABASE, tables)
    failpoint("watch.copied")
    content = {"version": number, "created_at": now(), "tables": rows, "marks": dict(marks)}
    (unfinished / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for name in (DATABASE, MANIFEST):
        with (unfinished / name).open("rb") as handle:
            os.fsync(handle.fileno())
    sync(unfinished)
    unfinished.rename(folder / str(number))
    failpoint("watch.named")
    link = folder / f"{CURRENT}{UNFINISHED}"
    link.unlink(missing_ok=True)
    link.symlink_to(str(number))
    link.rename(folder / CURRENT)
    sync(folder)
    failpoint("watch.swapped")
    for old in sorted(_numbers(folder))[: -settings.watch.keep]:
        _remove(folder / str(old))
    return number


def _copy(
    connection: duckdb.DuckDBPyConnection, path: Path, tables: Sequence[LiveTable]
) -> dict[str, int]:
    place = str(path).replace("'", "''")
    connection.execute(f"attach '{place}' as {_NEW}")
    rows = {}
    try:
        for table in tables:
            schema, name = table.relation.schema, table.relation.name
            connection.execute(f'create schema if not exists {_NEW}."{schema}"')
            connection.execute(f'create table {_NEW}."{schema}"."{name}" as {table.sql}')
            (count,) = connection.execute(
                f'select count(*) from {_NEW}."{schema}"."{name}"'
            ).fetchall()[0]
            rows[str(table.relation)] = int(count)
        connection.execute(f"checkpoint {_NEW}")
    finally:
        connection.execute(f"detach {_NEW}")
    return rows


def tidy_live(settings: Settings) -> None:
    """Removes what a killed cycle left behind."""
    folder = live_folder(settings)
    if not folder.is_dir():
        return
    current = _current_number(folder)
    for path in folder.iterdir():
        # One that was named but not swapped in was never shown: its number is used again.
        is_ahead = path.name.isdigit() and int(path.name) > current
        if path.name.endswith(UNFINISHED) or is_ahead:
            _remove(path)


def _current_number(folder: Path) -> int:
    try:
        return int((folder / CURRENT).readlink().name)
    except OSError:
        return 0


def _numbers(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)
