"""`python -m ingestion`: extract and load, without the rest of the warehouse.

lock -> manifest -> selected declarations -> companion -> extract -> load -> report, exit code

Exit codes: 0 all is well, 3 settings or declarations are wrong, 4 a source failed, 5 the warehouse
is in use, 6 a file was refused, 7 the disk is full. Left out: building, testing, publishing
(`wellspring run`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ingestion.errors import IngestionError, first_line
from ingestion.lock import writer_lock
from ingestion.redaction import RedactingFilter

if TYPE_CHECKING:
    from rich.console import Console

    from ingestion.declarations import SourceDeclaration
    from ingestion.extract import SourceResult
    from ingestion.load import LoadResult
    from ingestion.progress import ProgressEvent
    from ingestion.settings import Settings

log = logging.getLogger("ingestion")

Step = Literal["extract", "load"]


def command(
    steps: Annotated[
        list[str] | None, typer.Argument(help="extract, load or both (default).", metavar="[STEP]")
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option("--select", "-s", help="What to ingest, in dbt's selection language."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="What to leave out.")
    ] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Read the sources whole again.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every step.")] = False,
) -> None:
    """Extracts the declared sources into landing and loads landing into raw."""
    _set_up_logging(verbose)
    console = _console()
    try:
        code = _run(_steps(steps), select, exclude, full_refresh, console)
    except IngestionError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        code = error.exit_code
    except KeyboardInterrupt:
        console.print("Interrupted: nothing is half-loaded, run it again to go on.")
        code = 130
    except Exception as error:
        # A fault of ours: the log has what is needed to report it, without secrets.
        log.exception("unexpected")
        text = f"unexpected {type(error).__name__}: {first_line(error)}"
        console.print(text, style="red", markup=False, highlight=False)
        code = 1
    raise typer.Exit(code)


def _steps(given: list[str] | None) -> list[Step]:
    wanted: list[Step] = [step for step in ("extract", "load") if step in (given or ())]  # type: ignore[misc]
    unknown = [step for step in given or () if step not in ("extract", "load")]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no step; there are extract and load")
    return wanted or ["extract", "load"]


def _run(
    steps: list[Step],
    select: list[str] | None,
    exclude: list[str] | None,
    full_refresh: bool,
    console: Console,
) -> int:
    from ingestion.landing import configure
    from ingestion.settings import load_settings

    settings = load_settings()
    configure(settings)
    with writer_lock(settings, "", "python -m ingestion"):
        return _run_alone(settings, steps, (select, exclude), full_refresh, console)


def _run_alone(
    settings: Settings,
    steps: list[Step],
    selection: tuple[list[str] | None, list[str] | None],
    full_refresh: bool,
    console: Console,
) -> int:
    from ingestion.companion import companion
    from ingestion.declarations import load_declarations
    from ingestion.extract import extract
    from ingestion.manifest import read_manifest

    manifest, selected = read_manifest(settings, *selection)
    declarations = load_declarations(manifest, selected)
    code = 0
    if "extract" in steps:
        connections = {d.connection for d in declarations if d.connection}
        with companion(settings, connections):
            results = extract(
                declarations, settings, full_refresh=full_refresh, on_progress=_log_progress
            )
        _show_extracted(results, console)
        code = _extract_code(results)
    if "load" in steps:
        code = _load(declarations, settings, console) or code
    return code


def _load(declarations: list[SourceDeclaration], settings: Settings, console: Console) -> int:
    from ingestion.load import load

    result = load(declarations, settings, on_progress=_log_progress)
    _show_loaded(result, console)
    error = result.error
    if error is None:
        return 0
    console.print(str(error), style="red", markup=False, highlight=False)
    return error.exit_code


def _extract_code(results: list[SourceResult]) -> int:
    """Exit code of the first failure; sources that failed do not stop the others."""
    return next((result.error.exit_code for result in results if result.error), 0)


def _show_extracted(results: list[SourceResult], console: Console) -> None:
    rows = [
        (
            result.source,
            table.table,
            result.status.replace("_", " "),
            f"{table.rows:,}",
            f"{table.files:,}",
            f"{table.refused:,}" if table.refused else "",
            f"{table.seconds:.1f} s",
        )
        for result in results
        for table in result.tables
    ]
    _show(console, "Extracted", ("source", "table", "status", "rows", "files", "refused", ""), rows)
    for result in results:
        errors = {str(e): e for e in [result.error, *(t.error for t in result.tables)] if e}
        for text in errors:
            console.print(text, style="red", markup=False, highlight=False)


def _show_loaded(result: LoadResult, console: Console) -> None:
    rows = [
        (
            table.source,
            table.table,
            f"{table.rows:,}",
            f"{table.files:,}",
            f"{table.rejected:,}" if table.rejected else "",
        )
        for table in result.tables
    ]
    _show(console, "Loaded", ("source", "table", "rows", "files", "rejected"), rows)
    for change in result.changes:
        console.print(f"raw table changed: {change}", markup=False, highlight=False)
    for line in result.told_outdated:
        console.print(f"warning: {line}", style="yellow", markup=False, highlight=False)
    for refused in result.refused:
        if not refused.fatal:
            console.print(f"warning: {refused}", style="yellow", markup=False, highlight=False)


def _show(
    console: Console, title: str, names: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    """A table on a terminal, plain lines otherwise."""
    if not console.is_terminal:
        for row in rows:
            told = [f"{n}={v}" if n else v for n, v in zip(names[2:], row[2:], strict=True) if v]
            text = f"{title.lower()} {row[0]}.{row[1]}: {' '.join(told)}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < 2 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _log_progress(event: ProgressEvent) -> None:
    place = event.source + (f".{event.table}" if event.table else "")
    level = logging.WARNING if event.state == "failed" else logging.INFO
    log.log(
        level,
        "%s %s: %s, %d rows, %d files %s",
        event.step,
        place,
        event.state,
        event.rows,
        event.files,
        event.message,
    )


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=True)


def _set_up_logging(verbose: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("ingestion").setLevel(logging.INFO if verbose else logging.ERROR)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


def main() -> None:
    """Entry point."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    app()


if __name__ == "__main__":
    main()
