"""The command line of `wellspring`.

arguments -> settings -> a run of steps, or a question about what is there -> exit code

It only parses, calls and reports; heavy modules are imported by the command that needs them, so
that `--help` is quick. Left out: what the commands do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.exceptions

from ingestion.errors import BadInput, IngestionError
from ingestion.settings import load_settings
from runner.errors import EXIT_CODES

if TYPE_CHECKING:
    from runner.report import LogFormat
    from runner.transform import Selection

USAGE = 64
INTERRUPTED = 130
_SELECTOR_OPTIONS = ("--select", "-s", "--exclude")
RUN_STEPS = ("extract", "load", "build", "audit", "publish", "docs")

_CODES = "\n".join(f"{code:>3}  {text}" for code, text in EXIT_CODES.items())
app = typer.Typer(
    name="wellspring",
    help="Extract, load, build, audit and publish a warehouse.",
    epilog=f"\b\nExit codes:\n{_CODES}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # drawing the help with rich would double its time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How a run tells what it does."""

    auto = "auto"
    plain = "plain"
    json = "json"


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


class StepName(StrEnum):
    """Steps that can be named after another."""

    extract = "extract"
    load = "load"
    build = "build"
    audit = "audit"
    publish = "publish"
    docs = "docs"


Then = Annotated[
    list[StepName] | None,
    typer.Argument(metavar="[STEP]...", help="Further steps to do after it, in this order."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", "-s", help="What to work on, in dbt's selection language."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="What to leave out, in dbt's selection language."),
]
FullRefresh = Annotated[
    bool, typer.Option("--full-refresh", help="Read sources and build models anew.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what each step would do, and do nothing.")
]
LogFormatOption = Annotated[
    Format, typer.Option("--log-format", help="auto: a live display on a terminal, else plain.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


# -- steps -------------------------------------------------------------------------------------


@app.command()
def run(
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: FullRefresh = False,
    dry_run: DryRun = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Do all steps: extract, load, build, audit, publish, docs.

    Where neither the code nor any row has changed since the last audit, nothing is built again;
    `--full-refresh` does it all the same.
    """
    _steps(RUN_STEPS, select, exclude, full_refresh, dry_run, log_format, quiet)


@app.command()
def extract(
    then: Then = None,
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: FullRefresh = False,
    dry_run: DryRun = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Land what is new or changed in the sources above the selection."""
    steps = _chain("extract", then)
    _steps(steps, select, exclude, full_refresh, dry_run, log_format, quiet)


@app.command()
def load(
    then: Then = None,
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: FullRefresh = False,
    dry_run: DryRun = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Load landed files into raw tables, with the ledger, in one transaction."""
    steps = _chain("load", then)
    _steps(steps, select, exclude, full_refresh, dry_run, log_format, quiet)


@app.command()
def build(
    then: Then = None,
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: FullRefresh = False,
    dry_run: DryRun = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Build seeds and models with dbt."""
    steps = _chain("build", then)
    _steps(steps, select, exclude, full_refresh, dry_run, log_format, quiet)


@app.command()
def audit(
    then: Then = None,
    select: Select = None,
    exclude: Exclude = None,
    dry_run: DryRun = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Run data tests and freshness checks. Unit tests are left out: `make test` runs them."""
    _steps(_chain("audit", then), select, exclude, False, dry_run, log_format, quiet)


@app.command()
def publish(
    then: Then = None,
    select: Select = None,
    exclude: Exclude = None,
    dry_run: DryRun = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Publish what passed its audit, in one atomic swap."""
    _steps(_chain("publish", then), select, exclude, False, dry_run, log_format, quiet)


def _chain(first: str, then: Sequence[StepName] | None) -> tuple[str, ...]:
    steps = (first, *(step.value for step in then or ()))
    for step in steps:
        if steps.count(step) > 1:
            raise BadInput(f"the step {step} is named twice", hint="Name each step once.")
    return steps


def _steps(
    steps: Sequence[str],
    select: Sequence[str] | None,
    exclude: Sequence[str] | None,
    full_refresh: bool,
    dry_run: bool,
    log_format: Format,
    quiet: bool,
) -> None:
    from runner.report import reporting

    selection = _selection(select, exclude)
    settings = load_settings()
    if dry_run:
        _show_plan(steps, selection, full_refresh, log_format is Format.json)
        return
    from runner.pipeline import execute
    from runner.summary import print_summary

    with reporting(_log_format(log_format), quiet) as reporter:
        result = execute(
            settings,
            steps,
            selection,
            full_refresh,
            reporter,
            _command_line(),
            lazy=tuple(steps) == RUN_STEPS,
        )
    print_summary(result, as_json=log_format is Format.json)
    raise typer.Exit(result.exit_code)


def _selection(select: Sequence[str] | None, exclude: Sequence[str] | None) -> Selection:
    from runner.transform import Selection

    return Selection(tuple(select or ()), tuple(exclude or ()))


def _log_format(value: Format) -> LogFormat:
    formats: dict[Format, LogFormat] = {
        Format.auto: "auto",
        Format.plain: "plain",
        Format.json: "json",
    }
    return formats[value]


def _show_plan(
    steps: Sequence[str], selection: Selection, full_refresh: bool, as_json: bool
) -> None:
    from runner.history import History
    from runner.plan import plan_fields, print_plan
    from runner.report import Reporter
    from runner.steps import Run

    settings = load_settings()
    history = History(Path(":memory:"))
    planned = Run(settings, selection, full_refresh, False, "dry-run", history, Reporter())
    plan = plan_fields(planned, steps)
    if as_json:
        _print_json(plan)
    else:
        print_plan(plan, _console())


# -- questions ---------------------------------------------------------------------------------


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the last run, what is published, and rows by source. Works while a run is under way."""
    from runner.status import print_status, status_fields

    fields = status_fields(load_settings())
    if as_json:
        _print_json(fields)
    else:
        print_status(fields, _console())


@app.command()
def veracity(as_json: AsJson = False) -> None:
    """Show how far sources, tables and marts can be trusted, and what was unusual."""
    from runner.veracity.scores import print_veracity, veracity_fields

    fields = veracity_fields(load_settings())
    if as_json:
        _print_json(fields)
    else:
        print_veracity(fields, _console())


@app.command()
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


@app.command()
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
        _print_json(books_fields(account))
    elif as_csv:
        write_csv(account)
    else:
        print_books(account, _console())
    if account.error is not None:
        raise account.error


@app.command()
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
    with reporting(_log_format(log_format), quiet or as_json) as reporter:
        result = execute(
            load_settings(),
            [work.step],
            _selection(wanted, None),
            False,
            reporter,
            _command_line(),
        )
    if as_json:
        _print_json(reconciliation_fields(work.comparisons))
    elif work.comparisons:
        print_reconciliation(work.comparisons, _console())
    for error in (*([result.stopped_by] if result.stopped_by else []), *result.later):
        print_error(error)
    raise typer.Exit(result.exit_code)


@app.command()
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

    found = explain_row(
        load_settings(), model, key, column, _command_line(), rows=rows, depth=depth
    )
    if as_json:
        _print_json(explanation_fields(found))
    else:
        print_explanation(found, _console(), with_sql)


@app.command()
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
            _selection(select, exclude),
            _command_line(),
            rows=rows,
            seed=seed,
            on_model=on_model,
        )
    if as_json:
        _print_json(score_fields(scores))
    else:
        print_scores(scores, _console())
    if min_score is not None:
        require_score(scores, min_score)


@app.command()
def docs(
    then: Then = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to serve; 0 takes a free one.")
    ] = 8080,
    build_only: Annotated[
        bool, typer.Option("--build-only", help="Write the documentation, do not serve it.")
    ] = False,
    no_build: Annotated[
        bool, typer.Option("--no-build", help="Serve what the last run wrote.")
    ] = False,
    log_format: LogFormatOption = Format.auto,
    quiet: Quiet = False,
) -> None:
    """Write the documentation and serve it on this machine."""
    from runner.pipeline import execute
    from runner.report import reporting
    from runner.site import docs_folder, serve
    from runner.versions import current_version

    settings = load_settings()
    folder = docs_folder(settings, current_version(settings))
    if not no_build:
        steps = _chain("docs", then)
        with reporting(_log_format(log_format), quiet) as reporter:
            result = execute(
                settings, steps, _selection(None, None), False, reporter, _command_line()
            )
        if result.stopped_by is not None:
            raise result.stopped_by
        folder = Path(str(result.run.docs_page)).parent
    if not build_only:
        serve(folder, port, lambda url: _console().print(f"{url}  (Ctrl-C ends it)"))
    else:
        _console().print(str(folder / "index.html"), soft_wrap=True)


@app.command()
def clean(
    warehouse: Annotated[
        bool,
        typer.Option("--warehouse", help="The warehouse too; `load build` makes it from landing."),
    ] = False,
    landing: Annotated[
        bool,
        typer.Option("--landing", help="Landing and warehouse too: sources are read anew."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove working folders, logs and leftovers. Published versions stay."""
    from runner.clean import clean as remove_places
    from runner.clean import cleanable
    from runner.history import new_run_id
    from runner.lock import RunLock
    from runner.summary import shown_path

    settings = load_settings()
    with RunLock(settings.state_dir / "run.lock", new_run_id(), _command_line()):
        places = cleanable(settings, warehouse=warehouse or landing, landing=landing)
        if landing and not yes:
            _confirm_landing(settings.landing_dir)
        for place in places:
            _console().print(f"removed {shown_path(place)}", soft_wrap=True, highlight=False)
        freed = remove_places(places)
    _console().print(f"{freed / 2**20:,.1f} MiB freed", highlight=False)


def _confirm_landing(folder: Path) -> None:
    if not sys.stdin.isatty():
        raise BadInput(
            "landing is what everything else is made from; it is not removed without --yes",
            file=folder,
            hint="`wellspring clean --landing --yes` removes it.",
        )
    if not typer.confirm(f"Remove {folder}? What sources no longer have is lost."):
        raise typer.Exit(0)


# -- quarantine --------------------------------------------------------------------------------

quarantine = typer.Typer(
    name="quarantine",
    help="What is not in the marts and why: look at it, hand it on, take it back in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(quarantine)
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


@quarantine.command("list")
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
    tables = selected_tables(settings, _selection(select, exclude))
    with open_books(settings, warehouse) as books:
        # the members are named as what may be counted by; mypy takes a name for any text
        fields = quarantine_counts(books, by.name, tables, after)  # type: ignore[arg-type]
    if as_json:
        _print_json(fields)
    elif as_csv:
        write_counts_csv(fields)
    else:
        print_counts(fields, _console())


@quarantine.command("show")
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
        _print_json(rows)
    else:
        print_rows(rows, total, books.origin, Culprits(settings), _console())


@quarantine.command("export")
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
    tables = selected_tables(settings, _selection(select, exclude))
    with open_books(settings, warehouse) as books:
        written = write(books, Wanted(tables, rule, load=load, since=after), to)
    _console().print(f"{written:,} written to {to}", markup=False, soft_wrap=True)


@quarantine.command("replay")
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
) -> None:
    """Take rows back in after a rule, a mapping or a declaration was mended.

    Files that were refused, or that the declaration reads otherwise now, are read again from
    landing; then what is made from them is built, audited and published.
    """
    from runner.pipeline import execute
    from runner.quarantine.replay import STEPS_AFTER, Replay, print_replay, replay_fields
    from runner.report import reporting
    from runner.summary import print_summary

    selection = _selection(select, exclude)
    if dry_run:
        _show_replay_plan(selection, file or (), as_json)
        return
    settings = load_settings()
    replay = Replay(tuple(file or ()))
    with reporting(_log_format(log_format), quiet) as reporter:
        result = execute(
            settings,
            (replay.step(), *STEPS_AFTER),
            selection,
            False,
            reporter,
            _command_line(),
            lazy=True,
        )
    fields = replay_fields(replay, result)
    if as_json:
        _print_json(fields)
    else:
        print_summary(result, as_json=False)
        print_replay(fields, _console())
    raise typer.Exit(result.exit_code)


def _show_replay_plan(selection: Selection, files: Sequence[str], as_json: bool) -> None:
    from runner.history import History
    from runner.plan import plan_fields, print_plan
    from runner.quarantine.replay import STEPS_AFTER, plan_replay, print_due
    from runner.report import Reporter
    from runner.steps import Run

    history = History(Path(":memory:"))
    run = Run(load_settings(), selection, False, False, "dry-run", history, Reporter())
    due = plan_replay(run, files)
    plan = plan_fields(run, STEPS_AFTER)
    if as_json:
        _print_json([{"step": "replay", "files": [vars(found) for found in due]}, *plan])
    else:
        print_due(due, _console())
        print_plan(plan, _console())


# -- around them -------------------------------------------------------------------------------


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _print_json(content: Any) -> None:
    import json

    from ingestion.redaction import redact

    sys.stdout.write(redact(json.dumps(content, indent=2, default=str)) + "\n")


def _command_line() -> str:
    return " ".join(["wellspring", *_arguments])


_arguments: list[str] = []


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name; by default that of this process.

    Returns:
        The exit code (see `EXIT_CODES`).
    """
    _arguments[:] = sys.argv[1:] if arguments is None else arguments
    try:
        return int(app(_with_each_selector_named(_arguments), standalone_mode=False) or 0)
    except IngestionError as error:
        from runner.report import print_error

        print_error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has enough; nothing is wrong, and nothing more can be written.
        sys.stdout = None
        return 0
    except typer.exceptions.TyperException as error:
        _show_usage(error)
        return USAGE


def _with_each_selector_named(arguments: Sequence[str]) -> list[str]:
    """`--select a b` as `--select a --select b`: dbt takes several selectors after one option."""
    steps = {step.value for step in StepName}
    named: list[str] = []
    option = ""
    for argument in arguments:
        if argument in _SELECTOR_OPTIONS:
            option = argument
        elif argument.startswith("-") or argument in steps:
            option = ""
        elif option and named[-1] != option:
            named.append(option)
        named.append(argument)
    return named


def _show_usage(error: typer.exceptions.TyperException) -> None:
    # Faults of the command line know how to show themselves; their class is private to typer.
    show = getattr(error, "show", None)
    if show is not None:
        show()
    else:
        sys.stderr.write(f"{error}\n")
