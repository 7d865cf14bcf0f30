"""Questions about what is there: state, trust, books, rows, and where they come from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ingestion.settings import load_settings
from runner.cli.shared import (
    AsJson,
    Exclude,
    Format,
    LogFormatOption,
    Quiet,
    Select,
    command_line,
    console,
    log_format_of,
    print_json,
    selection_of,
)

commands = typer.Typer()


class Output(StrEnum):
    """How an answer is written."""

    table = "table"
    csv = "csv"
    json = "json"


class BooksBy(StrEnum):
    """What a line of the books stands for."""

    source = "source"
    table = "table"
    file = "file"
    load = "load"


@commands.command()
def status(as_json: AsJson = False) -> None:
    """Show the last run, what is published, and rows by source. Works while a run is under way."""
    from runner.status import print_status, status_fields

    fields = status_fields(load_settings())
    if as_json:
        print_json(fields)
    else:
        print_status(fields, console())


@commands.command()
def metrics() -> None:
    """Print the state as metrics for Prometheus. Works while a run is under way."""
    import sys

    from runner.metrics import metrics_text

    sys.stdout.write(metrics_text(load_settings()).decode("utf-8"))


@commands.command()
def veracity(as_json: AsJson = False) -> None:
    """Show how far sources, tables and marts can be trusted, and what was unusual."""
    from runner.veracity.scores import print_veracity, veracity_fields

    fields = veracity_fields(load_settings())
    if as_json:
        print_json(fields)
    else:
        print_veracity(fields, console())


@commands.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(help="The SQL; `-` or nothing reads it from stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the SQL from here.")
    ] = None,
    output: Annotated[
        Output, typer.Option("--format", help="How to write the answer.")
    ] = Output.table,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Rows a table shows at most; 0 for all.")
    ] = 100,
) -> None:
    """Query the published version, read-only."""
    from runner.query import SqlFormat, read_sql, run_sql

    formats: dict[Output, SqlFormat] = {
        Output.table: "table",
        Output.csv: "csv",
        Output.json: "json",
    }
    run_sql(load_settings(), read_sql(query, file), formats[output], limit)


@commands.command()
def search(
    words: Annotated[
        list[str],
        typer.Argument(help="What to look for; `batter*` stands for all words that begin so."),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Look in this model only, such as fct_documents.")
    ] = None,
    every_word: Annotated[
        bool, typer.Option("--all", help="Only texts that have every word, not just some.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many to show at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Find texts of the published version by their words, best first.

    Looks in the models that declare `meta: search`. Case and accents do not matter.
    """
    from runner.search import answers_fields, print_answers
    from runner.search import search as find

    settings = load_settings()
    answers = find(settings, " ".join(words), model=model, every_word=every_word, limit=limit)
    if as_json:
        print_json(answers_fields(answers))
    else:
        print_answers(answers, console())


@commands.command()
def books(
    by: Annotated[BooksBy, typer.Option("--by", help="What a line stands for.")] = BooksBy.source,
    select: Select = None,
    exclude: Exclude = None,
    unbalanced: Annotated[
        bool, typer.Option("--unbalanced", help="Only lines that do not balance.")
    ] = False,
    published: Annotated[
        bool,
        typer.Option("--published", help="Of the published version, not of the warehouse."),
    ] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The lines as CSV.")] = False,
) -> None:
    """Show the account of every row: read, landed, loaded, and what became of it.

    Ends with 2 if a row is not accounted for. Works while a run is under way: it then reads the
    published version, and says so.
    """
    from runner.books import By, books_fields, print_books, read_books, selected_tables, write_csv

    settings = load_settings()
    kinds: dict[BooksBy, By] = {
        BooksBy.source: "source",
        BooksBy.table: "table",
        BooksBy.file: "file",
        BooksBy.load: "load",
    }
    tables = selected_tables(settings, select or (), exclude or ())
    account = read_books(settings, kinds[by], tables, unbalanced=unbalanced, published=published)
    if as_json:
        print_json(books_fields(account))
    elif as_csv:
        write_csv(account)
    else:
        print_books(account, console())
    if account.error is not None:
        raise account.error


