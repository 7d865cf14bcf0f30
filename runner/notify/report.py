"""The answers of `wellspring problems` and `wellspring notify`."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ingestion.errors import SettingsError
from ingestion.settings import Settings
from ingestion.units import tell_seconds
from runner.history import History
from runner.notify.message import describe, problem_lines, test_message
from runner.notify.outbox import Delivery, deliver, try_thrice
from runner.notify.problems import open_problems
from runner.notify.targets import DeliveryFailed, Target, targets

if TYPE_CHECKING:
    from rich.console import Console

    from runner.compiled.view import Project


def problem_fields(settings: Settings) -> list[dict[str, Any]]:
    """What is wrong at present, as named values, the oldest first."""
    path = settings.history_path
    if not path.is_file():
        return []
    with closing(History(path)) as history:
        found = open_problems(history)
    manifest = _manifest(settings) if found else None
    return [describe(problem, manifest) for problem in found]


def _manifest(settings: Settings) -> Project | None:
    """The project; None if dbt refuses it, which is a problem of its own."""
    from ingestion.errors import DeclarationError
    from runner.transform import Dbt

    try:
        return Dbt(settings).project
    except DeclarationError:
        return None


def print_problems(fields: list[dict[str, Any]], console: Console) -> None:
    """Shows what is wrong to a person."""
    for problem in fields:
        sign, *rest = problem_lines(problem)
        console.print(sign, style="red", markup=False, soft_wrap=True)
        for line in rest:
            console.print(line, markup=False, soft_wrap=True)
        console.print(f"  for {tell_seconds(problem['lasted_seconds'])}\n", style="dim")
    number = len(fields)
    text = {0: "no problem is open", 1: "1 problem is open"}.get(number, f"{number} are open")
    console.print(text)


def send_tests(settings: Settings) -> list[Delivery]:
    """Sends a test to every target.

    Raises:
        SettingsError: There is no target.
    """
    message = test_message(settings, f"test-{secrets.token_hex(4)}")
    found = []
    for target in _required(settings):
        try:
            try_thrice(target, message.content())
        except DeliveryFailed as error:
            found.append(Delivery(target.name, 0, 1, str(error)))
        else:
            found.append(Delivery(target.name, 1, 0))
    return found


def send_waiting(settings: Settings) -> list[Delivery]:
    """Sends what could not be delivered when it was new.

    Raises:
        SettingsError: There is no target.
    """
    told = _required(settings)
    with closing(History(settings.history_path)) as history:
        return deliver(history, told)


def _required(settings: Settings) -> list[Target]:
    found = targets(settings)
    if not found:
        raise SettingsError(
            "nobody is told of anything",
            key="notifications",
            file=settings.project_dir / "wellspring.toml",
            hint="Set [notifications] command, webhooks or mail_server; "
            "docs/guides/care.md has examples.",
        )
    return found


def print_deliveries(deliveries: list[Delivery], console: Console) -> None:
    """Shows what became of messages to a person."""
    if not deliveries:
        console.print("nothing waits to be told")
    for delivery in deliveries:
        sent = f"{delivery.delivered} delivered" if delivery.delivered else ""
        failed = f"{delivery.waiting} not: {delivery.error}" if delivery.error else ""
        text = ", ".join(part for part in (sent, failed) if part)
        sign, style = ("✗", "red") if delivery.error else ("✓", "green")
        console.print(f"{sign} {delivery.target}: {text}", style=style, markup=False)
