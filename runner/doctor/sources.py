"""Checks of the sources: whether each one answers within a few seconds, side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ingestion.errors import IngestionError, first_line
from ingestion.settings import Settings
from runner.doctor.findings import Finding

if TYPE_CHECKING:
    from ingestion.declarations import SourceDeclaration
    from ingestion.probing import Answer

_SECONDS = 20.0
_SKEW_SECONDS = 120.0


def sources(settings: Settings, declarations: list[SourceDeclaration]) -> Iterator[Finding]:
    """Whether each source answers; those of a companion are there during runs only."""
    from ingestion.connections import is_configured

    asked, by_companion = [], []
    for declaration in declarations:
        name = declaration.connection
        if settings.companion.command and name and not is_configured(name, settings):
            by_companion.append(declaration.name)
        else:
            asked.append(declaration)
    yield from _ask_all(settings, asked)
    if by_companion:
        text = f"not asked, the companion starts them for a run: {', '.join(by_companion)}"
        yield Finding("sources", "ok", text)


def _ask_all(settings: Settings, declarations: list[SourceDeclaration]) -> Iterator[Finding]:
    from ingestion.probing import probe

    answers: dict[str, Answer | BaseException] = {}

    def ask(declaration: SourceDeclaration) -> None:
        try:
            answers[declaration.name] = probe(declaration, settings)
        except BaseException as error:
            # Told by the thread that waits; a driver may raise whatever it likes.
            answers[declaration.name] = error

    threads = {d.name: threading.Thread(target=ask, args=(d,), daemon=True) for d in declarations}
    for thread in threads.values():
        thread.start()
    ends = time.monotonic() + _SECONDS
    for name, thread in threads.items():
        thread.join(max(0.0, ends - time.monotonic()))
        yield _finding(name, answers.get(name))


def _finding(name: str, answer: Answer | BaseException | None) -> Finding:
    check = f"source {name}"
    if answer is None:
        mend = "See whether it is up and reachable from here; `--offline` leaves sources out."
        return Finding(check, "fail", f"no answer within {_SECONDS:.0f} s", mend, 4)
    if isinstance(answer, IngestionError):
        return Finding(check, "fail", answer.message, answer.hint, 4)
    if isinstance(answer, BaseException):
        mend = "Check its connection in .dlt/secrets.toml."
        return Finding(check, "fail", f"{type(answer).__name__}: {first_line(answer)}", mend, 4)
    if answer.skew_seconds is not None and abs(answer.skew_seconds) > _SKEW_SECONDS:
        text = f"{answer.text}; its clock differs from ours by {answer.skew_seconds:+,.0f} s"
        return Finding(check, "warn", text, "Set the clock that is wrong; see `timedatectl`.")
    return Finding(check, "ok", answer.text)
