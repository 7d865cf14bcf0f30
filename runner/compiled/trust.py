"""Whether the warehouse is still as a step of ours left it, so that its marks may be believed.

step of ours -> `in_our_hands`: as noted? - no: marks and verdicts go -> the step -> noted anew

A mark goes with its relation, but stays where somebody changes rows in place. So each step that
writes notes the fingerprint of the file once it is done, and the next one believes no mark where
the file has another: whoever else wrote, and a run that was killed, leaves one that is not noted.
Left out: who writes between two connections of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ingestion.durable import write_whole
from ingestion.failpoints import failpoint
from ingestion.settings import Settings
from runner.compiled.verdicts import Verdicts
from runner.compiled.versions import drop_marks
from runner.fingerprint import fingerprint

_CHANGED = (
    "the warehouse is not as the last run left it: another program wrote to it, or a run was "
    "killed; nothing that was built before is taken as unchanged (what is only added to keeps its "
    "rows: `--full-refresh` makes it anew)"
)


@contextmanager
def in_our_hands(settings: Settings, tell: Callable[[str], None]) -> Iterator[None]:
    """Surrounds whatever writes to the warehouse, under the lock.

    Args:
        settings: The project's settings.
        tell: Told, in words, that the warehouse was changed otherwise.

    Raises:
        BadInput: The warehouse is damaged.
        LockHeld: Another process has it open, and it was changed.
    """
    noted = _noted_in(settings)
    if not _is_as_noted(settings, noted):
        Verdicts.forget(settings)
        if settings.warehouse_path.is_file() and _dropped_marks(settings):
            tell(_CHANGED)
    try:
        yield
    finally:
        if not _is_as_noted(settings, noted):
            _note(settings, noted)


def _noted_in(settings: Settings) -> Path:
    return settings.state_dir / "compiled" / "warehouse"


def _is_as_noted(settings: Settings, noted: Path) -> bool:
    stamp = fingerprint(settings.warehouse_path)
    try:
        return stamp is not None and noted.read_text(encoding="utf-8") == stamp
    except OSError:
        return False


def _dropped_marks(settings: Settings) -> bool:
    from ingestion.warehouse import connect

    with closing(connect(settings)) as connection:
        return drop_marks(connection)


def _note(settings: Settings, noted: Path) -> None:
    stamp = fingerprint(settings.warehouse_path)
    if stamp is None:
        noted.unlink(missing_ok=True)
        return
    write_whole(noted, stamp, before=lambda: failpoint("compiled.before_note"))
