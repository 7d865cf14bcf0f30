"""Compares what was loaded with the totals that APIs and Python sources state.

declared `rest.total`, `python.count` -> the source's own number ─┐
current rows of raw ──────────────────────────────────────────────┴─> `Comparison`

An API that is asked incrementally is asked twice: for all, and for what is newer than the last
extraction; the second number says how much of a difference may be new. Left out: counting by
reading every page, which is what an extraction does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ingestion.declarations import RestTable, SourceDeclaration, TableDeclaration
from ingestion.delta import Delta
from ingestion.landing import column_mapping, landed_files
from ingestion.reconcile import Comparison, current_rows, verdict_of
from ingestion.settings import Settings

if TYPE_CHECKING:
    import duckdb


def compare_totals(
    connection: duckdb.DuckDBPyConnection,
    declaration: SourceDeclaration,
    table: TableDeclaration,
    settings: Settings,
) -> Comparison:
    """Compares the current rows of a table with the total that its source states.

    Args:
        connection: The warehouse.
        declaration: Its source, of kind `rest` or `python`.
        table: The table.
        settings: The project's settings.

    Raises:
        SourceUnreachable: The source does not answer.
        SourceFailed: It states no number where the declaration says.
    """
    ingest = table.ingest
    where = {"source": declaration.name, "table": table.name}
    key = list(column_mapping(list(ingest.primary_key), **where).values())
    cursor = next(iter(column_mapping([ingest.cursor], **where).values())) if ingest.cursor else ""
    current = current_rows(connection, declaration, table.name, key, cursor or None)
    (here,) = connection.execute(f"select count(*) from ({current})").fetchall()[0]
    made = Comparison(declaration.name, table.name, here=here)
    if isinstance(ingest, RestTable):
        if ingest.rest.total is None:
            return _unsaid(made, "the API states no total; declare `rest.total` if it does")
        there, newer = _rest_totals(declaration, table, settings, cursor)
    else:
        if declaration.python is None or declaration.python.count is None:
            return _unsaid(made, "the source counts nothing; declare `python.count` if it can")
        from ingestion.python_source import counts

        counted = counts(declaration, settings)
        if table.name not in counted:
            return _unsaid(made, f"{declaration.python.count} says nothing of it")
        there, newer = counted[table.name], 0
    return _judged(made, there, newer)


def _unsaid(made: Comparison, why: str) -> Comparison:
    return replace(made, message=why)


def _judged(made: Comparison, there: int, newer: int) -> Comparison:
    """Missing rows are new as far as the source says that there are newer ones."""
    missing = there - made.here if made.here is not None else there
    made = replace(made, there=there)
    if 0 < missing <= newer:
        return verdict_of(replace(made, new=missing))
    told = f"{abs(missing):,} {'too few' if missing > 0 else 'too many'} here"
    return verdict_of(replace(made, wrong=abs(missing), examples=(told,) if missing else ()))


def _rest_totals(
    declaration: SourceDeclaration, table: TableDeclaration, settings: Settings, cursor: str
) -> tuple[int, int]:
    """The total, and how much of it is newer than what was extracted."""
    from ingestion.rest.reading import read_total

    if table.rest.rest.incremental is None or not cursor:
        return read_total(declaration, table, None), 0
    total = read_total(declaration, table, None)
    with Delta(settings, landed_files(settings, declaration.name, table.name)) as delta:
        landed = delta.high_water(cursor)
    if landed is None:
        return total, total
    return total, read_total(declaration, table, landed)
