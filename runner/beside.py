"""Starts the companion while dbt still reads the project, and stops it while the load goes on.

run begins -> a thread of the flow: `start` -> `connections` -> extract -> thread: companion stops
-> run ends

Both take seconds in which this process has other things to do. What connections the project has is
not known before dbt has read it, so the YAML files are searched for their names; where that search
misses one, the companion starts later. Left out: what a companion is and when one is needed, which
`ingestion.companion` knows.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from ingestion.settings import Settings

_CONNECTION = re.compile(r"\bconnection:\s*[\"']?(\w+)")


class Companion:
    """The companion of one run.

    Args:
        settings: The project's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._started = False
        self._begun = False
        self._ready = threading.Event()

    @property
    def is_started(self) -> bool:
        """Whether there is one and it runs."""
        return self._started

    def start(self) -> None:
        """Starts it if it is likely to be needed; a fault is told by `connections`."""
        self._begun = True
        try:
            self._enter()
        finally:
            self._ready.set()

    @contextmanager
    def connections(self, names: Collection[str]) -> Iterator[None]:
        """Within the block the named connections can be used.

        Args:
            names: Names of connections; a companion that was not begun is started only if one of
                them is not configured.

        Raises:
            IngestionError: It could not be started.
        """
        from ingestion.companion import companion
        from ingestion.connections import is_configured

        if self._error and not all(is_configured(name, self._settings) for name in names):
            raise self._error
        if not self._started:
            with companion(self._settings, names):
                yield
            return
        try:
            yield
        finally:
            self._in_background(self._stack.close)

    def _enter(self) -> None:
        from ingestion.companion import companion

        try:
            names = likely_connections(self._settings)
            announced = self._stack.enter_context(companion(self._settings, names))
            self._started = bool(announced)
        except BaseException as error:
            # Told where a connection is needed, which is where a run can be ended.
            self._error = error

    def _in_background(self, work: Callable[[], None]) -> None:
        # A daemon: an interrupted run does not wait for it, and the companion ends with its stdin.
        self._thread = threading.Thread(target=work, name="companion", daemon=True)
        self._thread.start()

    def __enter__(self) -> Companion:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            return
        if self._begun:
            self._ready.wait()
        if self._thread is not None:
            self._thread.join()
        self._stack.close()


def likely_connections(settings: Settings) -> set[str]:
    """Names of connections that stand in the project's YAML files."""
    folder = settings.project_dir / "models"
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*.yml"))
    return {name for text in texts for name in _CONNECTION.findall(text)}
