"""What is not in the marts and why, counted: quarantined rows, rejected records, refused files.

published version (or the warehouse) -> `books` -> `quarantine_counts` -> text, JSON or CSV

The three are one relation here, `bad`, with a kind each. It is read from the published version, so
it can be asked in the middle of a run. Left out: what the records say, which may be personal;
`quarantine_rows` shows it to whoever asks for it.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ingestion.errors import BadInput
from ingestion.settings import Settings
from runner.project import screened_tables
from runner.query import nearest, open_version
from runner.report import count
from runner.transform import Dbt, Selection
from runner.versions import require_current

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

By = Literal["table_and_rule", "rule", "table", "file", "load"]
KINDS = {"row": "row", "record": "rejected record", "file": "refused file"}
_BATCH = 10_000
_NEEDED = ("quarantined_rows", "rejected_records", "loaded_files", "row_outcomes")
_DIMENSIONS: dict[By, tuple[str, ...]] = {
    "table_and_rule": ("table_name", "rule"),
    "rule": ("rule",),
    "table": ("table_name",),
    "file": ("table_name", "file"),
    "load": ("table_name", "load_id"),
}
# The relations that make the counts below; text in braces names the project's own.
_BAD = """
    files as (
        select source || '.' || table_name as table_name, _file, _load_id as load_id, file_status,
            coalesce(origin_name, _file) as file, rows_read, refusal_reason,
            make_timestamp(cast(try_cast(_load_id as double) * 1000000 as bigint)) as loaded
        from {loaded_files}
        where $tables is null or list_contains($tables, source || '.' || table_name)
    ),
    reported as (
        select 'row' as kind, source || '.' || table_name as table_name, model, record_key,
            reasons, raw_record, _file, _row as place
        from {quarantined_rows}
        union all
        select 'record', source || '.' || table_name, null, null, reason, raw_record, _file,
            record_number
        from {rejected_records}
        union all
        select 'file', table_name, null, null, refusal_reason, null, _file, null
        from files where file_status = 'refused'
    ),
    bad as (
        select reported.*, files.file, files.load_id, files.loaded
        from reported inner join files
            on reported.table_name = files.table_name and reported._file = files._file
        where $since is null or files.loaded >= $since
    )
