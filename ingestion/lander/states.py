"""What landers tell of themselves while they work: a small file each, for `status` and metrics.

`Progress` -> `StateFile` -> state/lander/<source>.<table>.json -> `lander_states`

A file is written anew every second, whether there is news or not: one that is older is of a lander
that has ended without saying so. Nothing relies on it: how far a lander is says landing alone.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ingestion.redaction import redact
from ingestion.settings import Settings

if TYPE_CHECKING:
    from ingestion.lander.stream import Progress

_SECONDS = 1.0
# So old may a living lander's file be: closing a large file takes a while.
_ALIVE_SECONDS = 15.0
_SHOWN_GAPS = 20


class StateFile:
    """Writes the state of one lander.

    Args:
        settings: The project's settings.
        name: `source.table`.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._path = settings.state_dir / "lander" / f"{name}.json"
        self._name = name
        self._started = _now()
        self._written = 0.0
        self._state = ""
        self._rows_before = 0
        self._rate = 0.0

    def __enter__(self) -> StateFile:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        told = read_state(self._path)
        if told is not None:
            state = {"state": "failed", "error": redact(str(error))} if error else {}
            self._write({**told, "state": "ended", "rate": 0.0, **state, "at": _now()})

    def tell(self, progress: Progress) -> None:
        """Writes the state, at most once a second unless it is another one."""
        now = time.monotonic()
        since = now - self._written
        if since < _SECONDS and progress.state == self._state:
            return
        if since >= _SECONDS:
            self._rate = (progress.rows - self._rows_before) / since if self._written else 0.0
            self._written, self._rows_before = now, progress.rows
        self._state = progress.state
        told = asdict(progress)
        told["gaps"] = told["gaps"][-_SHOWN_GAPS:]
        self._write(
            {
                "name": self._name,
                "kind": "stream",
                "pid": os.getpid(),
                "started_at": self._started,
                "at": _now(),
                **told,
                "error": redact(progress.error),
                "rate": round(self._rate, 1),
            }
        )

    def _write(self, told: dict[str, Any]) -> None:
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self._path)


@dataclass(frozen=True)
class LanderState:
    """What is known of a lander.

    Attributes:
        name: `source.table`, or the source of a change log.
        is_alive: Whether it has given a sign of life of late.
        told: What it told last.
    """

    name: str
    is_alive: bool
    told: dict[str, Any]

    @property
    def state(self) -> str:
        """What it does, in a word or two."""
        said = str(self.told.get("state") or ("failing" if self.told.get("error") else "landing"))
        if self.is_alive or said in ("ended", "failed"):
            return said
        return "killed"

    @property
    def lag(self) -> int | None:
        """About how many messages wait to be read; None if that is not known."""
        waiting = self.told.get("waiting")
        return waiting if isinstance(waiting, int) and self.is_alive else None


def lander_states(settings: Settings) -> list[LanderState]:
    """The landers of a project that ever told of themselves, by name."""
    found = []
    for path in sorted((settings.state_dir / "lander").glob("*.json")):
        told = read_state(path)
        if told is not None:
            found.append(LanderState(path.stem, _is_alive(told), told))
    return found


def read_state(path: Path) -> dict[str, Any] | None:
    """What a lander told last; None if it did not, or in no form that is known."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _is_alive(told: dict[str, Any]) -> bool:
    if told.get("state") in ("ended", "failed"):
        return False
    try:
        at = datetime.fromisoformat(str(told["at"]))
    except (KeyError, ValueError):
        return False
    return (datetime.now(UTC) - at).total_seconds() < _ALIVE_SECONDS


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
