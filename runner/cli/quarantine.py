"""The commands below `wellspring quarantine`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import (
    AsJson,
    DryRun,
    Exclude,
    Format,
    LogFormatOption,
    Quiet,
    Select,
    Wait,
    command_line,
    console,
    log_format_of,
    planned_run,
    print_json,
    selection_of,
    waiting,
)

if TYPE_CHECKING:
    from runner.transform import Selection

commands = typer.Typer(
    name="quarantine",
    help="What is not in the marts and why: look at it, hand it on, take it back in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Warehouse = Annotated[
    bool,
    typer.Option("--warehouse", help="What was built last, not what is published."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Only loads since then: 2026-11-22 or with a time, UTC."),
]
Rule = Annotated[str | None, typer.Option("--rule", help="Only with this text in a reason.")]
Load = Annotated[str | None, typer.Option("--load", help="Only of this load.")]


class CountBy(StrEnum):
    """What bad rows are counted by."""

    table_and_rule = "table+rule"
    rule = "rule"
    table = "table"
    file = "file"
    load = "load"


@commands.command("list")
def quarantine_list(
    select: Select = None,
    exclude: Exclude = None,
    by: Annotated[CountBy, typer.Option("--by", help="What to count by.")] = CountBy.table_and_rule,
    since: Since = None,
    warehouse: Warehouse = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
) -> None:
    """Count quarantined rows, rejected records, refused files. Works while a run is under way."""
    from runner.quarantine.counts import (
        moment,
        open_books,
        print_counts,
        quarantine_counts,
        selected_tables,
        write_counts_csv,
    )

    settings = load_settings()
    after = moment(since) if since else None
    tables = selected_tables(settings, selection_of(select, exclude))
    with open_books(settings, warehouse) as books:
        # the members are named as what may be counted by; mypy takes a name for any text
        fields = quarantine_counts(books, by.name, tables, after)  # type: ignore[arg-type]
    if as_json:
        print_json(fields)
    elif as_csv:
        write_counts_csv(fields)
    else:
        print_counts(fields, console())


@commands.command("show")
def quarantine_show(
    table: Annotated[
        str, typer.Argument(help="A table (erp.orders) or its staging model (stg_erp__orders).")
    ],
    rule: Rule = None,
    key: Annotated[str | None, typer.Option("--key", help="Only the record with this key.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="Only of this file, as its origin calls it.")
    ] = None,
    load: Load = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="So many at most; 0 for all.")] = 5,
    warehouse: Warehouse = False,
    as_json: AsJson = False,
) -> None:
    """Show samples with their reasons, file, row and raw record, the fields at fault marked."""
    from runner.quarantine.counts import moment, named_table, open_books
    from runner.quarantine.rows import Culprits, Wanted, bad_rows, count_rows, print_rows

    settings = load_settings()
    after = moment(since) if since else None
    with open_books(settings, warehouse) as books:
        tables = [named_table(books, table)]
        wanted = Wanted(tables, rule, key, file, load, after, limit or None)
        rows, total = list(bad_rows(books, wanted)), count_rows(books, wanted)
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, total, books.origin, Culprits(settings), console())


@commands.command("export")
def quarantine_export(
    to: Annotated[
        Path, typer.Option("--to", help="The file: .csv, .ndjson or .parquet.", dir_okay=False)
    ],
    select: Select = None,
    exclude: Exclude = None,
    rule: Rule = None,
    load: Load = None,
    since: Since = None,
    warehouse: Warehouse = False,
) -> None:
    """Write bad rows to a file for the source's owner: reasons, file, row and record."""
    from runner.quarantine.counts import moment, open_books, selected_tables
    from runner.quarantine.rows import Wanted
    from runner.quarantine.rows import export as write

    settings = load_settings()
    after = moment(since) if since else None
    tables = selected_tables(settings, selection_of(select, exclude))
    with open_books(settings, warehouse) as books:
        written = write(books, Wanted(tables, rule, load=load, since=after), to)
    console().print(f"{written:,} written to {to}", markup=False, soft_wrap=True)


@commands.command("replay")
def quarantine_replay(
    select: Select = None,
    exclude: Exclude = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", help="Read this file again, changed or not; `*` for any text."),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
    wait: Wait = None,
) -> None:
    """Take rows back in after a rule, a mapping or a declaration was mended.

    Files that were refused, or that the declaration reads otherwise now, are read again from
    landing; then what is made from them is built, audited and published.
    """
    from runner.pipeline import execute
    from runner.quarantine.replay import STEPS_AFTER, Replay, print_replay, replay_fields
    from runner.report import reporting
    from runner.summary import print_summary

    selection = selection_of(select, exclude)
    if dry_run:
        _show_replay_plan(selection, file or (), as_json)
        return
    settings = waiting(load_settings(), wait)
    replay = Replay(tuple(file or ()))
    with reporting(log_format_of(log_format), quiet) as reporter:
        result = execute(
            settings,
            (replay.step(), *STEPS_AFTER),
            selection,
            False,
            reporter,
            command_line(),
            lazy=True,
        )
    fields = replay_fields(replay, result)
    if as_json:
        print_json(fields)
    else:
        print_summary(result, as_json=False)
        print_replay(fields, console())
    raise typer.Exit(result.exit_code)


def _show_replay_plan(selection: Selection, files: Sequence[str], as_json: bool) -> None:
    from runner.plan import plan_fields, print_plan
    from runner.quarantine.replay import STEPS_AFTER, plan_replay, print_due

    run = planned_run(load_settings(), selection, False)
    due = plan_replay(run, files)
    plan = plan_fields(run, STEPS_AFTER)
    if as_json:
        print_json([{"step": "replay", "files": [vars(found) for found in due]}, *plan])
    else:
        print_due(due, console())
        print_plan(plan, console())
