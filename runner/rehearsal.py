"""What dbt would send for incremental models that are there, seen before there is anything to add.

columns of all relations, marks -> empty warehouse of the same names -> dbt builds these models ->
its statements by model -> the copy is thrown away

A first build makes a table; only a later one adds to it, in other words, which dbt alone knows: the
strategy, the hooks, `is_incremental()`. Asked of an empty copy, dbt tells them while it is loaded
anyway, no row is touched, and the first load after a first build needs no dbt. The copy is sealed:
what a model or hook would read or write outside of it fails, and the model is left to dbt then.
Left out: materializations that tell of their ways by themselves.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingestion.errors import IngestionError
from ingestion.settings import Settings
from runner.compiled.versions import MARKS

if TYPE_CHECKING:
    import duckdb

    from runner.transform import NodeResult, Statement

Build = Callable[[Settings], "tuple[list[NodeResult], list[Statement]]"]
log = logging.getLogger(__name__)
_ORIGINAL = "original"
_TARGET = "DBT_TARGET_PATH"


def rehearsed(settings: Settings, build: Build) -> dict[str, list[Statement]]:
    """What dbt sends for models whose tables are there.

    Args:
        settings: The project's settings; nobody has the warehouse open.
        build: Has dbt build the models with other settings, and tells what was done and sent.

    Returns:
        The statements by unique id, in order, of those models that dbt could build there.
    """
    import duckdb

    try:
        with _empty_copy(settings) as copy:
            results, sent = build(copy)
    except (duckdb.Error, IngestionError, OSError) as error:
        # It is a saving: what is not known is left to dbt.
        log.info("incremental models were not rehearsed: %s", error)
        return {}
    done = {result.unique_id for result in results if result.status == "ok"}
    found: dict[str, list[Statement]] = {key: [] for key in done}
    for one in sent:
        if one.unique_id in found:
            found[one.unique_id].append(one)
    told = str(copy.data_dir)
    return {key: all_ for key, all_ in found.items() if not any(told in one.sql for one in all_)}


@contextmanager
def _empty_copy(settings: Settings) -> Iterator[Settings]:
    """Settings whose warehouse has the project's relations without a row; gone at the end."""
    from ingestion.dbt_plugin import sealed
    from ingestion.warehouse import connect

    # A fixed name: what a killed run has left goes with the next one.
    folder = settings.state_dir / "rehearsal"
    shutil.rmtree(folder, ignore_errors=True)
    copy = replace(settings, data_dir=folder)
    environment = {*settings.environment(), _TARGET}
    former = {name: os.environ.get(name) for name in environment}
    try:
        with closing(connect(copy)) as connection:
            _copy_shapes(connection, settings.warehouse_path)
        os.environ[_TARGET] = str(folder / "target")
        with sealed():
            yield copy
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def _copy_shapes(connection: duckdb.DuckDBPyConnection, warehouse: Path) -> None:
    """Makes a table for each table and view of the warehouse: empty, unless models note in it.

    What models note tells dbt whether a table may be added to at all.
    """
    place = str(warehouse).replace("'", "''")
    connection.execute(f"attach '{place}' as {_ORIGINAL} (read_only)")
    rows = connection.execute(
        "select schema_name, table_name, list(column_name || chr(0) || data_type "
        "order by column_index) from duckdb_columns() "
        f"where database_name = '{_ORIGINAL}' and not internal group by all order by all"
    ).fetchall()
    connection.execute("begin")
    for schema in dict.fromkeys(row[0] for row in rows):
        connection.execute(f"create schema if not exists {_quoted(schema)}")
    for schema, table, columns in rows:
        pairs = (column.split("\0") for column in columns)
        listed = ", ".join(f"{_quoted(name)} {kind}" for name, kind in pairs)
        relation = f"{_quoted(schema)}.{_quoted(table)}"
        connection.execute(f"create table {relation} ({listed})")
        if schema == MARKS:
            connection.execute(f"insert into {relation} from {_ORIGINAL}.{relation}")
    connection.execute("commit")
    connection.execute(f"detach {_ORIGINAL}")


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
