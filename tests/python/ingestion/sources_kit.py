"""What the tests of extraction share: declarations in a line, one run, landed rows."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from ingestion import landing
from ingestion.declarations import (
    DatabaseTable,
    PythonSource,
    PythonTable,
    RestTable,
    SourceDeclaration,
    TableDeclaration,
)
from ingestion.extract import SourceResult, extract, extract_source, prepare_extraction
from ingestion.periods import Length, periods
from ingestion.rest.declared import RestSource
from ingestion.settings import Settings

_MODELS: dict[str, Any] = {"database": DatabaseTable, "rest": RestTable, "python": PythonTable}


def settings_in(folder: Path) -> Settings:
    """Settings of a project whose root and data lie in a temporary folder."""
    return Settings(project_dir=folder, data_dir=folder / "data")


def declared(kind: str, tables: dict[str, dict[str, Any]], name: str = "src", **shared: Any) -> Any:
    """A source as the YAML would declare it."""
    model = _MODELS[kind]
    return SourceDeclaration(
        name=name,
        schema=f"raw_{name}",
        kind=kind,  # type: ignore[arg-type]
        connection=None if kind == "python" else name,
        file=f"models/staging/{name}/_{name}__sources.yml",
        tables=tuple(
            TableDeclaration(table, f"source.x.{name}.{table}", model.model_validate(ingest))
            for table, ingest in tables.items()
        ),
        rest=RestSource.model_validate(shared) if kind == "rest" else None,
        python=PythonSource.model_validate(shared) if kind == "python" else None,
    )


def run(declaration: SourceDeclaration, settings: Settings, **options: Any) -> SourceResult:
    """One extraction of one source."""
    (result,) = extract([declaration], settings, **options)
    return result


def run_periods(
    declaration: SourceDeclaration, settings: Settings, start: date, end: date, length: Length
) -> list[SourceResult]:
    """Extractions of one source, period by period."""
    prepare_extraction(settings)
    return [
        extract_source(declaration, settings, period=period)
        for period in periods(start, end, length)
    ]


def rows_of(result: SourceResult) -> dict[str, int]:
    """Landed rows by table; fails with the source's error if there is one."""
    assert result.error is None, str(result.error)
    return {table.table: table.rows for table in result.tables}


def landed(settings: Settings, table: str, source: str = "src") -> list[dict[str, Any]]:
    """All landed rows of a table, in the order they landed."""
    files = [str(file.path) for file in landing.landed_files(settings, source, table)]
    if not files:
        return []
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        return (
            connection.execute(
                "select * from read_parquet(?, union_by_name = true) order by filename, "
                "file_row_number",
                [files],
            )
            .to_arrow_table()
            .to_pylist()
        )


def landed_types(settings: Settings, table: str, source: str = "src") -> dict[str, str]:
    """Column types of a table's newest landed file."""
    file = landing.landed_files(settings, source, table)[-1]
    found = duckdb.sql(f"describe select * from read_parquet('{file.path}')").fetchall()
    return {row[0]: row[1] for row in found}
