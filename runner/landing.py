"""`wellspring land`: landers for as long as it is wanted, and lines that tell what they do.

declarations -> companion, if a connection needs it -> landers -> a line every few seconds
SIGTERM, Ctrl-C -> every lander closes its file -> exit code

Left out: landing itself, which ingestion does; loading, which `load` and `watch` do.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ingestion.companion import companion
from ingestion.declarations import SourceDeclaration
from ingestion.errors import BadInput
from ingestion.lander.landers import Ended, Work, land, log_to_stderr, works_of
from ingestion.progress import counted
from ingestion.settings import Settings
from runner.landers import lander_fields, tell_fields

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger("ingestion.landing")

_TELL_SECONDS = 10.0


def land_until_told(
    declarations: Sequence[SourceDeclaration], settings: Settings, quiet: bool = False
) -> int:
    """Lands until SIGTERM or Ctrl-C.

    Args:
        declarations: The sources; those of other kinds are passed over.
        settings: The project's settings.
        quiet: Only tell warnings and errors.

    Returns:
        0 if all was ended in order, else the exit code of the first error.

    Raises:
        BadInput: There is nothing to land among them.
    """
    works = works_of(declarations)
    if not works:
        raise BadInput(
            "nothing selected can be landed as it comes",
            hint="`wellspring land` is for sources of kind stream and cdc, and for files declared "
            "with `watch: true`; others are extracted.",
        )
    _log_lines(quiet)
    stop = threading.Event()
    names = {work.declaration.connection or "" for work in works}
    with _ending(stop), companion(settings, names):
        _say(quiet, f"landing {', '.join(work.name for work in works)}")
        teller = _Teller(settings, works, stop, quiet)
        teller.start()
        ended = land(works, settings, stop, _tell_ended)
        stop.set()
        teller.join()
    failed = [one.error for one in ended if one.error is not None]
    _say(quiet, "ended" if not failed else f"ended, {len(failed)} of {len(works)} with an error")
    return failed[0].exit_code if failed else 0


def _tell_ended(ended: Ended) -> None:
    if ended.error is not None:
        log.error("%s ended: %s", ended.name, ended.error)


@contextmanager
def _ending(stop: threading.Event) -> Iterator[None]:
    """Within the block, SIGTERM and Ctrl-C ask for an end in order; Ctrl-C again insists."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_lines(quiet: bool) -> None:
    log_to_stderr()
    if quiet:
        logging.getLogger("ingestion").setLevel(logging.WARNING)


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        log.info("%s", text)


class _Teller(threading.Thread):
    """Says now and then how far landers are."""

    def __init__(
        self, settings: Settings, works: Sequence[Work], stop: threading.Event, quiet: bool
    ) -> None:
        super().__init__(name="teller", daemon=True)
        self._settings = settings
        self._names = {work.name for work in works}
        self._told_to_end = stop
        self._quiet = quiet
        self._told: dict[str, str] = {}

    def run(self) -> None:
        """A line for each lander that has news, every some seconds."""
        while not self._told_to_end.wait(_TELL_SECONDS):
            for name, fields in lander_fields(self._settings).items():
                line = tell_fields(fields)
                if name in self._names and self._told.get(name) != line:
                    self._told[name] = line
                    _say(self._quiet, f"{name}: {line}")


def replay(
    declarations: Sequence[SourceDeclaration], settings: Settings, start: str, quiet: bool = False
) -> int:
    """Lands what the systems still have from a place on and landing does not.

    Args:
        declarations: The sources; those of other kinds than `stream` are passed over.
        settings: The project's settings.
        start: Where to begin: a sequence number or a time.
        quiet: Only tell warnings and errors.

    Returns:
        0 if all went well, else the exit code of the first error.
    """
    from ingestion.lander.replaying import replay_stream

    works = [work for work in works_of(declarations) if work.declaration.kind == "stream"]
    if not works:
        raise BadInput("no stream is selected", hint="Name one: `--select source:name.table`.")
    _log_lines(quiet)
    with companion(settings, {work.declaration.connection or "" for work in works}):
        for work in works:
            done = replay_stream(work, settings, start)
            sys.stdout.write(f"{work.name}: {counted(done, 'message')} landed that were missing\n")
    return 0
