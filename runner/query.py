"""SQL over the published version.

SQL text -> the current version's file, read-only and shut off from files and network -> table, CSV
or JSON on stdout

The file is opened by the version's own path: `current` may be swapped meanwhile, the answer stays
of one version. Left out: writing, files, extensions; the file's content is all a query can see.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingestion.errors import BadInput
from ingestion.settings import Settings
from runner.versions import Version, require_current

if TYPE_CHECKING:
    import duckdb

SqlFormat = Literal["table", "csv", "json"]
_BATCH = 10_000
_MISSING = re.compile(r"(?:Table|View) with name (\S+) does not exist")


def run_sql(settings: Settings, sql: str, output: SqlFormat, limit: int) -> None:
    """Answers a query over the current published version on stdout.

    Args:
        settings: The project's settings.
        sql: One or several statements; the answer of the last one is shown.
        output: `table` for people; `csv` and `json` for programs, always complete.
        limit: Rows that `table` shows at most; 0 for all.

    Raises:
        BadInput: Nothing is published, or DuckDB refuses the text.
    """
    import duckdb

    version = require_current(settings)
    with closing(open_version(settings, version)) as connection:
        try:
            statements = connection.extract_statements(sql)
            if not statements:
                raise BadInput(
                    "there is no SQL to run",
                    hint='For example: wellspring sql "show all tables"',
                )
            for statement in statements:
                connection.execute(statement)
            if connection.description:
                _WRITERS[output](connection, limit)
        except duckdb.Error as error:
            raise _explained(connection, error) from error


def open_version(settings: Settings, version: Version) -> duckdb.DuckDBPyConnection:
    """Opens a published version so that a query can read it and do nothing else.

    Raises:
        BadInput: Its file is gone or damaged.
    """
    import duckdb

    from ingestion.budget import apply_budget

    config = {"autoinstall_known_extensions": "false"}
    try:
        connection = duckdb.connect(str(version.database), read_only=True, config=config)
        apply_budget(connection, settings)
        for setting in ("TimeZone = 'UTC'", "enable_progress_bar = false"):
            connection.execute(f"set {setting}")
        # Last, because what came before would be refused after it.
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
    except duckdb.Error as error:
        raise BadInput(
            f"the published version cannot be opened: {error}",
            file=version.database,
            hint="`wellspring publish` makes it again from the warehouse.",
        ) from error
    return connection


def read_sql(argument: str | None, file: Path | None) -> str:
    """The SQL from the argument, a file, or stdin (`-` or a pipe).

    Raises:
        BadInput: There is none, or the file cannot be read.
    """
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the SQL file cannot be read: {error}", file=file) from error
    if argument not in (None, "-"):
        return str(argument)
    if argument is None and sys.stdin.isatty():
        raise BadInput(
            "there is no SQL to run",
            hint='Give it as an argument, with --file, or on stdin: wellspring sql "select 1"',
        )
    return sys.stdin.read()


# -- writers -----------------------------------------------------------------------------------


def _batches(connection: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while batch := connection.fetchmany(_BATCH):
        yield batch


def _names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    return [column[0] for column in connection.description or ()]


def _write_csv(connection: duckdb.DuckDBPyConnection, limit: int) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_names(connection))
    for batch in _batches(connection):
        writer.writerows([_plain(value) for value in row] for row in batch)


def _write_json(connection: duckdb.DuckDBPyConnection, limit: int) -> None:
    import orjson

    names = _names(connection)
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
    sys.stdout.write("[")
    before = "\n"
    for batch in _batches(connection):
        for row in batch:
            record = dict(zip(names, row, strict=True))
            text = orjson.dumps(record, default=_json_value, option=options)
            sys.stdout.write(before + text.decode())
            before = ",\n"
    sys.stdout.write("\n]\n")


def _write_table(connection: duckdb.DuckDBPyConnection, limit: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = connection.fetchmany(limit + 1) if limit else connection.fetchall()
    cut = bool(limit) and len(shown) > limit
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, column in zip(_names(connection), connection.description or (), strict=True):
        right = str(column[1]) in ("NUMBER", "BIGINT", "INTEGER", "DOUBLE", "HUGEINT")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in shown[:limit] if cut else shown:
        table.add_row(*("" if value is None else _plain(value) for value in row))
    # Only a terminal has a width to fit in; a pipe gets whole lines.
    console = Console() if sys.stdout.isatty() else Console(width=100_000)
    console.print(table, highlight=False, markup=False)
    count = f"first {limit:,} rows; --limit 0 shows all" if cut else _counted(len(shown))
    sys.stderr.write(f"({count})\n")


_WRITERS = {"table": _write_table, "csv": _write_csv, "json": _write_json}


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _plain(value: Any) -> str:
    """A value as CSV and tables show it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, dict | list):
        return json.dumps(value, default=str, ensure_ascii=False)
    return str(value)


def _json_value(value: Any) -> Any:
    """What JSON has no type for; decimals stay exact numbers."""
    import orjson

    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f")) if value.is_finite() else None
    if isinstance(value, bytes | bytearray):
        return value.hex()
    return str(value)


# -- errors ------------------------------------------------------------------------------------


def _explained(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> BadInput:
    text = str(error).strip()
    if "read-only" in text:
        return BadInput(
            "published versions are read-only",
            hint="Change the models (models/) or the sources, then `wellspring run`.",
        )
    if "disabled by configuration" in text or "has been locked" in text:
        return BadInput(
            f"a query sees the published version and nothing else: {text.splitlines()[0]}",
            hint="Files and other databases are read with DuckDB itself.",
        )
    missing = _MISSING.search(text)
    return BadInput(text, hint=_near(connection, missing.group(1)) if missing else "")


def _near(connection: duckdb.DuckDBPyConnection, wanted: str) -> str:
    """Which published tables were perhaps meant."""
    found = connection.execute(
        "select schema_name || '.' || table_name from duckdb_tables() where not internal"
    ).fetchall()
    return "Published: " + ", ".join(nearest(wanted, [row[0] for row in found])) + "."


def nearest(wanted: str, known: Sequence[str]) -> list[str]:
    """Up to eight of the known names, those like the wanted one first.

    Args:
        wanted: A table's name, with or without its schema.
        known: Names with their schema.
    """
    bare = wanted.strip('"!.').split(".")[-1].lower()

    def distance(name: str) -> tuple[float, str]:
        own = name.split(".")[-1].lower()
        return (-difflib.SequenceMatcher(None, bare, own).ratio(), name)

    return sorted(known, key=distance)[:8]
