"""The command line of `wellspring`.

arguments -> settings -> a run of steps, or a question about what is there -> exit code

Commands only parse, call and report, a module for each group of them; heavy modules are imported by
the command that needs them, so that `--help` is quick. Left out: what the commands do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import typer
import typer.exceptions

from ingestion.errors import IngestionError, not_allowed, not_allowed_error
from runner.cli import (
    add,
    backfill,
    care,
    changes,
    discover,
    draft,
    land,
    project,
    quarantine,
    questions,
    runs,
    schedule,
    steps,
    upkeep,
    versions,
    watch,
)
from runner.cli.shared import StepName, app, arguments_given

USAGE = 64
INTERRUPTED = 130
# `--help` lists the commands in this order.
groups = (
    *(
        steps,
        project,
        add,
        land,
        watch,
        backfill,
        discover,
        draft,
        changes,
        questions,
        runs,
        versions,
        care,
        upkeep,
        schedule,
    ),
    quarantine,
)
for group in groups:
    app.add_typer(group.commands)
_SELECTOR_OPTIONS = ("--select", "-s", "--exclude")


@cache
def _command() -> Callable[..., Any]:
    # Reading the signatures of all commands costs a tenth of a second, each time `app` is called.
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line without the program's name; by default that of this process.

    Returns:
        The exit code (see `EXIT_CODES`).
    """
    arguments_given[:] = sys.argv[1:] if arguments is None else arguments
    try:
        words = _with_each_selector_named(arguments_given)
        return int(_command()(words, standalone_mode=False) or 0)
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
    except OSError as error:
        if not not_allowed(error):
            raise
        from runner.report import print_error

        print_error(not_allowed_error(error))
        return 1


def _with_each_selector_named(arguments: Sequence[str]) -> list[str]:
    """`--select a b` as `--select a --select b`: dbt takes several selectors after one option."""
    names = {step.value for step in StepName}
    named: list[str] = []
    option = ""
    for argument in arguments:
        if argument in _SELECTOR_OPTIONS:
            option = argument
        elif argument.startswith("-") or argument in names:
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
