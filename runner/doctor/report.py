"""`wellspring doctor`: all checks in their order, and how they are shown.

settings -> checks of code, machine, data, sources -> findings -> table or JSON

A check that breaks is a finding itself and keeps no other from being made. Nothing is changed: what
is opened is opened for reading, and the lock is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ingestion.errors import IngestionError, SettingsError, first_line
from ingestion.redaction import redact
from ingestion.settings import Settings, load_settings
from runner.doctor import code, data, machine
from runner.doctor.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console

_SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
Check = Callable[[], Iterator[Finding]]


def examine(offline: bool, deep: bool) -> Iterator[Finding]:
    """Makes every check.

    Args:
        offline: Leave out what asks sources.
        deep: Read all of the current version to compare its checksums.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding("settings", "fail", str(error).splitlines()[0], error.hint, 3)
        return
    checks: list[tuple[str, Check]] = [
        ("python", lambda: code.python(settings)),
        ("packages", lambda: code.packages(settings)),
        ("settings", lambda: code.settings_read(settings)),
        ("permissions", lambda: machine.permissions(settings)),
        ("disk", lambda: machine.disk(settings)),
        ("clock", lambda: machine.clock(settings, data.newest_moment(settings))),
        ("lock", lambda: machine.lock(settings)),
        ("history", lambda: data.history(settings)),
        ("warehouse", lambda: data.warehouse(settings)),
        ("published", lambda: data.versions(settings, deep)),
        ("pending", lambda: data.pending(settings)),
        ("backup", lambda: data.backups(settings)),
        ("orphans", lambda: machine.orphans(settings)),
        ("project", lambda: _project(settings, offline)),
    ]
    for name, check in checks:
        yield from _shielded(name, check)


def _shielded(name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check()
    except IngestionError as error:
        yield Finding(name, "fail", str(error).splitlines()[0], error.hint, error.exit_code)
    except Exception as error:
        # Whatever it is: one check that breaks must not hide what the others find.
        text = f"the check broke: {type(error).__name__}: {first_line(error)}"
        yield Finding(name, "fail", text, "Mend what it names, or report it.")


def _project(settings: Settings, offline: bool) -> Iterator[Finding]:
    """The dbt project, and the sources that it declares."""
    from ingestion.declarations import load_declarations
    from runner.doctor.sources import sources
    from runner.transform import Dbt, Selection

    dbt = Dbt(settings)
    findings = list(code.project(settings, dbt))
    yield from findings
    if offline or any(finding.verdict == "fail" for finding in findings):
        return
    declarations = load_declarations(dbt.sources(Selection())[0], None)
    yield from _shielded("sources", lambda: sources(settings, list(declarations)))


def finding_fields(finding: Finding) -> dict[str, Any]:
    """A finding as named values."""
    return {key: value for key, value in vars(finding).items() if key != "exit_code"}


def print_finding(finding: Finding, console: Console) -> None:
    """Shows a finding to a person."""
    from rich.text import Text

    sign, style = _SIGNS[finding.verdict]
    line = Text.assemble((f"{sign} ", style), (f"{finding.check:<14} ", "bold"))
    console.print(line.append(redact(finding.found)), soft_wrap=True)
    if finding.mend and finding.verdict != "ok":
        console.print(Text.assemble(("  → ", "green"), redact(finding.mend)), soft_wrap=True)


def print_verdict(findings: list[Finding], console: Console) -> None:
    """The last line."""
    failed = sum(finding.verdict == "fail" for finding in findings)
    warned = sum(finding.verdict == "warn" for finding in findings)
    told = [f"{failed} failed"] if failed else []
    told += [f"{warned} want attention"] if warned else []
    console.print(f"\n{len(findings)} checks: {', '.join(told) or 'all is well'}")
