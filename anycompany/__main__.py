"""The `anycompany` command.

serve ─> servers until the input ends; advance ─> the clock; status ─> what there is; reset ─>
nothing left
"""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anycompany.state import Home

app = typer.Typer(
    name="anycompany",
    help="AnyCompany, the example: twelve source systems with generated data for the warehouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Seed = Annotated[
    int | None,
    typer.Option(
        help="Number that all data is drawn from. Counts when the company is made; default 1."
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        min=0.005,
        max=10.0,
        help="Size: 1 is about a million rows. Counts when the company is made; default 1.",
    ),
]
Defects = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=0.5,
        help="Share of spoilt rows, 0 for none. Counts when the company is made; default 0.004.",
    ),
]


def _home() -> Home:
    from anycompany.state import Home, data_folder

    return Home(data_folder())


def _ensure(home: Home, seed: int | None, scale: float | None, defects: float | None) -> None:
    from anycompany.state import StateError
    from anycompany.world import Settings

    plain = Settings()
    settings = Settings(
        seed=plain.seed if seed is None else seed,
        scale=plain.scale if scale is None else scale,
        defects=plain.defects if defects is None else defects,
    )
    try:
        home.ensure(settings, stated=any(option is not None for option in (seed, scale, defects)))
    except StateError as problem:
        _fail(str(problem))


def _fail(message: str) -> None:
    typer.echo(f"anycompany: {message}", err=True)
    raise typer.Exit(1)


@app.command()
def serve(
    seed: Seed = None,
    scale: Scale = None,
    defects: Defects = None,
    until_signal: Annotated[
        bool,
        typer.Option(
            "--until-signal", help="Run on when the input ends; stop on SIGTERM or Ctrl-C only."
        ),
    ] = False,
) -> None:
    """Run the company's systems until the input ends, or Ctrl-C.

    Makes the company first if there is none. Prints one line of JSON with the connections when
    everything is ready.
    """
    from anycompany import serving

    home = _home()
    _ensure(home, seed, scale, defects)
    try:
        serving.serve(home, watch_input=not until_signal)
    except (RuntimeError, TimeoutError) as problem:
        _fail(str(problem))


@app.command()
def advance(
    days: Annotated[
        int, typer.Option(min=1, help="How many days to move the company's clock.")
    ] = 1,
    seed: Seed = None,
    scale: Scale = None,
    defects: Defects = None,
) -> None:
    """Move the company's clock: new, changed, late, deleted and re-sent rows.

    Works whether or not `serve` is running. A move that was cut off is completed by the next one.
    """
    from anycompany.days import date_of
    from anycompany.state import StateError

    home = _home()
    _ensure(home, seed, scale, defects)
    try:
        state = home.advance(days)
    except (StateError, RuntimeError) as problem:
        _fail(str(problem))
    else:
        typer.echo(f"It is now the evening of {date_of(state.day)} at AnyCompany.")


@app.command()
def stream(
    rate: Annotated[
        float, typer.Option(min=0.1, help="Events a second, of all systems together.")
    ] = 100.0,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, help="Seconds; until Ctrl-C if left out.")
    ] = None,
    only: Annotated[str, typer.Option(help="Systems, such as `game`; all if left out.")] = "",
) -> None:
    """Send events of now, on top of the past ones that `serve` and `advance` publish.

    Some come late, twice, out of order or by a wrong clock. What is true of them is appended to
    `truth/live_<system>.ndjson`.
    """
    import signal
    import threading

    from anycompany import streaming
    from anycompany.state import StateError

    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    try:
        chosen = [word.strip() for word in only.split(",") if word.strip()]
        sent = streaming.stream(_home(), rate, seconds, chosen, stop)
    except (StateError, RuntimeError, TimeoutError) as problem:
        _fail(str(problem))
        return
    events = sum(sent.events.values())
    typer.echo(
        f"Sent {events:,} events in {sent.messages:,} messages, {events / sent.seconds:,.0f} a "
        f"second: {', '.join(f'{name} {count:,}' for name, count in sent.events.items())}."
    )


@app.command()
def status() -> None:
    """Show the company's day, its settings and what its systems hold."""
    from rich.console import Console
    from rich.table import Table

    from anycompany.days import date_of
    from anycompany.serving import folder_size
    from anycompany.state import StateError

    home = _home()
    try:
        state = home.read()
    except StateError as problem:
        _fail(str(problem))
        return
    if state is None:
        typer.echo(f"There is no company in {home.folder} yet. `anycompany serve` makes one.")
        return
    settings, console = state.settings, Console()
    console.print(
        f"AnyCompany on the evening of {date_of(state.day)}, in {home.folder}", highlight=False
    )
    console.print(
        f"seed {settings.seed}, scale {settings.scale:g}, defects {settings.defects:g}, "
        f"{folder_size(home.folder) / 1e6:.0f} MB"
    )
    if state.target is not None:
        console.print(
            f"A move to {date_of(state.target)} was cut off; "
            "the next `anycompany advance` completes it.",
            style="yellow",
        )
    table = Table("system", "holds", "count")
    table.columns[2].justify = "right"
    for name, count in state.rows.items():
        system, what = name.split(".")
        table.add_row(system, what, f"{count:,}")
    console.print(table)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the company's data. Servers that still run lose theirs."""
    home = _home()
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete {home.folder}?", abort=True)
    typer.echo(
        f"Deleted {home.folder}." if home.reset() else f"There was nothing in {home.folder}."
    )


def main() -> None:
    """Runs the command line."""
    # The PostgreSQL wheel asks for a runtime folder that many machines lack, and says so each time.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    app()


if __name__ == "__main__":
    main()