"""


@dataclass(frozen=True)
class Books:
    """An open account of rows.

    Attributes:
        connection: Open for reading.
        origin: Which data it is, for people: `version 2026...` or `the warehouse`.
        relations: Where each relation of the books lies, by name.
    """

    connection: duckdb.DuckDBPyConnection
    origin: str
    relations: dict[str, str]

    def ask(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Answers a query that may use `files` and `bad`, as rows with named values."""
        return list(self.stream(sql, **values))

    def stream(self, sql: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Answers like `ask`, a batch at a time: a flood need not fit into memory."""
        text = f"with {_BAD.format(**self.relations)} {sql}"
        given = {"tables": None, "since": None, **values}
        found = self.connection.execute(text, {k: given[k] for k in given if f"${k}" in text})
        names = [column[0] for column in found.description or ()]
        while batch := found.fetchmany(_BATCH):
            yield from (dict(zip(names, row, strict=True)) for row in batch)


@contextmanager
def open_books(settings: Settings, warehouse: bool = False) -> Iterator[Books]:
    """The books of the published version, or those that the warehouse holds now.

    Raises:
        BadInput: Nothing is published, there is no warehouse, or it holds no books.
        LockHeld: The warehouse was asked for, and a run is under way.
    """
    if warehouse:
        from ingestion.warehouse import connect

        opened, origin = connect(settings, read_only=True), "the warehouse"
    else:
        version = require_current(settings, "`--warehouse` shows what was built last.")
        opened, origin = open_version(settings, version), f"version {version.name}"
    with closing(opened) as connection:
        yield Books(connection, origin, _relations(connection, origin))


def _relations(connection: duckdb.DuckDBPyConnection, origin: str) -> dict[str, str]:
    found = connection.execute(
        "select table_name, table_schema from information_schema.tables "
        # The loader's own tables of these names are what the models are made from.
        "where list_contains(?, table_name) and table_schema <> 'ledger'",
        [list(_NEEDED)],
    ).fetchall()
    relations = {name: f'"{schema}"."{name}"' for name, schema in found}
    missing = [name for name in _NEEDED if name not in relations]
    if missing:
        raise BadInput(
            f"{origin} holds no {' and no '.join(missing)}",
            hint="These are the project's models in models/ledger; `wellspring run` builds and "
            "publishes them.",
        )
    return relations


def selected_tables(settings: Settings, selection: Selection) -> list[str] | None:
    """Names (`erp.orders`) of the source tables that a selection concerns; None for all.

    Raises:
        DeclarationError: dbt refuses the project.
        BadInput: dbt does not understand the selection, or nothing in it is made from a table.
    """
    return None if selection.everything else chosen_tables(Dbt(settings), selection)


def chosen_tables(dbt: Dbt, selection: Selection) -> list[str]:
    """Names (`erp.orders`) of the source tables whose rows go into what is selected.

    Raises:
        DeclarationError: dbt refuses the project.
        BadInput: dbt does not understand the selection, or nothing in it is made from a table.
    """
    kinds = ("source", "model", "snapshot", "exposure")
    tables = screened_tables(dbt.project, dbt.select(selection, *kinds))
    if not tables:
        raise BadInput(
            f"no table is selected by `{selection}`",
            hint="Name a source (source:erp), its table (source:erp.orders) or a model.",
        )
    return tables


def named_table(books: Books, name: str) -> str:
    """The table (`erp.orders`) that a person means by its name or by its staging model's.

    Raises:
        BadInput: There is none of that name.
    """
    found = books.connection.execute(
        f"select distinct source || '.' || table_name, model from {books.relations['row_outcomes']}"
        f" union select distinct source || '.' || table_name, null "
        f"from {books.relations['loaded_files']}"
    ).fetchall()
    known: dict[str, str] = {
        other: table for table, model in found for other in (table, model) if other
    }
    if name in known:
        return known[name]
    raise BadInput(
        f"no loaded table and no staging model is called {name!r}",
        hint=f"Perhaps {' or '.join(nearest(name, list(known))[:3])}?" if known else "",
    )


def moment(text: str) -> datetime:
    """A day or time that a person gives, in UTC without zone.

    Raises:
        BadInput: It is none.
    """
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{text!r} is no day or time", hint="Give it as 2026-11-22 or 2026-11-22T13:00."
        ) from None
    return given.astimezone(UTC).replace(tzinfo=None) if given.tzinfo else given


# -- counting ----------------------------------------------------------------------------------


def quarantine_counts(
    books: Books, by: By, tables: Collection[str] | None = None, since: datetime | None = None
) -> dict[str, Any]:
    """Counts what is not in the marts.

    Args:
        books: The books.
        by: What to count by. By rule, a row that broke several counts for each of them.
        tables: Only these (`erp.orders`).
        since: Only loads since then, UTC.

    Returns:
        `from` (version or warehouse), `by`, `total` by kind, and `rows`: one per line, with `kind`,
        `count`, `share` of what was read (of the load or file where it is by those), `newest_load`.
    """
    given = {"tables": list(tables) if tables is not None else None, "since": since}
    names = _DIMENSIONS[by]
    rows = books.ask(_counts_sql(by), **given)
    total = books.ask("select kind, count(*) as number from bad group by kind", **given)
    numbers = {row["kind"]: row["number"] for row in total}
    return {
        "from": books.origin,
        "by": list(names),
        "rows": rows,
        "total": {kind: numbers.get(kind, 0) for kind in KINDS},
    }


def _counts_sql(by: By) -> str:
    names = _DIMENSIONS[by]
    listed = ", ".join(names)
    rule = "unnest(case when kind = 'row' then string_split(reasons, '; ') else [reasons] end)"
    source = (
        f"select * exclude (reasons), {rule} as rule from bad" if "rule" in names else "from bad"
    )
    keys = [name for name in names if name != "rule"]
    joined = " and ".join(f"counted.{name} = whole.{name}" for name in keys)
    whole = (
        f"select {', '.join(keys)}, sum(rows_read) as rows_read, count(*) as files from files "
        f"where $since is null or loaded >= $since group by {', '.join(keys)}"
        if keys
        else "select null as rows_read, null as files"
    )
    return f"""
        , things as ({source}),
        counted as (
            select {listed}, kind, count(*) as count, max(loaded) as newest_load
            from things group by {listed}, kind
        ),
        whole as ({whole})
        select {", ".join(f"counted.{name}" for name in names)}, kind, count,
            count / nullif(case when kind = 'file' then files else rows_read end, 0) as share,
            strftime(newest_load, '%Y-%m-%dT%H:%M:%SZ') as newest_load
        from counted left join whole on {joined or "true"}
        order by count desc, {listed}, kind
    """


# -- for people --------------------------------------------------------------------------------


def print_counts(fields: dict[str, Any], console: Console) -> None:
    """Shows counts to a person."""
    console.print(f"[bold]quarantine[/bold] of {fields['from']}: {told_total(fields['total'])}")
    if not fields["rows"]:
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    titles = {"table_name": "table", "load_id": "load"}
    for name in fields["by"]:
        table.add_column(titles.get(name, name), overflow="fold")
    for name in ("kind", "count", "share", "newest load"):
        right = name in ("count", "share")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in fields["rows"]:
        share = "" if row["share"] is None else f"{100 * row['share']:.2f} %"
        values = [str(row[name] or "") for name in fields["by"]]
        loaded = (row["newest_load"] or "")[:16].replace("T", " ")
        table.add_row(*values, KINDS[row["kind"]], f"{row['count']:,}", share, loaded)
    console.print(table, markup=False)
    if "rule" in fields["by"]:
        console.print("A row that broke several rules counts for each of them.", style="dim")
    console.print("Look at one: wellspring quarantine show <table>", style="dim", markup=False)


def told_total(total: dict[str, int]) -> str:
    """Counts by kind as one phrase."""
    told = [count(number, KINDS[kind]) for kind, number in total.items() if number]
    return ", ".join(told) or "nothing is set aside"


def write_counts_csv(fields: dict[str, Any]) -> None:
    """Writes counts as CSV to stdout."""
    names: Sequence[str] = [*fields["by"], "kind", "count", "share", "newest_load"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in fields["rows"])
