"""The account of every row, from the source to staging, as a table.

warehouse, or the published version while a run has it -> `books.accounts` -> lines, total, verdict

It only adds up what the model `accounts` says, which the audit of each run tests too. Left out: the
rows themselves; `wellspring quarantine` shows those that broke a rule.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ingestion.errors import BadInput, LockHeld
from ingestion.settings import Settings
from runner.errors import AuditFailed
from runner.versions import current_version, require_current

if TYPE_CHECKING:
    import duckdb
    from rich.console import Console

By = Literal["source", "table", "file", "load"]
FIGURES = (
    *("read", "unchanged", "deleted", "landed", "held", "rejected", "loaded"),
    *("staged", "superseded", "filtered", "quarantined", "unstaged", "difference"),
)
# Told only where there are such rows.
_RARE = ("unchanged", "deleted", "held", "rejected", "unstaged")
_KEYS: dict[By, tuple[str, ...]] = {
    "source": ("source",),
    "table": ("source", "table_name"),
    "file": ("source", "table_name", "_file", "_load_id"),
    "load": ("source", "table_name", "_load_id"),
}
_RELATION = "books.accounts"
_WIDTH = 160


@dataclass(frozen=True)
class Books:
    """The account, added up.

    Attributes:
        origin: What it was read from, in words.
        by: What a line stands for.
        lines: Figures by key columns; those asked for.
        total: Figures of all lines, also of those not asked for.
        names: Rows by outcome and its name, for the outcomes that have names.
    """

    origin: str
    by: By
    lines: list[dict[str, Any]]
    total: dict[str, int]
    names: list[dict[str, Any]]

    @property
    def error(self) -> AuditFailed | None:
        """What to end with if the books do not balance."""
        difference = self.total["difference"]
        if not difference:
            return None
        rows = "1 row is" if difference == 1 else f"{difference:,} rows are"
        return AuditFailed(
            f"the books do not balance: {rows} not accounted for",
            hint="`wellspring books --by file --unbalanced` names the files; raw and staging are "
            "made again from landing by `wellspring clean --warehouse`, `wellspring load build`.",
        )


def read_books(
    settings: Settings,
    by: By = "source",
    tables: Collection[tuple[str, str]] | None = None,
    *,
    unbalanced: bool = False,
    published: bool = False,
) -> Books:
    """Adds up the account.

    Args:
        settings: The project's settings.
        by: What a line stands for.
        tables: Only these tables, as (source, table); None for all.
        unbalanced: Only lines with a difference.
        published: Read the published version even where the warehouse could be read.

    Raises:
        BadInput: There is no account yet.
    """
    with _opened(settings, published) as (connection, origin):
        where = _where(tables)
        keys = _KEYS[by]
        sums = ", ".join(f"sum({_column(name)})::bigint as {name}" for name in FIGURES)
        listed = ", ".join(keys)
        having = "having sum(difference) <> 0" if unbalanced else ""
        lines = _rows(
            connection,
            f"select {listed}, {sums} from {_RELATION} where {where} "
            f"group by {listed} {having} order by {listed}",
        )
        (total,) = _rows(connection, f"select {sums} from {_RELATION} where {where}")
        names = _rows(
            connection,
            "select outcome, outcome_name as name, sum(row_count)::bigint as rows "
            f"from books.row_outcomes where outcome_name is not null and {where} "
            "group by all order by outcome, rows desc, name",
        )
    return Books(origin, by, lines, {name: value or 0 for name, value in total.items()}, names)


def _column(name: str) -> str:
    return name if name == "difference" else f"rows_{name}"


def _where(tables: Collection[tuple[str, str]] | None) -> str:
    if tables is None:
        return "true"
    pairs = ", ".join(f"({_text(source)}, {_text(table)})" for source, table in sorted(tables))
    return f"(source, table_name) in ({pairs})" if pairs else "false"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    found = connection.execute(sql)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@contextmanager
def _opened(settings: Settings, published: bool) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """The warehouse, which knows more than its last published version; that one during a run."""
    from ingestion.warehouse import connect
    from runner.query import open_version

    if not published and settings.warehouse_path.is_file():
        try:
            connection = connect(settings, read_only=True)
        except LockHeld:
            if current_version(settings) is None:
                raise
        else:
            with closing(connection):
                yield _checked(connection), "the warehouse as it is"
                return
    version = require_current(settings)
    with closing(open_version(settings, version)) as connection:
        yield _checked(connection), f"the published version {version.name}"


def _checked(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    found = connection.execute(
        "select 1 from duckdb_tables() where schema_name || '.' || table_name = ?", [_RELATION]
    ).fetchone()
    if found is None:
        raise BadInput(
            f"there is no table {_RELATION} yet",
            hint="`wellspring build` makes it, from the ledger and what staging sorted.",
        )
    return connection


# -- writers -----------------------------------------------------------------------------------


def books_fields(books: Books) -> dict[str, Any]:
    """The account as named values."""
    return {
        "read_from": books.origin,
        "by": books.by,
        "balanced": not books.total["difference"],
        "lines": books.lines,
        "total": books.total,
        "names": books.names,
    }


def write_csv(books: Books) -> None:
    """Writes the lines to stdout as CSV."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = (*_KEYS[books.by], *FIGURES)
    writer.writerow(names)
    writer.writerows([line[name] for name in names] for line in books.lines)


def print_books(books: Books, console: Console) -> None:
    """Shows the account to a person."""
    from rich import box
    from rich.table import Table

    if not console.is_terminal:
        console.width = _WIDTH
    keys = _KEYS[books.by]
    shown = [name for name in FIGURES if name not in _RARE or books.total[name]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in keys:
        table.add_column(_TITLES[name], overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for line in books.lines:
        told = [line[name] if line[name] is not None else "(no file)" for name in keys]
        style = "red" if line["difference"] else ""
        table.add_row(*told, *(f"{line[name]:,}" for name in shown), style=style)
    table.add_section()
    blanks = [""] * (len(keys) - 1)
    table.add_row("all", *blanks, *(f"{books.total[n]:,}" for n in shown), style="bold")
    console.print(table)
    for outcome in dict.fromkeys(line["outcome"] for line in books.names):
        named = [line for line in books.names if line["outcome"] == outcome]
        told_names = ", ".join(f"{line['name']} {line['rows']:,}" for line in named)
        console.print(f"{outcome}: {told_names}", markup=False, soft_wrap=True)
    console.print(f"read from {books.origin}", markup=False, soft_wrap=True)


_TITLES = {"source": "source", "table_name": "table", "_file": "file", "_load_id": "load"}


def selected_tables(
    settings: Settings, select: Sequence[str], exclude: Sequence[str]
) -> set[tuple[str, str]] | None:
    """The source tables that a selection is made from, as (source, table); None for all.

    Raises:
        DeclarationError: dbt refuses the project or the selection.
    """
    from runner.transform import Dbt, Selection

    selection = Selection(tuple(select), tuple(exclude))
    if selection.everything:
        return None
    manifest, wanted = Dbt(settings).sources(selection)
    nodes = (manifest["sources"][key] for key in wanted)
    return {(node["source_name"], node["name"]) for node in nodes}