@commands.command()
def reconcile(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Sources to compare; all if none is named."),
    ] = None,
    as_json: AsJson = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Compare what is loaded with the sources themselves: counts, keys, checksums, totals.

    Ends with 2 if a table is not as its source has it, with 4 if a source does not answer. What is
    newer than the last extraction is told, and is no fault.
    """
    from runner.pipeline import execute
    from runner.reconciling import Reconciliation, print_reconciliation, reconciliation_fields
    from runner.report import print_error, reporting

    work = Reconciliation()
    wanted = [f"source:{name}" for name in sources or ()]
    with reporting(log_format_of(log_format), quiet or as_json) as reporter:
        result = execute(
            load_settings(),
            [work.step],
            selection_of(wanted, None),
            False,
            reporter,
            command_line(),
        )
    if as_json:
        print_json(reconciliation_fields(work.comparisons))
    elif work.comparisons:
        print_reconciliation(work.comparisons, console())
    for error in (*([result.stopped_by] if result.stopped_by else []), *result.later):
        print_error(error)
    raise typer.Exit(result.exit_code)


@commands.command()
def explain(
    model: Annotated[str, typer.Argument(help="A mart or any other model, such as fct_orders.")],
    key: Annotated[
        str, typer.Argument(help="Its row: a value of the key, or column=value,column=value.")
    ],
    column: Annotated[
        str | None, typer.Argument(help="The value to explain; without it, the whole row.")
    ] = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Contributing rows shown of each relation.")
    ] = 3,
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, help="Levels to go; all by default.")
    ] = None,
    with_sql: Annotated[bool, typer.Option("--sql", help="Show the compiled SQL too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a row was made from, down to the rows of the files and the loads they came with."""
    from runner.explain.report import explanation_fields, print_explanation
    from runner.explain.walk import explain_row

    found = explain_row(load_settings(), model, key, column, command_line(), rows=rows, depth=depth)
    if as_json:
        print_json(explanation_fields(found))
    else:
        print_explanation(found, console(), with_sql)


class LineageFormat(StrEnum):
    """How lineage is written."""

    text = "text"
    json = "json"
    mermaid = "mermaid"


@commands.command()
def lineage(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TABLE[.COLUMN]",
            help="A column such as fct_orders.total_usd, or a whole table such as shop.orders.",
        ),
    ],
    up: Annotated[bool, typer.Option("--up", help="Only what it is made of.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what is made of it.")] = False,
    depth: Annotated[
        int | None, typer.Option("--depth", min=1, help="Steps to go; all by default.")
    ] = None,
    output: Annotated[
        LineageFormat,
        typer.Option("--format", help="mermaid is a picture that Markdown pages draw."),
    ] = LineageFormat.text,
) -> None:
    """Show which columns a column is made of, and what a change of it would reach.

    Read off the SQL of all models as it is now; no row is looked at, and nothing needs to be built.
    """
    import sys

    from runner.lineage.project import read_project
    from runner.lineage.report import find, lineage_fields, mermaid, print_lineage

    graph = read_project(load_settings(), command_line())
    column = find(graph, name)
    where = (graph, column, up or not down, down or not up, depth)
    if output == LineageFormat.json:
        print_json(lineage_fields(*where))
    elif output == LineageFormat.mermaid:
        sys.stdout.write(mermaid(*where) + "\n")
    else:
        print_lineage(*where, console())


@commands.command()
def mutate(
    select: Select = None,
    exclude: Exclude = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, help="Rows that get each defect in each column.")
    ] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Another seed takes other rows.")] = 1,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", min=0, max=1, help="End with code 2 if a model has less."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put defects into clean rows of a scratch copy and show which ones rules and tests notice."""
    from runner.mutate.report import print_scores, progress, require_score, score_fields
    from runner.mutate.trials import mutate as put_defects

    with progress() as on_model:
        scores = put_defects(
            load_settings(),
            selection_of(select, exclude),
            command_line(),
            rows=rows,
            seed=seed,
            on_model=on_model,
        )
    if as_json:
        print_json(score_fields(scores))
    else:
        print_scores(scores, console())
    if min_score is not None:
        require_score(scores, min_score)
